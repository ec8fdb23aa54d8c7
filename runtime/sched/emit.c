/* Owns nothing. Turns choices into records in a client's rings. A token and its alternatives are
 * one group: written whole or not at all, so a full ring parks the sequence without losing a
 * record. Thread: step. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/sched/sequence.h"

static uint32_t since_us(const struct ingle_request *request, uint64_t now_ns)
{
    uint64_t us = now_ns > request->in.accepted_ns ? (now_ns - request->in.accepted_ns) / 1000 : 0;

    return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static enum ingle_emit settle(struct ingle_port *port, struct ingle_tok_mark mark, int r)
{
    if (r == 0) {
        port->step.published = true;
        return INGLE_EMIT_DONE;
    }
    ingle_tok_writer_rewind(&port->tok, mark);
    if (r == INGLE_RING_FULL) {
        return INGLE_EMIT_FULL;
    }
    port->step.bad = true;
    return INGLE_EMIT_BAD;
}

/* A record and its alternatives as one group. */
static enum ingle_emit emit_group(struct ingle_port *port, const struct ingle_tok *tok,
                                  const char *text, const struct ingle_choice *choice,
                                  uint32_t n_alt)
{
    struct ingle_tok_mark mark = ingle_tok_writer_mark(&port->tok);
    int r;

    if (port->step.bad) {
        return INGLE_EMIT_BAD;
    }
    r = ingle_tok_write(&port->tok, tok, text, tok->text_len);
    for (uint32_t i = 0; r == 0 && i < n_alt; i++) {
        struct ingle_tok alt = {.user_data = tok->user_data,
                                .token = (uint32_t)choice->alt[i].token,
                                .index = tok->index,
                                .flags =
                                    (uint16_t)(INGLE_TOK_F_ALT | (tok->flags & INGLE_TOK_F_PROMPT)),
                                .logprob = choice->alt[i].logprob,
                                .t_us = tok->t_us};

        r = ingle_tok_write(&port->tok, &alt, NULL, 0);
    }
    return settle(port, mark, r);
}

enum ingle_emit ingle_sequence_emit(struct ingle_sequence *seq)
{
    const struct ingle_output *out = &seq->output;
    enum ingle_emit e;

    if (out->tok.index < seq->request->in.resume_idx && (out->tok.flags & INGLE_TOK_F_LAST) == 0) {
        seq->output.waiting = false; /* the client has it from before */
        return INGLE_EMIT_DONE;
    }
    e = emit_group(seq->request->in.port, &out->tok, out->text, &out->choice, out->n_alt);
    seq->output.waiting = e == INGLE_EMIT_FULL;
    if (e == INGLE_EMIT_DONE) {
        seq->request->in.port->step.n_tokens++;
    }
    return e;
}

enum ingle_emit ingle_sequence_emit_records(struct ingle_sequence *seq, uint64_t now_ns)
{
    struct ingle_request *request = seq->request;
    struct ingle_port *port = request->in.port;

    while (seq->n_published_records < request->in.n_records) {
        struct ingle_tok tok = request->in.records[seq->n_published_records];
        enum ingle_emit e;

        tok.user_data = request->in.user_data;
        tok.t_us = since_us(request, now_ns);
        e = emit_group(port, &tok, request->in.record_text + seq->n_fed, NULL, 0);
        if (e != INGLE_EMIT_DONE) {
            return e;
        }
        seq->n_fed += tok.text_len; /* bytes of record_text behind us */
        seq->n_published_records++;
    }
    return INGLE_EMIT_DONE;
}

enum ingle_emit ingle_sequence_emit_score(struct ingle_sequence *seq, uint32_t index,
                                          const struct ingle_choice *score, uint64_t now_ns)
{
    const struct ingle_request *request = seq->request;
    struct ingle_tok tok = {.user_data = request->in.user_data,
                            .token = (uint32_t)score->token,
                            .index = index,
                            .flags = INGLE_TOK_F_PROMPT,
                            .logprob = score->logprob,
                            .t_us = since_us(request, now_ns)};

    return emit_group(request->in.port, &tok, NULL, score, score->n_alt);
}

void ingle_sequence_emit_cut(struct ingle_sequence *seq, uint64_t now_ns)
{
    struct ingle_tok tok = {.user_data = seq->request->in.user_data,
                            .token = UINT32_MAX,
                            .index = seq->n_generated,
                            .flags = INGLE_TOK_F_LAST | INGLE_TOK_F_CUT,
                            .t_us = since_us(seq->request, now_ns)};

    (void)emit_group(seq->request->in.port, &tok, NULL, NULL, 0);
}

static bool is_stop_id(const struct ingle_sampling *s, int32_t id)
{
    for (uint32_t i = 0; i < s->n_stop_ids; i++) {
        if (s->stop_ids[i] == id) {
            return true;
        }
    }
    return false;
}

static bool is_eog(const struct ingle_engine *engine, int32_t id)
{
    for (uint32_t i = 0; i < engine->n_eog; i++) {
        if (engine->eog[i] == id) {
            return true;
        }
    }
    return false;
}

static void null_choice(const struct ingle_sequence *seq, struct ingle_output *out)
{
    const struct ingle_request *request = seq->request;
    int32_t last = request->in.n_tokens > 0 ? request->in.tokens[request->in.n_tokens - 1] : 0;

    out->choice.token = (int32_t)(((uint32_t)last + seq->n_generated * 7u) % 256u) + 1;
    out->choice.logprob = 0.0f;
    out->choice.n_alt = 0;
    out->tok.text_len = (uint16_t)snprintf(out->text, sizeof out->text, "t%d ", out->choice.token);
}

static uint32_t n_banned_now(const struct ingle_sequence *seq)
{
    return seq->n_generated < seq->request->in.sampling.min_tokens ? seq->engine->n_eog : 0;
}

uint32_t ingle_sequence_n_top(const struct ingle_sequence *seq)
{
    return ingle_sampler_n_top(&seq->request->in.sampling, seq->engine->V,
                               seq->handle->ctx->n_tokens, n_banned_now(seq));
}

void ingle_sequence_choose(struct ingle_sequence *seq, struct ingle_logits *logits, uint64_t now_ns)
{
    const struct ingle_request *request = seq->request;
    struct ingle_engine *engine = seq->engine;
    const struct ingle_context *ctx = seq->handle->ctx;
    const struct ingle_sampling *s = &request->in.sampling;
    struct ingle_output *out = &seq->output;
    uint16_t flags = 0;
    bool stopped = false;

    out->tok = (struct ingle_tok){.user_data = request->in.user_data,
                                  .index = seq->n_generated,
                                  .t_us = since_us(request, now_ns)};
    if (logits == NULL) {
        null_choice(seq, out);
    } else {
        const struct ingle_tokenizer *tokenizer = engine->model->tokenizer;

        ingle_sampler_pick(s, logits, engine->backend->kernels->row_stat, ctx->tokens,
                           ctx->n_tokens, seq->n_generated, engine->eog, n_banned_now(seq),
                           engine->sampler_scratch, &out->choice);
        if (is_stop_id(s, out->choice.token) ||
            (!s->ignore_eos && is_eog(engine, out->choice.token))) {
            flags = INGLE_TOK_F_LAST | INGLE_TOK_F_STOP;
        } else {
            out->tok.text_len =
                (uint16_t)ingle_textout_push(&seq->textout, tokenizer, &request->in.stops,
                                             out->choice.token, out->text, &stopped);
            flags = stopped ? INGLE_TOK_F_LAST | INGLE_TOK_F_STOP : 0;
        }
    }
    seq->next = out->choice.token;
    seq->n_generated++;
    if (flags == 0 &&
        ((request->in.max_tokens != 0 && seq->n_generated >= request->in.max_tokens) ||
         ctx->n_tokens >= engine->context_tokens)) {
        flags = INGLE_TOK_F_LAST | INGLE_TOK_F_LENGTH;
        seq->request->out.flags |= INGLE_CQE_F_TRUNC;
    }
    if ((flags & INGLE_TOK_F_LAST) != 0 && !stopped && logits != NULL) {
        out->tok.text_len =
            (uint16_t)(out->tok.text_len +
                       ingle_textout_flush(&seq->textout, out->text + out->tok.text_len));
    }
    seq->ended = (flags & INGLE_TOK_F_LAST) != 0;
    seq->end_res = (int32_t)seq->n_generated;
    out->tok.token = (uint32_t)out->choice.token;
    out->tok.logprob = out->choice.logprob;
    out->tok.flags = flags;
    out->n_alt = out->choice.n_alt;
    out->waiting = true;
}
