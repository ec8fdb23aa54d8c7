/* How far a long piece of work is: a bar on a terminal, a line per tenth otherwise. On stderr. */
#ifndef INGLE_TOOLS_PROGRESS_H
#define INGLE_TOOLS_PROGRESS_H
#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* borrowed */
    uint64_t total;   /* bytes; 0: unknown */
    bool bar, drawn;
    int tenth; /* last line printed, in tenths */
    int64_t next_ns;
};

void progress_start(struct progress *p, const char *what, uint64_t total);
void progress_at(struct progress *p, uint64_t done);
/* Takes the bar away, so that the next line starts on an empty one. */
void progress_end(struct progress *p);

#endif
