/* Owns a request's way from the waiting list to its answer: its context, how much of it is known,
 * when it is over. Not: rows and logits (batch.c), records (emit.c). Invariant: a request is in
 * exactly one place: io's hands, the waiting list, or a sequence. Thread: step. */
#include <errno.h>
#include <string.h>

#include "runtime/sched/state.h"

static struct ingle_sequence *sequence_slot(struct ingle_sched *s)
{
    for (uint32_t i = 0; i < s->limits.sequences_max; i++) {
        if (s->step.sequences[i].request == NULL) {
            return &s->step.sequences[i];
        }
    }
    return NULL;
}

/* The context that a request works on: its own, or a new one that takes over what is known. */
static int sequence_context(struct ingle_sched *s, struct ingle_sequence *seq)
{
    struct ingle_request *request = seq->request;
    struct ingle_port *port = request->in.port;
    struct ingle_context *ctx;
    bool all_rows =
        request->in.sampling.n_prompt_logprobs != 0 || request->in.op == INGLE_REQ_EMBED;

    if (request->in.ctx != 0) {
        seq->handle = ingle_handle_find(s, request->in.ctx, port);
        if (seq->handle == NULL) {
            return -ENOENT;
        }
        if (seq->handle->busy) {
            seq->handle = NULL;
            return -EBUSY;
        }
        seq->engine = seq->handle->engine;
        return 0;
    }
    seq->engine = request->in.model < INGLE_MODEL_SLOTS ? s->step.engines[request->in.model] : NULL;
    if (seq->engine == NULL) {
        return -ENODEV;
    }
    ctx = ingle_context_open(&seq->engine->contexts, port->tenant);
    if (ctx == NULL) {
        return -EMFILE;
    }
    seq->handle = ingle_handle_open(s, seq->engine, ctx, port);
    if (seq->handle == NULL) {
        ingle_context_close(&seq->engine->contexts, ctx);
        return -ENFILE;
    }
    if (!all_rows) {
        request->out.n_cached =
            ingle_context_adopt(&seq->engine->contexts, ctx, request->in.tokens,
                                request->in.n_tokens, ingle_engine_structural, seq->engine);
        seq->n_fed = request->out.n_cached;
    }
    return 0;
}

void ingle_port_publish(struct ingle_sched *s, struct ingle_port *port)
{
    if (port->step.published && !port->step.bad) {
        uint32_t need = ingle_tok_publish(&port->tok) & (INGLE_WAKE_FUTEX | INGLE_WAKE_BELL);

        port->step.published = false;
        if (need != 0) {
            ingle_board_mark(s->board, port->slot);
        }
    }
}

void ingle_sequence_finish(struct ingle_sched *s, struct ingle_sequence *seq, int32_t res)
{
    struct ingle_request *request = seq->request;
    struct ingle_handle *h = seq->handle;

    if (res < 0 && request->in.op == INGLE_REQ_GENERATE && !request->in.port->step.bad) {
        ingle_sequence_emit_cut(seq, s->step.now_ns);
    }
    if (h != NULL) {
        bool keep = request->in.ctx != 0 ||
                    ((request->in.sqe_flags & INGLE_SQE_F_KEEP_CTX) != 0 && res >= 0);

        h->busy = false;
        if (keep) {
            if (seq->decoding && seq->n_generated > 0) {
                h->has_tail = true;
                h->tail = seq->next;
            }
            request->out.ctx = ingle_handle_id(s, h);
        } else {
            ingle_handle_close(s, h);
        }
    }
    s->step.moved = true;
    request->in.port->step.n_requests--;
    ingle_port_publish(s, request->in.port); /* its last record comes before its completion */
    seq->request = NULL;
    s->step.n_sequences--;
    ingle_sched_reply_done(s, request, res);
}

/* How many rows must be computed: an APPEND leaves its last token as the new tail. */
static void sequence_start(struct ingle_sched *s, struct ingle_request *request)
{
    struct ingle_sequence *seq = sequence_slot(s);
    uint32_t total, room;
    int r;

    ingle_assert(seq != NULL);
    memset(seq, 0, sizeof *seq);
    seq->request = request;
    s->step.n_sequences++;
    request->in.port->step.n_requests++;
    request->out.n_prompt = request->in.n_tokens;
    if (request->in.op == INGLE_REQ_RECORDS) {
        return;
    }
    r = sequence_context(s, seq);
    if (r < 0) {
        ingle_sequence_finish(s, seq, r);
        return;
    }
    seq->handle->busy = true;
    seq->feeds_tail = request->in.ctx != 0 && seq->handle->has_tail;
    total = request->in.n_tokens + (seq->feeds_tail ? 1 : 0);
    room = seq->engine->context_tokens - (request->in.ctx != 0 ? seq->handle->ctx->n_tokens : 0);
    if (total > room) {
        request->out.n_cached = seq->engine->context_tokens;
        request->out.n_prompt = seq->engine->context_tokens - room + total;
        ingle_sequence_finish(s, seq, -E2BIG);
        return;
    }
    if (request->in.op == INGLE_REQ_GENERATE && total == 0) {
        ingle_sequence_finish(s, seq, -EINVAL); /* nothing to go on from */
        return;
    }
    seq->n_feed = total;
    if (request->in.op == INGLE_REQ_APPEND && total > 0) {
        seq->n_feed = total - 1;
    }
    ingle_textout_init(&seq->textout, false);
    if (request->in.op == INGLE_REQ_EMBED && seq->engine->embed_sums != NULL) {
        uint32_t E = seq->engine->model->E;

        memset(seq->engine->embed_sums + (uint64_t)(seq - s->step.sequences) * E, 0,
               E * sizeof(float));
    }
    ingle_sched_count(&s->stats.n_requests, 1);
    ingle_sched_count(&s->stats.n_prompt_tokens, request->in.n_tokens);
    ingle_sched_count(&s->stats.n_cached_tokens, request->out.n_cached);
}

void ingle_sched_admit(struct ingle_sched *s)
{
    while (s->step.waiting_first != NULL && s->step.n_sequences < s->limits.sequences_max) {
        struct ingle_request *request = s->step.waiting_first;

        s->step.waiting_first = request->next;
        if (s->step.waiting_first == NULL) {
            s->step.waiting_last = NULL;
        }
        request->next = NULL;
        s->step.n_waiting--;
        sequence_start(s, request);
    }
}

static void emit_or_park(struct ingle_sched *s, struct ingle_sequence *seq)
{
    struct ingle_port *port = seq->request->in.port;

    if (ingle_sequence_emit(seq) == INGLE_EMIT_FULL && !seq->parked) {
        seq->parked = true;
        port->step.n_stalls++;
        ingle_sched_count(&s->stats.n_parked, 1);
    }
}

/* The answer of an EMBED request: one record whose text is E floats. */
static void finish_embedding(struct ingle_sched *s, struct ingle_sequence *seq)
{
    struct ingle_engine *e = seq->engine;
    struct ingle_port *port = seq->request->in.port;
    struct ingle_tok tok = {.user_data = seq->request->in.user_data, .flags = INGLE_TOK_F_LAST};
    float *sum, norm = 0.0f;
    int r;

    if (e->model == NULL) {
        ingle_sequence_finish(s, seq, -EOPNOTSUPP);
        return;
    }
    sum = e->embed_sums + (uint64_t)(seq - s->step.sequences) * e->model->E;
    if (!seq->ended) {
        for (uint32_t i = 0; i < e->model->E; i++) {
            norm += sum[i] * sum[i];
        }
        norm = norm > 0.0f ? 1.0f / __builtin_sqrtf(norm) : 0.0f;
        for (uint32_t i = 0; i < e->model->E; i++) {
            sum[i] *= norm;
        }
        seq->ended = true;
    }
    r = e->model->E * sizeof(float) > UINT16_MAX ? -EMSGSIZE
        : port->step.bad
            ? -EPROTO
            : ingle_tok_write(&port->tok, &tok, sum, (uint16_t)(e->model->E * sizeof(float)));
    if (r == INGLE_RING_FULL) {
        return; /* the next step tries again */
    }
    port->step.published = port->step.published || r == 0;
    port->step.bad = port->step.bad || r == -EPROTO;
    ingle_sequence_finish(s, seq,
                          r == 0           ? (int32_t)e->model->E
                          : r == -EMSGSIZE ? -EMSGSIZE
                                           : -ECANCELED);
}

uint32_t ingle_sched_settle(struct ingle_sched *s)
{
    uint32_t n_parked = 0;

    for (uint32_t i = 0; i < s->limits.sequences_max; i++) {
        struct ingle_sequence *seq = &s->step.sequences[i];
        struct ingle_request *request = seq->request;

        if (request == NULL) {
            continue;
        }
        if (request->in.port->step.bad) {
            if (!request->in.port->step.bad_told) {
                request->in.port->step.bad_told = true;
                ingle_sched_reply(s, &(struct ingle_from_step){.kind = INGLE_FROM_STEP_PORT_BAD,
                                                               .port = request->in.port});
            }
            ingle_sequence_finish(s, seq, -ECANCELED);
            continue;
        }
        if (request->in.deadline_ns != 0 && s->step.now_ns > request->in.deadline_ns) {
            ingle_sequence_finish(s, seq, -ETIME);
            continue;
        }
        if (request->in.op == INGLE_REQ_RECORDS) {
            enum ingle_emit e = ingle_sequence_emit_records(seq, s->step.now_ns);

            n_parked += e == INGLE_EMIT_FULL ? 1 : 0;
            if (e == INGLE_EMIT_DONE) {
                ingle_sequence_finish(s, seq, (int32_t)request->in.n_records);
            }
            continue;
        }
        if (seq->output.waiting) {
            emit_or_park(s, seq);
            if (seq->output.waiting) {
                n_parked++;
                if ((request->in.sqe_flags & INGLE_SQE_F_LATEST) != 0) {
                    ingle_sequence_finish(s, seq, -EOVERFLOW);
                }
                continue;
            }
            seq->parked = false;
            s->step.moved = true;
        }
        if (seq->ended && request->in.op == INGLE_REQ_GENERATE) {
            ingle_sequence_finish(s, seq, seq->end_res);
        } else if (request->in.op == INGLE_REQ_EMBED && seq->n_fed >= seq->n_feed) {
            finish_embedding(s, seq);
            n_parked += seq->request != NULL ? 1 : 0;
        } else if (request->in.op == INGLE_REQ_APPEND && seq->n_fed >= seq->n_feed) {
            if (request->in.n_tokens > 0) {
                seq->handle->has_tail = true;
                seq->handle->tail = request->in.tokens[request->in.n_tokens - 1];
            }
            ingle_sequence_finish(s, seq, (int32_t)request->in.n_tokens);
        } else if (seq->parked) { /* scores that found no room */
            n_parked++;
        }
    }
    return n_parked;
}
