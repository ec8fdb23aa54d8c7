/* Both regions of one client as private memory, with all six ring ends attached to them. */
#ifndef INGLE_TESTS_UNIT_SHM_RIG_H
#define INGLE_TESTS_UNIT_SHM_RIG_H
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "shm/ring.h"

#define RIG_SQ_N       16u
#define RIG_CQ_N       32u
#define RIG_TK_N       64u
#define RIG_TEXT_BYTES 1024u
#define RIG_SQ_OFF     INGLE_RING_PAGE
#define RIG_CQ_OFF     INGLE_RING_PAGE
#define RIG_TK_OFF     (RIG_CQ_OFF + RIG_CQ_N * 32u)
#define RIG_TEXT_OFF   (RIG_TK_OFF + RIG_TK_N * 32u)

struct rig {
    _Alignas(128) uint8_t c2s[RIG_SQ_OFF + RIG_SQ_N * 64u];
    _Alignas(128) uint8_t s2c[RIG_TEXT_OFF + RIG_TEXT_BYTES];
    struct ingle_sq_reader sq_reader;
    struct ingle_cq_writer cq_writer;
    struct ingle_tok_writer tok_writer;
    struct ingle_sq_writer sq_writer;
    struct ingle_cq_reader cq_reader;
    struct ingle_tok_reader tok_reader;
    uint32_t text_ends[RIG_TK_N];
    char text[INGLE_TEXT_COPY_BYTES];
};

/* A word of a region as its owner, or a liar in the owner's place, writes it. */
static inline void rig_poke(void *region, size_t off, uint32_t value)
{
    atomic_store_explicit((_Atomic uint32_t *)((uint8_t *)region + off), value,
                          memory_order_release);
}

static inline uint32_t rig_peek(const void *region, size_t off)
{
    return atomic_load_explicit((const _Atomic uint32_t *)((const uint8_t *)region + off),
                                memory_order_acquire);
}

#define C2S_OFF(field) offsetof(struct ingle_c2s_ctl, field)
#define S2C_OFF(field) offsetof(struct ingle_s2c_ctl, field)

static inline void rig_init(struct rig *g, uint32_t first)
{
    memset(g, 0, sizeof *g);
    ingle_sq_reader_init(&g->sq_reader, g->c2s, g->s2c, RIG_SQ_OFF, RIG_SQ_N);
    ingle_sq_writer_init(&g->sq_writer, g->c2s, g->s2c, RIG_SQ_OFF, RIG_SQ_N);
    ingle_cq_writer_init(&g->cq_writer, g->c2s, g->s2c, RIG_CQ_OFF, RIG_CQ_N);
    ingle_cq_reader_init(&g->cq_reader, g->c2s, g->s2c, RIG_CQ_OFF, RIG_CQ_N);
    ingle_tok_writer_init(&g->tok_writer, g->c2s, g->s2c, RIG_TK_OFF, RIG_TK_N, RIG_TEXT_OFF,
                          RIG_TEXT_BYTES, g->text_ends);
    ingle_tok_reader_init(&g->tok_reader, g->c2s, g->s2c, RIG_TK_OFF, RIG_TK_N, RIG_TEXT_OFF,
                          RIG_TEXT_BYTES);

    struct ingle_ring_in *ins[] = {&g->sq_reader.in, &g->cq_reader.in, &g->tok_reader.in};
    struct ingle_ring_out *outs[] = {&g->sq_writer.out, &g->cq_writer.out, &g->tok_writer.out};

    for (int i = 0; i < 3; i++) {
        ins[i]->head = ins[i]->tail = first;
        outs[i]->head = outs[i]->tail = outs[i]->published = first;
    }
    g->tok_writer.text_head = g->tok_writer.text_tail = first;
    rig_poke(g->c2s, C2S_OFF(sq_tail), first);
    rig_poke(g->c2s, C2S_OFF(cq_head), first);
    rig_poke(g->c2s, C2S_OFF(tk_head), first);
    rig_poke(g->s2c, S2C_OFF(sq_head), first);
    rig_poke(g->s2c, S2C_OFF(cq_tail), first);
    rig_poke(g->s2c, S2C_OFF(tk_tail), first);
}

/* splitmix64: the schedules of these tests replay from their seed. */
static inline uint64_t rig_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

#endif
