/* Tiny models of each architecture as GGUF files: two heads of 16 channels, byte tokens, weights
 * whose every value says where it stands. For tests of the loader and of what runs on top. */
#ifndef INGLE_TESTS_UNIT_WEIGHTS_TINY_MODEL_H
#define INGLE_TESTS_UNIT_WEIGHTS_TINY_MODEL_H
#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/weights/gguf_file.h"

enum {
    TINY_E = 32,
    TINY_H = 2,
    TINY_HK = 1,
    TINY_D = 16,
    TINY_F = 64,
    TINY_V = 272,
    TINY_CONTEXT = 1000
};

struct tiny_model {
    const char *arch;    /* "llama", "qwen2", "qwen3", "gemma3" */
    uint32_t layers;     /* 0: 2 */
    bool untied;         /* with output.weight */
    bool biases;         /* llama with q, k and v biases */
    uint32_t head_dim;   /* 0: TINY_D */
    const char *skip;    /* the key or tensor of this name is left out, NULL: none */
    const char *reshape; /* the tensor of this name gets one row (a vector: 32 values) more */
};

/* Keys and tensors of the model, ready for more of them, then gguf_file_write(). */
void tiny_model(struct gguf_file *f, const struct tiny_model *m);
/* The value of tiny's matrix element: distinct for all of a matrix, exact in f16 and f32. */
float tiny_value(uint32_t row, uint32_t col);

#endif
