/* Any bytes as the header of a GGUF file: read, and where they are a model, bound to its
 * architecture. Whatever passes is walked, so that a bad pointer or range would be touched. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "runtime/model/arch.h"
#include "runtime/model/tokenizer.h"
#include "runtime/weights/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The file claims more than the header: tensors may lie anywhere in it. */
#define DATA_BYTES (UINT64_C(1) << 20)

static uint64_t sum(struct ingle_str s)
{
    uint64_t v = 0;

    for (uint64_t i = 0; i < s.bytes; i++) {
        v += (uint8_t)s.p[i];
    }
    return v;
}

static uint64_t walk_arrays(const struct ingle_gguf *g)
{
    static const char *const keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.scores",
                                       "tokenizer.ggml.token_type", "tokenizer.ggml.merges"};
    uint64_t v = 0;

    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        for (enum ingle_gguf_kind kind = INGLE_GGUF_INT; kind <= INGLE_GGUF_STR; kind++) {
            uint64_t n = 0;
            const struct ingle_gguf_array *a = ingle_gguf_array(g, keys[k], kind, &n);

            for (uint64_t i = 0; a != NULL && i < n; i++) {
                if (kind == INGLE_GGUF_STR) {
                    v += sum(ingle_gguf_array_str(a, i));
                } else if (kind == INGLE_GGUF_FLOAT) {
                    v += ingle_gguf_array_float(a, i) > 0;
                } else {
                    v += (uint64_t)ingle_gguf_array_int(a, i);
                }
            }
        }
    }
    return v;
}

static void bind(const struct ingle_gguf *g)
{
    static struct ingle_hparams hp;
    struct ingle_bindings bindings;

    if (ingle_hparams_read(g, &hp, NULL) == 0 &&
        ingle_bindings_init(&bindings, g, &hp, NULL) == 0) {
        for (uint32_t i = 0; i < bindings.n_items; i++) {
            if (bindings.items[i].off + bindings.items[i].bytes > bindings.image_bytes) {
                __builtin_trap();
            }
        }
        ingle_bindings_fini(&bindings);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct ingle_gguf *g = NULL;
    struct ingle_error err = {0};
    uint64_t v = 0;

    if (ingle_gguf_parse(data, n, n + DATA_BYTES, &g, &err) < 0) {
        if (err.text[0] == '\0' || strchr(err.text, '\n') != NULL) {
            __builtin_trap();
        }
        return 0;
    }
    for (uint32_t i = 0; i < ingle_gguf_n_tensors(g); i++) {
        const struct ingle_gguf_tensor *t = ingle_gguf_tensor_at(g, i);

        v += sum(t->name);
        if (t->bytes > n + DATA_BYTES || t->file_off > n + DATA_BYTES - t->bytes) {
            __builtin_trap();
        }
    }
    v += walk_arrays(g);
    bind(g);
    ingle_gguf_close(g);
    return (int)(v & 0); /* used, so that it is computed */
}
