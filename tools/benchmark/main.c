/* ingle-bench: runs suites of measurements and prints a table, or one JSON line per row. Owns the
 * output. Thread: main. */
#include <fnmatch.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/benchmark/bench.h"
#include "tools/ingle/json.h"
#include "tools/ingle/paths.h"

static const struct {
    const char *name, *about;
    int (*run)(struct bench *b);
} suites[] = {
    {"proto", "the border in shared memory: attach, round trip, publish", bench_proto},
    {"engine", "prefill and decode against llama.cpp, OpenVINO and the machine", bench_engine},
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

void bench_summary(double *samples, size_t n, double *ret_value, double *ret_spread)
{
    *ret_value = *ret_spread = (double)NAN;
    for (size_t i = 0; i < n; i++) {
        if (isnan(samples[i])) {
            return;
        }
    }
    *ret_value = bench_quantile(samples, n, 0.5);
    *ret_value = (*ret_value + samples[n / 2]) / 2; /* of an even number: between the middle two */
    *ret_spread = (samples[n - 1] - samples[0]) / *ret_value;
}

void bench_progress(const struct bench *b, const char *fmt, ...)
{
    va_list args;

    if (isatty(STDERR_FILENO) == 0) {
        return;
    }
    (void)fputs("\r\033[K", stderr);
    if (fmt != NULL) {
        (void)fprintf(stderr, "%s: ", b->suite);
        va_start(args, fmt);
        (void)vfprintf(stderr, fmt, args);
        va_end(args);
    }
    (void)fflush(stderr);
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

static void row_json(const struct bench *b, const struct bench_row *row, FILE *out)
{
    struct json j;

    json_init(&j, out);
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
    number(&j, "peer_quality", row->peer_quality);
    if (row->note != NULL) {
        json_key(&j, "note");
        json_str(&j, row->note);
    }
    json_close(&j, '}');
    (void)putc('\n', out);
}

static const char *short_number(double x, char text[16])
{
    (void)snprintf(text, 16, isnan(x) ? "-" : fabs(x) < 999.5 ? "%.3g" : "%.0f", x);
    return text;
}

/* "floor", "goal": reached; the reader looks for what is not. */
static const char *verdict(const struct bench_row *row)
{
    double sign = row->higher ? 1 : -1;

    if (row->note != NULL) {
        return row->note;
    }
    if (!isnan(row->goal) && sign * row->value >= sign * row->goal) {
        return "goal";
    }
    if (isnan(row->floor)) {
        return "";
    }
    return sign * row->value >= sign * row->floor ? "floor" : "BELOW THE FLOOR";
}

static void row_text(const struct bench *b, const struct bench_row *row)
{
    char value[16], floor_text[16], goal[16], ours[16], peer[16], quality[16], peer_quality[16];
    char spread[16], errors[40] = "-";
    const char *words = verdict(row);
    static const char *suite;

    if (b->n_rows == 0) {
        (void)printf("%s\n", b->cpu);
    }
    if (suite != b->suite) {
        suite = b->suite;
        (void)printf("\n%-36s %8s %-6s %7s %7s %8s %8s %6s %13s\n", suite, "value", "", "floor",
                     "goal", "ours", "peer", "spread", "error/peer's");
    }
    (void)snprintf(spread, sizeof spread, isnan(row->spread) ? "-" : "%.0f%%", 100 * row->spread);
    if (!isnan(row->quality) || !isnan(row->peer_quality)) {
        (void)snprintf(errors, sizeof errors, "%s/%s", short_number(row->quality, quality),
                       short_number(row->peer_quality, peer_quality));
    }
    (void)printf("%-36s %8s %-6s %7s %7s %8s %8s %6s %13s%s%s\n", row->name,
                 short_number(row->value, value), row->unit, short_number(row->floor, floor_text),
                 short_number(row->goal, goal), short_number(row->ours, ours),
                 short_number(row->peer, peer), spread, errors, words[0] == '\0' ? "" : "  ",
                 words);
}

void bench_report(struct bench *b, const struct bench_row *row)
{
    double sign = row->higher ? 1 : -1;

    b->n_below += sign * row->value < sign * row->floor; /* false where either is NAN */
    bench_progress(b, NULL);
    if (b->as_json) {
        row_json(b, row, stdout);
    } else {
        row_text(b, row);
    }
    if (b->copy != NULL) {
        row_json(b, row, b->copy);
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
    (void)fputs("usage: bench [--json] [--row PATTERN] [--rounds N] [--peer DIR] [--report FILE] "
                "[SUITE]... | --list | --setup\n",
                stderr);
    return 2;
}

static int list(void)
{
    for (size_t s = 0; s < SUITE_N; s++) {
        (void)printf("%-8s %s\n", suites[s].name, suites[s].about);
    }
    bench_engine_list();
    return 0;
}

/* An option with a value, into the text it names: whether argv[*i] is one. */
static bool take_text(struct bench *b, int argc, char **argv, int *i)
{
    const struct {
        const char *name;
        const char **text;
    } options[] = {{"--row", &b->pattern},   {"--ingled", &b->ingled}, {"--ingle", &b->ingle},
                   {"--source", &b->source}, {"--cache", &b->cache},   {"--peer", &b->peer}};

    for (size_t o = 0; *i + 1 < argc && o < sizeof options / sizeof options[0]; o++) {
        if (strcmp(options[o].name, argv[*i]) == 0) {
            *options[o].text = argv[++*i];
            return true;
        }
    }
    return false;
}

/* Whether argv[*i] is an option that this knows and can follow. */
static bool take_option(struct bench *b, int argc, char **argv, int *i)
{
    if (strcmp(argv[*i], "--json") == 0) {
        b->as_json = true;
        return true;
    }
    if (strcmp(argv[*i], "--rounds") == 0 && *i + 1 < argc) {
        b->rounds = (int)strtol(argv[++*i], NULL, 10);
        return b->rounds >= 1 && b->rounds <= BENCH_ROUNDS_MAX;
    }
    if (strcmp(argv[*i], "--copy") == 0 && *i + 1 < argc) {
        b->copy = fopen(argv[++*i], "we");
        return b->copy != NULL;
    }
    return take_text(b, argc, argv, i);
}

int main(int argc, char **argv)
{
    struct bench b = {
        .ingled = "ingled", .ingle = "ingle", .source = ".", .cache = ".", .rounds = 5};
    bool wanted[SUITE_N] = {false};
    bool any = false;
    int status = 0;

    for (int i = 1; i < argc; i++) {
        size_t s = 0;

        if (strcmp(argv[i], "--list") == 0) {
            return list();
        }
        if (take_option(&b, argc, argv, &i)) {
            continue;
        }
        while (s < SUITE_N && strcmp(suites[s].name, argv[i]) != 0) {
            s++;
        }
        if (s == SUITE_N) {
            return usage();
        }
        wanted[s] = any = true;
    }
    read_cpu(&b);
    for (size_t s = 0; s < SUITE_N; s++) {
        if (wanted[s] || !any) {
            b.suite = suites[s].name;
            status |= suites[s].run(&b);
        }
    }
    if (b.copy != NULL) {
        status |= fclose(b.copy) != 0;
    }
    return status;
}
