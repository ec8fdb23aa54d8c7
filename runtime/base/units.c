/* Owns nothing. Any thread. */
#include "runtime/base/units.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

int ingle_units_parse_bytes(const char *text, uint64_t *ret_bytes)
{
    static const char *const units[] = {"", "k", "m", "g", "t"};
    static const char *const tails[] = {"", "b", "ib"};
    char *end;
    double value;

    while (isspace((unsigned char)*text)) {
        text++;
    }
    if (!isdigit((unsigned char)*text)) {
        return -EINVAL; /* strtod would take signs, hexadecimal and "inf" */
    }
    value = strtod(text, &end);
    if (end == text || text[0] == '\0' || (text[0] == '0' && (text[1] | 32) == 'x')) {
        return -EINVAL;
    }
    while (isspace((unsigned char)*end)) {
        end++;
    }
    for (unsigned u = 0; u < 5; u++) {
        for (unsigned t = 0; t < 3; t++) {
            char name[8];

            (void)snprintf(name, sizeof name, "%s%s", units[u], tails[t]);
            if (strcasecmp(end, name) == 0 && !(u == 0 && t == 2)) {
                value *= (double)(UINT64_C(1) << (10 * u));
                if (!(value < 9.2e18)) {
                    return -ERANGE;
                }
                *ret_bytes = (uint64_t)value;
                return 0;
            }
        }
    }
    return -EINVAL;
}

struct ingle_units_text ingle_units_bytes(uint64_t bytes)
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    struct ingle_units_text text;
    double value = (double)bytes;
    unsigned u = 0;

    while (value >= 1024.0 && u < 4) {
        value /= 1024.0;
        u++;
    }
    (void)snprintf(text.s, sizeof text.s, u == 0 ? "%.0f %s" : "%.1f %s", value, names[u]);
    return text;
}
