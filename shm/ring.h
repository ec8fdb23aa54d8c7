/* Both ends of every ring: SQ (client -> runtime), CQ and TOK (runtime -> client).
 *
 *      producer                          consumer
 *      tail, private                     head, private
 *      tail_word ---- its own line ----> read, checked against head, never trusted
 *      read, checked against published <--- its own line ---- head_word
 *
 * One producer, one consumer, free-running u32 indices, n a power of two. An end is plain memory of
 * its process and belongs to one thread; it never decides on a shared value that it has not first
 * copied and checked. A lying index is -EPROTO, leaves the end as it was, and means: drop the peer.
 * Entries are written first and published by the tail, so a peer that dies leaves nothing half
 * done. */
#ifndef INGLE_SHM_RING_H
#define INGLE_SHM_RING_H
#include <stdint.h>

#include "shm/atomic.h"
#include "shm/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

enum ingle_ring_outcome {
    INGLE_RING_EMPTY = 1, /* nothing to read now */
    INGLE_RING_FULL = 2   /* no room now: the consumer has to release first */
};

#define INGLE_TEXT_COPY_BYTES 65536u /* what one record's text can take, with a NUL behind it */

struct ingle_ring_in { /* indices of a consuming end */
    const INGLE_ATOMIC_U32 *tail_word;
    INGLE_ATOMIC_U32 *head_word;
    INGLE_ATOMIC_U32 *sleep_word; /* ours: what the producer looks at after it has published */
    uint32_t n, head, tail;       /* head <= tail <= head + n; tail: as last seen */
};

struct ingle_ring_out { /* indices of a producing end */
    INGLE_ATOMIC_U32 *tail_word;
    const INGLE_ATOMIC_U32 *head_word;
    const INGLE_ATOMIC_U32 *sleep_word;
    uint32_t n, head, tail, published; /* head <= published <= tail <= head + n; head: last seen */
};

/* ---- the runtime's ends ---------------------------------------------------------------------- */

struct ingle_sq_reader {
    struct ingle_ring_in in;
    const INGLE_ATOMIC_U64 *entries;
};

struct ingle_cq_writer {
    struct ingle_ring_out out;
    struct ingle_cqe *entries;
};

struct ingle_tok_writer {
    struct ingle_ring_out out;
    struct ingle_tok *entries;
    uint8_t *text;
    uint32_t *text_ends;           /* [n] private: where the text of each record in flight ends */
    uint32_t text_bytes;           /* a power of two */
    uint32_t text_head, text_tail; /* free-running; text_tail - text_head <= text_bytes */
};

struct ingle_tok_mark { /* where an unpublished group of records began */
    uint32_t tail, text_tail;
};

/**
 * Make the runtime's end of the submission ring, both indices at 0.
 *
 * @c2s     the mapped C2S region      @s2c  the mapped S2C region (written: sq_head, flags)
 * @sq_off  bytes from c2s to the entries, 64-byte aligned   @n  entries, a power of two
 *
 * Ownership: fills storage of the caller, borrows both regions for the end's life.
 * Thread: the one that will read.  Errors: none; the runtime chose the numbers itself.
 */
void ingle_sq_reader_init(struct ingle_sq_reader *r, const void *c2s, void *s2c, uint32_t sq_off,
                          uint32_t n);

/**
 * Take the next entry: one snapshot of its 64 bytes into *ret, which nobody else can change. The
 * original is never read again; the copy still has to be validated (shm/check.h).
 *
 * Ownership: borrows.  Thread: io.
 * Returns 0, INGLE_RING_EMPTY, or -EPROTO (the tail is further than n ahead, or has moved back):
 * drop the client.
 */
int ingle_sq_read(struct ingle_sq_reader *r, struct ingle_sqe *ret);

/**
 * Tell the client how far its entries have been taken. Call it after a batch of ingle_sq_read.
 *
 * Ownership: borrows.  Thread: io.  Errors: none.
 */
void ingle_sq_release(struct ingle_sq_reader *r);

/**
 * Publish s2c.flags, then look at the tail once more. With INGLE_S2C_SQ_NEED_WAKEUP in flags this
 * is the step before sleeping: on INGLE_RING_EMPTY the client will ring the eventfd.
 *
 * @flags  INGLE_S2C_*, the whole word; io is its only writer
 *
 * Ownership: borrows.  Thread: io.  Returns 0 (entries are waiting: do not sleep),
 * INGLE_RING_EMPTY, or -EPROTO.
 */
int ingle_sq_reader_flags(struct ingle_sq_reader *r, uint32_t flags);

/**
 * Make the runtime's end of the completion ring, both indices at 0.
 *
 * @c2s, @s2c  the mapped regions (written: cq_tail and the entries)
 * @cq_off     bytes from s2c to the entries, 32-byte aligned     @n  entries, a power of two
 *
 * Ownership: fills storage of the caller, borrows both regions.  Thread: the one that will write.
 */
void ingle_cq_writer_init(struct ingle_cq_writer *w, const void *c2s, void *s2c, uint32_t cq_off,
                          uint32_t n);

/**
 * Append one completion, not yet visible to the client.
 *
 * Ownership: copies *cqe.  Thread: io.  Returns 0, INGLE_RING_FULL (the caller admitted more than
 * it reserved, or the client reads nothing), or -EPROTO (a lying head): drop the client.
 */
int ingle_cq_write(struct ingle_cq_writer *w, const struct ingle_cqe *cqe);

/**
 * How many completions there is room for. The client's line is looked at only when what is known
 * is less than want.
 *
 * Ownership: borrows.  Thread: io.  Returns 0..n, or -EPROTO (a lying head): drop the client.
 */
int ingle_cq_writer_room(struct ingle_cq_writer *w, uint32_t want);

/**
 * Make everything written visible.
 *
 * Ownership: borrows.  Thread: io.  Returns c2s.need_wake as it was afterwards (INGLE_WAKE_* and
 * whatever else the client has put there; 0 when nothing was new): mask it, then wake the client.
 */
uint32_t ingle_cq_publish(struct ingle_cq_writer *w);

/**
 * Make the runtime's end of the token ring and of its text ring, all indices at 0.
 *
 * @c2s, @s2c   the mapped regions (written: tk_tail, the records and the text)
 * @tk_off      bytes from s2c to the records, 32-byte aligned      @n  records, a power of two
 * @text_off    bytes from s2c to the text ring
 * @text_bytes  of the text ring, a power of two; 64 KiB takes a record of any length
 * @text_ends   n words of private memory
 *
 * Ownership: fills storage of the caller, borrows the regions and text_ends for the end's life.
 * Thread: the one that will write.
 */
void ingle_tok_writer_init(struct ingle_tok_writer *w, const void *c2s, void *s2c, uint32_t tk_off,
                           uint32_t n, uint32_t text_off, uint32_t text_bytes, uint32_t *text_ends);

/**
 * Look at what the client has released, then say how many records there is room for.
 *
 * Ownership: borrows.  Thread: step.  Returns 0..n, or -EPROTO (a lying head): drop the client.
 * Room for a record is not yet room for its text: ingle_tok_write can still say INGLE_RING_FULL.
 */
int ingle_tok_writer_room(struct ingle_tok_writer *w);

/**
 * Append one record and its text, not yet visible to the client. text_off and text_len are set
 * here; rec's own are ignored. The text stays in one piece: where it would split at the end of the
 * ring, the rest of the ring is skipped.
 *
 * @rec   the record              @text  text_bytes bytes, NULL allowed when text_bytes is 0
 *
 * Ownership: copies both.  Thread: step.
 * Returns 0, INGLE_RING_FULL (park the sequence), -EPROTO (a lying head: drop the client), or
 * -EMSGSIZE (the text is longer than the whole ring).
 */
int ingle_tok_write(struct ingle_tok_writer *w, const struct ingle_tok *rec, const void *text,
                    uint16_t text_bytes);

/**
 * Remember where a group of records begins, so that it can be taken back as a whole.
 *
 * Ownership: borrows.  Thread: step.
 */
struct ingle_tok_mark ingle_tok_writer_mark(const struct ingle_tok_writer *w);

/**
 * Take back everything written since mark. For a group (a token and its alternatives) that did not
 * fit as a whole. Nothing may have been published since.
 *
 * Ownership: borrows.  Thread: step.
 */
void ingle_tok_writer_rewind(struct ingle_tok_writer *w, struct ingle_tok_mark mark);

/**
 * Make every record written so far visible: one sequentially consistent store of the tail, then
 * one load of c2s.need_wake.
 *
 * Ownership: borrows.  Thread: step.  Returns need_wake as ingle_cq_publish does.
 */
uint32_t ingle_tok_publish(struct ingle_tok_writer *w);

/* ---- the client's ends ----------------------------------------------------------------------- */

struct ingle_sq_writer {
    struct ingle_ring_out out;
    struct ingle_sqe *entries;
};

struct ingle_cq_reader {
    struct ingle_ring_in in;
    const INGLE_ATOMIC_U64 *entries;
};

struct ingle_tok_reader {
    struct ingle_ring_in in;
    const INGLE_ATOMIC_U64 *entries;
    const uint8_t *text;
    uint32_t text_bytes;
};

/**
 * Make the client's end of the submission ring, both indices at 0.
 *
 * @c2s  the mapped C2S region (written: sq_tail and the entries)   @s2c  the mapped S2C region
 * @sq_off, @n  as WELCOME gave them, already checked (ingle_check_welcome)
 *
 * Ownership: fills storage of the caller, borrows both regions.  Thread: the client's.
 */
void ingle_sq_writer_init(struct ingle_sq_writer *w, void *c2s, const void *s2c, uint32_t sq_off,
                          uint32_t n);

/**
 * Append one entry, not yet visible to the runtime.
 *
 * Ownership: copies *sqe.  Thread: the client's.  Returns 0, INGLE_RING_FULL, or -EPROTO (the
 * runtime's head is a lie: detach).
 */
int ingle_sq_write(struct ingle_sq_writer *w, const struct ingle_sqe *sqe);

/**
 * Make everything written visible.
 *
 * Ownership: borrows.  Thread: the client's.  Returns s2c.flags as they were afterwards: with
 * INGLE_S2C_SQ_NEED_WAKEUP the caller writes the submit eventfd. 0 when nothing was new.
 */
uint32_t ingle_sq_publish(struct ingle_sq_writer *w);

/**
 * What the runtime says about itself now.
 *
 * Ownership: borrows.  Thread: the client's.  Returns s2c.flags, INGLE_S2C_* and whatever else.
 */
uint32_t ingle_sq_writer_flags(const struct ingle_sq_writer *w);

/**
 * Make the client's end of the completion ring, both indices at 0; need_wake is shared with the
 * token ring's reader, so one thread uses both.
 *
 * @c2s  the mapped C2S region (written: cq_head, need_wake)   @s2c  the mapped S2C region
 * @cq_off, @n  as WELCOME gave them, already checked
 *
 * Ownership: fills storage of the caller, borrows both regions.  Thread: the client's.
 */
void ingle_cq_reader_init(struct ingle_cq_reader *r, void *c2s, const void *s2c, uint32_t cq_off,
                          uint32_t n);

/**
 * Take the next completion: one snapshot into *ret.
 *
 * Ownership: borrows.  Thread: the client's.  Returns 0, INGLE_RING_EMPTY, or -EPROTO.
 */
int ingle_cq_read(struct ingle_cq_reader *r, struct ingle_cqe *ret);

/**
 * Load the tail afresh and take nothing; r->in.tail is then how far the runtime had published.
 *
 * Ownership: borrows.  Thread: the client's.  Returns 0, INGLE_RING_EMPTY, or -EPROTO.
 */
int ingle_cq_reader_look(struct ingle_cq_reader *r);

/**
 * Give the space of everything read back to the runtime.
 *
 * Ownership: borrows.  Thread: the client's.
 */
void ingle_cq_release(struct ingle_cq_reader *r);

/**
 * Publish c2s.need_wake, then look at the tail once more: the step before sleeping.
 *
 * @bits  INGLE_WAKE_*, 0 to disarm
 *
 * Ownership: borrows.  Thread: the client's.  Returns 0 (something is there: do not sleep),
 * INGLE_RING_EMPTY, or -EPROTO.
 */
int ingle_cq_reader_arm(struct ingle_cq_reader *r, uint32_t bits);

/**
 * Make the client's end of the token ring, both indices at 0.
 *
 * @c2s  the mapped C2S region (written: tk_head, need_wake)   @s2c  the mapped S2C region
 * @tk_off, @n, @text_off, @text_bytes  as WELCOME gave them, already checked
 *
 * Ownership: fills storage of the caller, borrows both regions.  Thread: the client's.
 */
void ingle_tok_reader_init(struct ingle_tok_reader *r, void *c2s, const void *s2c, uint32_t tk_off,
                           uint32_t n, uint32_t text_off, uint32_t text_bytes);

/**
 * Take the next record: one snapshot into *ret, and a copy of its text with a NUL behind it.
 *
 * @ret_text  INGLE_TEXT_COPY_BYTES of private memory; ret->text_len bytes of it are the text
 *
 * Ownership: borrows.  Thread: the client's.  Returns 0, INGLE_RING_EMPTY, or -EPROTO (a lying
 * tail, or text outside of the text ring: detach).
 */
int ingle_tok_read(struct ingle_tok_reader *r, struct ingle_tok *ret, char *ret_text);

/**
 * Load the tail afresh and take nothing; r->in.tail is then how far the runtime had published.
 *
 * Ownership: borrows.  Thread: the client's.  Returns 0, INGLE_RING_EMPTY, or -EPROTO.
 */
int ingle_tok_reader_look(struct ingle_tok_reader *r);

/**
 * Give the space of everything read, records and text, back to the runtime.
 *
 * Ownership: borrows.  Thread: the client's.
 */
void ingle_tok_release(struct ingle_tok_reader *r);

/**
 * As ingle_cq_reader_arm, for the token ring. A sleeper arms both.
 *
 * @bits  INGLE_WAKE_*, 0 to disarm
 *
 * Ownership: borrows.  Thread: the client's.  Returns 0, INGLE_RING_EMPTY, or -EPROTO.
 */
int ingle_tok_reader_arm(struct ingle_tok_reader *r, uint32_t bits);

#ifdef __cplusplus
}
#endif
#endif
