/* Packing and dequantisation: the parts of kernels/ that have no variants, and the shared scalar
 * helpers. */
#include <math.h>
#include <string.h>

#include "kernels/half.h"
#include "kernels/pack.h"
#include "kernels/ref/expf.h"
#include "kernels/work.h"
#include "tests/unit/kernels/check.h"
#include "tests/unit/kernels/dequant_golden.h"

void dequantised_rows_equal_the_gguf_library(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof dequant_golden / sizeof dequant_golden[0]; i++) {
        float x[256], expected[256];
        uint32_t cols = dequant_golden[i].cols;
        ingle_dequant_row(dequant_golden[i].type, dequant_golden[i].bytes, cols, x);
        memcpy(expected, dequant_golden[i].bits, sizeof expected);
        check_same_floats(x, expected, cols, ingle_wtype_name(dequant_golden[i].type));
    }
}

void packing_of_infinite_scale_is_refused(void **state)
{
    (void)state;
    struct check_rng rng = {1};
    for (enum ingle_wtype type = 0; type < INGLE_W_COUNT; type++) {
        uint32_t block = ingle_wtype_block_bytes(type);
        uint64_t bytes = 3 * check_gguf_row_bytes(type, 512);
        uint8_t *src = check_alloc(bytes), *dst = check_alloc(ingle_pack_bytes(type, 3, 512));
        check_gguf_rows(&rng, type, 3, 512, src);
        assert_true(ingle_pack_rows(type, 3, 512, src, 3, 0, NULL, dst));
        /* Set the exponent of the last block's d. */
        uint32_t d = type == INGLE_W_F32    ? 2
                     : type == INGLE_W_Q2_K ? 80
                     : type == INGLE_W_Q3_K ? 108
                     : type == INGLE_W_Q6_K ? 208
                                            : 0;
        uint16_t infinity = type == INGLE_W_F32 || type == INGLE_W_BF16 ? 0x7f80 : 0x7c00;
        memcpy(src + bytes - block + d, &infinity, sizeof infinity);
        assert_false(ingle_pack_rows(type, 3, 512, src, 3, 0, NULL, dst));
        check_free(src);
        check_free(dst);
    }
}

void packing_by_row_list_equals_packing_in_order(void **state)
{
    (void)state;
    enum {
        ROWS = 37,
        COLS = 256
    };
    struct check_rng rng = {2};
    for (enum ingle_wtype type = 0; type < INGLE_W_COUNT; type++) {
        uint64_t row_bytes = check_gguf_row_bytes(type, COLS);
        uint64_t bytes = ingle_pack_bytes(type, ROWS, COLS);
        uint8_t *src = check_alloc(ROWS * row_bytes), *moved = check_alloc(ROWS * row_bytes);
        uint8_t *a = check_alloc(bytes), *b = check_alloc(bytes);
        uint32_t to[ROWS];
        check_gguf_rows(&rng, type, ROWS, COLS, src);
        for (uint32_t i = 0; i < ROWS; i++) {
            to[i] = (i * 7 + 3) % ROWS;
            memcpy(moved + to[i] * row_bytes, src + i * row_bytes, row_bytes);
        }
        /* In two pieces, as a loader would. */
        assert_true(ingle_pack_rows(type, ROWS, COLS, src, 20, 0, to, a));
        assert_true(
            ingle_pack_rows(type, ROWS, COLS, src + 20 * row_bytes, ROWS - 20, 0, to + 20, a));
        assert_true(ingle_pack_rows(type, ROWS, COLS, moved, 20, 0, NULL, b));
        assert_true(
            ingle_pack_rows(type, ROWS, COLS, moved + 20 * row_bytes, ROWS - 20, 20, NULL, b));
        assert_memory_equal(a, b, bytes);
        check_free(src);
        check_free(moved);
        check_free(a);
        check_free(b);
    }
}

void packed_size_is_near_gguf_size(void **state)
{
    (void)state;
    for (enum ingle_wtype type = 0; type < INGLE_W_COUNT; type++) {
        uint64_t gguf = 1024 * check_gguf_row_bytes(type, 4096);
        uint64_t packed = ingle_pack_bytes(type, 1024, 4096);
        assert_true(packed >= gguf && packed <= gguf + gguf / 27);
        assert_int_equal(packed % 64, 0);
    }
}

/* A product's workers: each tile by each row once, nobody with a strip's block more than another,
 * and the weights a worker is told to fetch are those it reads first. */
static void check_division(const struct ingle_op *op, uint32_t workers)
{
    enum {
        TILES = 304,
        ROWS = 256
    };
    static uint8_t done[3][TILES][ROWS];
    const struct ingle_arg_matmul *arg = &op->matmul;
    const uint32_t width = arg->out ? 2 : 1;
    uint64_t bytes = ingle_tile_shape(arg->w[0].type, arg->w[0].cols).bytes, most = 0, all = 0;
    memset(done, 0, sizeof done);
    for (uint32_t index = 0; index < workers; index++) {
        const struct ingle_worker worker = {index, workers, NULL};
        struct ingle_weights_span span = ingle_op_weights(op, &worker);
        const uint8_t *first = NULL;
        uint64_t mine = 0;
        for (uint32_t i = 0; i < arg->n_w; i++) {
            struct ingle_part parts[INGLE_PARTS_MAX];
            uint32_t n = ingle_parts(op, i, &worker, parts);
            assert_true(n <= INGLE_PARTS_MAX);
            for (uint32_t p = 0; p < n; p++) {
                assert_true(parts[p].from < parts[p].to && parts[p].row0 < parts[p].row1);
                assert_true(width * parts[p].to <= ingle_tiles(arg->w[i].rows) + width - 1);
                assert_true(arg->out || arg->T <= INGLE_FEW_ROWS || parts[p].to % 2 == 0 ||
                            parts[p].to == ingle_tiles(arg->w[i].rows)); /* pairs */
                first = first ? first : arg->w[i].data + parts[p].from * width * bytes;
                for (uint64_t at = parts[p].from; at < parts[p].to; at++) {
                    for (uint32_t row = parts[p].row0; row < parts[p].row1; row++) {
                        assert_int_equal(done[i][at][row]++, 0);
                        mine++;
                    }
                }
            }
        }
        most = mine > most ? mine : most;
        all += mine;
        assert_ptr_equal(span.at, first);
        assert_true(first ? span.bytes >= bytes : span.bytes == 0);
    }
    for (uint32_t i = 0; i < arg->n_w; i++) {
        for (uint64_t at = 0; at < ingle_part_units(arg, i); at++) {
            for (uint32_t row = 0; row < arg->T; row++) {
                assert_int_equal(done[i][at][row], 1);
            }
        }
    }
    /* A block more than an even share: 64 rows and those that T leaves over, of a pair of tiles. */
    assert_true(most <= all / workers + 2 * 2 * INGLE_ROWS_LEAST);
}

void workers_divide_every_tile_and_row_and_know_their_first(void **state)
{
    static const uint32_t rows[][3] = {{16, 0, 0}, {17, 1, 40}, {896, 128, 128}, {4864, 4864, 0}};
    static const uint32_t tokens[] = {1, 16, 17, 127, 128, 200, 256};
    uint8_t *place = check_alloc(ingle_pack_bytes(INGLE_W_Q4_K, 4864, 512));
    struct ingle_act out = {0};
    (void)state;
    for (uint32_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ingle_op op = {.kind = INGLE_K_MATMUL};
        for (uint32_t k = 0; k < 3 && rows[i][k]; k++) {
            op.matmul.w[op.matmul.n_w++] =
                (struct ingle_matrix){INGLE_W_Q4_K, rows[i][k], 512, place};
        }
        out.cols = rows[i][0];
        op.matmul.out = op.matmul.n_w == 2 ? &out : NULL;
        for (uint32_t t = 0; t < sizeof tokens / sizeof tokens[0]; t++) {
            op.matmul.T = tokens[t];
            for (uint32_t workers = 1; workers <= 67; workers += 3) {
                check_division(&op, workers);
            }
        }
        op.kind = INGLE_K_NORM;
        assert_int_equal(ingle_op_weights(&op, &(struct ingle_worker){0, 1, NULL}).bytes, 0);
    }
    check_free(place);
}

/* All tiles, groups, and heads of a worker's rows, and first the first. */
void workers_in_bands_have_all_of_their_rows(void **state)
{
    struct check_rng rng = {43};
    uint8_t *place = check_alloc(ingle_pack_bytes(INGLE_W_Q4_K, 192, 512));
    const struct ingle_matrix w = {INGLE_W_Q4_K, 192, 512, place};
    struct ingle_act out = {.cols = 192};
    (void)state;
    for (uint32_t turn = 0; turn < 40; turn++) {
        struct ingle_bands bands;
        const uint32_t T = 64 + check_u32(&rng) % 600,
                       n = check_bands(&rng, T, 1 + turn % 8, &bands);
        struct ingle_op product = {.bands = &bands,
                                   .kind = INGLE_K_MATMUL,
                                   .matmul = {.n_w = 2, .T = T, .w = {w, w}}};
        struct ingle_op qkv = {
            .bands = &bands,
            .kind = INGLE_K_QKV,
            .qkv = {.w = {w, w, w}, .T = T, .q0 = turn % 3 * T / 2, .H = 3, .Hk = 3, .D = 64}};
        product.matmul.out = turn % 2 ? &out : NULL;
        for (uint32_t i = 0; i < n; i++) {
            const struct ingle_worker worker = {i, n, NULL};
            struct ingle_part part[INGLE_PARTS_MAX];
            struct ingle_qkv_parts parts;
            assert_int_equal(ingle_parts(&product, 0, &worker, part), 1);
            assert_int_equal(part[0].to - part[0].from, turn % 2 ? 6 : 12);
            assert_int_equal(part[0].row0, bands.first[i]);
            assert_int_equal(part[0].row1, bands.first[i + 1]);
            assert_int_equal(ingle_parts(&product, 1, &worker, part), turn % 2 ? 0 : 1);
            assert_ptr_equal(ingle_op_weights(&product, &worker).at, place);
            ingle_qkv_parts(&qkv, &worker, &parts);
            assert_int_equal(parts.n_q, qkv.qkv.q0 < bands.first[i + 1]);
            assert_int_equal(parts.n_kv, 1);
            assert_int_equal(parts.kv[0].to - parts.kv[0].from, 6);
            assert_int_equal(parts.kv[0].row0, bands.first[i]);
            assert_int_equal(parts.kv[0].row1, bands.first[i + 1]);
        }
    }
    check_free(place);
}

/* The same of q, k and v: tiles of q of rows from q0 on, and heads of k and v. */
static void check_qkv_division(const struct ingle_op *op, uint32_t workers)
{
    enum {
        TILES = 64,
        ROWS = 256
    };
    static uint8_t done[2][TILES][ROWS];
    const struct ingle_arg_qkv *arg = &op->qkv;
    const uint32_t head = arg->D / INGLE_TILE_ROWS, block = INGLE_ROWS_LEAST * 2;
    uint64_t most = 0, all = 0, mine;
    memset(done, 0, sizeof done);
    for (uint32_t index = 0; index < workers; index++, all += mine) {
        const struct ingle_worker worker = {index, workers, NULL};
        struct ingle_qkv_parts both;
        ingle_qkv_parts(op, &worker, &both);
        const struct ingle_part *parts[2] = {both.q, both.kv};
        const uint32_t n[2] = {both.n_q, both.n_kv};
        struct ingle_weights_span span = ingle_op_weights(op, &worker);
        mine = 0;
        for (uint32_t i = 0; i < 2; i++) {
            assert_true(n[i] <= INGLE_PARTS_MAX);
            for (uint32_t p = 0; p < n[i]; p++) {
                const struct ingle_part *part = &parts[i][p];
                assert_true(part->from < part->to && part->row0 < part->row1);
                assert_true(i == 1 || !arg->q_gain ||
                            (part->from % head == 0 && part->to % head == 0));
                for (uint64_t at = part->from; at < part->to; at++) {
                    for (uint32_t row = part->row0; row < part->row1; row++) {
                        assert_int_equal(done[i][at][row]++, 0);
                        mine += i == 0 ? 1 : head;
                    }
                }
            }
        }
        if (n[0] + n[1] == 0) {
            assert_int_equal(span.bytes, 0);
        } else {
            uint64_t k = (parts[1][0].from + 1) / 2 * head, v = parts[1][0].from / 2 * head;
            bool key = parts[1][0].from % 2 == 0 || parts[1][0].to - parts[1][0].from > 1;
            uint64_t bytes = ingle_tile_shape(arg->w[0].type, arg->w[0].cols).bytes;
            assert_ptr_equal(span.at, n[0] > 0 ? arg->w[0].data + parts[0][0].from * bytes
                                      : key    ? arg->w[1].data + k * bytes
                                               : arg->w[2].data + v * bytes);
            assert_true(span.bytes >= bytes);
        }
        most = mine > most ? mine : most;
    }
    for (uint32_t row = 0; row < arg->T; row++) {
        for (uint32_t tile = 0; tile < arg->H * head; tile++) {
            assert_int_equal(done[0][tile][row], row >= arg->q0);
        }
        for (uint32_t at = 0; at < 2 * arg->Hk; at++) {
            assert_int_equal(done[1][at][row], 1);
        }
    }
    /* Not more than an even share by a head and a strip of q, in a block of rows. */
    const uint32_t strip = arg->q_gain || head > 2 ? head : 2;
    assert_true(most <=
                all / workers + (uint64_t)(head + strip) * (arg->T < block ? arg->T : block));
}

void workers_divide_q_k_and_v_and_know_their_first(void **state)
{
    static const uint32_t shapes[][3] = {
        {9, 3, 64}, {14, 2, 64}, {4, 1, 256}, {1, 1, 16}, {6, 6, 48}};
    static const uint32_t tokens[] = {1, 2, 16, 17, 127, 128, 200, 256};
    uint8_t *place = check_alloc(ingle_pack_bytes(INGLE_W_Q4_K, 1024, 512));
    const float gain = 1.0f;
    (void)state;
    for (uint32_t i = 0; i < 8 * sizeof shapes / sizeof shapes[0]; i++) {
        const uint32_t *shape = shapes[i / 8], T = tokens[i % 8];
        const struct ingle_matrix q = {INGLE_W_Q4_K, shape[0] * shape[2], 512, place};
        const struct ingle_matrix kv = {INGLE_W_Q4_K, shape[1] * shape[2], 512, place};
        struct ingle_op op = {
            .kind = INGLE_K_QKV,
            .qkv = {.w = {q, kv, kv}, .T = T, .H = shape[0], .Hk = shape[1], .D = shape[2]}};
        for (uint32_t k = 0; k < 8; k++) {
            op.qkv.q0 = k % 4 == 0 ? 0 : k % 4 == 1 ? T - 1 : k % 4 == 2 ? T : T / 2;
            op.qkv.q_gain = k < 4 ? NULL : &gain;
            for (uint32_t workers = 1; workers <= 67; workers += 3) {
                check_qkv_division(&op, workers);
            }
        }
    }
    check_free(place);
}

void half_conversions_round_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = ingle_f32_of_f16((uint16_t)h);
        if ((h & 0x7fff) <= 0x7c00) {
            assert_int_equal(ingle_f16_of_f32(f), h);
        } else {
            assert_true(isnan(f));
        }
        if ((h & 0x7fff) < 0x7c00) {
            /* Half way to the next value goes to the even one; a little less stays, a little more
             * goes on. */
            uint16_t next = (uint16_t)(h + 1);
            float g = (next & 0x7fff) == 0x7c00 ? copysignf(65536.0f, f) : ingle_f32_of_f16(next);
            float middle = (f + g) * 0.5f;
            assert_int_equal(ingle_f16_of_f32(middle), h & 1 ? next : h);
            assert_int_equal(ingle_f16_of_f32(nextafterf(middle, f)), h);
            assert_int_equal(ingle_f16_of_f32(nextafterf(middle, g)), next);
        }
    }
}

void expf_is_close_to_exp(void **state)
{
    (void)state;
    for (float x = -80.0f; x < 88.0f; x += 0.000977f) {
        double exact = exp((double)x);
        assert_true(fabs((double)ingle_expf(x) - exact) <= 2.0e-7 * exact);
    }
    assert_true(ingle_expf(-80.5f) == 0.0f && ingle_expf(-INFINITY) == 0.0f);
    assert_true(ingle_expf(0.0f) == 1.0f);
    assert_true(isfinite(ingle_expf(INFINITY)));
}
