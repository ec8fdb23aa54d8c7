/* Owns the last line of a terminal while a bar stands there. Thread: main. */
#include "tools/ingle/progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/ingle/cli.h"
#include "tools/ingle/paths.h"

static int64_t now_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void progress_start(struct progress *p, const char *what, uint64_t total)
{
    const char *term = env_get("TERM");

    *p = (struct progress){.what = what, .total = total, .tenth = 0};
    p->bar = isatty(STDERR_FILENO) == 1 && term != NULL && strcmp(term, "dumb") != 0;
    p->next_ns = now_ns() + 1000000000; /* what takes less than a second needs no word */
}

static void draw(const struct progress *p, uint64_t done)
{
    static const char full[] = "##############################";
    char a[16], b[16];
    int filled;

    if (p->total == 0) {
        (void)fprintf(stderr, "\r%s: %s ", p->what, bytes_text(done, a));
        return;
    }
    filled = (int)((double)done / (double)p->total * 30);
    (void)fprintf(stderr, "\r%s [%.*s%*s] %3d %%  %s of %s ", p->what, filled, full, 30 - filled,
                  "", (int)((double)done / (double)p->total * 100), bytes_text(done, a),
                  bytes_text(p->total, b));
}

void progress_at(struct progress *p, uint64_t done)
{
    if (p->total != 0 && done > p->total) {
        done = p->total;
    }
    if (p->bar) {
        int64_t now = now_ns();

        if (now >= p->next_ns) {
            p->next_ns = now + 100000000;
            p->drawn = true;
            draw(p, done);
        }
    } else if (p->total != 0 && now_ns() >= p->next_ns) {
        int tenth = (int)((double)done / (double)p->total * 10);

        if (tenth > p->tenth) {
            char a[16], b[16];

            p->tenth = tenth;
            cli_note("%s: %d %% (%s of %s)", p->what, tenth * 10, bytes_text(done, a),
                     bytes_text(p->total, b));
        }
    }
}

void progress_end(struct progress *p)
{
    if (p->drawn) {
        (void)fprintf(stderr, "\r%*s\r", 79, "");
        (void)fflush(stderr);
    }
}
