/* What compiling and rendering share: an arena with a limit, a step counter, a growing text, and
 * the one way out. A failure fills the error and jumps back to the entry point (template.c);
 * everything allocated on the way lies in the arena, so nothing has to be unwound. */
#ifndef INGLE_RUNTIME_MODEL_TEMPLATE_RUN_H
#define INGLE_RUNTIME_MODEL_TEMPLATE_RUN_H
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/error.h"

/* Limits of one render (and of one compilation). A chat of 10,000 messages takes about a million
 * steps; the depth is what fits a thread's stack with a wide margin. */
#define INGLE_TPL_SOURCE_BYTES_MAX (1u << 20)
#define INGLE_TPL_STEPS_MAX        10000000u
#define INGLE_TPL_DEPTH_MAX        500u       /* of evaluation, macros included */
#define INGLE_TPL_NEST_MAX         200u       /* of blocks and expressions in the source */
#define INGLE_TPL_JSON_BYTES_MAX   (8u << 20) /* json-c takes up to 30 bytes for one of input */
#define INGLE_TPL_OUTPUT_BYTES_MAX (32ull << 20)
#define INGLE_TPL_ARENA_BYTES_MAX  (256ull << 20)
#define INGLE_TPL_RANGE_MAX        100000 /* the sandbox of Jinja2 has the same */

struct ingle_tpl_block;
struct ingle_tpl_arena {
    struct ingle_tpl_block *head;
    uint64_t held_bytes, limit_bytes;
};

struct ingle_tpl_run {
    jmp_buf out;
    int code; /* why we jumped: -errno */
    struct ingle_error *err;
    struct ingle_tpl_arena arena;
    uint32_t line; /* of the source, for errors */
    uint32_t depth, depth_max;
    uint64_t steps_left;
    void *foreign; /* the one thing that may lie outside the arena: freed by whoever catches */
    void (*foreign_free)(void *);
    int64_t now_s;
};

/* All memory is zeroed and lives until the arena goes. */
void *ingle_tpl_alloc(struct ingle_tpl_run *run, uint64_t bytes);
void ingle_tpl_arena_free(struct ingle_tpl_arena *arena);

/* Does not return: "template line N: ...". */
_Noreturn void ingle_tpl_fail(struct ingle_tpl_run *run, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Pay for work; fails when the steps are used up. Byte work is charged at 64 bytes a step. */
void ingle_tpl_charge(struct ingle_tpl_run *run, uint64_t steps);
static inline void ingle_tpl_charge_bytes(struct ingle_tpl_run *run, uint64_t bytes)
{
    ingle_tpl_charge(run, 1 + bytes / 64);
}
/* Around every recursion over nodes or values. */
void ingle_tpl_enter(struct ingle_tpl_run *run);
static inline void ingle_tpl_leave(struct ingle_tpl_run *run)
{
    run->depth--;
}

/* A text under construction; its bytes may be kept as they are when it is done. */
struct ingle_tpl_text {
    char *p;
    uint64_t bytes, room;
};
void ingle_tpl_put(struct ingle_tpl_run *run, struct ingle_tpl_text *text, const char *p,
                   uint64_t bytes);
void ingle_tpl_putz(struct ingle_tpl_run *run, struct ingle_tpl_text *text, const char *z);
void ingle_tpl_putc(struct ingle_tpl_run *run, struct ingle_tpl_text *text, char c);
void ingle_tpl_put_cp(struct ingle_tpl_run *run, struct ingle_tpl_text *text, uint32_t cp);
void ingle_tpl_putf(struct ingle_tpl_run *run, struct ingle_tpl_text *text, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
