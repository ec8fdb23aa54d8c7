/* What suite `engine` measures: cells, each the tokens per second of one program in one
 * configuration. */
#ifndef INGLE_TOOLS_BENCHMARK_ENGINE_H
#define INGLE_TOOLS_BENCHMARK_ENGINE_H
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

/* Only ints, so that equal cells are equal bytes. */
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
    double macs;  /* of the matrices that every prompt token meets: the head serves the last only */
    double bytes; /* of all that one decoded token reads, as the file has them */
};
extern const struct engine_model_info engine_models[ENGINE_MODEL_N];
/* Its file in the bench's own folder. */
void engine_model_path(const struct bench *b, enum engine_model model, char ret_path[4096]);

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
