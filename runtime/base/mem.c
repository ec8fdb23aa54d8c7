/* Owns nothing but two counters. Any thread. The one file of runtime/ that names malloc. */
#include "runtime/base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE_BYTES 4096u

static _Thread_local bool watched;
static _Atomic uint64_t watched_calls; /* step adds relaxed; any thread loads relaxed */

static void note_call(void)
{
    if (watched) {
        atomic_fetch_add_explicit(&watched_calls, 1, memory_order_relaxed);
    }
}

void *ingle_mem_alloc(uint64_t bytes)
{
    note_call();
    return calloc(1, bytes == 0 ? 1 : bytes);
}

void *ingle_mem_array(uint64_t n, uint64_t item_bytes)
{
    note_call();
    return calloc(n == 0 ? 1 : n, item_bytes == 0 ? 1 : item_bytes);
}

void *ingle_mem_grow(void *old, uint64_t n_old, uint64_t n_new, uint64_t item_bytes)
{
    uint64_t bytes;
    char *p;

    note_call();
    if (__builtin_mul_overflow(n_new, item_bytes, &bytes)) {
        return NULL;
    }
    p = realloc(old, bytes == 0 ? 1 : bytes);
    if (p != NULL && n_new > n_old) {
        memset(p + n_old * item_bytes, 0, (n_new - n_old) * item_bytes);
    }
    return p;
}

char *ingle_mem_strdup(const char *text)
{
    note_call();
    return strdup(text);
}

void ingle_mem_free(void *p)
{
    note_call();
    free(p);
}

void *ingle_mem_map(uint64_t bytes)
{
    void *p;

    note_call();
    p = mmap(NULL, bytes == 0 ? 1 : bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
             0);
    return p == MAP_FAILED ? NULL : p;
}

void *ingle_mem_map_huge(uint64_t bytes)
{
    const uint64_t huge = UINT64_C(2) << 20;
    uint64_t room = bytes + huge; /* so that one of its addresses is a multiple */
    char *p, *at;

    if (bytes < huge) {
        return ingle_mem_map(bytes);
    }
    p = ingle_mem_map(room);
    if (p == NULL) {
        return NULL;
    }
    at = p + (-(uintptr_t)p & (huge - 1));
    bytes = (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    if (at > p) {
        (void)munmap(p, (size_t)(at - p));
    }
    if (p + room > at + bytes) {
        (void)munmap(at + bytes, (size_t)(p + room - (at + bytes)));
    }
    (void)madvise(at, bytes, MADV_HUGEPAGE); /* a kernel without them: small pages */
    return at;
}

bool ingle_mem_populate(void *p, uint64_t bytes)
{
    return madvise(p, bytes, MADV_POPULATE_WRITE) == 0;
}

void ingle_mem_unmap(void *p, uint64_t bytes)
{
    note_call();
    if (p != NULL) {
        (void)munmap(p, bytes == 0 ? 1 : bytes);
    }
}

void ingle_mem_watch_thread(void)
{
    watched = true;
}

uint64_t ingle_mem_watched_calls(void)
{
    return atomic_load_explicit(&watched_calls, memory_order_relaxed);
}
