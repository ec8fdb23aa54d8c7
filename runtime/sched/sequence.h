/* A sequence: one request while it runs. Feeding (prefill and decode), choosing, and bringing the
 * result into the client's rings are functions over it. Internal to runtime/sched; thread: step. */
#ifndef INGLE_RUNTIME_SCHED_SEQUENCE_H
#define INGLE_RUNTIME_SCHED_SEQUENCE_H
#include "runtime/sched/engine.h"

/* A context with an id. Its tail is the last token, known but not yet computed: the next request
 * feeds it first, so that a context can always be continued, with or without new text. */
struct ingle_handle {
    struct ingle_context *ctx; /* NULL: the handle is free */
    struct ingle_engine *engine;
    struct ingle_port *owner; /* NULL: held for an export */
    uint32_t generation;
    bool busy; /* a sequence runs on it */
    bool has_tail;
    int32_t tail;
};

/* One record with its text and alternatives, ready to be written as a group. */
struct ingle_output {
    bool waiting; /* did not fit: the sequence is parked on it */
    struct ingle_tok tok;
    uint32_t n_alt;
    struct ingle_choice choice;
    char text[2 * INGLE_TEXTOUT_HOLD_MAX];
};

struct ingle_sequence {
    struct ingle_request *request; /* NULL: the slot is free */
    struct ingle_engine *engine;   /* NULL: a RECORDS request */
    struct ingle_handle *handle;
    uint32_t n_feed, n_fed; /* tokens to compute before the first choice; done so far */
    bool feeds_tail;        /* feed token 0 is the handle's tail, the request's follow */
    bool decoding;          /* all fed: `next` is what to compute */
    int32_t next;
    uint32_t n_generated, n_published_records;
    uint32_t n_rows, out0; /* of the step being built; where its wanted rows begin in `out` */
    bool cancelled, parked, ended;
    int32_t end_res;
    struct ingle_textout textout;
    struct ingle_output output;
};

enum ingle_emit {
    INGLE_EMIT_DONE,
    INGLE_EMIT_FULL,
    INGLE_EMIT_BAD
};

/* Write seq->output (a record, its alternatives, its text) or nothing of it. */
enum ingle_emit ingle_sequence_emit(struct ingle_sequence *seq);
/* Write what room there is for of a RECORDS request; DONE when all is written. */
enum ingle_emit ingle_sequence_emit_records(struct ingle_sequence *seq, uint64_t now_ns);
/* Write the scores of prompt token `index` (n_alt of them); space was reserved. */
enum ingle_emit ingle_sequence_emit_score(struct ingle_sequence *seq, uint32_t index,
                                          const struct ingle_choice *score, uint64_t now_ns);
/* Best effort: tell a cancelled or failed stream that it is over. */
void ingle_sequence_emit_cut(struct ingle_sequence *seq, uint64_t now_ns);
/* How many of the largest logits its next choice looks at (ingle_sampler_n_top). */
uint32_t ingle_sequence_n_top(const struct ingle_sequence *seq);
/* Choose the next token from a row of logits (NULL: the null engine) and prepare the output. */
void ingle_sequence_choose(struct ingle_sequence *seq, struct ingle_logits *logits,
                           uint64_t now_ns);

#endif
