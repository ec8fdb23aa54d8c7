/* Everything that the io thread owns, and the loop around it. */
#ifndef INGLE_RUNTIME_SESSION_IO_H
#define INGLE_RUNTIME_SESSION_IO_H
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/board.h"
#include "runtime/base/list.h"
#include "runtime/base/reactor.h"
#include "runtime/sched/sched.h"
#include "runtime/session/bell.h"
#include "runtime/session/caps.h"
#include "runtime/session/ledger.h"
#include "runtime/session/models.h"
#include "runtime/session/session.h"
#include "runtime/session/tenant.h"

struct ingle_io_counters {
    uint64_t n_accepted, n_attached, n_rejected, n_violations, n_refused, n_floods, n_resumed,
        n_requests, n_tokens, n_loops, n_sleeps;
};

struct ingle_stock { /* made ahead for the next attach */
    struct ingle_kit kit;
    struct ingle_timer timer;
};

struct ingle_io {
    struct ingle_reactor reactor;
    struct ingle_sched *sched;  /* borrowed */
    struct ingle_board *board;  /* borrowed */
    struct ingle_source wake;   /* eventfd that bell and load write */
    struct ingle_source listen; /* borrowed fd */
    struct ingle_timer listen_timer;
    bool listening;
    struct ingle_ringer bell;
    struct ingle_ledger ledger;
    struct ingle_pool *rings; /* all regions, those in stock too */
    struct ingle_stock stock;
    struct ingle_models models;
    struct ingle_tenants tenants;
    struct ingle_caps caps;
    struct ingle_timer caps_timer; /* the next token to expire */

    struct ingle_list sessions, awake, dirty, dead; /* dead: freed at the end of the turn */
    struct ingle_session *by_slot[INGLE_BOARD_SLOTS];
    uint32_t n_sessions, client_id_next, fds_max;
    uint64_t epoch;

    struct ingle_to_step *backlog; /* messages that step's queue had no room for, oldest first */
    uint32_t backlog_n, backlog_room, backlog_i;

    uint64_t spin_ns, active_ns; /* spin until active_ns + spin_ns */
    uint64_t started_ns;
    bool draining, stopped;
    struct ingle_io_counters counters;
    const char *socket_path;

    /* The daemon's: re-read the configuration. */
    int (*reload)(void *arg, struct ingle_error *err);
    void *reload_arg;
};

struct ingle_io_options {
    struct ingle_sched *sched;
    struct ingle_board *board;
    int listen_fd;
    const char *socket_path;
    uint64_t budget_bytes, kv_bytes;
    uint32_t spin_us, n_threads;
    const struct ingle_sched_options *limits;
    const char *models_dir, *images_dir; /* images_dir: kept images of models elsewhere */
    int (*reload)(void *arg, struct ingle_error *err);
    void *reload_arg;
};

/* Start the bell and load threads and take the loop's descriptors. */
int ingle_io_init(struct ingle_io *io, const struct ingle_io_options *options,
                  struct ingle_error *err) INGLE_MUST_CHECK;
/* The io thread's body; returns once ingle_io_shutdown has run its course. */
void ingle_io_run(struct ingle_io *io);
/* io: end every request, tell every client, let step and the loop stop. */
void ingle_io_shutdown(struct ingle_io *io);
/* After the step thread has been joined. */
void ingle_io_fini(struct ingle_io *io);

/* io: hand a message to step, now or as soon as its queue has room. */
void ingle_io_send(struct ingle_io *io, const struct ingle_to_step *msg);
void ingle_io_listen_again(struct ingle_io *io);

#endif
