/* What an architecture needs: hyperparameters read from metadata, and the list of its tensors with
 * their shapes. load.c turns both into a model. Thread: any. */
#ifndef INGLE_RUNTIME_MODEL_ARCH_H
#define INGLE_RUNTIME_MODEL_ARCH_H
#include <stdbool.h>
#include <stdint.h>

#include "runtime/model/model.h"
#include "runtime/weights/gguf.h"
#include "runtime/weights/image.h"

struct ingle_hparams {
    enum ingle_arch arch;
    uint32_t L, E, H, Hk, D, F, V;
    uint32_t context_tokens;
    uint32_t n_rot;
    float rms_eps, attn_scale, embed_scale;
    enum ingle_glu glu;
    uint32_t window; /* of the windowed layers; 0: as long as the context */
    bool windowed[INGLE_LAYERS_MAX];
    uint32_t n_ropes;                  /* 2: [0] full, [1] windowed layers */
    double rope_base[2], rope_slow[2]; /* angle = position / slow * base^(-2i/n_rot) */
};

/* Read and check the hyperparameters. Errors (BAD_MODEL) name file, key, value and reason. */
int ingle_hparams_read(const struct ingle_gguf *gguf, struct ingle_hparams *ret,
                       struct ingle_error *err) INGLE_MUST_CHECK;

/* Every tensor of the file, checked against the architecture, with its place in the image. Borrows
 * the gguf. */
struct ingle_bindings {
    struct ingle_image_item *items;         /* laid out */
    const struct ingle_tensor_rule **rules; /* [n_items] what each is */
    uint32_t n_items;
    uint64_t image_bytes, file_bytes;          /* packed; of tensor data in the file */
    const struct ingle_image_item *rope_freqs; /* or NULL */
    uint32_t *row_order; /* adjacent-pair rope to halves, [H * D]; NULL: the file has halves */
};

/* Errors (BAD_MODEL): a tensor that is missing, has another shape, or is not known. */
int ingle_bindings_init(struct ingle_bindings *b, const struct ingle_gguf *gguf,
                        const struct ingle_hparams *hp, struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_bindings_fini(struct ingle_bindings *b);
/* Point the model's matrices and vectors into the image; model->layers is [L]. */
void ingle_bindings_apply(const struct ingle_bindings *b, const struct ingle_image *image,
                          struct ingle_model *model);

/* Floats of one rope table, and how to fill it. factors: [n_rot / 2], dividing the frequencies
 * (rope_freqs.weight), or NULL. ret points into floats. */
uint64_t ingle_rope_floats(const struct ingle_hparams *hp);
void ingle_rope_fill(const struct ingle_hparams *hp, uint32_t which, const float *factors,
                     float *floats, struct ingle_rope *ret);

#endif
