/* The step thread: scheduler, contexts and all KV metadata. io talks to it through two SPSC queues
 * of small messages; nobody else writes what it owns. */
#ifndef INGLE_RUNTIME_SCHED_SCHED_H
#define INGLE_RUNTIME_SCHED_SCHED_H
#include <stdint.h>

#include "runtime/backend/backend.h"
#include "runtime/base/board.h"
#include "runtime/base/error.h"
#include "runtime/model/model.h"
#include "runtime/sched/port.h"
#include "runtime/sched/request.h"

#define INGLE_MODEL_SLOTS 16u

enum ingle_to_step_kind {
    INGLE_TO_STEP_DETACH,     /* port: end its requests, close its contexts, reply DETACHED */
    INGLE_TO_STEP_SUBMIT,     /* request */
    INGLE_TO_STEP_CANCEL,     /* port, user_data: the request to end; seq comes back in CANCELLED */
    INGLE_TO_STEP_MODEL_ADD,  /* slot, engine: a loaded model with its scratch and KV pool */
    INGLE_TO_STEP_MODEL_DROP, /* slot: end its requests, reply MODEL_DROPPED */
    INGLE_TO_STEP_STOP, /* end every request with -ESHUTDOWN, reply STOPPED, leave the thread */
};
struct ingle_to_step {
    enum ingle_to_step_kind kind;
    uint32_t slot;
    struct ingle_port *port;
    struct ingle_request *request;
    struct ingle_engine *engine;
    uint64_t user_data, seq;
};

enum ingle_from_step_kind {
    INGLE_FROM_STEP_DONE, /* request: out is filled, its last record is published; io owns it again
                           */
    INGLE_FROM_STEP_CANCELLED, /* port, seq, res: 0 or -ENOENT; the request's own DONE comes first
                                */
    INGLE_FROM_STEP_DETACHED,  /* port: step will not touch it again */
    INGLE_FROM_STEP_PORT_BAD,  /* port: ring rules broken; io disconnects it */
    INGLE_FROM_STEP_MODEL_DROPPED, /* slot, engine */
    INGLE_FROM_STEP_STOPPED,
};
struct ingle_from_step {
    enum ingle_from_step_kind kind;
    uint32_t slot;
    struct ingle_port *port;
    struct ingle_request *request;
    struct ingle_engine *engine;
    uint64_t seq;
    int32_t res;
};

/* Counters that any thread may read (relaxed); step is the only writer. */
struct ingle_sched_stats {
    _Atomic uint64_t n_steps, n_prompt_tokens, n_cached_tokens, n_generated_tokens, n_requests,
        n_cancelled, n_parked, n_evicted_chunks, step_ns_last;
    _Atomic uint32_t n_running, n_waiting, n_contexts;
};

struct ingle_sched; /* opaque */

/* Limits of one scheduler; zero fields take the defaults of sched.c. */
struct ingle_sched_options {
    uint32_t sequences_max; /* running at once */
    uint32_t contexts_max;
    uint32_t batch_tokens;   /* rows of one step, at most: prefill is cut to this and less */
    uint32_t queue_messages; /* power of two */
};

int ingle_sched_create(const struct ingle_sched_options *options, struct ingle_board *board,
                       struct ingle_sched **ret, struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_sched_free(struct ingle_sched *sched); /* after its thread has ended */
/* The body of the step thread; returns after STOP. */
void ingle_sched_run(struct ingle_sched *sched);

/* io: false = queue full, try again after the next reply. Wakes step if it sleeps. */
bool ingle_sched_send(struct ingle_sched *sched, const struct ingle_to_step *msg);
/* io: the next reply, or false. io is woken through INGLE_BOARD_IO by the bell thread. */
bool ingle_sched_receive(struct ingle_sched *sched, struct ingle_from_step *ret);
const struct ingle_sched_stats *ingle_sched_stats(const struct ingle_sched *sched);

/* An engine: what step needs to run one model. Created on the load thread, given to step by
 * MODEL_ADD, freed by io after MODEL_DROPPED. */
struct ingle_engine_options {
    uint8_t kv_bits;         /* 16, 8 (default), 4 */
    uint64_t kv_bytes;       /* budget of the page pool, taken at creation */
    uint32_t context_tokens; /* ceiling per context; 0 = the model's */
};
/* model NULL: the null engine (fixed logits: token i of an answer is (i * 7 + last prompt token) %
 * 256 + 1, text "t<id> "), for protocol, fuzz and storm tests. Takes model on success. */
int ingle_engine_create(struct ingle_model *model, struct ingle_backend *backend,
                        const struct ingle_sched_options *limits,
                        const struct ingle_engine_options *options, struct ingle_engine **ret,
                        struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_engine_free(struct ingle_engine *engine);
/* How long nothing has run where the engine runs; 0: something runs. Any thread. */
uint64_t ingle_engine_idle_ns(const struct ingle_engine *engine);
/* A little of ingle_kv_pool_warm; false: done. Thread: load, also while step uses the engine. */
bool ingle_engine_warm(struct ingle_engine *engine);
const struct ingle_model *ingle_engine_model(
    const struct ingle_engine *engine); /* NULL: null engine */
uint32_t ingle_engine_context_tokens(const struct ingle_engine *engine);
/* Bytes by kind, for the ledger; any thread. */
struct ingle_engine_bytes {
    uint64_t weights, tokenizer, kv_pool, kv_used, scratch;
};
void ingle_engine_bytes(const struct ingle_engine *engine, struct ingle_engine_bytes *ret);

#endif
