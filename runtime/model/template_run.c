/* Owns the arena, the step and depth counters and the jump out of a failed compilation or render;
 * knows nothing of templates. Invariant: whoever runs has set run->out. Thread: that of the caller
 * (io, tests). */
#include "runtime/model/template_run.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/mem.h"

#define BLOCK_BYTES (64u << 10)

struct ingle_tpl_block {
    struct ingle_tpl_block *next;
    uint64_t used, room;
};

#define BLOCK_HEAD ((sizeof(struct ingle_tpl_block) + 15u) & ~(uint64_t)15u)

void *ingle_tpl_alloc(struct ingle_tpl_run *run, uint64_t bytes)
{
    struct ingle_tpl_arena *arena = &run->arena;
    struct ingle_tpl_block *block = arena->head;
    uint64_t room;
    char *p;

    if (bytes > arena->limit_bytes) {
        ingle_tpl_fail(run, "needs more than %llu MiB of memory",
                       (unsigned long long)(arena->limit_bytes >> 20));
    }
    bytes = (bytes + 15u) & ~(uint64_t)15u;
    if (block == NULL || block->room - block->used < bytes) {
        room = bytes > BLOCK_BYTES / 4 ? bytes : BLOCK_BYTES;
        if (arena->held_bytes + room > arena->limit_bytes) {
            ingle_tpl_fail(run, "needs more than %llu MiB of memory",
                           (unsigned long long)(arena->limit_bytes >> 20));
        }
        block = ingle_mem_alloc(BLOCK_HEAD + room);
        if (block == NULL) {
            run->code = -ENOMEM;
            ingle_tpl_fail(run, "out of memory");
        }
        block->room = room;
        arena->held_bytes += room;
        /* A large piece goes behind the head, so that the rest of the head is still used. */
        if (room != BLOCK_BYTES && arena->head != NULL) {
            block->next = arena->head->next;
            arena->head->next = block;
        } else {
            block->next = arena->head;
            arena->head = block;
        }
    }
    p = (char *)block + BLOCK_HEAD + block->used;
    block->used += bytes;
    return p;
}

void ingle_tpl_arena_free(struct ingle_tpl_arena *arena)
{
    struct ingle_tpl_block *block = arena->head, *next;

    while (block != NULL) {
        next = block->next;
        ingle_mem_free(block);
        block = next;
    }
    arena->head = NULL;
    arena->held_bytes = 0;
}

/* An error is one line: control characters that came from the template or the data become spaces,
 * and a code point cut by the end of the buffer goes. */
static void one_line(char *text)
{
    size_t n = strlen(text), i;

    for (i = 0; i < n; i++) {
        if ((unsigned char)text[i] < 0x20) {
            text[i] = ' ';
        }
    }
    for (i = n; i > 0 && ((unsigned char)text[i - 1] & 0xc0) == 0x80; i--) {
    }
    if (i > 0 && (unsigned char)text[i - 1] >= 0xc0) {
        unsigned char lead = (unsigned char)text[i - 1];
        size_t need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;

        if (n - (i - 1) < need) {
            text[i - 1] = '\0';
        }
    }
}

void ingle_tpl_fail(struct ingle_tpl_run *run, const char *fmt, ...)
{
    char text[320];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    one_line(text);
    if (run->code == 0) {
        run->code = -EINVAL;
    }
    (void)ingle_fail(run->err, run->code, "template line %u: %s", run->line, text);
    longjmp(run->out, 1);
}

void ingle_tpl_charge(struct ingle_tpl_run *run, uint64_t steps)
{
    if (steps > run->steps_left) {
        ingle_tpl_fail(run, "takes more than %u steps", INGLE_TPL_STEPS_MAX);
    }
    run->steps_left -= steps;
}

void ingle_tpl_enter(struct ingle_tpl_run *run)
{
    if (run->depth >= run->depth_max) {
        ingle_tpl_fail(run, "is nested deeper than %u levels", run->depth_max);
    }
    run->depth++;
}

void ingle_tpl_put(struct ingle_tpl_run *run, struct ingle_tpl_text *text, const char *p,
                   uint64_t bytes)
{
    uint64_t room;
    char *q;

    if (bytes > INGLE_TPL_OUTPUT_BYTES_MAX - text->bytes) {
        ingle_tpl_fail(run, "makes a text of more than %llu MiB", INGLE_TPL_OUTPUT_BYTES_MAX >> 20);
    }
    if (text->bytes + bytes > text->room) {
        room = text->room < 64 ? 128 : text->room * 2;
        if (room < text->bytes + bytes) {
            room = text->bytes + bytes;
        }
        q = ingle_tpl_alloc(run, room);
        if (text->bytes > 0) {
            memcpy(q, text->p, text->bytes);
        }
        text->p = q;
        text->room = room;
    }
    if (bytes > 0) {
        memcpy(text->p + text->bytes, p, bytes);
        text->bytes += bytes;
    }
}

void ingle_tpl_putz(struct ingle_tpl_run *run, struct ingle_tpl_text *text, const char *z)
{
    ingle_tpl_put(run, text, z, strlen(z));
}

void ingle_tpl_putc(struct ingle_tpl_run *run, struct ingle_tpl_text *text, char c)
{
    ingle_tpl_put(run, text, &c, 1);
}

void ingle_tpl_put_cp(struct ingle_tpl_run *run, struct ingle_tpl_text *text, uint32_t cp)
{
    char u[4];
    uint32_t n;

    if (cp < 0x80) {
        u[0] = (char)cp;
        n = 1;
    } else if (cp < 0x800) {
        u[0] = (char)(0xc0 | (cp >> 6));
        u[1] = (char)(0x80 | (cp & 0x3f));
        n = 2;
    } else if (cp < 0x10000) {
        u[0] = (char)(0xe0 | (cp >> 12));
        u[1] = (char)(0x80 | ((cp >> 6) & 0x3f));
        u[2] = (char)(0x80 | (cp & 0x3f));
        n = 3;
    } else {
        u[0] = (char)(0xf0 | (cp >> 18));
        u[1] = (char)(0x80 | ((cp >> 12) & 0x3f));
        u[2] = (char)(0x80 | ((cp >> 6) & 0x3f));
        u[3] = (char)(0x80 | (cp & 0x3f));
        n = 4;
    }
    ingle_tpl_put(run, text, u, n);
}

void ingle_tpl_putf(struct ingle_tpl_run *run, struct ingle_tpl_text *text, const char *fmt, ...)
{
    char piece[512]; /* the longest is a double in %f: 309 digits and its fraction */
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(piece, sizeof(piece), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(piece)) {
        ingle_tpl_fail(run, "formats a number too wide");
    }
    ingle_tpl_put(run, text, piece, (uint64_t)n);
}
