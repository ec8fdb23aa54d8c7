/* What the matrix products with AMX tiles share. */
#ifndef INGLE_KERNELS_X86_TILE_AMX_H
#define INGLE_KERNELS_X86_TILE_AMX_H
#include "kernels/isa.h"
#include "kernels/x86/matmul.h"

/* What LDTILECFG reads. */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
static_assert(sizeof(struct tile_config) == 64, "as the processor has it");

/* Products of BF16 activations: matmul_amx_bf16.c. */
extern const struct ingle_mm_isa INGLE_VARIANT(mm_bf16);

#endif
