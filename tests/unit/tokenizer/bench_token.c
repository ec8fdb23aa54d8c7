/* How fast text becomes ids, and what choosing a token costs. `bench_token TEXT_FILE...` reads the
 * files over and over until it has 1 MiB of text; models come from INGLE_TEST_MODELS. Best of
 * several rounds of processor time, since other work on the machine only ever adds to it. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/mem.h"
#include "runtime/model/sampler.h"
#include "runtime/model/tokenizer.h"
#include "tests/unit/tokenizer/head.h"
#include "tests/unit/tokenizer/toy.h"

#define TEXT_BYTES (1u << 20)

static double now_us(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* ---- encode -----------------------------------------------------------------------------------
 */

static bool read_text(int n_files, char **files, char *text)
{
    uint64_t n = 0, before;

    do {
        before = n;
        for (int i = 0; i < n_files && n < TEXT_BYTES; i++) {
            FILE *f = fopen(files[i], "rb");

            if (f != NULL) {
                n += fread(text + n, 1, TEXT_BYTES - n, f);
                (void)fclose(f);
            }
        }
    } while (n < TEXT_BYTES && n > before);
    for (uint64_t i = TEXT_BYTES; n == TEXT_BYTES && i > TEXT_BYTES - 4; i--) {
        if (ingle_utf8_check(text, n) >= 0) {
            text[i - 1] = ' '; /* the cut went through a code point */
        }
    }
    return n == TEXT_BYTES && ingle_utf8_check(text, n) == -1;
}

static void bench_encode(const char *what, const struct ingle_tokenizer *tok, const char *text)
{
    double best = (double)INFINITY;
    uint32_t n = 0;

    for (int round = 0; round < 5; round++) {
        double start = now_us();
        struct ingle_error err;
        int32_t *ids;

        if (ingle_tokenizer_encode(tok, text, TEXT_BYTES, INGLE_TOKENIZE_SPECIAL, &ids, &n, &err) !=
            0) {
            printf("%s: %s\n", what, err.text);
            return;
        }
        best = fmin(best, now_us() - start);
        ingle_mem_free(ids);
    }
    printf("  %-24s %8.1f ms  %6.2f M tokens/s  %6.1f MB/s  %u tokens\n", what, best / 1e3,
           n / best, (double)TEXT_BYTES / best, n);
}

static void bench_model(const char *path, const char *source)
{
    static char same[TEXT_BYTES];
    struct ingle_error err = {0};
    struct ingle_gguf *gguf;
    struct ingle_tokenizer *tok;
    double start;

    if (ingle_gguf_open(path, &gguf, &err) != 0) {
        printf("%s\n", err.text);
        return;
    }
    start = now_us();
    if (ingle_tokenizer_create(gguf, &tok, &err) != 0) {
        printf("%s\n", err.text);
        ingle_gguf_close(gguf);
        return;
    }
    printf("%s: created in %.1f ms, holds %.1f MiB\n", path, (now_us() - start) / 1e3,
           (double)ingle_tokenizer_bytes(tok) / (1 << 20));
    ingle_gguf_close(gguf);
    bench_encode("source text", tok, source);
    memset(same, 'a', sizeof(same));
    bench_encode("one word of 1 MiB", tok, same);
    memset(same, ' ', sizeof(same));
    bench_encode("spaces", tok, same);
    memset(same, '\n', sizeof(same));
    bench_encode("line feeds", tok, same);
    ingle_tokenizer_free(tok);
}

/* ---- choose -----------------------------------------------------------------------------------
 */

static void bench_sampler(uint32_t V)
{
    static const struct {
        const char *name;
        struct ingle_sampling s;
    } cases[] = {
        {"temperature 0", {.top_p = 1, .typical_p = 1, .repeat_penalty = 1}},
        {"0.8, top-k 40, top-p 0.9",
         {.temperature = 0.8f, .top_k = 40, .top_p = 0.9f, .typical_p = 1, .repeat_penalty = 1}},
        {"the same, penalties over 64",
         {.temperature = 0.8f,
          .top_k = 40,
          .top_p = 0.9f,
          .typical_p = 1,
          .repeat_penalty = 1.1f,
          .repeat_last_n = 64}},
        {"the same, 5 alternatives",
         {.temperature = 0.8f,
          .top_k = 40,
          .top_p = 0.9f,
          .typical_p = 1,
          .repeat_penalty = 1,
          .n_logprobs = 5}},
        {"1, top-p 0.95", {.temperature = 1, .top_p = 0.95f, .typical_p = 1, .repeat_penalty = 1}},
        {"1, min-p 0.05",
         {.temperature = 1, .top_p = 1, .min_p = 0.05f, .typical_p = 1, .repeat_penalty = 1}},
        {"1, no filter", {.temperature = 1, .top_p = 1, .typical_p = 1, .repeat_penalty = 1}},
    };
    static struct head head;
    const struct ingle_kernels *kernels = ingle_kernels_best();
    uint64_t scratch_bytes = ingle_sampler_scratch_bytes(V), seed = 1;
    float *row = ingle_mem_map(V * sizeof(float)), *logits = ingle_mem_map(V * sizeof(float));
    void *scratch = ingle_mem_map(scratch_bytes);
    int32_t history[64];
    double best = (double)INFINITY;

    for (uint32_t i = 0; i < V; i++) { /* a few good candidates and a long tail */
        row[i] = (float)(-1.5 * log(1.0 + (double)(toy_random(&seed) % V)));
    }
    for (int i = 0; i < 64; i++) {
        history[i] = i * 7;
    }
    for (int round = 0; round < 100; round++) {
        double start = now_us();

        (void)head_row(&head, kernels->row_stat, &cases[0].s, row, V);
        best = fmin(best, now_us() - start);
    }
    printf("%u logits (%s): row statistics %.1f us\n", V, kernels->isa, best);
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        best = (double)INFINITY;
        for (uint32_t round = 0; round < 100; round++) {
            struct ingle_choice choice;
            struct ingle_logits left;
            double start;

            memcpy(logits, row, V * sizeof(float));
            start = now_us();
            left = head_row(&head, kernels->row_stat, &cases[c].s, logits, V);
            ingle_sampler_pick(&cases[c].s, &left, kernels->row_stat, history, 64, round, NULL, 0,
                               scratch, &choice);
            best = fmin(best, now_us() - start);
        }
        printf("  %-28s %8.1f us, statistics included\n", cases[c].name, best);
    }
    ingle_mem_unmap(row, V * sizeof(float));
    ingle_mem_unmap(logits, V * sizeof(float));
    ingle_mem_unmap(scratch, scratch_bytes);
}

int main(int argc, char **argv)
{
    static char text[TEXT_BYTES];
    const char *folder = getenv("INGLE_TEST_MODELS");
    DIR *dir = folder == NULL ? NULL : opendir(folder);
    struct dirent *entry;

    bench_sampler(49152);
    bench_sampler(262144);
    if (dir == NULL) {
        printf("INGLE_TEST_MODELS names no folder: no tokenizer to measure\n");
        return 0;
    }
    if (!read_text(argc - 1, argv + 1, text)) {
        fprintf(stderr, "usage: bench_token TEXT_FILE... (UTF-8)\n");
        (void)closedir(dir);
        return 2;
    }
    while ((entry = readdir(dir)) != NULL) {
        size_t n = strlen(entry->d_name);
        char path[4096];

        if (n > 5 && strcmp(entry->d_name + n - 5, ".gguf") == 0) {
            (void)snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
            bench_model(path, text);
        }
    }
    (void)closedir(dir);
    return 0;
}
