/* Twins: matrix products whose instructions few machines have, compiled a second time in a form
 * that any machine with AVX-512 VNNI executes. meson.build compiles the product's own sources with
 * this file included before them; check_twins.c makes tables of them. */
#ifndef INGLE_TESTS_UNIT_KERNELS_TWINS_H
#define INGLE_TESTS_UNIT_KERNELS_TWINS_H
#include "kernels/kernels.h"

/* matmul_avxvnni.c in AVX-512's encoding of the same instructions. */
ingle_op_fn ingle_matmul_avxvnni_evex, ingle_qkv_avxvnni_evex, ingle_head_avxvnni_evex;
ingle_row_stat_fn ingle_row_stat_avxvnni_evex;

/* matmul_amx.c with the tile instructions emulated (amx_emulated.h). */
ingle_op_fn ingle_matmul_amx_emulated, ingle_qkv_amx_emulated, ingle_head_amx_emulated;
ingle_row_stat_fn ingle_row_stat_amx_emulated;

#endif
