/* Owns the reading of GGUF blocks: sizes, names, codes and scales of every type, and the plain
 * dequantisation that defines what a packed matrix means. Any thread; nothing is kept. */
#include <assert.h>
#include <string.h>

#include "kernels/gguf_block.h"
#include "kernels/half.h"
#include "kernels/kernels.h"
#include "kernels/pack.h"

static const struct {
    const char *name;
    uint32_t block, bytes;
} types[INGLE_W_COUNT] = {
    [INGLE_W_F32] = {"F32", 1, 4},       [INGLE_W_F16] = {"F16", 1, 2},
    [INGLE_W_BF16] = {"BF16", 1, 2},     [INGLE_W_Q4_0] = {"Q4_0", 32, 18},
    [INGLE_W_Q4_1] = {"Q4_1", 32, 20},   [INGLE_W_Q5_0] = {"Q5_0", 32, 22},
    [INGLE_W_Q5_1] = {"Q5_1", 32, 24},   [INGLE_W_Q8_0] = {"Q8_0", 32, 34},
    [INGLE_W_Q2_K] = {"Q2_K", 256, 84},  [INGLE_W_Q3_K] = {"Q3_K", 256, 110},
    [INGLE_W_Q4_K] = {"Q4_K", 256, 144}, [INGLE_W_Q5_K] = {"Q5_K", 256, 176},
    [INGLE_W_Q6_K] = {"Q6_K", 256, 210}, [INGLE_W_IQ4_NL] = {"IQ4_NL", 32, 18},
};

uint32_t ingle_wtype_block(enum ingle_wtype type)
{
    assert(type < INGLE_W_COUNT);
    return types[type].block;
}

uint32_t ingle_wtype_block_bytes(enum ingle_wtype type)
{
    assert(type < INGLE_W_COUNT);
    return types[type].bytes;
}

const char *ingle_wtype_name(enum ingle_wtype type)
{
    assert(type < INGLE_W_COUNT);
    return types[type].name;
}

static uint16_t u16_at(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

/* 16 bytes of nibbles: the low ones are columns 0..15, the high ones 16..31. */
static void nibbles(const uint8_t *q, uint8_t code[32])
{
    for (uint32_t i = 0; i < 16; i++) {
        code[i] = q[i] & 15u;
        code[i + 16] = (uint8_t)(q[i] >> 4);
    }
}

static void add_high_bits(const uint8_t *bits, uint8_t code[32])
{
    for (uint32_t i = 0; i < 32; i++) {
        code[i] = (uint8_t)(code[i] | (bits[i / 8] >> i % 8 & 1u) << 4);
    }
}

/* 6-bit scale and minimum `part` of the 12 bytes of Q4_K and Q5_K. */
static void k_scales(const uint8_t *q, uint32_t part, uint8_t sub[2])
{
    if (part < 4) {
        sub[0] = q[part] & 63u;
        sub[1] = q[part + 4] & 63u;
    } else {
        sub[0] = (uint8_t)((q[part + 4] & 15u) | (q[part - 4] >> 6) << 4);
        sub[1] = (uint8_t)(q[part + 4] >> 4 | (q[part] >> 6) << 4);
    }
}

/* 6-bit scale i of the 12 bytes of Q3_K, less 32. */
static uint8_t q3_scale(const uint8_t *q, uint32_t i)
{
    uint32_t low = i < 8 ? q[i] & 15u : q[i - 8] >> 4;
    uint32_t high = q[8 + i % 4] >> 2 * (i / 4) & 3u;
    return (uint8_t)((low | high << 4) - 32u);
}

void ingle_gguf_part(enum ingle_wtype type, const uint8_t *src, uint32_t part,
                     struct ingle_gguf_part *ret)
{
    struct ingle_gguf_part out = {0};
    uint32_t half = part / 4, quarter = part % 4;
    switch (type) {
    case INGLE_W_Q4_0:
    case INGLE_W_IQ4_NL:
        out.d = u16_at(src);
        nibbles(src + 2, out.code);
        break;
    case INGLE_W_Q4_1:
        out.d = u16_at(src);
        out.m = u16_at(src + 2);
        nibbles(src + 4, out.code);
        break;
    case INGLE_W_Q5_0:
        out.d = u16_at(src);
        nibbles(src + 6, out.code);
        add_high_bits(src + 2, out.code);
        break;
    case INGLE_W_Q5_1:
        out.d = u16_at(src);
        out.m = u16_at(src + 2);
        nibbles(src + 8, out.code);
        add_high_bits(src + 4, out.code);
        break;
    case INGLE_W_Q8_0:
        out.d = u16_at(src);
        for (uint32_t i = 0; i < 32; i++) {
            out.code[i] = src[2 + i] ^ 0x80u;
        }
        break;
    case INGLE_W_Q2_K:
        out.d = u16_at(src + 80);
        out.m = u16_at(src + 82);
        out.sub[0] = src[2 * part];
        out.sub[1] = src[2 * part + 1];
        for (uint32_t i = 0; i < 32; i++) {
            out.code[i] = src[16 + 32 * half + i] >> 2 * quarter & 3u;
        }
        break;
    case INGLE_W_Q3_K:
        out.d = u16_at(src + 108);
        out.sub[0] = q3_scale(src + 96, 2 * part);
        out.sub[1] = q3_scale(src + 96, 2 * part + 1);
        for (uint32_t i = 0; i < 32; i++) {
            uint32_t low = src[32 + 32 * half + i] >> 2 * quarter & 3u;
            out.code[i] = (uint8_t)(low | (src[i] >> part & 1u) << 2);
        }
        break;
    case INGLE_W_Q4_K:
    case INGLE_W_Q5_K: {
        const uint8_t *high = src + 16, *low = type == INGLE_W_Q4_K ? src + 16 : src + 48;
        out.d = u16_at(src);
        out.m = u16_at(src + 2);
        k_scales(src + 4, part, out.sub);
        for (uint32_t i = 0; i < 32; i++) {
            uint32_t code = low[32 * (part / 2) + i] >> 4 * (part % 2) & 15u;
            if (type == INGLE_W_Q5_K) {
                code |= (high[i] >> part & 1u) << 4;
            }
            out.code[i] = (uint8_t)code;
        }
        break;
    }
    case INGLE_W_Q6_K:
        out.d = u16_at(src + 208);
        out.sub[0] = src[192 + 2 * part];
        out.sub[1] = src[192 + 2 * part + 1];
        for (uint32_t i = 0; i < 32; i++) {
            uint32_t low = src[64 * half + 32 * (quarter % 2) + i] >> 4 * (quarter / 2) & 15u;
            uint32_t high = src[128 + 32 * half + i] >> 2 * quarter & 3u;
            out.code[i] = (uint8_t)(low | high << 4);
        }
        break;
    case INGLE_W_F32:
    case INGLE_W_F16:
    case INGLE_W_BF16:
    case INGLE_W_COUNT:
    default:
        assert(false && "quantised type");
    }
    *ret = out;
}

static void dequant_part(enum ingle_wtype type, const struct ingle_gguf_part *part, float *dst)
{
    static const uint8_t iq4_nl[16] = INGLE_IQ4_NL_TABLE;
    struct ingle_wform form = ingle_wform(type);
    float d = ingle_f32_of_f16(part->d), m = ingle_f32_of_f16(part->m);
    for (uint32_t i = 0; i < 32; i++) {
        uint8_t sub = part->sub[i / 16];
        float scale = d, min = m;
        if (form.scale == INGLE_WS_K) {
            scale = d * (float)part->sub[0];
            min = -(m * (float)part->sub[1]);
        } else if (form.scale == INGLE_WS_K16) {
            scale = d * (float)(int8_t)sub;
        } else if (form.scale == INGLE_WS_K16M) {
            scale = d * (float)(sub & 15u);
            min = -(m * (float)(sub >> 4));
        }
        int32_t code = type == INGLE_W_IQ4_NL ? iq4_nl[part->code[i]] : part->code[i];
        /* The product is exact in f32 for every type, so one rounding is left: the sum's. */
        float product = scale * (float)(code - form.zero);
        dst[i] = form.min ? product + min : product;
    }
}

void ingle_dequant_row(enum ingle_wtype type, const uint8_t *src, uint32_t cols, float *dst)
{
    if (type == INGLE_W_F32) {
        memcpy(dst, src, cols * sizeof(float));
        return;
    }
    if (ingle_wtype_is_float(type)) {
        for (uint32_t i = 0; i < cols; i++) {
            uint16_t bits = u16_at(src + 2 * (uint64_t)i);
            dst[i] = type == INGLE_W_F16 ? ingle_f32_of_f16(bits) : ingle_f32_of_bf16(bits);
        }
        return;
    }
    uint32_t block = ingle_wtype_block(type), parts = block / 32;
    assert(cols % block == 0);
    for (uint32_t i = 0; i < cols / 32; i++) {
        struct ingle_gguf_part part;
        ingle_gguf_part(type, src + (uint64_t)(i / parts) * types[type].bytes, i % parts, &part);
        dequant_part(type, &part, dst + 32 * (uint64_t)i);
    }
}
