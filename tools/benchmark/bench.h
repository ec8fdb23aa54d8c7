/* Suites of measurements, each a list of rows with a floor and a goal. */
#ifndef INGLE_TOOLS_BENCHMARK_BENCH_H
#define INGLE_TOOLS_BENCHMARK_BENCH_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define BENCH_ROUNDS_MAX 99

/* Numbers that a row does not have are NAN. */
struct bench_row {
    const char *name;
    double value; /* what floor and goal speak of */
    bool higher;  /* is better */
    double floor, goal;
    const char *unit;
    double ours, peer;   /* where value is a ratio: its parts */
    double spread;       /* of the repetitions: (largest - smallest) / median */
    double quality;      /* mean |difference of log p| of the same configuration */
    double peer_quality; /* of the peer */
    const char *note;    /* why there is no value; NULL */
};

struct bench {
    const char *suite;
    const char *pattern; /* of row names; NULL: all */
    const char *ingled;  /* program */
    const char *ingle;   /* program */
    const char *source;  /* the checkout: golden files, the peers' scripts */
    const char *cache;   /* where tools/bench --setup put the peers and the models */
    const char *peer;    /* folder of an ik_llama.cpp build; NULL */
    FILE *copy;          /* gets every row as JSON too; NULL */
    char cpu[128];
    int rounds; /* alternations of ours and the peers */
    bool as_json;
    int n_rows, n_below; /* printed; worse than the floor */
};

/* Is the row asked for? A suite does not measure what is not. */
bool bench_wants(const struct bench *b, const char *row);
void bench_report(struct bench *b, const struct bench_row *row);
uint64_t bench_now_ns(void);
/* The value at share q (0..1) of n samples, which are sorted here. */
double bench_quantile(double *samples, size_t n, double q);
/* Median of n samples into *ret_value, (largest - smallest) / median into *ret_spread; NAN where a
 * sample is. Sorts them. */
void bench_summary(double *samples, size_t n, double *ret_value, double *ret_spread);
/* What is being measured, on one line of a terminal; NULL wipes the line. */
void bench_progress(const struct bench *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* A suite: 0, or 1 after a message. */
int bench_proto(struct bench *b);
int bench_engine(struct bench *b);
/* The names of its rows, where a suite has many. */
void bench_engine_list(void);

#endif
