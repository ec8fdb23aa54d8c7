/* The kernel table: every arithmetic operation of a forward pass, its arguments and its definition.
 *
 * A backend executes a *program*, an array of ops built by runtime/model. On the CPU all workers
 * walk the same array; each does its share of an op and meets the others at a barrier before the
 * next one, unless both are divided in the same bands. Every op is row-wise: what it computes for a
 * token depends on that token's row, its sequence's pages and the weights, never on the other rows,
 * the number of workers or the variant. kernels/ref is the definition; variants (x86/) reproduce it
 * bit for bit. docs/KERNELS.md states the arithmetic in prose.
 *
 * A leaf: no allocation, no threads, no globals but the tables. Shape letters: T rows, E embed,
 * H heads, Hk KV heads, D head dim, F ffn, V vocab, N matrix rows (outputs), K matrix columns
 * (inputs), S = INGLE_PAGE_TOKENS. */
#ifndef INGLE_KERNELS_KERNELS_H
#define INGLE_KERNELS_KERNELS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INGLE_PAGE_TOKENS  64u /* S: docs/decisions says how it was chosen */
#define INGLE_TILE_ROWS    16u /* matrix rows interleaved in one packed tile */
#define INGLE_ACT_GROUP    32u /* activations that share one int8 scale */
#define INGLE_HEAD_DIM_MAX 256u
#define INGLE_GROUPS_MAX   2u /* layer groups: full attention; sliding window */

/* ---- weights ----------------------------------------------------------------------------------
 */
enum ingle_wtype {
    INGLE_W_F32,
    INGLE_W_F16,
    INGLE_W_BF16,
    INGLE_W_Q4_0,
    INGLE_W_Q4_1,
    INGLE_W_Q5_0,
    INGLE_W_Q5_1,
    INGLE_W_Q8_0,
    INGLE_W_Q2_K,
    INGLE_W_Q3_K,
    INGLE_W_Q4_K,
    INGLE_W_Q5_K,
    INGLE_W_Q6_K,
    INGLE_W_IQ4_NL,
    INGLE_W_COUNT
};

/* A packed matrix: [ceil(N/16)] tiles of 16 interleaved rows; kernels/pack.h states the layout. */
struct ingle_matrix {
    enum ingle_wtype type;
    uint32_t rows, cols; /* N, K */
    const uint8_t *data; /* 64-byte aligned; ingle_pack_bytes(type, N, K) */
};

/* ---- activations ------------------------------------------------------------------------------
 */
enum ingle_act_mode {
    INGLE_ACT_F32,   /* f32 */
    INGLE_ACT_INT8,  /* one int8 plane, one f32 scale per 32 */
    INGLE_ACT_INT16, /* two int8 planes (value = 128 * high + low), one f32 scale per 32 */
    INGLE_ACT_BF16,  /* bfloat16, and weights are multiplied out to it: for AMX tiles */
    INGLE_ACT_COUNT
};

/* What users call a mode: "8", "16", "32" (floats), "bf16"; and the mode of such a name, false when
 * there is none. */
const char *ingle_act_mode_name(enum ingle_act_mode mode);
bool ingle_act_mode_find(const char *name, enum ingle_act_mode *ret);

/* T rows of activations. The row layout belongs to kernels/ (act.h); others only know its stride.
 */
struct ingle_act {
    enum ingle_act_mode mode;
    uint32_t cols;
    uint64_t row_stride; /* bytes = ingle_act_row_bytes(mode, cols) */
    uint8_t *rows;       /* 64-byte aligned */
};
uint64_t ingle_act_row_bytes(enum ingle_act_mode mode, uint32_t cols);

/* ---- rotary position embedding -----------------------------------------------------------------
 */
/* Angles of position p are the complex product lo[p % 256] * hi[p / 256], in f32 with fmaf in the
 * order ref/rope.h states: two small tables instead of one as long as the context. Pairs are
 * (i, i + n_rot/2); a model with adjacent pairs has its q and k rows permuted at packing. */
struct ingle_rope {
    uint32_t n_rot;       /* <= D; the other channels pass through */
    uint32_t n_hi;        /* positions covered = 256 * n_hi */
    const float *lo, *hi; /* [256][n_rot/2][2], [n_hi][n_rot/2][2]: cos, sin (times mscale in lo) */
};

/* ---- KV pages -----------------------------------------------------------------------------------
 */
enum ingle_kv_form {
    INGLE_KV_OPEN, /* f16 rows being written: per layer K [Hk][S][D] then V [Hk][S][D], f16 */
    INGLE_KV_F16,  /* sealed, the same layout as OPEN */
    INGLE_KV_Q8,   /* sealed KIVI-8: kernels/kvpage.h */
    INGLE_KV_Q4,   /* sealed KIVI-4 */
    INGLE_KV_FORM_COUNT
};
/* Bytes of one layer of a page; a page of a layer group is its layers one after the other. 64-byte
 * multiple. */
uint64_t ingle_kv_layer_bytes(enum ingle_kv_form form, uint32_t Hk, uint32_t D);

/* One page of one sequence. K rows carry RoPE relative to the chunk: token t of the page is rotated
 * by (first + t) and stands at absolute position base + first + t. */
struct ingle_kv_span {
    uint8_t *open;   /* the group's open page, or NULL once sealed and released */
    uint8_t *sealed; /* the group's sealed page, or NULL while open */
    uint32_t base,
        first; /* absolute position of the chunk's first token; page's offset inside the chunk */
    uint16_t n_tokens; /* valid tokens at the end of this step, 1..S */
    uint8_t form;      /* enum ingle_kv_form of `sealed` */
    uint8_t seal;      /* 1: this step seals it (open -> sealed, n_tokens rows) */
};

/* The rows [row0, row0 + n_rows) of a batch that continue one sequence at positions pos0.. .
 * Query row at position p reads the span that contains p from `open` (tokens up to p) and every
 * earlier span from `sealed`. Spans are in position order and cover 0..p without a gap, except
 * that spans wholly outside a window may be missing (both pointers NULL). */
struct ingle_kv_seq {
    const struct ingle_kv_span *spans;
    uint32_t n_spans, row0, n_rows, pos0;
};

/* ---- ops
 * ------------------------------------------------------------------------------------------ */
enum ingle_op_kind {
    INGLE_K_EMBED,
    INGLE_K_NORM,
    INGLE_K_QUANT,
    INGLE_K_MATMUL,
    INGLE_K_QKV,
    INGLE_K_ATTN,
    INGLE_K_HEAD,
    INGLE_K_COUNT
};

/* x[t] = scale * row ids[t] of w, dequantised. */
struct ingle_arg_embed {
    const struct ingle_matrix *w; /* [V][E] */
    const int32_t *ids;           /* [T], each in 0..V-1 (checked by the caller) */
    float *x;                     /* [T][E] */
    float scale;
    uint32_t T;
};

/* if add:  a = post_gain ? rmsnorm(add[t]) * post_gain : add[t];  x[t] += a
 * if out:  out[r] = act(rmsnorm(x[t]) * gain)     with t = index ? index[r] : r
 * rmsnorm(v) = v * (1 / sqrtf(mean(v^2) + eps)); the sum in 16 lanes, then a fixed tree
 * (ref/norm.c). With index, only the R rows named are read and written; `add` must then be NULL. */
struct ingle_arg_norm {
    float *x;               /* [T][E], residual stream */
    const float *add;       /* [T][E] or NULL */
    const float *post_gain; /* [E] or NULL */
    const float *gain;      /* [E]; NULL when out is NULL */
    const uint32_t *index;  /* [R] or NULL */
    struct ingle_act *out;  /* NULL: only the residual sum */
    float *out_f32;         /* [R][E] or NULL: the normed row as f32 as well (embeddings) */
    float eps;
    uint32_t T, E, R; /* R = rows written, = T without index */
};

/* out[t] = act(x[t]) */
struct ingle_arg_quant {
    const float *x; /* [T][cols], row stride cols */
    struct ingle_act *out;
    uint32_t T;
};

enum ingle_glu {
    INGLE_GLU_SILU,
    INGLE_GLU_GELU_TANH
};

/* y_i[t][n] = sum_k w_i[n][k] * x[t][k] (+ bias_i[n]) for up to three matrices over the same input.
 * Arithmetic per activation mode: ref/matmul.c.
 *
 * With `out`, two matrices of N rows are the gate and up of a feed-forward layer: y is not written
 * (and may be NULL), but out[t] = act(f(y_0[t]) * y_1[t]), f being ref/glu.c's; without bias. */
struct ingle_arg_matmul {
    const struct ingle_act *x; /* [T][K] */
    uint32_t n_w, T;
    struct ingle_matrix w[3]; /* [N_i][K] */
    const float *bias[3];     /* [N_i] or NULL */
    float *y[3];              /* [T][N_i], row stride y_stride[i] */
    uint64_t y_stride[3];     /* floats */
    struct ingle_act *out;    /* [T][N] or NULL */
    enum ingle_glu glu;
};

struct ingle_top;

/* The vocabulary head: logits as a matrix product gives them, and their statistics by parts of
 * INGLE_HEAD_COLS columns (the last may be shorter), each by the row statistics below while its
 * logits are in the cache: who chooses a token then looks at few of them. Without `logits` they are
 * not kept; R <= INGLE_HEAD_ROWS. The n_top[r] largest of a row are those of its workers' lists
 * together (kernels/top.h). */
struct ingle_arg_head {
    const struct ingle_act *x; /* [R][E] */
    struct ingle_matrix w;     /* [V][E] */
    uint32_t R;
    const float *inverse_temperature; /* [R], 0: no weights wanted; or NULL: of no row */
    float *logits;                    /* [R][V] or NULL */
    float *peak;                      /* [R][ingle_head_peaks(V)] or NULL */
    struct ingle_row_stat *part;      /* [R][ingle_head_parts(V)]; argmax counts from column 0 */
    const uint32_t *n_top;            /* [R], each at most INGLE_TOP_MAX; or NULL: no lists */
    struct ingle_top *top;            /* [R][workers], with n_top: each worker's, of its parts */
};
#define INGLE_HEAD_COLS 1024u
#define INGLE_PEAK_COLS 64u
#define INGLE_HEAD_ROWS 16u
static inline uint32_t ingle_head_parts(uint32_t V)
{
    return (V + INGLE_HEAD_COLS - 1) / INGLE_HEAD_COLS;
}
/* Columns of a part. */
static inline uint32_t ingle_head_part_cols(uint32_t V, uint32_t part)
{
    uint32_t left = V - part * INGLE_HEAD_COLS;
    return left < INGLE_HEAD_COLS ? left : INGLE_HEAD_COLS;
}
static inline uint32_t ingle_head_peaks(uint32_t V)
{
    return (V + INGLE_PEAK_COLS - 1) / INGLE_PEAK_COLS;
}

/* q, k and v of rows x, as a matrix product makes them; then, head by head, optional rmsnorm of q
 * and k, rotation of k by its chunk-local position, k and v as f16 (round to nearest even) into the
 * open page of the row's position, and every span with seal = 1 from open to its sealed form: a
 * page's last new row is there when it is sealed. q is left unrotated (attention rotates it per
 * chunk), and only rows from q0 on are made. A sequence has a row at least; a row has one. */
struct ingle_arg_qkv {
    const struct ingle_act *x; /* [T][E] */
    struct ingle_matrix w[3];  /* q [H*D][E], k and v [Hk*D][E] */
    const float *bias[3];
    uint32_t T, q0;
    float *q;                      /* [T][H*D], rows from q0 on */
    const float *q_gain, *k_gain;  /* [D] or NULL */
    const struct ingle_rope *rope; /* NULL: no rotation */
    const struct ingle_kv_seq *seqs;
    uint32_t n_seqs, H, Hk, D;
    uint32_t layer; /* index inside the layer group */
    float eps;
};

/* Pages are summed by parts of so many positions, and parts are merged in order. */
#define INGLE_ATTN_PART_TOKENS 512u

/* Where workers that share the pages of a row leave its parts for the one that comes last, who
 * merges them. The parts of all rows of an op must fit, or rows are not shared. Ops that use the
 * same room do not run at once. */
struct ingle_attn_room {
    float *sums; /* [INGLE_ATTN_ROOM_PARTS][H][D + 2]: o, m, l */
    /* [INGLE_ATTN_ROOM_PARTS][Hk]: (part, q head) pairs that are there; zero between ops. Workers
     * add acq_rel after they have written; the last, who reads the others', stores 0 relaxed: the
     * op's end orders that. */
    _Atomic uint32_t *n_done;
};
#define INGLE_ATTN_ROOM_PARTS 256u

/* out[t][h] = softmax(scale * q[t][h] . K) V over the positions p - window < j <= p (window 0:
 * all), online over pages in position order; ref/attn.c is the definition. With `act`, which wants
 * D % 32 == 0, it is written there and not to out (which may be NULL). */
struct ingle_arg_attn {
    const float *q;                     /* [T][H*D] */
    float *out;                         /* [T][H*D] */
    struct ingle_act *act;              /* [T][H*D] or NULL */
    const struct ingle_attn_room *room; /* or NULL: rows are not shared */
    const struct ingle_rope *rope;
    const struct ingle_kv_seq *seqs;
    uint32_t n_seqs, H, Hk, D, layer, window;
    float scale;
};

/* The rows of a step, divided among the n workers once for all ops that name these bands: worker i
 * has rows [first[i], first[i + 1]) of each. None of them needs other rows of those before it, so a
 * worker goes through them without waiting for anybody; attention does, and has no bands. */
#define INGLE_BANDS_MAX 4u
struct ingle_bands {
    uint32_t n;
    uint32_t first[INGLE_BANDS_MAX + 1]; /* from 0 to T, INGLE_PAGE_TOKENS apart and more */
    /* Of the border before band i, when it cuts a page that a QKV op seals: how many of its two
     * workers have stored their rows; zero between ops. They add acq_rel; the second, who seals,
     * stores 0 relaxed: the op's end orders that. */
    _Atomic uint32_t n_stored[INGLE_BANDS_MAX];
};

struct ingle_op {
    enum ingle_op_kind kind;
    struct ingle_bands *bands; /* or NULL: each op is divided as suits it, and ends for all */
    union {
        struct ingle_arg_embed embed;
        struct ingle_arg_norm norm;
        struct ingle_arg_quant quant;
        struct ingle_arg_matmul matmul;
        struct ingle_arg_qkv qkv;
        struct ingle_arg_attn attn;
        struct ingle_arg_head head;
    };
};

/* One worker's view of an op: it does share `index` of `count` and may use its own scratch. */
struct ingle_worker {
    uint32_t index, count;
    uint8_t *scratch; /* INGLE_SCRATCH_BYTES, 64-byte aligned, private */
};
#define INGLE_SCRATCH_BYTES 524288u

/* Packed weights that this worker reads first in an op; none in other ops than products of all rows
 * of a batch. A hint for who waits for the op before: fetching them changes nothing but time. */
struct ingle_weights_span {
    const uint8_t *at;
    uint64_t bytes;
};
struct ingle_weights_span ingle_op_weights(const struct ingle_op *op,
                                           const struct ingle_worker *worker);

typedef void ingle_op_fn(const struct ingle_op *op, const struct ingle_worker *worker);

/* Whether all workers must have done `op` before one of them begins the op after it. */
static inline bool ingle_op_joins(const struct ingle_op *op, const struct ingle_op *after)
{
    return op->bands == NULL || op->bands != after->bands;
}

/* A row of logits, for the sampler: argmax (lowest index on a tie), its value, and
 * log(sum(exp(x))) in 16 lanes of f32 partial sums relative to the maximum, then a fixed tree.
 * weight: the sum of exp((x - max) * inverse_temperature), where that is not 0. */
struct ingle_row_stat {
    int32_t argmax;
    float max, logsumexp, weight;
};
/* peak: the largest of each INGLE_PEAK_COLS, [(n + INGLE_PEAK_COLS - 1) / INGLE_PEAK_COLS] or NULL.
 */
typedef struct ingle_row_stat ingle_row_stat_fn(const float *x, uint32_t n,
                                                float inverse_temperature, float *peak);
/* Of a row, from the statistics of its n >= 1 parts in order; without a weight. */
struct ingle_row_stat ingle_row_stat_merge(const struct ingle_row_stat *part, uint32_t n);

struct ingle_kernels {
    const char *isa; /* "ref", "avx2", "avxvnni", "avx512vnni", "amx" */
    ingle_op_fn *op[INGLE_K_COUNT];
    ingle_row_stat_fn *row_stat;
    bool bf16; /* has products of BF16 activations that are no slow reference */
};

/* The reference, which every machine can run. */
const struct ingle_kernels *ingle_kernels_ref(void);
/* The fastest table this CPU can execute (CPUID at the first call). */
const struct ingle_kernels *ingle_kernels_best(void);
/* Every table that this CPU can execute, reference first; returns how many. For checkkern. */
uint32_t ingle_kernels_all(const struct ingle_kernels *ret[], uint32_t max);

/* ---- packing
 * -------------------------------------------------------------------------------------- */
/* Bytes of a packed [rows][cols] matrix. cols must be a multiple of ingle_wtype_block(type). */
uint64_t ingle_pack_bytes(enum ingle_wtype type, uint32_t rows, uint32_t cols);
/* Columns per GGUF block (32, 256; 1 for floats) and bytes per block. */
uint32_t ingle_wtype_block(enum ingle_wtype type);
uint32_t ingle_wtype_block_bytes(enum ingle_wtype type);
const char *ingle_wtype_name(enum ingle_wtype type);
/* Pack n_rows GGUF rows: source row i becomes matrix row dst_rows ? dst_rows[i] : row0 + i.
 * dst is the whole packed matrix (zeroed by the caller before the first call), rows/cols its shape.
 * Lossless. Returns false when a scale is NaN or Inf (the caller names the tensor). */
bool ingle_pack_rows(enum ingle_wtype type, uint32_t rows, uint32_t cols, const uint8_t *src,
                     uint32_t n_rows, uint32_t row0, const uint32_t *dst_rows, uint8_t *dst);
/* Dequantise one GGUF row (not packed) to f32: the definition the packed forms are tested against.
 */
void ingle_dequant_row(enum ingle_wtype type, const uint8_t *src, uint32_t cols, float *dst);

#endif
