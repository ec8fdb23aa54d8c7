/* Owns formatting by pattern: Python's `%` on strings and strftime. Thread: the caller's. */
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "runtime/model/template_text.h"

#define PRECISION_MAX 100
#define WIDTH_MAX     10000

struct spec {
    bool left, plus, space, zero, alt;
    int width, precision; /* -1 = none */
    char type;
};

struct percent { /* where the arguments come from */
    struct ingle_tv args;
    uint32_t used;
    bool mapping;
};

static void put_padding(struct ingle_tpl_run *run, struct ingle_tpl_text *text, int64_t n, char c)
{
    while (n-- > 0) {
        ingle_tpl_putc(run, text, c);
    }
}

/* sign and prefix, then digits, padded to the width. */
static void put_number(struct ingle_tpl_run *run, struct ingle_tpl_text *text,
                       const struct spec *spec, const char *sign, const char *digits)
{
    int64_t pad = spec->width - (int64_t)strlen(sign) - (int64_t)strlen(digits);

    if (!spec->left && !spec->zero) {
        put_padding(run, text, pad, ' ');
    }
    ingle_tpl_putz(run, text, sign);
    if (!spec->left && spec->zero) {
        put_padding(run, text, pad, '0');
    }
    ingle_tpl_putz(run, text, digits);
    if (spec->left) {
        put_padding(run, text, pad, ' ');
    }
}

static void put_whole(struct ingle_tpl_run *run, struct ingle_tpl_text *text,
                      const struct spec *spec, struct ingle_tv v)
{
    char digits[PRECISION_MAX + 32], sign[4] = "";
    bool decimal = strchr("diu", spec->type) != NULL;
    int precision = spec->precision < 0 ? 1 : spec->precision;
    uint64_t u;
    int64_t i;

    if (v.kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(run, v);
    }
    if (!ingle_tv_is_whole(v) && !(decimal && v.kind == TV_FLOAT && fabs(v.u.f) < 0x1p63)) {
        ingle_tpl_fail(run, "%%%c format: a number is required, not %s", spec->type,
                       ingle_tv_type_name(v));
    }
    i = v.kind == TV_FLOAT ? (int64_t)v.u.f : ingle_tv_whole(v);
    u = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    if (i < 0 || spec->plus || spec->space) {
        strncat(sign, i < 0 ? "-" : spec->plus ? "+" : " ", 2);
    }
    if (spec->alt && !decimal) {
        strncat(sign, spec->type == 'o' ? "0o" : spec->type == 'x' ? "0x" : "0X", 3);
    }
    if (decimal) {
        (void)snprintf(digits, sizeof(digits), "%.*llu", precision, (unsigned long long)u);
    } else if (spec->type == 'o') {
        (void)snprintf(digits, sizeof(digits), "%.*llo", precision, (unsigned long long)u);
    } else if (spec->type == 'x') {
        (void)snprintf(digits, sizeof(digits), "%.*llx", precision, (unsigned long long)u);
    } else {
        (void)snprintf(digits, sizeof(digits), "%.*llX", precision, (unsigned long long)u);
    }
    put_number(run, text, spec, sign, digits);
}

static void put_real(struct ingle_tpl_run *run, struct ingle_tpl_text *text,
                     const struct spec *spec, struct ingle_tv v)
{
    char digits[PRECISION_MAX + 340], format[8];
    double f;

    if (v.kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(run, v);
    }
    if (!ingle_tv_is_number(v)) {
        ingle_tpl_fail(run, "must be real number, not %s", ingle_tv_type_name(v));
    }
    f = ingle_tv_real(v);
    (void)snprintf(format, sizeof(format), "%%%s.*%c", spec->alt ? "#" : "", spec->type);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(digits, sizeof(digits), format, spec->precision < 0 ? 6 : spec->precision,
                   fabs(f));
#pragma GCC diagnostic pop
    put_number(run, text, spec,
               signbit(f) && !isnan(f) ? "-"
               : spec->plus            ? "+"
               : spec->space           ? " "
                                       : "",
               digits);
}

static void put_text(struct ingle_tpl_run *run, struct ingle_tpl_text *text,
                     const struct spec *spec, struct ingle_tv v)
{
    int64_t chars;

    if (spec->precision >= 0) {
        v.bytes = (uint32_t)ingle_tpl_char_at(v.u.text, v.bytes, (uint64_t)spec->precision);
    }
    chars = (int64_t)ingle_tpl_chars(v.u.text, v.bytes);
    if (!spec->left) {
        put_padding(run, text, spec->width - chars, ' ');
    }
    ingle_tpl_charge_bytes(run, v.bytes);
    ingle_tpl_put(run, text, v.u.text, v.bytes);
    if (spec->left) {
        put_padding(run, text, spec->width - chars, ' ');
    }
}

static struct ingle_tv take(struct ingle_tpl_run *run, struct percent *from)
{
    if (from->args.kind == TV_TUPLE) {
        if (from->used >= from->args.u.list->n) {
            ingle_tpl_fail(run, "not enough arguments for format string");
        }
        return from->args.u.list->item[from->used++];
    }
    if (from->used++ > 0) {
        ingle_tpl_fail(run, "not enough arguments for format string");
    }
    return from->args;
}

static void put_arg(struct ingle_tpl_run *run, struct ingle_tpl_text *text, const struct spec *spec,
                    struct ingle_tv v, bool markup)
{
    struct ingle_tpl_text repr = {NULL, 0, 0};
    uint64_t at = 0;

    switch (spec->type) {
    case 's':
        v = markup ? ingle_tv_escape(run, v) : ingle_tv_to_str(run, v);
        put_text(run, text, spec, v);
        break;
    case 'r':
        ingle_tv_put_repr(run, &repr, v);
        v = ingle_tv_text(&repr);
        put_text(run, text, spec, markup ? ingle_tv_escape(run, v) : v);
        break;
    case 'c':
        if (v.kind == TV_STR && v.bytes > 0) {
            (void)ingle_tpl_cp(v.u.text, &at);
        }
        if (v.kind != TV_STR || at != v.bytes || v.bytes == 0) {
            ingle_tpl_fail(run, "%%c with anything but one character is not supported");
        }
        put_text(run, text, spec, v);
        break;
    case 'd':
    case 'i':
    case 'u':
    case 'o':
    case 'x':
    case 'X':
        put_whole(run, text, spec, v);
        break;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        put_real(run, text, spec, v);
        break;
    default:
        ingle_tpl_fail(run, "format character '%c' is not supported", spec->type);
    }
}

static int read_number(struct ingle_tpl_run *run, struct ingle_tv fmt, uint32_t *at, int limit)
{
    int n = 0;

    while (*at < fmt.bytes && fmt.u.text[*at] >= '0' && fmt.u.text[*at] <= '9') {
        n = n * 10 + (fmt.u.text[(*at)++] - '0');
        if (n > limit) {
            ingle_tpl_fail(run, "a width or precision above %d is not supported", limit);
        }
    }
    return n;
}

/* What follows a '%': returns the argument's value where a mapping key was given. */
static struct ingle_tv read_spec(struct ingle_tpl_run *run, struct ingle_tv fmt, uint32_t *at,
                                 struct percent *from, struct spec *ret)
{
    struct ingle_tv v = ingle_tv_absent();
    struct spec spec = {.width = -1, .precision = -1};
    const char *close;

    if (*at < fmt.bytes && fmt.u.text[*at] == '(') {
        close = memchr(fmt.u.text + *at, ')', fmt.bytes - *at);
        if (!from->mapping || close == NULL) {
            ingle_tpl_fail(run, "format requires a mapping");
        }
        if (!ingle_tv_item(
                run, from->args,
                ingle_tv_str(fmt.u.text + *at + 1, (uint64_t)(close - fmt.u.text) - *at - 1), &v)) {
            ingle_tpl_fail(run, "format key is missing in the mapping");
        }
        *at = (uint32_t)(close - fmt.u.text) + 1;
    }
    for (; *at < fmt.bytes && fmt.u.text[*at] != '\0' && strchr("-+ 0#", fmt.u.text[*at]) != NULL;
         (*at)++) {
        char c = fmt.u.text[*at];

        spec.left |= c == '-';
        spec.plus |= c == '+';
        spec.space |= c == ' ';
        spec.zero |= c == '0';
        spec.alt |= c == '#';
    }
    spec.width = read_number(run, fmt, at, WIDTH_MAX);
    if (*at < fmt.bytes && fmt.u.text[*at] == '.') {
        (*at)++;
        spec.precision = read_number(run, fmt, at, PRECISION_MAX);
    }
    while (*at < fmt.bytes && strchr("hlL", fmt.u.text[*at]) != NULL && fmt.u.text[*at] != '\0') {
        (*at)++;
    }
    if (*at >= fmt.bytes) {
        ingle_tpl_fail(run, "incomplete format");
    }
    spec.type = fmt.u.text[(*at)++];
    *ret = spec;
    return v;
}

struct ingle_tv ingle_tv_percent(struct ingle_tpl_run *run, struct ingle_tv fmt,
                                 struct ingle_tv args)
{
    struct percent from = {args, 0,
                           args.kind != TV_TUPLE && args.kind != TV_STR &&
                               (ingle_tv_has_length(args) || args.kind == TV_UNDEFINED)};
    struct ingle_tpl_text text = {NULL, 0, 0};
    struct ingle_tv v, done;
    const char *percent;
    struct spec spec;
    uint32_t at = 0, upto;

    while (at < fmt.bytes) {
        percent = memchr(fmt.u.text + at, '%', fmt.bytes - at);
        upto = percent == NULL ? fmt.bytes : (uint32_t)(percent - fmt.u.text);
        ingle_tpl_charge_bytes(run, upto - at);
        ingle_tpl_put(run, &text, fmt.u.text + at, upto - at);
        if (percent == NULL) {
            break;
        }
        at = upto + 1;
        v = read_spec(run, fmt, &at, &from, &spec);
        if (spec.type == '%') {
            ingle_tpl_putc(run, &text, '%');
            continue;
        }
        put_arg(run, &text, &spec, v.kind == TV_ABSENT ? take(run, &from) : v, fmt.tag != 0);
    }
    if (!from.mapping && (args.kind == TV_TUPLE ? from.used < args.u.list->n : from.used == 0)) {
        ingle_tpl_fail(run, "not all arguments converted during string formatting");
    }
    done = ingle_tv_text(&text);
    done.tag = fmt.tag;
    return done;
}

struct ingle_tv ingle_tv_strftime(struct ingle_tpl_run *run, struct ingle_tv fmt, int64_t now_s)
{
    struct ingle_tpl_text c_format = {NULL, 0, 0};
    time_t now = (time_t)now_s;
    struct tm local;
    size_t room, n;
    uint32_t i;
    char *out;

    if (localtime_r(&now, &local) == NULL) {
        ingle_tpl_fail(run, "strftime_now: no such time");
    }
    for (i = 0; i < fmt.bytes; i++) { /* a naive datetime has no zone; our clock no microseconds */
        char c = fmt.u.text[i], next = '\0';

        if (i + 1 < fmt.bytes) {
            next = fmt.u.text[i + 1];
        }

        if (c == '\0') {
            ingle_tpl_fail(run, "strftime_now: embedded null character");
        }
        if (c == '%' && next != '\0') {
            i++;
            if (next == 'f') {
                ingle_tpl_putz(run, &c_format, "000000");
            } else if (next != 'z' && next != 'Z') {
                ingle_tpl_putc(run, &c_format, '%');
                ingle_tpl_putc(run, &c_format, next);
            }
        } else {
            ingle_tpl_putc(run, &c_format, c);
        }
    }
    ingle_tpl_putc(run, &c_format, '\0');
    room = 256 + fmt.bytes * 32u; /* the longest piece of the C locale, %c, has 24 bytes */
    out = ingle_tpl_alloc(run, room);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    n = strftime(out, room, c_format.p, &local);
#pragma GCC diagnostic pop
    return ingle_tv_str(out, n);
}
