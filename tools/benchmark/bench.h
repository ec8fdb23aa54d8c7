/* Suites of measurements, each a list of rows with a floor and a goal. */
#ifndef INGLE_TOOLS_BENCHMARK_BENCH_H
#define INGLE_TOOLS_BENCHMARK_BENCH_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/ingle/json.h"

/* Numbers that a row does not have are NAN. */
struct bench_row {
    const char *name;
    double value; /* what floor and goal speak of */
    bool higher;  /* is better */
    double floor, goal;
    const char *unit;
    double ours, peer; /* where value is a ratio: its parts */
    double spread;     /* of the repetitions: (largest - smallest) / median */
    double quality;    /* mean |difference of log p| of the same configuration */
};

struct bench {
    const char *suite;
    const char *pattern; /* of row names; NULL: all */
    const char *ingled;  /* program */
    char cpu[128];
    bool as_json;
    int n_rows, n_below; /* printed; worse than the floor */
};

/* Is the row asked for? A suite does not measure what is not. */
bool bench_wants(const struct bench *b, const char *row);
void bench_report(struct bench *b, const struct bench_row *row);
uint64_t bench_now_ns(void);
/* The value at share q (0..1) of n samples, which are sorted here. */
double bench_quantile(double *samples, size_t n, double q);

/* A suite: 0, or 1 after a message. */
int bench_proto(struct bench *b);

#endif
