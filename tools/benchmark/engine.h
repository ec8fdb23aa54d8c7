/* What suite `engine` measures: cells, each the tokens per second of one program in one
 * configuration. */
#ifndef INGLE_TOOLS_BENCHMARK_ENGINE_H
#define INGLE_TOOLS_BENCHMARK_ENGINE_H
#include <limits.h>

#include "tools/benchmark/bench.h"

enum engine_who {
    ENGINE_OURS,
    ENGINE_LLAMA,
    ENGINE_OPENVINO,
    ENGINE_IK
};

enum engine_what {
    ENGINE_NOTHING,
    ENGINE_PREFILL, /* `depth` fresh tokens in, one token out */
    ENGINE_DECODE,  /* ENGINE_TOKENS one after another, behind `depth` tokens */
    ENGINE_TOGETHER /* the same, ENGINE_SEQUENCES at once: their sum */
};

enum engine_model {
    ENGINE_SMOLLM2,
    ENGINE_QWEN,
    ENGINE_QWEN_Q8, /* the same, requantised so that OpenVINO can read it */
    ENGINE_GEMMA,
    ENGINE_MODEL_N
};

#define ENGINE_TOKENS    128
#define ENGINE_SHORT     16 /* a prompt that is beside the point */
#define ENGINE_SEQUENCES 8
#define ENGINE_PEERS_MAX 3

/* A prompt is measured right after one of so many tokens that nobody counts. Whoever rested while
 * another was measured is slower at first, and llama-bench does not measure itself like that. Most
 * of a long prompt comes after that by itself. */
static inline int engine_warm_up(int n_prompt)
{
    return n_prompt > 1024 ? 64 : n_prompt;
}

/* Only ints, so that equal cells are equal bytes. All cores, and as many by number, are two cells:
 * what compares numbers of threads measures both in turn, not one of them minutes before. */
struct engine_cell {
    enum engine_who who;
    enum engine_what what;
    enum engine_model model;
    int depth;
    int kv_bits;
    int activations; /* bits; ours alone */
    int threads;     /* 0: one per physical core */
};

struct engine_model_info {
    const char *name, *file, *golden;
    /* Of the matrices that every prompt token meets: those behind the last layer's attention and
     * the head serve the last token only. */
    double macs;
    double bytes; /* of all that one decoded token reads, as the file has them */
};
/* ---- rows.c ---- */

extern const char *const engine_who_names[];
extern const struct engine_model_info engine_models[ENGINE_MODEL_N];
/* Its file in the bench's own folder. */
void engine_model_path(const struct bench *b, enum engine_model model, char ret_path[PATH_MAX]);

enum engine_row_kind {
    ENGINE_ROW_RATIO,      /* ours / the fastest of the peers' */
    ENGINE_ROW_SCALE_READ, /* the same; the goal is what the machine's reading gains by 2 threads */
    ENGINE_ROW_SCALE_INT8, /* and its multiply-adds */
    ENGINE_ROW_INT8,       /* multiply-adds of ours / of the machine */
    ENGINE_ROW_VECTORS,    /* the same of its vectors alone */
    ENGINE_ROW_READ,       /* bytes of ours / of the machine */
    ENGINE_ROW_ERROR,      /* mean |difference of log p| */
    ENGINE_ROW_LIMIT_INT8, /* the machine's own */
    ENGINE_ROW_LIMIT_VECTORS,
    ENGINE_ROW_LIMIT_READ
};

struct engine_row {
    const char *name;
    enum engine_row_kind kind;
    double floor, goal;
    struct engine_cell ours, peers[ENGINE_PEERS_MAX];
};
extern const struct engine_row engine_rows[];
extern const size_t engine_row_n;

/* ---- ours.c: a private ingled for each number of threads, started when first asked ---- */

/* Tokens per second; NAN after a message. */
double ours_measure(const struct bench *b, const struct engine_cell *cell);
/* Mean |difference of log p| on the golden file, by `ingle eval`; NAN after a message. */
double ours_quality(const struct bench *b, const struct engine_cell *cell);
void ours_stop(void);

/* ---- peers.c ---- */

/* Is it there, so far as can be seen without starting it? */
bool peer_is_set_up(const struct bench *b, enum engine_who who);
bool peer_can_read(enum engine_who who, enum engine_model model);
/* Tokens per second with its best settings; NAN after a message. */
double peer_measure(const struct bench *b, const struct engine_cell *cell);
/* As --setup measured it; NAN: it did not. */
double peer_quality(const struct bench *b, const struct engine_cell *cell);
void peers_stop(void);

#endif
