/* ingle-bench: runs suites of measurements and prints a table, or one JSON line per row. Owns the
 * output. Thread: main. */
#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/benchmark/bench.h"
#include "tools/ingle/paths.h"

static const struct {
    const char *name, *about;
    int (*run)(struct bench *b);
} suites[] = {
    {"proto", "the border in shared memory: attach, round trip, publish", bench_proto},
};
#define SUITE_N (sizeof suites / sizeof suites[0])

uint64_t bench_now_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double bench_quantile(double *samples, size_t n, double q)
{
    qsort(samples, n, sizeof *samples, by_value);
    return samples[(size_t)((double)(n - 1) * q)];
}

bool bench_wants(const struct bench *b, const char *row)
{
    return b->pattern == NULL || fnmatch(b->pattern, row, FNM_CASEFOLD) == 0 ||
           strcasestr(row, b->pattern) != NULL;
}

static void number(struct json *j, const char *key, double value)
{
    json_key(j, key);
    json_num(j, value);
}

static void row_json(const struct bench *b, const struct bench_row *row)
{
    struct json j;

    json_init(&j, stdout);
    json_open(&j, '{');
    json_key(&j, "suite");
    json_str(&j, b->suite);
    json_key(&j, "row");
    json_str(&j, row->name);
    number(&j, "value", row->value);
    json_key(&j, "better");
    json_str(&j, row->higher ? "higher" : "lower");
    number(&j, "floor", row->floor);
    number(&j, "goal", row->goal);
    json_key(&j, "unit");
    json_str(&j, row->unit);
    number(&j, "ours", row->ours);
    number(&j, "peer", row->peer);
    number(&j, "spread", row->spread);
    number(&j, "quality", row->quality);
    json_key(&j, "cpu");
    json_str(&j, b->cpu);
    json_close(&j, '}');
    (void)putchar('\n');
}

static const char *short_number(double x, char text[16])
{
    (void)snprintf(text, 16, isnan(x) ? "-" : "%.3g", x);
    return text;
}

void bench_report(struct bench *b, const struct bench_row *row)
{
    bool reached = row->higher ? row->value >= row->floor : row->value <= row->floor;
    char value[16], floor_text[16], goal[16];

    b->n_below += !isnan(row->floor) && !reached;
    if (b->as_json) {
        row_json(b, row);
    } else {
        if (b->n_rows == 0) {
            (void)printf("%s\n%-8s %-36s %9s %-5s %8s %8s %7s\n", b->cpu, "suite", "row", "value",
                         "", "floor", "goal", "spread");
        }
        (void)printf("%-8s %-36s %9s %-5s %8s %8s %6.0f%%%s\n", b->suite, row->name,
                     short_number(row->value, value), row->unit,
                     short_number(row->floor, floor_text), short_number(row->goal, goal),
                     100 * row->spread, isnan(row->floor) || reached ? "" : "  below the floor");
    }
    b->n_rows++;
    (void)fflush(stdout);
}

static void read_cpu(struct bench *b)
{
    char *text;
    size_t bytes;
    const char *name;

    (void)snprintf(b->cpu, sizeof b->cpu, "unknown");
    if (file_read("/proc/cpuinfo", 1 << 24, &text, &bytes) < 0) {
        return;
    }
    name = strstr(text, "model name");
    if (name != NULL) {
        name += strcspn(name, ":");
        name += strspn(name, ": ");
        (void)snprintf(b->cpu, sizeof b->cpu, "%.*s", (int)strcspn(name, "\n"), name);
    }
    free(text);
}

static int usage(void)
{
    (void)fputs("usage: bench [--json] [--row PATTERN] [SUITE]... | --list\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct bench b = {.ingled = "ingled"};
    bool wanted[SUITE_N] = {false};
    bool any = false;
    int status = 0;

    for (int i = 1; i < argc; i++) {
        size_t s = 0;

        if (strcmp(argv[i], "--json") == 0) {
            b.as_json = true;
        } else if (strcmp(argv[i], "--row") == 0 && i + 1 < argc) {
            b.pattern = argv[++i];
        } else if (strcmp(argv[i], "--ingled") == 0 && i + 1 < argc) {
            b.ingled = argv[++i];
        } else if (strcmp(argv[i], "--list") == 0) {
            for (s = 0; s < SUITE_N; s++) {
                (void)printf("%-8s %s\n", suites[s].name, suites[s].about);
            }
            return 0;
        } else {
            while (s < SUITE_N && strcmp(suites[s].name, argv[i]) != 0) {
                s++;
            }
            if (s == SUITE_N) {
                return usage();
            }
            wanted[s] = any = true;
        }
    }
    read_cpu(&b);
    for (size_t s = 0; s < SUITE_N; s++) {
        if (wanted[s] || !any) {
            b.suite = suites[s].name;
            status |= suites[s].run(&b);
        }
    }
    return status;
}
