/* The scheduler's own state and the functions that its files share. Internal to runtime/sched;
 * others see sched.h. Thread: step, but for the two queues' io ends. */
#ifndef INGLE_RUNTIME_SCHED_STATE_H
#define INGLE_RUNTIME_SCHED_STATE_H
#include "runtime/base/spsc.h"
#include "runtime/sched/sequence.h"

struct ingle_sched {
    struct ingle_sched_options limits;
    struct ingle_board *board;
    struct ingle_spsc to_step, from_step;
    struct ingle_to_step *to_items;
    struct ingle_from_step *from_items;
    struct ingle_park park; /* step sleeps here */
    struct ingle_sched_stats stats;
    struct {
        struct ingle_engine *engines[INGLE_MODEL_SLOTS];
        struct ingle_sequence *sequences; /* [sequences_max], in order of their slots */
        uint32_t n_sequences;             /* in use */
        struct ingle_handle *handles;     /* [INGLE_HANDLES_MAX] */
        struct ingle_request *waiting_first, *waiting_last;
        uint32_t n_waiting;
        uint64_t now_ns;
        bool moved; /* this step computed, wrote or ended something */
        bool stopping;
    } step;
};

/* step is the counters' only writer. */
static inline void ingle_sched_count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* sched.c: answers to io. */
void ingle_sched_reply(struct ingle_sched *s, const struct ingle_from_step *msg);
void ingle_sched_reply_done(struct ingle_sched *s, struct ingle_request *request, int32_t res);

/* handle.c: contexts with an id. */
uint64_t ingle_handle_id(const struct ingle_sched *s, const struct ingle_handle *h);
/* The handle of an id that `owner` (NULL: held ones) may use, or NULL. */
struct ingle_handle *ingle_handle_find(struct ingle_sched *s, uint64_t id,
                                       const struct ingle_port *owner);
/* A handle for ctx (taken over), or NULL: no handle left, ctx stays the caller's. */
struct ingle_handle *ingle_handle_open(struct ingle_sched *s, struct ingle_engine *engine,
                                       struct ingle_context *ctx, struct ingle_port *owner);
void ingle_handle_close(struct ingle_sched *s, struct ingle_handle *h);
/* Those of a port (NULL: of everybody) on an engine (NULL: on any). */
void ingle_handle_close_all(struct ingle_sched *s, const struct ingle_port *port,
                            const struct ingle_engine *engine);
/* FORK, CLOSE, HOLD, TAKE and DROP: answered at once. */
void ingle_sched_context_request(struct ingle_sched *s, struct ingle_request *request);

/* sequence.c: a request's way from the waiting list to its answer. */
void ingle_sched_admit(struct ingle_sched *s);
/* Close what the request does not keep, answer, free the slot. */
void ingle_sequence_finish(struct ingle_sched *s, struct ingle_sequence *seq, int32_t res);
/* Bring finished outputs into the rings and end what has ended. Returns the sequences that cannot
 * go on before their client reads. */
uint32_t ingle_sched_settle(struct ingle_sched *s);
/* Make a step's records visible, once per client, and note who sleeps. */
void ingle_port_publish(struct ingle_sched *s, struct ingle_port *port);

/* batch.c: one step of one engine. Returns the rows computed. */
uint32_t ingle_sched_run_engine(struct ingle_sched *s, struct ingle_engine *e);

#endif
