/* The definition of sealing: open f16 rows -> the sealed form of a page, one layer and head at a
 * time. Plain loops that each instruction set's library compiles for itself.
 *
 * The bytes are compared (a page is shared, hashed, spilled), so every rounding is stated: the
 * minimum is exact in f16; the scale is (max - min) / (2^b - 1) rounded up to f16, so that no code
 * is clipped; a code is round((x - min) * (1 / scale)), halves to even. Equal values: scale 1,
 * codes 0. Statistics are over the valid tokens; what lies behind them is zero (V scale 1). */
#ifndef INGLE_KERNELS_REF_KV_SEAL_H
#define INGLE_KERNELS_REF_KV_SEAL_H
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/kvpage.h"
#include "kernels/row.h"

#define INGLE_F16_ONE 0x3c00u

/* Scales and minima of n channels or tokens, n a multiple of 16: as they are stored, and as codes
 * want them. min and max: exact in f16; min becomes +0 where it is -0, whichever was met first. */
static inline void ingle_seal_scales(uint32_t n, float *min, const float *max, bool nibbles,
                                     float *ret_inverse, uint16_t *ret_scale, uint16_t *ret_min)
{
    float exact[INGLE_HEAD_DIM_MAX], stored[INGLE_HEAD_DIM_MAX];
    for (uint32_t i = 0; i < n; i++) {
        min[i] += 0.0f;
        exact[i] = (max[i] - min[i]) / (nibbles ? 15.0f : 255.0f);
    }
    ingle_f16_row_of_f32(min, n, ret_min);
    ingle_f16_row_of_f32(exact, n, ret_scale);
    ingle_f32_row_of_f16(ret_scale, n, stored);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t up = (uint32_t)ret_scale[i] + (stored[i] < exact[i] ? 1u : 0u);
        ret_scale[i] = (uint16_t)(max[i] > min[i] ? up : INGLE_F16_ONE);
    }
    ingle_f32_row_of_f16(ret_scale, n, stored);
    for (uint32_t i = 0; i < n; i++) {
        ret_inverse[i] = 1.0f / stored[i];
    }
}

/* The code of a value that is not below `low`. */
static inline uint32_t ingle_seal_code(float x, float low, float inverse, bool nibbles)
{
    float code = rintf((x - low) * inverse), most = nibbles ? 15.0f : 255.0f;
    return (uint32_t)(int32_t)(code < most ? code : most);
}

/* x [n][D], n tokens: codes of channels in fours (nibbles: eights), [D/4][S][4], scales of
 * channels. The codes of a token are made together and then put where they belong, four bytes at
 * a time: channels need not be made rows. */
static inline void ingle_seal_channels(const float *x, uint32_t n, uint32_t D, bool nibbles,
                                       uint8_t *ret_codes, uint16_t *ret_scale, uint16_t *ret_min)
{
    float min[INGLE_HEAD_DIM_MAX], max[INGLE_HEAD_DIM_MAX], inverse[INGLE_HEAD_DIM_MAX];
    uint32_t *to = (uint32_t *)(void *)ret_codes;
    memcpy(min, x, D * sizeof(float));
    memcpy(max, x, D * sizeof(float));
    for (uint32_t t = 1; t < n; t++) {
        for (uint32_t c = 0; c < D; c++) {
            float value = x[t * D + c];
            min[c] = value < min[c] ? value : min[c];
            max[c] = value > max[c] ? value : max[c];
        }
    }
    ingle_seal_scales(D, min, max, nibbles, inverse, ret_scale, ret_min);
    for (uint32_t t = 0; t < n; t++, x += D) {
        uint8_t codes[INGLE_HEAD_DIM_MAX];
        uint32_t words[INGLE_HEAD_DIM_MAX / 4];
        for (uint32_t c = 0; c < D; c++) {
            codes[c] = (uint8_t)ingle_seal_code(x[c], min[c], inverse[c], nibbles);
        }
        memcpy(words, codes, D);
        for (uint32_t w = 0; nibbles && w < D / 8; w++) {
            to[w * INGLE_PAGE_TOKENS + t] = words[2 * w] | words[2 * w + 1] << 4;
        }
        for (uint32_t w = 0; !nibbles && w < D / 4; w++) {
            to[w * INGLE_PAGE_TOKENS + t] = words[w];
        }
    }
    for (uint32_t w = 0; w < D / (nibbles ? 8 : 4); w++) {
        memset(to + w * INGLE_PAGE_TOKENS + n, 0, (INGLE_PAGE_TOKENS - n) * sizeof *to);
    }
}

/* x [S][D]: codes of tokens in fours (nibbles: eights), [S/4][D][4], scales of tokens. */
static inline void ingle_seal_tokens(const float *x, uint32_t D, bool nibbles, uint8_t *ret_codes,
                                     uint16_t *ret_scale, uint16_t *ret_min)
{
    const uint32_t group = nibbles ? 8 : 4;
    float min[INGLE_PAGE_TOKENS], max[INGLE_PAGE_TOKENS], inverse[INGLE_PAGE_TOKENS];
    uint32_t words[INGLE_HEAD_DIM_MAX];
    for (uint32_t t = 0; t < INGLE_PAGE_TOKENS; t++) {
        ingle_row_extremes(x + t * D, D, &min[t], &max[t]);
    }
    ingle_seal_scales(INGLE_PAGE_TOKENS, min, max, nibbles, inverse, ret_scale, ret_min);
    for (uint32_t t = 0; t < INGLE_PAGE_TOKENS; t++, x += D) {
        uint32_t shift = 8 * (t % 4) + (t % group >= 4 ? 4 : 0);
        if (t % group == 0) {
            memset(words, 0, sizeof(words));
        }
        for (uint32_t c = 0; c < D; c++) {
            words[c] |= ingle_seal_code(x[c], min[t], inverse[t], nibbles) << shift;
        }
        if (t % group == group - 1) { /* little-endian: byte i is token i of the group */
            memcpy(ret_codes + (uint64_t)(t / group) * D * 4, words, D * 4);
        }
    }
}

/* The f16 rows of a page as they are, zeros behind the n that are there. May be the same memory. */
static inline void ingle_seal_copy(const uint16_t *from, uint32_t n, uint32_t D, uint16_t *to)
{
    memmove(to, from, n * D * sizeof(uint16_t));
    memset(to + n * D, 0, (INGLE_PAGE_TOKENS - n) * D * sizeof(uint16_t));
}

/* One head's keys; x: floats of a page. */
static inline void ingle_seal_keys(const struct ingle_kv_span *span, uint32_t Hk, uint32_t D,
                                   uint32_t layer, uint32_t head, float *x)
{
    const uint16_t *from = ingle_kv_rows_at(span->open, Hk, D, layer, head).k;
    uint32_t n = span->n_tokens;
    assert(span->sealed != NULL && n >= 1 && n <= INGLE_PAGE_TOKENS);
    if (span->form == INGLE_KV_F16) {
        ingle_seal_copy(from, n, D, ingle_kv_rows_at(span->sealed, Hk, D, layer, head).k);
        return;
    }
    struct ingle_kv_block to = ingle_kv_block_at(span->sealed, span->form, Hk, D, layer, head);
    ingle_f32_row_of_f16(from, n * D, x);
    ingle_seal_channels(x, n, D, span->form == INGLE_KV_Q4, to.k_codes, to.k_scale, to.k_min);
}

/* One head's values; x: floats of a page. */
static inline void ingle_seal_values(const struct ingle_kv_span *span, uint32_t Hk, uint32_t D,
                                     uint32_t layer, uint32_t head, float *x)
{
    const uint16_t *from = ingle_kv_rows_at(span->open, Hk, D, layer, head).v;
    uint32_t n = span->n_tokens;
    assert(span->sealed != NULL && n >= 1 && n <= INGLE_PAGE_TOKENS);
    if (span->form == INGLE_KV_F16) {
        ingle_seal_copy(from, n, D, ingle_kv_rows_at(span->sealed, Hk, D, layer, head).v);
        return;
    }
    struct ingle_kv_block to = ingle_kv_block_at(span->sealed, span->form, Hk, D, layer, head);
    ingle_f32_row_of_f16(from, n * D, x);
    memset(x + n * D, 0, (INGLE_PAGE_TOKENS - n) * D * sizeof(float));
    ingle_seal_tokens(x, D, span->form == INGLE_KV_Q4, to.v_codes, to.v_scale, to.v_min);
}

#endif
