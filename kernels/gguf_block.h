/* The quantised blocks of GGUF files, taken apart: 32 unsigned codes and the scales that belong to
 * them. Packing and dequantisation both read weights through here.
 *
 * A weight is d * d_sub * (code - zero) + m * m_sub with zero from ingle_wform(); IQ4_NL maps its
 * code through the table first. */
#ifndef INGLE_KERNELS_GGUF_BLOCK_H
#define INGLE_KERNELS_GGUF_BLOCK_H
#include <stdint.h>

#include "kernels/kernels.h"

struct ingle_gguf_part {
    uint8_t code[32];
    uint16_t d, m;  /* f16 bits; m is 0 for types without minima */
    uint8_t sub[2]; /* as the packed form stores them: pack.h */
};

/* Part `part` (32 columns, counted inside the GGUF block) of the block at src. */
void ingle_gguf_part(enum ingle_wtype type, const uint8_t *src, uint32_t part,
                     struct ingle_gguf_part *ret);

#endif
