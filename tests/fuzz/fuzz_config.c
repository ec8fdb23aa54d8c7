/* Reads a hostile configuration. What must hold: no crash, no leak; a refusal is one line that
 * names the file; what is accepted is within the table's ranges and, printed, reads back as the
 * same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/daemon/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ingle_config config, again;
    struct ingle_error err = {.code = 0};
    char *text = NULL;
    size_t bytes = 0;
    FILE *out;

    ingle_config_init(&config);
    if (ingle_config_parse(&config, (const char *)data, size, "fuzz.conf", &err) != 0) {
        ingle_assert(strncmp(err.text, "fuzz.conf:", 10) == 0);
        ingle_assert(err.kind == INGLE_ERR_USAGE);
        return 0;
    }
    ingle_assert(config.daemon.spin_us >= 0 && config.daemon.spin_us <= 1000);
    ingle_assert(config.daemon.threads >= 0 && config.daemon.threads <= 256);
    ingle_assert(config.n_models <= INGLE_CONFIG_MODELS_MAX);
    for (uint32_t i = 0; i < config.n_models; i++) {
        int32_t bits = config.models[i].kv_bits;

        ingle_assert(bits == 16 || bits == 8 || bits == 4);
        ingle_assert(config.models[i].context >= 0);
    }
    out = open_memstream(&text, &bytes);
    if (out != NULL) {
        ingle_config_print(&config, out);
        (void)fclose(out);
        ingle_config_init(&again);
        ingle_assert(ingle_config_parse(&again, text, bytes, "again.conf", &err) == 0);
        ingle_assert(memcmp(&config, &again, sizeof config) == 0);
        free(text);
    }
    return 0;
}
