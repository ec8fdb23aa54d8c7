/* What a load costs from the GGUF file and from the kept image, for people: not a test. Usage:
 * bench_load MODEL.gguf FOLDER [ROUNDS]. The image is kept in FOLDER and removed at the end. The
 * ways take turns, so that what else the machine does falls on all of them; each begins with its
 * file in the page cache, or dropped from it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/mem.h"
#include "runtime/model/model.h"
#include "runtime/weights/image.h"
#include "runtime/weights/imagefile.h"

#define ROUNDS_MAX 101

enum {
    WAYS = 5
};
static const char *const ways[WAYS] = {"gguf, in page cache", "image, in page cache",
                                       "gguf, dropped", "image, dropped",
                                       "header and tokenizer alone"};

struct times {
    double ms[ROUNDS_MAX], cpu_ms[ROUNDS_MAX];
};

static struct ingle_image_home home;
static char image_path[1024];

static double cpu_now_ms(void)
{
    struct rusage u;

    (void)getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3;
}

/* Put the whole file into the page cache, or out of it. */
static void cache_file(const char *path, bool in)
{
    static char block[1 << 20];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        (void)fprintf(stderr, "bench_load: %s: %s\n", path, strerrordesc_np(errno));
        exit(1);
    }
    if (in) {
        while (read(fd, block, sizeof block) > 0) {
        }
    } else {
        (void)fsync(fd);
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    (void)close(fd);
}

/* A virtual machine's host hands out memory that was never touched at 0.5 GB/s. That would be most
 * of what is measured, and has nothing to do with the way: so let the load find touched memory. */
static void touch_memory(uint64_t bytes)
{
    uint8_t *p = ingle_mem_map_huge(bytes);

    if (p != NULL) {
        memset(p, 1, bytes);
    }
    ingle_mem_unmap(p, bytes);
}

static struct ingle_model *load(const char *path, const struct ingle_image_home *images)
{
    struct ingle_model_options options = {.act_mode = INGLE_ACT_INT8, .images = images};
    struct ingle_model *model;
    struct ingle_error err;

    if (ingle_model_load(path, &options, &model, &err) != 0) {
        (void)fprintf(stderr, "bench_load: %s\n", err.text);
        exit(1);
    }
    return model;
}

static void once(const char *path, int way, double *ret_ms, double *ret_cpu_ms)
{
    struct ingle_model *model = NULL;
    struct ingle_error err;
    uint64_t begin_ns, bytes;
    double cpu_ms;

    if (way < 4) {
        cache_file(way % 2 == 0 ? path : image_path, way < 2);
    }
    if (ingle_model_estimate(path, &bytes, &err) != 0) {
        exit(1);
    }
    touch_memory(bytes + (bytes >> 2));
    cpu_ms = cpu_now_ms();
    begin_ns = ingle_clock_ns();
    if (way < 4) {
        model = load(path, way % 2 == 0 ? NULL : &home);
    } else if (ingle_model_estimate(path, &bytes, &err) != 0) {
        exit(1);
    }
    *ret_ms = (double)(ingle_clock_ns() - begin_ns) / 1e6;
    *ret_cpu_ms = cpu_now_ms() - cpu_ms;
    ingle_model_free(model);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Make the image, and say what that costs after the model serves. */
static void keep(const char *path)
{
    struct ingle_model *model = load(path, &home);
    uint64_t begin_ns = ingle_clock_ns(), most_ns = 0, call_ns = begin_ns;
    double cpu_ms = cpu_now_ms();
    bool more = true;

    while (more) {
        uint64_t now_ns;

        more = ingle_image_keep(model->image);
        now_ns = ingle_clock_ns();
        most_ns = now_ns - call_ns > most_ns ? now_ns - call_ns : most_ns;
        call_ns = now_ns;
    }
    (void)printf("%-28s %8.1f ms, cpu %.1f ms, the longest call %.1f ms\n", "image written",
                 (double)(call_ns - begin_ns) / 1e6, cpu_now_ms() - cpu_ms, (double)most_ns / 1e6);
    if (ingle_imagefile_path(&home, path, model->file_hash, image_path, sizeof image_path) != 0 ||
        access(image_path, R_OK) != 0) {
        (void)fprintf(stderr, "bench_load: no image in %s\n", home.cache);
        exit(1);
    }
    ingle_model_free(model);
}

int main(int argc, char **argv)
{
    int rounds = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 7;
    static struct times all[WAYS];

    if (argc < 3 || rounds < 1 || rounds > ROUNDS_MAX) {
        (void)fprintf(stderr, "usage: bench_load MODEL.gguf FOLDER [ROUNDS]\n");
        return 2;
    }
    home = (struct ingle_image_home){"", argv[2]};
    keep(argv[1]);
    for (int r = 0; r < rounds; r++) {
        for (int way = 0; way < WAYS; way++) {
            once(argv[1], way, &all[way].ms[r], &all[way].cpu_ms[r]);
        }
    }
    for (int way = 0; way < WAYS; way++) {
        size_t n = (size_t)rounds;

        qsort(all[way].ms, n, sizeof(double), by_value);
        qsort(all[way].cpu_ms, n, sizeof(double), by_value);
        (void)printf("%-28s %8.1f ms (least %.1f, most %.1f), cpu %.1f ms (least %.1f)\n",
                     ways[way], all[way].ms[n / 2], all[way].ms[0], all[way].ms[n - 1],
                     all[way].cpu_ms[n / 2], all[way].cpu_ms[0]);
    }
    return unlink(image_path) == 0 ? 0 : 1;
}
