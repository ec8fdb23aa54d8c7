/* Compiles and renders a hostile chat template over hostile variables. The input: a template, a
 * line
 * "----", one JSON object (or nothing). What must hold: no crash, no leak, and a failure says
 * where.
 */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/model/template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *source = (const char *)data, *json = "{}";
    uint64_t source_bytes = size, json_bytes = 2, bytes = 0;
    struct ingle_error err = {.code = 0};
    struct ingle_template *tpl;
    const char *cut;
    char *text;

    cut = memmem(data, size, "\n----\n", 6);
    if (cut != NULL) {
        source_bytes = (uint64_t)(cut - source);
        json = cut + 6;
        json_bytes = size - source_bytes - 6;
    }
    if (ingle_template_create(source, source_bytes, "<s>", "</s>", &tpl, &err) < 0) {
        ingle_assert(strncmp(err.text, "template", 8) == 0);
        return 0;
    }
    if (ingle_template_render(tpl, json, json_bytes, 1764000000, &text, &bytes, &err) < 0) {
        ingle_assert(strncmp(err.text, "template", 8) == 0);
    } else {
        ingle_assert(strlen(text) <= bytes);
        ingle_mem_free(text);
    }
    ingle_template_free(tpl);
    return 0;
}
