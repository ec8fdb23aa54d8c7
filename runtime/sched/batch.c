/* Owns nothing of its own: turns the sequences of one engine into a batch, runs it, and hands each
 * row's result to its sequence. All decodes come first, then prefill up to the budget, which is
 * smaller beside decodes: they wait for the whole step. Thread: step. */
#include <math.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/sched/state.h"

enum row_use {
    ROW_FOR_KV, /* only for those that follow */
    ROW_SCORE,
    ROW_EMBED,
    ROW_CHOICE
};

/* Index in the request's feed of the first row of this step. */
static uint32_t first_fed(const struct ingle_sequence *seq)
{
    return seq->decoding ? seq->n_feed - 1 : seq->n_fed;
}

/* What row r of a sequence's rows of this step is for. */
static enum row_use row_use(const struct ingle_sequence *seq, uint32_t r)
{
    const struct ingle_request *request = seq->request;

    if (request->in.op == INGLE_REQ_EMBED) {
        return ROW_EMBED;
    }
    if (first_fed(seq) + r + 1 == seq->n_feed) {
        return request->in.op == INGLE_REQ_GENERATE ? ROW_CHOICE : ROW_FOR_KV;
    }
    return request->in.sampling.n_prompt_logprobs != 0 ? ROW_SCORE : ROW_FOR_KV;
}

/* Take n feed tokens of a sequence into its context and into the batch; fewer when pages run out.
 */
static void put_rows(struct ingle_engine *e, struct ingle_sequence *seq, struct ingle_batch *batch,
                     uint32_t n)
{
    struct ingle_context *ctx = seq->handle->ctx;
    const struct ingle_request *request = seq->request;
    uint32_t done = 0, off = seq->feeds_tail ? 1 : 0;

    if (seq->decoding) {
        done = ingle_context_plan(&e->contexts, ctx, &seq->next, 1, ingle_engine_structural, e);
    } else {
        if (seq->feeds_tail && seq->n_fed == 0 && n > 0) {
            done = ingle_context_plan(&e->contexts, ctx, &seq->handle->tail, 1,
                                      ingle_engine_structural, e);
        }
        seq->handle->has_tail = seq->handle->has_tail && done == 0;
        if (seq->n_fed + done >= off && n > done) {
            done +=
                ingle_context_plan(&e->contexts, ctx, request->in.tokens + seq->n_fed + done - off,
                                   n - done, ingle_engine_structural, e);
        }
    }
    seq->n_rows = done;
    seq->out0 = batch->n_out;
    if (done == 0) {
        return;
    }
    if (batch->ids != NULL) { /* the null engine computes nothing */
        memcpy(batch->ids + batch->T, ctx->tokens + ctx->n_tokens - done,
               done * sizeof *batch->ids);
        for (uint32_t g = 0; g < e->model->n_groups; g++) {
            batch->seqs[g][batch->n_seqs] = ingle_context_view(ctx, g, batch->T, done);
        }
        for (uint32_t r = 0; r < done; r++) {
            if (row_use(seq, r) != ROW_FOR_KV) {
                batch->out[batch->n_out++] = batch->T + r;
            }
        }
    }
    batch->T += done;
    batch->n_seqs++;
}

/* Rows that may be fed now: prompt scores need a place in the ring for each of their records. */
static uint32_t prefill_rows(struct ingle_sequence *seq, uint32_t budget)
{
    uint32_t n = seq->n_feed - seq->n_fed, n_lp = seq->request->in.sampling.n_prompt_logprobs;
    struct ingle_port *port = seq->request->in.port;

    n = n < budget ? n : budget;
    if (n_lp != 0) {
        int room = ingle_tok_writer_room(&port->tok);
        uint32_t rows;

        if (room < 0) {
            port->step.bad = true;
            return 0;
        }
        rows = (uint32_t)room > port->step.n_reserved + 1
                   ? ((uint32_t)room - port->step.n_reserved - 1) / n_lp
                   : 0;
        n = n < rows ? n : rows;
        seq->parked = n == 0;
        port->step.n_reserved += n * n_lp + 1; /* one for prompt token 0 */
    }
    return n;
}

static bool wants_rows(const struct ingle_sequence *seq, const struct ingle_engine *e)
{
    return seq->request != NULL && seq->engine == e && !seq->output.waiting && !seq->ended;
}

static void build_batch(struct ingle_sched *s, struct ingle_engine *e, struct ingle_batch *batch)
{
    uint32_t budget = e->batch_tokens;

    batch->T = batch->n_seqs = batch->n_out = 0;
    for (uint32_t i = 0; i < s->limits.sequences_max; i++) {
        struct ingle_sequence *seq = &s->step.sequences[i];

        seq->n_rows = seq->engine == e ? 0 : seq->n_rows;
        if (wants_rows(seq, e) && seq->decoding && batch->T < e->batch_tokens) {
            put_rows(e, seq, batch, 1);
        }
        if (seq->request != NULL) {
            seq->request->in.port->step.n_reserved = 0;
        }
    }
    if (batch->T > 0 && budget > INGLE_SHARED_TOKENS) {
        budget = INGLE_SHARED_TOKENS;
    }
    for (uint32_t i = 0; i < s->limits.sequences_max && batch->T < budget; i++) {
        struct ingle_sequence *seq = &s->step.sequences[i];

        if (wants_rows(seq, e) && !seq->decoding && seq->n_fed < seq->n_feed) {
            put_rows(e, seq, batch, prefill_rows(seq, budget - batch->T));
        }
    }
}

/* A row whose result somebody wants. */
struct head_row {
    struct ingle_sequence *seq;
    uint32_t row;        /* among the wanted ones */
    uint32_t feed_index; /* of the row's token; the last one is where a choice is made */
};

static void use_score(struct ingle_sched *s, const struct head_row *h, struct ingle_logits *logits)
{
    struct ingle_sequence *seq = h->seq;
    struct ingle_engine *e = seq->engine;
    uint32_t off = seq->feeds_tail ? 1 : 0, index = h->feed_index + 1 - off;
    struct ingle_choice *score = &seq->output.choice; /* free: nothing waits while prefilling */

    ingle_sampler_score(logits, e->backend->kernels->row_stat, seq->request->in.tokens[index],
                        seq->request->in.sampling.n_prompt_logprobs - 1u, score);
    (void)ingle_sequence_emit_score(seq, index, score, s->step.now_ns);
}

static void use_embedding(struct ingle_sched *s, const struct head_row *h, const float *hidden)
{
    uint32_t E = h->seq->engine->model->E;
    float *sum = h->seq->engine->embed_sums + (uint64_t)(h->seq - s->step.sequences) * E;

    for (uint32_t i = 0; i < E; i++) {
        sum[i] += hidden[i];
    }
}

static bool is_score(const struct head_row *h)
{
    return h->feed_index + 1 < h->seq->n_feed;
}

/* The least that serves all rows, and how many of its largest logits serve each: a choice that no
 * penalty changes needs none or few of them. */
static enum ingle_graph_want wanted(const struct head_row *rows, uint32_t n, uint32_t *ret_n_top)
{
    enum ingle_graph_want want = INGLE_WANT_HIDDEN;

    for (uint32_t i = 0; i < n; i++) {
        ret_n_top[i] = 0;
        if (rows[i].seq->request->in.op == INGLE_REQ_EMBED) {
            continue;
        }
        ret_n_top[i] = is_score(&rows[i]) ? INGLE_TOP_ALL : ingle_sequence_n_top(rows[i].seq);
        if (ret_n_top[i] > INGLE_TOP_MAX) {
            return INGLE_WANT_LOGITS;
        }
        want = INGLE_WANT_STATS;
    }
    return want;
}

static bool finite_stats(const struct ingle_graph *graph, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(graph->stats[i].logsumexp)) {
            return false;
        }
    }
    return true;
}

static float inverse_temperature(const struct head_row *h)
{
    const struct ingle_request *request = h->seq->request;

    return request->in.op == INGLE_REQ_EMBED || is_score(h)
               ? 0.0f
               : ingle_sampler_inverse_temperature(&request->in.sampling, h->seq->engine->V);
}

static struct ingle_logits head_logits(const struct ingle_graph *graph, uint32_t i, bool kept)
{
    uint32_t V = graph->model->V, n_tops = graph->backend->n_workers;

    return (struct ingle_logits){.x = kept ? graph->logits + (uint64_t)i * V : NULL,
                                 .V = V,
                                 .part = graph->parts + (uint64_t)i * ingle_head_parts(V),
                                 .peak = graph->peaks + (uint64_t)i * ingle_head_peaks(V),
                                 .all = graph->stats[i],
                                 .top = graph->tops + (uint64_t)i * n_tops,
                                 .n_tops = n_tops};
}

/* Run the head over `n` collected rows and hand the results out. */
static void flush_head(struct ingle_sched *s, struct ingle_engine *e, const struct head_row *rows,
                       uint32_t n)
{
    enum ingle_graph_want want = INGLE_WANT_HIDDEN;

    if (n == 0) {
        return;
    }
    if (e->model != NULL) {
        want = wanted(rows, n, e->graph.n_top);
        for (uint32_t i = 0; i < n; i++) {
            e->graph.index[i] = rows[i].row;
            e->graph.inverse_temperature[i] = inverse_temperature(&rows[i]);
        }
        ingle_graph_head(&e->graph, n, want);
        if (want == INGLE_WANT_STATS && !finite_stats(&e->graph, n)) {
            want = INGLE_WANT_LOGITS; /* NaN or Inf: the choice looks at every one */
            ingle_graph_head(&e->graph, n, want);
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        struct ingle_sequence *seq = rows[i].seq;
        struct ingle_logits logits = {0};

        if (e->model != NULL) {
            logits = head_logits(&e->graph, i, want == INGLE_WANT_LOGITS);
        }
        if (seq->request->in.op == INGLE_REQ_EMBED) {
            if (e->model != NULL) {
                use_embedding(s, &rows[i], e->graph.hidden + (uint64_t)i * e->model->E);
            }
        } else if (is_score(&rows[i])) {
            use_score(s, &rows[i], &logits);
        } else {
            seq->decoding = true;
            ingle_sequence_choose(seq, e->model == NULL ? NULL : &logits, s->step.now_ns);
            ingle_sched_count(&s->stats.n_generated_tokens, 1);
        }
    }
}

/* Prompt token 0 has nothing before it: its record comes with the first rows. */
static void score_first_token(struct ingle_sched *s, struct ingle_sequence *seq)
{
    struct ingle_choice none = {.token = seq->request->in.tokens[0]};

    if (seq->n_fed == 0 && !seq->feeds_tail) {
        (void)ingle_sequence_emit_score(seq, 0, &none, s->step.now_ns);
    }
}

/* After the body has run: rows of interest to the head, `INGLE_HEAD_ROWS` at a time. Scores come
 * first, because their place in the ring was reserved before any choice was made. */
static void use_rows(struct ingle_sched *s, struct ingle_engine *e)
{
    struct head_row rows[INGLE_HEAD_ROWS];
    uint32_t n = 0;

    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < s->limits.sequences_max; i++) {
            struct ingle_sequence *seq = &s->step.sequences[i];
            uint32_t out = seq->out0, first = first_fed(seq);

            if (seq->request == NULL || seq->engine != e || seq->n_rows == 0 ||
                seq->output.waiting) {
                continue;
            }
            if (pass == 0 && seq->request->in.sampling.n_prompt_logprobs != 0 && !seq->decoding &&
                seq->request->in.op == INGLE_REQ_GENERATE) {
                score_first_token(s, seq);
            }
            for (uint32_t r = 0; r < seq->n_rows; r++) {
                enum row_use use = row_use(seq, r);

                if (use == ROW_FOR_KV) {
                    continue;
                }
                if ((pass == 1) == (use == ROW_CHOICE)) {
                    rows[n++] = (struct head_row){.seq = seq, .row = out, .feed_index = first + r};
                }
                out++;
                if (n == INGLE_HEAD_ROWS) {
                    flush_head(s, e, rows, n);
                    n = 0;
                }
            }
        }
        flush_head(s, e, rows, n);
        n = 0;
    }
}

/* Returns the rows computed. */
uint32_t ingle_sched_run_engine(struct ingle_sched *s, struct ingle_engine *e)
{
    struct ingle_batch null_batch = {0};
    struct ingle_batch *batch = e->model != NULL ? &e->graph.batch : &null_batch;

    build_batch(s, e, batch);
    if (batch->T == 0) {
        return 0;
    }
    if (e->model != NULL) {
        ingle_graph_body(&e->graph);
    }
    s->step.now_ns = ingle_clock_ns();
    use_rows(s, e);
    for (uint32_t i = 0; i < s->limits.sequences_max; i++) {
        struct ingle_sequence *seq = &s->step.sequences[i];

        if (seq->request != NULL && seq->engine == e && seq->n_rows > 0) {
            ingle_context_commit(&e->contexts, seq->handle->ctx);
            if (seq->n_fed < seq->n_feed) {
                seq->n_fed += seq->n_rows;
            }
        }
    }
    ingle_sched_count(&s->stats.n_steps, 1);
    atomic_store_explicit(&s->stats.n_evicted_chunks, e->store.n_evicted, memory_order_relaxed);
    return batch->T;
}
