/* Where prompts lie while they travel: a ring of bytes over the C2S arena. Owns the order of the
 * blocks; the memory is the region's. Invariant: a block is one piece, 8-byte aligned, and is not
 * reused before it and every block before it are free. One thread. */
#include "clients/c/client.h"

#define BLOCKS INGLE_REQUESTS_MAX

void ingle_arena_init(struct ingle_arena *a, void *base, uint32_t bytes)
{
    a->base = base;
    a->bytes = bytes;
    a->head = a->tail = 0;
    a->first = a->last = 0;
}

uint32_t ingle_arena_take(struct ingle_arena *a, uint32_t bytes, uint32_t *ret_off)
{
    uint64_t need = ((uint64_t)bytes + 7) & ~(uint64_t)7;
    uint32_t pos, skip, block;

    if (a->first == a->last) {
        a->head = a->tail = 0; /* nothing is taken: the whole arena is one piece again */
    }
    pos = a->tail & (a->bytes - 1);
    skip = need > a->bytes - pos ? a->bytes - pos : 0;
    if (a->last - a->first == BLOCKS || skip + need > a->bytes - (a->tail - a->head)) {
        return INGLE_NO_BLOCK;
    }
    *ret_off = (a->tail + skip) & (a->bytes - 1);
    a->tail += skip + (uint32_t)need;
    block = a->last++ & (BLOCKS - 1);
    a->blocks[block].end = a->tail;
    a->blocks[block].free = false;
    return block;
}

void ingle_arena_free(struct ingle_arena *a, uint32_t block)
{
    a->blocks[block].free = true;
    while (a->first != a->last && a->blocks[a->first & (BLOCKS - 1)].free) {
        a->head = a->blocks[a->first & (BLOCKS - 1)].end;
        a->first++;
    }
}
