/* Rotary position embedding, reference: see rope.c. */
#ifndef INGLE_KERNELS_REF_ROPE_H
#define INGLE_KERNELS_REF_ROPE_H
#include "kernels/kernels.h"

/* Rotate one head x[D] by the position; NULL rope: nothing. */
void ingle_rope_rotate_ref(const struct ingle_rope *rope, uint32_t position, float *x);

#endif
