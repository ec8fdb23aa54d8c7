/* The rings' index arithmetic and copies. Owns no memory: the ends belong to their callers, the
 * regions to shm/region.c. Invariant: head <= tail <= head + n in free-running u32 arithmetic, on
 * private copies only; a shared word is loaded once per decision, and an index is masked with a
 * private mask before it addresses anything (that also bounds speculation).
 * Each end is used by one thread. */
#include "shm/ring.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include "shm/wake.h"

static INGLE_ATOMIC_U32 *own_word(void *region, size_t off)
{
    return (INGLE_ATOMIC_U32 *)((uint8_t *)region + off);
}

static const INGLE_ATOMIC_U32 *peer_word(const void *region, size_t off)
{
    return (const INGLE_ATOMIC_U32 *)((const uint8_t *)region + off);
}

/* ---- indices --------------------------------------------------------------------------------- */

static int in_take_tail(struct ingle_ring_in *in, uint32_t tail)
{
    /* One comparison finds both lies: too far ahead, and (by wrapping) behind what was seen. */
    if (tail - in->tail > in->n - (in->tail - in->head)) {
        return -EPROTO;
    }
    in->tail = tail;
    return tail == in->head ? INGLE_RING_EMPTY : 0;
}

static int in_look(struct ingle_ring_in *in)
{
    return in_take_tail(in, atomic_load_explicit(in->tail_word, memory_order_acquire));
}

static int in_arm(struct ingle_ring_in *in, uint32_t value)
{
    return in_take_tail(in, ingle_doorbell(in->sleep_word, value, in->tail_word));
}

static void in_release(struct ingle_ring_in *in)
{
    atomic_store_explicit(in->head_word, in->head, memory_order_release);
}

static int out_refresh(struct ingle_ring_out *out)
{
    uint32_t head = atomic_load_explicit(out->head_word, memory_order_acquire);

    /* Against published, not tail: what was never shown cannot have been consumed. */
    if (head - out->head > out->published - out->head) {
        return -EPROTO;
    }
    out->head = head;
    return 0;
}

static uint32_t out_publish(struct ingle_ring_out *out)
{
    if (out->published == out->tail) {
        return 0;
    }
    out->published = out->tail;
    return ingle_doorbell(out->tail_word, out->tail, out->sleep_word);
}

/* Room for one more entry, with a look at the peer's line only when the known room is used up. */
static int out_reserve(struct ingle_ring_out *out)
{
    if (out->tail - out->head == out->n) {
        int res = out_refresh(out);

        if (res != 0) {
            return res;
        }
    }
    return out->tail - out->head == out->n ? INGLE_RING_FULL : 0;
}

/* ---- copies ---------------------------------------------------------------------------------- */

/* Each word is loaded exactly once, by an atomic load that the compiler may neither repeat nor
 * split, so what is validated is what is used, whatever the peer writes meanwhile. */
static void snapshot(void *dst, const INGLE_ATOMIC_U64 *src, uint32_t n_words)
{
    for (uint32_t i = 0; i < n_words; i++) {
        uint64_t word = atomic_load_explicit(&src[i], memory_order_relaxed);

        memcpy((uint8_t *)dst + i * sizeof word, &word, sizeof word);
    }
    atomic_signal_fence(memory_order_seq_cst);
}

static int in_read(struct ingle_ring_in *in, const INGLE_ATOMIC_U64 *entries, uint32_t n_words,
                   void *ret)
{
    int res = in->head != in->tail ? 0 : in_look(in);

    if (res == 0) {
        snapshot(ret, entries + (size_t)(in->head & (in->n - 1)) * n_words, n_words);
        in->head++;
    }
    return res;
}

/* ---- SQ -------------------------------------------------------------------------------------- */

void ingle_sq_reader_init(struct ingle_sq_reader *r, const void *c2s, void *s2c, uint32_t sq_off,
                          uint32_t n)
{
    *r = (struct ingle_sq_reader){
        .in = {.tail_word = peer_word(c2s, offsetof(struct ingle_c2s_ctl, sq_tail)),
               .head_word = own_word(s2c, offsetof(struct ingle_s2c_ctl, sq_head)),
               .sleep_word = own_word(s2c, offsetof(struct ingle_s2c_ctl, flags)),
               .n = n},
        .entries = (const INGLE_ATOMIC_U64 *)((const uint8_t *)c2s + sq_off),
    };
}

int ingle_sq_read(struct ingle_sq_reader *r, struct ingle_sqe *ret)
{
    return in_read(&r->in, r->entries, sizeof *ret / 8, ret);
}

void ingle_sq_release(struct ingle_sq_reader *r)
{
    in_release(&r->in);
}

int ingle_sq_reader_flags(struct ingle_sq_reader *r, uint32_t flags)
{
    return in_arm(&r->in, flags);
}

void ingle_sq_writer_init(struct ingle_sq_writer *w, void *c2s, const void *s2c, uint32_t sq_off,
                          uint32_t n)
{
    *w = (struct ingle_sq_writer){
        .out = {.tail_word = own_word(c2s, offsetof(struct ingle_c2s_ctl, sq_tail)),
                .head_word = peer_word(s2c, offsetof(struct ingle_s2c_ctl, sq_head)),
                .sleep_word = peer_word(s2c, offsetof(struct ingle_s2c_ctl, flags)),
                .n = n},
        .entries = (struct ingle_sqe *)((uint8_t *)c2s + sq_off),
    };
}

int ingle_sq_write(struct ingle_sq_writer *w, const struct ingle_sqe *sqe)
{
    int res = out_reserve(&w->out);

    if (res == 0) {
        w->entries[w->out.tail & (w->out.n - 1)] = *sqe;
        w->out.tail++;
    }
    return res;
}

uint32_t ingle_sq_publish(struct ingle_sq_writer *w)
{
    return out_publish(&w->out);
}

uint32_t ingle_sq_writer_flags(const struct ingle_sq_writer *w)
{
    return atomic_load_explicit(w->out.sleep_word, memory_order_relaxed);
}

/* ---- CQ -------------------------------------------------------------------------------------- */

void ingle_cq_writer_init(struct ingle_cq_writer *w, const void *c2s, void *s2c, uint32_t cq_off,
                          uint32_t n)
{
    *w = (struct ingle_cq_writer){
        .out = {.tail_word = own_word(s2c, offsetof(struct ingle_s2c_ctl, cq_tail)),
                .head_word = peer_word(c2s, offsetof(struct ingle_c2s_ctl, cq_head)),
                .sleep_word = peer_word(c2s, offsetof(struct ingle_c2s_ctl, need_wake)),
                .n = n},
        .entries = (struct ingle_cqe *)((uint8_t *)s2c + cq_off),
    };
}

int ingle_cq_write(struct ingle_cq_writer *w, const struct ingle_cqe *cqe)
{
    int res = out_reserve(&w->out);

    if (res == 0) {
        w->entries[w->out.tail & (w->out.n - 1)] = *cqe;
        w->out.tail++;
    }
    return res;
}

int ingle_cq_writer_room(struct ingle_cq_writer *w, uint32_t want)
{
    if (w->out.n - (w->out.tail - w->out.head) < want) {
        int res = out_refresh(&w->out);

        if (res != 0) {
            return res;
        }
    }
    return (int)(w->out.n - (w->out.tail - w->out.head));
}

uint32_t ingle_cq_publish(struct ingle_cq_writer *w)
{
    return out_publish(&w->out);
}

void ingle_cq_reader_init(struct ingle_cq_reader *r, void *c2s, const void *s2c, uint32_t cq_off,
                          uint32_t n)
{
    *r = (struct ingle_cq_reader){
        .in = {.tail_word = peer_word(s2c, offsetof(struct ingle_s2c_ctl, cq_tail)),
               .head_word = own_word(c2s, offsetof(struct ingle_c2s_ctl, cq_head)),
               .sleep_word = own_word(c2s, offsetof(struct ingle_c2s_ctl, need_wake)),
               .n = n},
        .entries = (const INGLE_ATOMIC_U64 *)((const uint8_t *)s2c + cq_off),
    };
}

int ingle_cq_read(struct ingle_cq_reader *r, struct ingle_cqe *ret)
{
    return in_read(&r->in, r->entries, sizeof *ret / 8, ret);
}

int ingle_cq_reader_look(struct ingle_cq_reader *r)
{
    return in_look(&r->in);
}

void ingle_cq_release(struct ingle_cq_reader *r)
{
    in_release(&r->in);
}

int ingle_cq_reader_arm(struct ingle_cq_reader *r, uint32_t bits)
{
    return in_arm(&r->in, bits);
}

/* ---- TOK and its text ------------------------------------------------------------------------ */

void ingle_tok_writer_init(struct ingle_tok_writer *w, const void *c2s, void *s2c, uint32_t tk_off,
                           uint32_t n, uint32_t text_off, uint32_t text_bytes, uint32_t *text_ends)
{
    *w = (struct ingle_tok_writer){
        .out = {.tail_word = own_word(s2c, offsetof(struct ingle_s2c_ctl, tk_tail)),
                .head_word = peer_word(c2s, offsetof(struct ingle_c2s_ctl, tk_head)),
                .sleep_word = peer_word(c2s, offsetof(struct ingle_c2s_ctl, need_wake)),
                .n = n},
        .entries = (struct ingle_tok *)((uint8_t *)s2c + tk_off),
        .text = (uint8_t *)s2c + text_off,
        .text_ends = text_ends,
        .text_bytes = text_bytes,
    };
}

/* The text of a record is free when the record is; where each one's ends is remembered privately,
 * since the copies in the ring belong to a region whose reader we do not trust to be a reader. */
static int tok_refresh(struct ingle_tok_writer *w)
{
    uint32_t before = w->out.head;
    int res = out_refresh(&w->out);

    if (res == 0 && w->out.head != before) {
        w->text_head = w->text_ends[(w->out.head - 1) & (w->out.n - 1)];
    }
    return res;
}

int ingle_tok_writer_room(struct ingle_tok_writer *w)
{
    int res = tok_refresh(w);

    return res != 0 ? res : (int)(w->out.n - (w->out.tail - w->out.head));
}

/* Bytes to pass over so that text_bytes bytes from there on do not split. */
static uint32_t text_skip(const struct ingle_tok_writer *w, uint32_t text_bytes)
{
    uint32_t pos = w->text_tail & (w->text_bytes - 1);

    return text_bytes > w->text_bytes - pos ? w->text_bytes - pos : 0;
}

static int tok_fits(struct ingle_tok_writer *w, uint32_t text_bytes)
{
    uint32_t skip = text_skip(w, text_bytes);

    if (w->out.head == w->out.tail) {
        /* Nothing is in flight, so what is skipped need not be waited for: without this a long
         * text could find an empty ring too small for ever. */
        w->text_head = w->text_tail += skip;
        return 1;
    }
    return w->out.tail - w->out.head < w->out.n &&
           (uint64_t)skip + text_bytes <= w->text_bytes - (w->text_tail - w->text_head);
}

int ingle_tok_write(struct ingle_tok_writer *w, const struct ingle_tok *rec, const void *text,
                    uint16_t text_bytes)
{
    struct ingle_tok *entry = &w->entries[w->out.tail & (w->out.n - 1)];

    if (text_bytes > w->text_bytes) {
        return -EMSGSIZE;
    }
    if (!tok_fits(w, text_bytes)) {
        int res = tok_refresh(w);

        if (res != 0) {
            return res;
        }
        if (!tok_fits(w, text_bytes)) {
            return INGLE_RING_FULL;
        }
    }
    w->text_tail += text_skip(w, text_bytes);
    *entry = *rec;
    entry->text_off = w->text_tail;
    entry->text_len = text_bytes;
    if (text_bytes != 0) {
        memcpy(w->text + (w->text_tail & (w->text_bytes - 1)), text, text_bytes);
    }
    w->text_tail += text_bytes;
    w->text_ends[w->out.tail & (w->out.n - 1)] = w->text_tail;
    w->out.tail++;
    return 0;
}

struct ingle_tok_mark ingle_tok_writer_mark(const struct ingle_tok_writer *w)
{
    return (struct ingle_tok_mark){.tail = w->out.tail, .text_tail = w->text_tail};
}

void ingle_tok_writer_rewind(struct ingle_tok_writer *w, struct ingle_tok_mark mark)
{
    w->out.tail = mark.tail;
    w->text_tail = mark.text_tail;
    if (w->out.head == w->out.tail) {
        w->text_head = w->text_tail; /* an empty ring may have skipped ahead since */
    }
}

uint32_t ingle_tok_publish(struct ingle_tok_writer *w)
{
    return out_publish(&w->out);
}

void ingle_tok_reader_init(struct ingle_tok_reader *r, void *c2s, const void *s2c, uint32_t tk_off,
                           uint32_t n, uint32_t text_off, uint32_t text_bytes)
{
    *r = (struct ingle_tok_reader){
        .in = {.tail_word = peer_word(s2c, offsetof(struct ingle_s2c_ctl, tk_tail)),
               .head_word = own_word(c2s, offsetof(struct ingle_c2s_ctl, tk_head)),
               .sleep_word = own_word(c2s, offsetof(struct ingle_c2s_ctl, need_wake)),
               .n = n},
        .entries = (const INGLE_ATOMIC_U64 *)((const uint8_t *)s2c + tk_off),
        .text = (const uint8_t *)s2c + text_off,
        .text_bytes = text_bytes,
    };
}

int ingle_tok_read(struct ingle_tok_reader *r, struct ingle_tok *ret, char *ret_text)
{
    struct ingle_tok rec;
    uint32_t pos;
    int res = in_read(&r->in, r->entries, sizeof rec / 8, &rec);

    if (res != 0) {
        return res;
    }
    pos = rec.text_off & (r->text_bytes - 1);
    if (rec.text_len > r->text_bytes - pos) {
        r->in.head--;
        return -EPROTO;
    }
    memcpy(ret_text, r->text + pos, rec.text_len);
    ret_text[rec.text_len] = '\0';
    *ret = rec;
    return 0;
}

int ingle_tok_reader_look(struct ingle_tok_reader *r)
{
    return in_look(&r->in);
}

void ingle_tok_release(struct ingle_tok_reader *r)
{
    in_release(&r->in);
}

int ingle_tok_reader_arm(struct ingle_tok_reader *r, uint32_t bits)
{
    return in_arm(&r->in, bits);
}
