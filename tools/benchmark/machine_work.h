/* One thread's share of a measurement of the machine; for machine*.c alone. */
#ifndef INGLE_TOOLS_BENCHMARK_MACHINE_WORK_H
#define INGLE_TOOLS_BENCHMARK_MACHINE_WORK_H
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MACHINE_BLOCK_BYTES 512u

struct machine_team; /* of machine.c: where the threads meet */
struct machine_worker;
typedef void machine_work_fn(struct machine_worker *w);

struct machine_worker {
    pthread_t thread;
    struct machine_team *team;
    machine_work_fn *work;
    const uint8_t *data; /* of what is read; whole blocks */
    size_t bytes;
    uint64_t start_ns, end_ns; /* of the last pass */
    uint64_t result;           /* so that the compiler cannot leave the work out */
};

/* Eight loads of 64 bytes at a time into eight sums, in whatever registers the caller's target
 * has. */
static inline __attribute__((always_inline)) uint64_t machine_read_lines(const uint8_t *data,
                                                                         size_t bytes)
{
    typedef uint64_t line __attribute__((vector_size(64)));
    line sum[MACHINE_BLOCK_BYTES / 64] = {{0}};
    uint64_t result = 0;

    for (size_t at = 0; at + MACHINE_BLOCK_BYTES <= bytes; at += MACHINE_BLOCK_BYTES) {
        const line *block = (const line *)(const void *)(data + at);

        for (size_t i = 0; i < MACHINE_BLOCK_BYTES / 64; i++) {
            sum[i] ^= block[i];
        }
    }
    for (size_t i = 0; i < MACHINE_BLOCK_BYTES / 64; i++) {
        result += sum[i][0] + sum[i][7];
    }
    return result;
}

/* The fastest that this processor can execute; NULL: none. The second also says how many products
 * a call makes; `tiles` allows units beside the vectors'. */
machine_work_fn *machine_read_work(void);
machine_work_fn *machine_int8_work(bool tiles, double *ret_products);

#endif
