/* Owns the table of what suite `engine` asks, and the three models that it asks it of. Floors and
 * goals: what the work on the engine has to reach (docs/KERNELS.md). Thread: any (constant). */
#include <math.h>

#include "tools/benchmark/engine.h"

#define NO ((double)NAN)

const char *const engine_who_names[] = {"ours", "llama.cpp", "openvino", "ik_llama.cpp"};

/* Multiply-adds for each token of a prompt: elements of the blocks' matrices, of the last block K's
 * and V's alone, because the rest of it serves one token only. Bytes: all blocks' matrices and the
 * head. Both from the files' tensor tables. */
const struct engine_model_info engine_models[ENGINE_MODEL_N] = {
    [ENGINE_SMOLLM2] = {"smollm2", "smollm2-135m-instruct-q4_1.gguf",
                        "smollm2-135m-instruct-q4_1.json", 102850560, 96436224},
    [ENGINE_QWEN] = {"qwen", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
                     "qwen2.5-coder-0.5b-instruct-q4_k_m.json", 343146496, 391573504},
    [ENGINE_QWEN_Q8] = {"qwen-q8_0", "qwen2.5-coder-0.5b-instruct-q8_0.gguf",
                        "qwen2.5-coder-0.5b-instruct-q4_k_m.json", 343146496, 524833792},
    [ENGINE_GEMMA] = {"gemma", "gemma3-270m-q4_k_m.gguf", "gemma3-270m-q4_k_m.json", 95027200,
                      246364160},
};

#define CELL(who, what, model, depth, kv, act, threads)                      \
    {                                                                        \
        ENGINE_##who, ENGINE_##what, ENGINE_##model, depth, kv, act, threads \
    }
#define OURS(what, model, depth)     CELL(OURS, what, model, depth, 8, 8, 0)
#define OURS_KV(what, depth, kv)     CELL(OURS, what, QWEN, depth, kv, 8, 0)
#define OURS_ACT(what, model, depth) CELL(OURS, what, model, depth, 8, 16, 0)
#define OURS_N(what, depth, threads) CELL(OURS, what, QWEN, depth, 8, 8, threads)
#define THEIRS(who, what, model, n)  CELL(who, what, model, n, 16, 0, 0)
#define OPENVINO(what, model, n)     CELL(OPENVINO, what, model, n, 8, 0, 0) /* it knows no other */
#define THEIRS_KV(who, what, n, kv)  CELL(who, what, QWEN, n, kv, 0, 0)
#define BEST(what, model, n) \
    THEIRS(LLAMA, what, model, n), OPENVINO(what, model, n), THEIRS(IK, what, model, n)

/* Peers last. */
#define ROW(kind, floor, goal, name, ours, ...)     \
    {                                               \
        name, ENGINE_ROW_##kind, floor, goal, ours, \
        {                                           \
            __VA_ARGS__                             \
        }                                           \
    }

const struct engine_row engine_rows[] = {
    ROW(LIMIT_READ, NO, NO, "machine: read bandwidth", {0}),
    ROW(LIMIT_INT8, NO, NO, "machine: int8 multiply-adds", {0}),
    ROW(LIMIT_VECTORS, NO, NO, "machine: int8 multiply-adds in vectors", {0}),
    ROW(RATIO, 4, NO, "prefill-512 smollm2 vs llama.cpp", OURS(PREFILL, SMOLLM2, 512),
        THEIRS(LLAMA, PREFILL, SMOLLM2, 512)),
    ROW(RATIO, NO, 1.05, "prefill-512 smollm2 vs openvino", OURS(PREFILL, SMOLLM2, 512),
        OPENVINO(PREFILL, SMOLLM2, 512)),
    ROW(RATIO, 2.2, 3, "prefill-512 qwen vs llama.cpp", OURS(PREFILL, QWEN, 512),
        THEIRS(LLAMA, PREFILL, QWEN, 512)),
    ROW(RATIO, 0.8, 1.05, "prefill-512 qwen-q8_0 vs openvino", OURS(PREFILL, QWEN_Q8, 512),
        OPENVINO(PREFILL, QWEN_Q8, 512)),
    ROW(RATIO, 1.8, 4, "prefill-512 gemma vs llama.cpp", OURS(PREFILL, GEMMA, 512),
        THEIRS(LLAMA, PREFILL, GEMMA, 512)),
    ROW(RATIO, NO, NO, "prefill-512 smollm2 vs ik_llama.cpp", OURS(PREFILL, SMOLLM2, 512),
        THEIRS(IK, PREFILL, SMOLLM2, 512)),
    ROW(RATIO, NO, NO, "prefill-512 qwen vs ik_llama.cpp", OURS(PREFILL, QWEN, 512),
        THEIRS(IK, PREFILL, QWEN, 512)),
    ROW(RATIO, NO, NO, "prefill-512 gemma vs ik_llama.cpp", OURS(PREFILL, GEMMA, 512),
        THEIRS(IK, PREFILL, GEMMA, 512)),
    ROW(INT8, 0.65, 0.88, "prefill-512 qwen share of int8 peak", OURS(PREFILL, QWEN, 512)),
    ROW(VECTORS, NO, NO, "prefill-512 qwen share of vectors' int8 peak", OURS(PREFILL, QWEN, 512)),
    ROW(RATIO, 4, 7, "prefill-2048 qwen kv8 vs llama.cpp", OURS_KV(PREFILL, 2048, 8),
        THEIRS_KV(LLAMA, PREFILL, 2048, 8)),
    ROW(RATIO, 4, 7, "prefill-2048 qwen kv4 vs llama.cpp", OURS_KV(PREFILL, 2048, 4),
        THEIRS_KV(LLAMA, PREFILL, 2048, 4)),
    ROW(RATIO, NO, NO, "prefill-2048 qwen kv8 vs ik_llama.cpp", OURS_KV(PREFILL, 2048, 8),
        THEIRS_KV(IK, PREFILL, 2048, 8)),
    ROW(RATIO, NO, NO, "prefill-2048 qwen kv4 vs ik_llama.cpp", OURS_KV(PREFILL, 2048, 4),
        THEIRS_KV(IK, PREFILL, 2048, 4)),
    ROW(RATIO, 0.97, 1.1, "prefill-2048 qwen kv8 vs our kv16", OURS_KV(PREFILL, 2048, 8),
        OURS_KV(PREFILL, 2048, 16)),
    ROW(RATIO, 0.97, 1.1, "prefill-2048 qwen kv4 vs our kv16", OURS_KV(PREFILL, 2048, 4),
        OURS_KV(PREFILL, 2048, 16)),
    ROW(RATIO, 1.2, 1.6, "decode-1 qwen vs best", OURS(DECODE, QWEN, ENGINE_SHORT),
        BEST(DECODE, QWEN, ENGINE_SHORT)),
    ROW(RATIO, 1.2, 1.6, "decode-1 gemma vs best", OURS(DECODE, GEMMA, ENGINE_SHORT),
        BEST(DECODE, GEMMA, ENGINE_SHORT)),
    ROW(RATIO, 1.4, 2, "decode-1 smollm2 vs best", OURS(DECODE, SMOLLM2, ENGINE_SHORT),
        BEST(DECODE, SMOLLM2, ENGINE_SHORT)),
    ROW(READ, 0.75, 0.92, "decode-1 qwen share of read bandwidth",
        OURS(DECODE, QWEN, ENGINE_SHORT)),
    ROW(RATIO, 0.9, 1.3, "decode-8 qwen-q8_0 vs openvino", OURS(TOGETHER, QWEN_Q8, ENGINE_SHORT),
        OPENVINO(TOGETHER, QWEN_Q8, ENGINE_SHORT)),
    ROW(RATIO, 0.9, 1.3, "decode-8 smollm2 vs openvino", OURS(TOGETHER, SMOLLM2, ENGINE_SHORT),
        OPENVINO(TOGETHER, SMOLLM2, ENGINE_SHORT)),
    ROW(RATIO, NO, NO, "decode-8 qwen-q8_0 vs llama.cpp", OURS(TOGETHER, QWEN_Q8, ENGINE_SHORT),
        THEIRS(LLAMA, TOGETHER, QWEN_Q8, ENGINE_SHORT)),
    ROW(RATIO, NO, NO, "decode-8 smollm2 vs llama.cpp", OURS(TOGETHER, SMOLLM2, ENGINE_SHORT),
        THEIRS(LLAMA, TOGETHER, SMOLLM2, ENGINE_SHORT)),
    ROW(RATIO, 1.1, 1.5, "decode-depth-2048 qwen kv4 vs our kv16", OURS_KV(DECODE, 2048, 4),
        OURS_KV(DECODE, 2048, 16)),
    ROW(ERROR, 0.045, 0.038, "dlogp smollm2", OURS(NOTHING, SMOLLM2, 0),
        THEIRS(LLAMA, NOTHING, SMOLLM2, 0)),
    ROW(ERROR, 0.022, 0.018, "dlogp qwen", OURS(NOTHING, QWEN, 0), THEIRS(LLAMA, NOTHING, QWEN, 0)),
    ROW(ERROR, 0.050, 0.040, "dlogp gemma", OURS(NOTHING, GEMMA, 0),
        THEIRS(LLAMA, NOTHING, GEMMA, 0)),
    ROW(ERROR, 0.006, 0.004, "precise dlogp smollm2", OURS_ACT(NOTHING, SMOLLM2, 0)),
    ROW(ERROR, 0.006, 0.004, "precise dlogp qwen", OURS_ACT(NOTHING, QWEN, 0)),
    ROW(ERROR, 0.006, 0.004, "precise dlogp gemma", OURS_ACT(NOTHING, GEMMA, 0)),
    ROW(RATIO, 0.9, 1, "precise decode-1 qwen vs our int8", OURS_ACT(DECODE, QWEN, ENGINE_SHORT),
        OURS(DECODE, QWEN, ENGINE_SHORT)),
    ROW(RATIO, 0.45, 0.5, "precise prefill-512 qwen vs our int8", OURS_ACT(PREFILL, QWEN, 512),
        OURS(PREFILL, QWEN, 512)),
    ROW(SCALE_READ, 1.6, NO, "threads-2 decode-1 qwen vs 1", OURS_N(DECODE, ENGINE_SHORT, 2),
        OURS_N(DECODE, ENGINE_SHORT, 1)),
    ROW(SCALE_INT8, 1.85, NO, "threads-2 prefill-512 qwen vs 1", OURS_N(PREFILL, 512, 2),
        OURS_N(PREFILL, 512, 1)),
};
const size_t engine_row_n = sizeof engine_rows / sizeof engine_rows[0];
