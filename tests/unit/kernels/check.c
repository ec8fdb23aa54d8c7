/* Owns the helpers of check.h. */
#include "tests/unit/kernels/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    PAGE = 4096
};

uint32_t check_u32(struct check_rng *rng)
{
    /* splitmix64 */
    uint64_t z = rng->s += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (uint32_t)(z >> 32);
}

float check_float(struct check_rng *rng)
{
    float sum = 0;
    for (int i = 0; i < 12; i++) {
        sum += (float)check_u32(rng) * 0x1p-32f;
    }
    return sum - 6.0f;
}

void check_floats(struct check_rng *rng, float *x, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        x[i] = check_float(rng);
    }
}

/* [page: the shape][pages that end with: bytes, gap][page that nobody may touch]. A vector that
 * reads behind its array faults, whichever instruction set it belongs to; one that writes into the
 * gap, or before the array, is found by check_free. */
struct shape {
    uint64_t bytes, gap;
};

enum {
    UNTOUCHED = 0xa5
};

static uint64_t body_bytes(struct shape shape)
{
    return (shape.bytes + shape.gap + PAGE - 1) / PAGE * PAGE;
}

static void *alloc_shape(struct shape shape)
{
    uint64_t body = body_bytes(shape), before = body - shape.bytes - shape.gap;
    uint8_t *at =
        mmap(NULL, body + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(at != MAP_FAILED);
    assert_int_equal(mprotect(at + PAGE + body, PAGE, PROT_NONE), 0);
    memcpy(at, &shape, sizeof shape);
    memset(at + PAGE, UNTOUCHED, before);
    uint8_t *p = at + PAGE + before;
    memset(p + shape.bytes, UNTOUCHED, shape.gap);
    return p;
}

void *check_alloc(uint64_t bytes)
{
    return alloc_shape((struct shape){bytes, (64 - bytes % 64) % 64});
}

float *check_alloc_floats(uint64_t n)
{
    float *p = alloc_shape((struct shape){n * sizeof(float), n % 4 == 0 ? sizeof(float) : 0});
    assert_true((uintptr_t)p % 16 != 0);
    return p;
}

void check_free(const void *p)
{
    /* Constness is the holder's promise; the bytes are ours. p lies in the page behind the first,
     * which with no bytes at all is the one that faults. */
    uint8_t *at = (uint8_t *)(uintptr_t)p;
    uint8_t *first = at - (uintptr_t)at % PAGE - PAGE;
    struct shape shape;
    memcpy(&shape, first, sizeof shape);
    for (const uint8_t *before = first + PAGE; before < at; before++) {
        assert_int_equal(*before, UNTOUCHED);
    }
    for (uint64_t i = 0; i < shape.gap; i++) {
        assert_int_equal(at[shape.bytes + i], UNTOUCHED);
    }
    assert_int_equal(munmap(first, body_bytes(shape) + 2 * PAGE), 0);
}

uint64_t check_gguf_row_bytes(enum ingle_wtype type, uint32_t cols)
{
    return (uint64_t)(cols / ingle_wtype_block(type)) * ingle_wtype_block_bytes(type);
}

/* Byte offsets of the f16 scales of a block, -1 for none. */
static void scale_offsets(enum ingle_wtype type, int offset[2])
{
    offset[1] = -1;
    switch (type) {
    case INGLE_W_Q2_K:
        offset[0] = 80;
        offset[1] = 82;
        break;
    case INGLE_W_Q3_K:
        offset[0] = 108;
        break;
    case INGLE_W_Q6_K:
        offset[0] = 208;
        break;
    case INGLE_W_Q4_1:
    case INGLE_W_Q5_1:
    case INGLE_W_Q4_K:
    case INGLE_W_Q5_K:
        offset[0] = 0;
        offset[1] = 2;
        break;
    case INGLE_W_F32:
    case INGLE_W_F16:
    case INGLE_W_BF16:
        offset[0] = -1;
        break;
    case INGLE_W_Q4_0:
    case INGLE_W_Q5_0:
    case INGLE_W_Q8_0:
    case INGLE_W_IQ4_NL:
    case INGLE_W_COUNT:
    default:
        offset[0] = 0;
        break;
    }
}

void check_gguf_rows(struct check_rng *rng, enum ingle_wtype type, uint32_t rows, uint32_t cols,
                     uint8_t *dst)
{
    uint64_t bytes = rows * check_gguf_row_bytes(type, cols);
    uint32_t block = ingle_wtype_block_bytes(type);
    int offset[2];
    scale_offsets(type, offset);
    if (offset[0] < 0) {
        for (uint64_t i = 0; i < (uint64_t)rows * cols; i++) {
            float f = check_float(rng);
            uint32_t bits;
            memcpy(&bits, &f, sizeof bits);
            /* F16: any sign and mantissa, exponents of 2^-7 .. 2^0. */
            uint16_t half = type == INGLE_W_BF16
                                ? (uint16_t)(bits >> 16)
                                : (uint16_t)((bits & 0x83ffu) | (8u + (bits >> 10 & 7u)) << 10);
            memcpy(dst + i * block, type == INGLE_W_F32 ? (void *)&bits : (void *)&half, block);
        }
        return;
    }
    for (uint64_t i = 0; i < bytes; i++) {
        dst[i] = (uint8_t)check_u32(rng);
    }
    for (uint64_t i = 0; i < bytes; i += block) {
        for (int j = 0; j < 2; j++) {
            if (offset[j] >= 0) {
                /* Exponents of 2^-7 .. 2^-4, any sign and mantissa. */
                uint8_t *high = dst + i + offset[j] + 1;
                *high = (uint8_t)((*high & 0x8fu) | 0x20u);
            }
        }
    }
}

void check_gguf_fill(enum ingle_wtype type, uint32_t rows, uint32_t cols, uint8_t byte,
                     uint8_t *dst)
{
    uint64_t bytes = rows * check_gguf_row_bytes(type, cols);
    int64_t block = ingle_wtype_block_bytes(type);
    int offset[2];
    scale_offsets(type, offset);
    for (uint64_t i = 0; i < bytes; i++) {
        int64_t at = (int64_t)i % block;
        bool scale = false;
        for (int j = 0; j < 2; j++) {
            scale |= offset[j] >= 0 && (at == offset[j] || at == offset[j] + 1);
        }
        dst[i] = scale ? dst[i] : byte;
    }
}

struct ingle_matrix check_matrix(struct check_rng *rng, enum ingle_wtype type, uint32_t rows,
                                 uint32_t cols)
{
    uint8_t *src = check_alloc(rows * check_gguf_row_bytes(type, cols));
    uint8_t *dst = check_alloc(ingle_pack_bytes(type, rows, cols));
    check_gguf_rows(rng, type, rows, cols, src);
    assert_true(ingle_pack_rows(type, rows, cols, src, rows, 0, NULL, dst));
    check_free(src);
    return (struct ingle_matrix){type, rows, cols, dst};
}

struct ingle_act check_act(enum ingle_act_mode mode, uint32_t T, uint32_t cols)
{
    struct ingle_act act = {mode, cols, ingle_act_row_bytes(mode, cols), NULL};
    act.rows = check_alloc(T * act.row_stride);
    return act;
}

void check_run(const struct ingle_kernels *table, const struct ingle_op *op, uint32_t workers)
{
    uint8_t *scratch = check_alloc(INGLE_SCRATCH_BYTES);
    memset(scratch, 0xff, INGLE_SCRATCH_BYTES); /* NaNs: nothing may count on its contents */
    for (uint32_t i = 0; i < workers; i++) {
        struct ingle_worker worker = {i, workers, scratch};
        table->op[op->kind](op, &worker);
    }
    check_free(scratch);
}

void check_run_shuffled(const struct ingle_kernels *table, const struct ingle_op *op,
                        uint32_t workers, struct check_rng *rng)
{
    uint8_t *scratch = check_alloc(INGLE_SCRATCH_BYTES);
    uint32_t order[16];
    assert_true(workers <= 16);
    for (uint32_t i = 0; i < workers; i++) {
        uint32_t j = check_u32(rng) % (i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (uint32_t i = 0; i < workers; i++) {
        struct ingle_worker worker = {order[i], workers, scratch};
        memset(scratch, 0xff, INGLE_SCRATCH_BYTES);
        table->op[op->kind](op, &worker);
    }
    check_free(scratch);
}

uint32_t check_bands(struct check_rng *rng, uint32_t T, uint32_t workers, struct ingle_bands *ret)
{
    uint32_t n = T / INGLE_PAGE_TOKENS < workers ? T / INGLE_PAGE_TOKENS : workers;
    *ret = (struct ingle_bands){.n = n < INGLE_BANDS_MAX ? n : INGLE_BANDS_MAX};
    for (uint32_t i = 0, spare = T - ret->n * INGLE_PAGE_TOKENS; i < ret->n; i++) {
        uint32_t more = i + 1 < ret->n ? check_u32(rng) % (spare + 1) : spare;
        ret->first[i + 1] = ret->first[i] + INGLE_PAGE_TOKENS + more;
        spare -= more;
    }
    return ret->n;
}

void check_same_floats(const float *a, const float *b, uint64_t n, const char *what)
{
    for (uint64_t i = 0; i < n; i++) {
        if (memcmp(a + i, b + i, sizeof a[i]) != 0 && !(isnan(a[i]) && isnan(b[i]))) {
            fail_msg("%s: element %llu is %a, reference %a", what, (unsigned long long)i,
                     (double)a[i], (double)b[i]);
        }
    }
}
