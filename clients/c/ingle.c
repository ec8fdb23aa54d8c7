/* Requests and events: what a client does once it is attached. Owns the client's private ends of
 * the rings and the table of requests in flight; not the handshake (attach.c) and not the socket's
 * messages (control.c). Invariant: a completion is handed out only after every token that was
 * published before it. Used by one thread at a time; makes a system call only to wake the runtime
 * or to sleep. */
#include "clients/c/ingle.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clients/c/client.h"
#include "shm/check.h"
#include "shm/wake.h"

/* The header stands alone, so it repeats what clients need of shm/layout.h. */
_Static_assert(INGLE_TEXT == (int)INGLE_PAYLOAD_TEXT && INGLE_IDS == (int)INGLE_PAYLOAD_IDS &&
                   INGLE_CHAT == (int)INGLE_PAYLOAD_CHAT,
               "payload kinds");
_Static_assert(INGLE_TOKEN_LAST == INGLE_TOK_F_LAST && INGLE_TOKEN_STOP == INGLE_TOK_F_STOP &&
                   INGLE_TOKEN_ALT == INGLE_TOK_F_ALT && INGLE_TOKEN_PROMPT == INGLE_TOK_F_PROMPT &&
                   INGLE_TOKEN_LENGTH == INGLE_TOK_F_LENGTH && INGLE_TOKEN_CUT == INGLE_TOK_F_CUT,
               "token flags");
_Static_assert(INGLE_DONE_ACCEPTED == INGLE_CQE_F_ACCEPTED &&
                   INGLE_DONE_FINAL == INGLE_CQE_F_FINAL && INGLE_DONE_TRUNC == INGLE_CQE_F_TRUNC,
               "completion flags");

/* A sleep of one decode step costs least as a futex; a longer one must also see the socket, where
 * the runtime's death shows. So a wait begins with the first and goes on with the second. */
#define FUTEX_NS_MAX      20000000u
#define IDLE_POLLS_A_LOOK 1024u /* polls without an event between two looks at the socket */

int ingle_client_usable(const struct ingle_client *c)
{
    if (c == NULL) {
        return -EINVAL;
    }
    return *c->home == 1 ? 0 : -ECHILD;
}

int ingle_client_dies(struct ingle_client *c, int code, const char *why)
{
    if (c->dead == 0) {
        size_t bytes = strnlen(why, sizeof c->why - 1);

        c->dead = code;
        memcpy(c->why, why, bytes);
        c->why[bytes] = '\0';
    }
    return c->dead;
}

static int ring_lies(struct ingle_client *c)
{
    return ingle_client_dies(c, -EPROTO, "the runtime broke the rules of a ring");
}

uint64_t ingle_client_now_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t ingle_client_deadline(int64_t timeout_ms)
{
    return timeout_ms < 0 ? INGLE_FOREVER : ingle_client_now_ns() + (uint64_t)timeout_ms * 1000000u;
}

int ingle_client_poll_ms(uint64_t deadline_ns)
{
    uint64_t now = ingle_client_now_ns();

    if (deadline_ns == INGLE_FOREVER) {
        return -1;
    }
    return deadline_ns <= now ? 0 : (int)((deadline_ns - now + 999999u) / 1000000u);
}

/* ---- submitting ------------------------------------------------------------------------------ */

void ingle_generate_init(struct ingle_generate *g)
{
    struct ingle_params p;

    if (g == NULL) {
        return;
    }
    ingle_params_default(&p);
    *g = (struct ingle_generate){
        .kind = INGLE_TEXT,
        .temperature = p.temperature,
        .top_p = p.top_p,
        .min_p = p.min_p,
        .typical_p = p.typical_p,
        .repeat_penalty = p.repeat_penalty,
        .repeat_last_n = p.repeat_last_n,
    };
}

/* One request in eight is kept for cancellations: who has filled every place must still be able to
 * empty one. */
static uint32_t requests_max(const struct ingle_client *c)
{
    uint32_t n = c->link.welcome.max_inflight;

    return n - n / 8;
}

static struct ingle_live *find_live(struct ingle_client *c, uint64_t user_data)
{
    for (uint32_t i = 0; i < c->n_live; i++) {
        if (c->live[i].user_data == user_data) {
            return &c->live[i];
        }
    }
    return NULL;
}

/* Write one entry with what it refers to, publish it, and wake the runtime if it sleeps. payload
 * and params are copied into one block of the arena. */
static int send_sqe(struct ingle_client *c, struct ingle_sqe *sqe, const void *payload,
                    const void *params)
{
    uint32_t n_max = sqe->op == INGLE_OP_CANCEL ? c->link.welcome.max_inflight : requests_max(c);
    uint32_t par_at = (sqe->payload_bytes + 7) & ~7u;
    uint32_t bytes = sqe->par_bytes != 0 ? par_at + sqe->par_bytes : sqe->payload_bytes;
    uint32_t block = INGLE_NO_BLOCK;
    uint32_t off = 0;
    int res;

    if (find_live(c, sqe->user_data) != NULL) {
        return -EEXIST;
    }
    if (c->n_live >= n_max) {
        return -EAGAIN;
    }
    if (bytes != 0) {
        block = ingle_arena_take(&c->arena, bytes, &off);
        if (block == INGLE_NO_BLOCK) {
            return -EAGAIN;
        }
        if (payload != NULL && sqe->payload_bytes != 0) {
            sqe->off = off;
            memcpy(c->arena.base + off, payload, sqe->payload_bytes);
        }
        if (params != NULL && sqe->par_bytes != 0) {
            sqe->par_off = off + par_at;
            memcpy(c->arena.base + sqe->par_off, params, sqe->par_bytes);
        }
    }
    res = ingle_sq_write(&c->sq, sqe);
    if (res != 0) {
        if (block != INGLE_NO_BLOCK) {
            ingle_arena_free(&c->arena, block);
        }
        return res == INGLE_RING_FULL ? -EAGAIN : ring_lies(c);
    }
    c->live[c->n_live++] = (struct ingle_live){.user_data = sqe->user_data, .block = block};
    if ((ingle_sq_publish(&c->sq) & INGLE_S2C_SQ_NEED_WAKEUP) != 0) {
        const uint64_t one = 1;
        ssize_t n = write(c->link.submit_fd, &one, sizeof one);

        (void)n; /* EAGAIN: the counter is full, so the bell is ringing already */
    }
    return 0;
}

static void put(uint8_t *block, uint32_t *at, const void *bytes, size_t n)
{
    memcpy(block + *at, bytes, n);
    *at += (uint32_t)n;
}

/* The parameter block of g: its length, or -EINVAL. What the runtime would refuse is refused here,
 * by the same function. */
static int build_params(const struct ingle_generate *g, uint8_t block[INGLE_PARAMS_BYTES_MAX])
{
    struct ingle_params p = {
        .ver = 1,
        .flags = g->ignore_eos != 0 ? INGLE_PAR_F_IGNORE_EOS : 0,
        .temperature = g->temperature,
        .top_p = g->top_p,
        .min_p = g->min_p,
        .typical_p = g->typical_p,
        .repeat_penalty = g->repeat_penalty,
        .frequency_penalty = g->frequency_penalty,
        .presence_penalty = g->presence_penalty,
        .top_k = g->top_k,
        .repeat_last_n = g->repeat_last_n,
        .min_tokens = g->min_tokens,
        .seed = g->seed,
        .n_logprobs = g->n_logprobs,
        .n_prompt_logprobs = g->n_prompt_logprobs,
        .n_stop = (uint16_t)g->n_stops,
        .n_stop_ids = (uint16_t)g->n_stop_ids,
        .n_bias = (uint16_t)g->n_biases,
    };
    struct ingle_params_view view;
    uint32_t at = 0;

    if (g->n_stops > INGLE_STOP_N_MAX || g->n_stop_ids > INGLE_STOP_ID_N_MAX ||
        g->n_biases > INGLE_BIAS_N_MAX || (g->n_stops != 0 && g->stops == NULL) ||
        (g->n_stop_ids != 0 && g->stop_ids == NULL) || (g->n_biases != 0 && g->biases == NULL)) {
        return -EINVAL;
    }
    put(block, &at, &p, sizeof p);
    for (uint32_t i = 0; i < g->n_stops; i++) {
        uint16_t bytes = (uint16_t)g->stops[i].bytes;

        if (g->stops[i].text == NULL || g->stops[i].bytes > INGLE_STOP_BYTES_MAX) {
            return -EINVAL;
        }
        put(block, &at, &bytes, sizeof bytes);
        put(block, &at, g->stops[i].text, bytes);
    }
    put(block, &at, (const uint8_t[4]){0}, (4 - at % 4) % 4);
    if (g->n_stop_ids != 0) {
        put(block, &at, g->stop_ids, g->n_stop_ids * sizeof *g->stop_ids);
    }
    for (uint32_t i = 0; i < g->n_biases; i++) {
        put(block, &at, &g->biases[i].id, 4);
        put(block, &at, &g->biases[i].bias, 4);
    }
    return ingle_check_params(block, at, &view) == 0 ? (int)at : -EINVAL;
}

static int submit(struct ingle_client *c, const struct ingle_generate *g, enum ingle_op_code op)
{
    uint8_t params[INGLE_PARAMS_BYTES_MAX];
    struct ingle_sqe sqe = {.op = (uint8_t)op};
    uint8_t flags;
    int res = ingle_client_usable(c);

    if (res != 0 || c->dead != 0) {
        return res != 0 ? res : c->dead;
    }
    if (g == NULL || (g->payload == NULL && g->payload_bytes != 0) ||
        (unsigned)g->kind > INGLE_CHAT) {
        return -EINVAL;
    }
    if (g->payload_bytes > c->arena.bytes) {
        return -EMSGSIZE;
    }
    flags = (uint8_t)((g->keep_ctx != 0 ? INGLE_SQE_F_KEEP_CTX : 0) |
                      (g->no_special != 0 ? INGLE_SQE_F_NO_SPECIAL : 0) |
                      (g->no_bos != 0 ? INGLE_SQE_F_NO_BOS : 0) |
                      (g->latest != 0 ? INGLE_SQE_F_LATEST : 0));
    sqe.flags = (uint8_t)((flags & ingle_op_flags(op)) | (unsigned)g->kind);
    sqe.prio = g->prio;
    sqe.user_data = g->user_data;
    sqe.payload_bytes = (uint32_t)g->payload_bytes;
    sqe.model = g->model;
    if (op == INGLE_OP_GENERATE || op == INGLE_OP_APPEND) {
        sqe.ctx = g->ctx;
    }
    if (op == INGLE_OP_GENERATE || op == INGLE_OP_APPEND || op == INGLE_OP_EMBED) {
        sqe.arg = g->deadline_ns;
    }
    if (op == INGLE_OP_GENERATE) {
        sqe.max_tokens = g->max_tokens;
        sqe.resume_idx = g->resume_idx;
        res = build_params(g, params);
        if (res < 0) {
            return res;
        }
        sqe.par_bytes = (uint16_t)res;
        if (((g->payload_bytes + 7) & ~(size_t)7) + sqe.par_bytes > c->arena.bytes) {
            return -EMSGSIZE;
        }
    }
    if (ingle_check_sqe(&sqe, c->arena.bytes) != 0) {
        return -EINVAL;
    }
    return send_sqe(c, &sqe, g->payload, params);
}

static int send_plain(struct ingle_client *c, struct ingle_sqe sqe)
{
    int res = ingle_client_usable(c);

    if (res != 0 || c->dead != 0) {
        return res != 0 ? res : c->dead;
    }
    if (ingle_check_sqe(&sqe, c->arena.bytes) != 0) {
        return -EINVAL;
    }
    return send_sqe(c, &sqe, NULL, NULL);
}

int ingle_submit(struct ingle_client *client, const struct ingle_generate *g)
{
    return submit(client, g, INGLE_OP_GENERATE);
}

int ingle_append(struct ingle_client *client, const struct ingle_generate *g)
{
    return submit(client, g, INGLE_OP_APPEND);
}

int ingle_embed(struct ingle_client *client, const struct ingle_generate *g)
{
    return submit(client, g, INGLE_OP_EMBED);
}

int ingle_tokenize(struct ingle_client *client, const struct ingle_generate *g)
{
    return submit(client, g, INGLE_OP_TOKENIZE);
}

int ingle_detokenize(struct ingle_client *client, const struct ingle_generate *g)
{
    return submit(client, g, INGLE_OP_DETOKENIZE);
}

int ingle_template(struct ingle_client *client, const struct ingle_generate *g)
{
    return submit(client, g, INGLE_OP_TEMPLATE);
}

int ingle_nop(struct ingle_client *client, uint64_t user_data)
{
    return send_plain(client, (struct ingle_sqe){.op = INGLE_OP_NOP, .user_data = user_data});
}

int ingle_cancel(struct ingle_client *client, uint64_t user_data, uint64_t cancel_user_data)
{
    return send_plain(client, (struct ingle_sqe){.op = INGLE_OP_CANCEL,
                                                 .user_data = user_data,
                                                 .arg = cancel_user_data});
}

int ingle_ctx_fork(struct ingle_client *client, uint64_t ctx, uint64_t user_data)
{
    return send_plain(
        client, (struct ingle_sqe){.op = INGLE_OP_FORK_CTX, .user_data = user_data, .ctx = ctx});
}

int ingle_ctx_close(struct ingle_client *client, uint64_t ctx, uint64_t user_data)
{
    return send_plain(
        client, (struct ingle_sqe){.op = INGLE_OP_CLOSE_CTX, .user_data = user_data, .ctx = ctx});
}

/* ---- taking events --------------------------------------------------------------------------- */

static void release_tokens(struct ingle_client *c)
{
    if (c->n_unreleased != 0) {
        ingle_tok_release(&c->tok);
        c->n_unreleased = 0;
    }
}

/* A completion that has been taken: its arena block is free, and with FINAL its place too. */
static void settle(struct ingle_client *c, const struct ingle_cqe *cqe)
{
    struct ingle_live *live = find_live(c, cqe->user_data);

    if (live == NULL) {
        return;
    }
    if (live->block != INGLE_NO_BLOCK &&
        (cqe->flags & (INGLE_CQE_F_ACCEPTED | INGLE_CQE_F_FINAL)) != 0) {
        ingle_arena_free(&c->arena, live->block);
        live->block = INGLE_NO_BLOCK;
    }
    if ((cqe->flags & INGLE_CQE_F_FINAL) != 0) {
        *live = c->live[--c->n_live];
    }
}

/* Take a completion out of its ring, if none is held yet, and note which tokens come first. For a
 * FINAL one that is all that are visible now, since the runtime publishes a request's tokens before
 * its end; any other waits for none. */
static int hold_completion(struct ingle_client *c)
{
    int res;

    if (c->holding) {
        return 0;
    }
    res = ingle_cq_read(&c->cq, &c->held);
    if (res == INGLE_RING_EMPTY) {
        return 0;
    }
    if (res != 0 || ingle_tok_reader_look(&c->tok) < 0) {
        return ring_lies(c);
    }
    ingle_cq_release(&c->cq);
    c->holding = true;
    c->held_until = (c->held.flags & INGLE_CQE_F_FINAL) != 0 ? c->tok.in.tail : c->tok.in.head;
    return 0;
}

static int give_completion(struct ingle_client *c, struct ingle_event_info *ret)
{
    c->holding = false;
    settle(c, &c->held);
    *ret = (struct ingle_event_info){
        .kind = INGLE_EVENT_COMPLETION,
        .user_data = c->held.user_data,
        .res = c->held.res,
        .cqe_flags = c->held.flags,
        .ctx = c->held.ctx,
        .n_prompt = c->held.n_prompt,
        .n_cached = c->held.n_cached,
    };
    return 1;
}

static int give_token(struct ingle_client *c, const struct ingle_tok *tok,
                      struct ingle_event_info *ret)
{
    /* Space goes back in quarters of the ring: a store per token would take the line away from the
     * runtime each time. */
    if (++c->n_unreleased >= c->tok.in.n / 4) {
        release_tokens(c);
    }
    *ret = (struct ingle_event_info){
        .kind = INGLE_EVENT_TOKEN,
        .user_data = tok->user_data,
        .token = (int32_t)tok->token,
        .index = tok->index,
        .flags = tok->flags,
        .logprob = tok->logprob,
        .t_us = tok->t_us,
        .text = c->text,
        .text_bytes = tok->text_len,
    };
    return 1;
}

static void disarm(struct ingle_client *c)
{
    if (c->armed) {
        c->armed = false;
        (void)ingle_cq_reader_arm(&c->cq, 0);
    }
}

static int next(struct ingle_client *c, struct ingle_event_info *ret)
{
    struct ingle_tok tok;
    int res = hold_completion(c);

    if (res != 0) {
        return res;
    }
    if (c->holding && c->tok.in.head == c->held_until) {
        return give_completion(c, ret);
    }
    res = ingle_tok_read(&c->tok, &tok, c->text);
    if (res == 0) {
        return give_token(c, &tok, ret);
    }
    if (res != INGLE_RING_EMPTY) {
        return ring_lies(c);
    }
    release_tokens(c);
    return 0;
}

int ingle_next(struct ingle_client *client, struct ingle_event_info *ret)
{
    struct ingle_client *c = client;
    int res = ingle_client_usable(c);

    if (res != 0 || ret == NULL) {
        return res != 0 ? res : -EINVAL;
    }
    if (c->dead == -EPROTO) {
        return c->dead;
    }
    res = next(c, ret);
    if (res != 0) {
        disarm(c);
        c->n_idle = 0;
        return res;
    }
    /* Shared memory does not tell that its other owner has died; the socket does. */
    if (c->dead == 0 && ++c->n_idle >= IDLE_POLLS_A_LOOK) {
        c->n_idle = 0;
        (void)ingle_client_receive(c, 0);
    }
    return c->dead;
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* 1: ingle_next has something, 0: not, -EPROTO. Before a sleep everything taken goes back, so that
 * a request paused for want of room can go on. */
static int something(struct ingle_client *c)
{
    int cq = c->holding ? 0 : ingle_cq_reader_look(&c->cq);
    int tok = ingle_tok_reader_look(&c->tok);

    if (cq < 0 || tok < 0) {
        return ring_lies(c);
    }
    if (cq == 0 || tok == 0) {
        return 1;
    }
    release_tokens(c);
    return 0;
}

/* Set need_wake, then look again, on both rings. */
static int arm(struct ingle_client *c, uint32_t bits)
{
    int cq = ingle_cq_reader_arm(&c->cq, bits);
    int tok = ingle_tok_reader_arm(&c->tok, bits);

    if (cq < 0 || tok < 0) {
        return ring_lies(c);
    }
    return cq == 0 || tok == 0 || c->holding ? 1 : 0;
}

/* Under SCHED_FIFO or SCHED_RR a spinner keeps its core from the one it waits for. */
static int spin(struct ingle_client *c, uint64_t deadline_ns)
{
    uint64_t until = ingle_client_now_ns() + c->opt.spin_us * (uint64_t)1000;
    int policy = sched_getscheduler(0);
    int res = 0;

    if (policy == SCHED_FIFO || policy == SCHED_RR) {
        return 0;
    }
    until = until < deadline_ns ? until : deadline_ns;
    do {
        for (int i = 0; i < 32 && res == 0; i++) {
            res = something(c);
        }
    } while (res == 0 && ingle_client_now_ns() < until);
    return res;
}

static int sleep_on_futex(struct ingle_client *c, uint64_t deadline_ns)
{
    const INGLE_ATOMIC_U32 *word =
        (const INGLE_ATOMIC_U32 *)((const uint8_t *)c->link.s2c.base +
                                   offsetof(struct ingle_s2c_ctl, wake_seq));
    uint32_t seen = ingle_wake_seq(word);
    uint64_t now = ingle_client_now_ns();
    uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    int slept = 0;
    int res = arm(c, INGLE_WAKE_FUTEX);

    if (res == 0) {
        slept = ingle_wake_wait(word, seen, left < FUTEX_NS_MAX ? left : FUTEX_NS_MAX);
        res = something(c);
    }
    (void)ingle_cq_reader_arm(&c->cq, 0);
    return res == 0 && slept == -EINTR ? -EINTR : res;
}

static int sleep_on_socket(struct ingle_client *c, uint64_t deadline_ns)
{
    struct pollfd p = {.fd = c->link.socket, .events = POLLIN};
    int slept = 0;
    int res = arm(c, INGLE_WAKE_BELL);

    if (res == 0) {
        slept = poll(&p, 1, ingle_client_poll_ms(deadline_ns)) < 0 ? -errno : 0;
        res = something(c);
    }
    (void)ingle_cq_reader_arm(&c->cq, 0);
    return res == 0 && slept < 0 ? slept : res;
}

/* What a dead session still has to give, then the reason. */
static int after_death(struct ingle_client *c)
{
    if (c->dead == -EPROTO) {
        return c->dead;
    }
    return something(c) == 1 ? 1 : c->dead;
}

int ingle_wait(struct ingle_client *client, int timeout_ms)
{
    struct ingle_client *c = client;
    uint64_t deadline_ns;
    int res = ingle_client_usable(c);

    if (res != 0) {
        return res;
    }
    if (c->dead != 0) {
        return after_death(c);
    }
    deadline_ns = ingle_client_deadline(timeout_ms);
    disarm(c);
    res = something(c);
    if (res == 0 && timeout_ms != 0 && c->opt.spin_us != 0 && c->n_live != 0) {
        res = spin(c, deadline_ns);
    }
    for (int round = 0; res == 0; round++) {
        if (ingle_client_receive(c, 0) < 0) {
            return after_death(c);
        }
        if (timeout_ms >= 0 && ingle_client_now_ns() >= deadline_ns) {
            return something(c);
        }
        res = round == 0 ? sleep_on_futex(c, deadline_ns) : sleep_on_socket(c, deadline_ns);
    }
    return res;
}

int ingle_await(struct ingle_client *client, uint64_t user_data, int timeout_ms,
                int (*on_event)(void *arg, const struct ingle_event_info *event), void *arg,
                struct ingle_event_info *ret_final)
{
    const uint64_t cancel_data = ~user_data;
    uint64_t deadline_ns = ingle_client_deadline(timeout_ms);
    enum {
        NO,
        WANTED,
        SENT,
        OVER
    } cancel = NO;
    bool done = false;

    while (!done || cancel == SENT) {
        struct ingle_event_info e = {0};
        int res = ingle_next(client, &e);

        if (res == 0) {
            res = ingle_wait(client, timeout_ms < 0 ? -1 : ingle_client_poll_ms(deadline_ns));
            if (res == 0) {
                return -ETIMEDOUT;
            }
        } else if (res == 1) {
            bool final = e.kind == INGLE_EVENT_COMPLETION && (e.cqe_flags & INGLE_DONE_FINAL) != 0;

            if (cancel == SENT && final && e.user_data == cancel_data) {
                cancel = OVER; /* ours, not the caller's to see */
                continue;
            }
            if (final && e.user_data == user_data) {
                done = true;
                if (ret_final != NULL) {
                    *ret_final = e;
                }
            }
            if (on_event != NULL && on_event(arg, &e) != 0 && cancel == NO) {
                cancel = WANTED;
            }
        }
        if (res < 0) {
            return res;
        }
        if (cancel == WANTED && !done) {
            res = ingle_cancel(client, cancel_data, user_data);
            cancel = res == 0 ? SENT : res == -EAGAIN ? WANTED : OVER;
        }
    }
    return 0;
}

int ingle_fd(const struct ingle_client *client)
{
    int res = ingle_client_usable(client);

    return res != 0 ? res : client->link.socket;
}

int ingle_arm(struct ingle_client *client)
{
    struct ingle_client *c = client;
    int res = ingle_client_usable(c);

    if (res != 0) {
        return res;
    }
    if (c->dead != 0 || ingle_client_receive(c, 0) < 0) {
        return after_death(c);
    }
    res = something(c);
    if (res == 0) {
        c->armed = true;
        res = arm(c, INGLE_WAKE_BELL);
    }
    if (res != 0) {
        disarm(c);
    }
    return res;
}

/* ---- words ----------------------------------------------------------------------------------- */

int ingle_session(const struct ingle_client *client, struct ingle_session_info *ret)
{
    uint32_t flags;
    int res = ingle_client_usable(client);

    if (res != 0 || ret == NULL) {
        return res != 0 ? res : -EINVAL;
    }
    flags = ingle_sq_writer_flags(&client->sq);
    *ret = (struct ingle_session_info){
        .epoch = client->link.welcome.h.epoch,
        .client_id = client->link.welcome.client_id,
        .arena_bytes = client->arena.bytes,
        .requests_max = requests_max(client),
        .requests_now = client->n_live,
        .draining = client->draining || (flags & INGLE_S2C_DRAINING) != 0,
    };
    return 0;
}

const char *ingle_why(const struct ingle_client *client)
{
    return client != NULL ? client->why : "";
}

const char *ingle_strerror(int error)
{
    static const struct {
        int code;
        const char *text;
    } words[] = {
        {0, "no error"},
        {EACCES, "permission denied"},
        {EAGAIN, "no room now: take events, then try again"},
        {EALREADY, "already being cancelled"},
        {EBUSY, "busy: try again when a request has ended"},
        {E2BIG, "too long: the prompt does not fit the context"},
        {ECANCELED, "cancelled"},
        {ECHILD, "a forked child has to attach anew"},
        {ECONNREFUSED, "no runtime is listening, or it refused this client"},
        {EEXIST, "a request with this user_data is in flight"},
        {EILSEQ, "the text is not valid UTF-8"},
        {EINTR, "interrupted by a signal"},
        {EINVAL, "an argument is out of its range"},
        {EIO, "the runtime could not read or write what it needs"},
        {EMFILE, "too many contexts, or too many open files"},
        {EMSGSIZE, "longer than the arena: attach with a larger arena_bytes"},
        {ENAMETOOLONG, "the socket's path is too long"},
        {ENFILE, "too many contexts, or too many open files on this system"},
        {ENOBUFS, "the reply does not fit the buffer"},
        {ENODEV, "no such model"},
        {ENOENT, "not found"},
        {ENOMEM, "not enough memory"},
        {ENOSPC, "over the memory budget"},
        {ENOSYS, "the runtime does not know this operation"},
        {EOPNOTSUPP, "this model cannot do that"},
        {EOVERFLOW, "tokens were not taken in time"},
        {EPERM, "not allowed"},
        {EPIPE, "the runtime is gone"},
        {EPROTO, "protocol violation"},
        {ERANGE, "out of range"},
        {ESHUTDOWN, "the runtime is shutting down"},
        {ETIME, "the deadline passed"},
        {ETIMEDOUT, "no answer in time"},
    };
    int code = error < 0 && error != INT32_MIN ? -error : error;

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (words[i].code == code) {
            return words[i].text;
        }
    }
    return "unknown error";
}

const char *ingle_version(void)
{
    return INGLE_VERSION;
}
