/* One attached client: socket, pidfd, two regions, rings, requests. Thread: io; what step sees of
 * it is the port. */
#ifndef INGLE_RUNTIME_SESSION_SESSION_H
#define INGLE_RUNTIME_SESSION_SESSION_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/list.h"
#include "runtime/base/reactor.h"
#include "runtime/sched/port.h"
#include "runtime/sched/request.h"
#include "runtime/session/limits.h"
#include "shm/layout.h"
#include "shm/region.h"
#include "shm/ring.h"

struct ingle_io;
struct ingle_tenant;
struct ingle_instance;

/*
 *  accept --> HELLO --> WELCOMED --> LIVE <--> LOST (socket gone, process alive: for a grace time)
 *               |           |         |          |
 *               +-----------+---------+----------+--> CLOSING (step lets go of the port) --> freed
 */
enum ingle_session_state {
    INGLE_SESSION_HELLO,
    INGLE_SESSION_WELCOMED,
    INGLE_SESSION_LIVE,
    INGLE_SESSION_LOST,
    INGLE_SESSION_CLOSING,
};

struct ingle_ctl_out; /* a control message that the socket did not take yet */

struct ingle_cancel { /* a CANCEL that step has not answered yet */
    struct ingle_list link;
    uint64_t seq, user_data;
};

struct ingle_context_row { /* a context that this client may name */
    uint64_t ctx;
    uint16_t slot; /* of the instance that serves it */
};

/* What a session is made of that needs nothing of its client but the sizes. */
struct ingle_kit {
    struct ingle_region c2s, s2c; /* base NULL: no kit */
    int doorbell;                 /* eventfd */
    uint32_t *text_ends;          /* of the token writer: n_text_ends */
    uint32_t n_text_ends;
    uint64_t nonce;
    uint8_t resume[32];
};
#define INGLE_KIT_NONE                                                     \
    (struct ingle_kit)                                                     \
    {                                                                      \
        .c2s = INGLE_REGION_NONE, .s2c = INGLE_REGION_NONE, .doorbell = -1 \
    }

struct ingle_session {
    struct ingle_io *io;
    enum ingle_session_state state;
    struct ingle_list link;  /* io->sessions */
    struct ingle_list awake; /* io->awake while SQ_NEED_WAKEUP is clear */

    /* who */
    uint32_t client_id; /* never 0, never used twice in a run; 0 before WELCOME */
    uint32_t slot;      /* of the board; 0 before WELCOME */
    pid_t pid;
    uid_t uid;
    struct ingle_tenant *tenant;
    char name[32], label[32];
    uint64_t since_ns, nonce;
    uint8_t resume[32];

    /* descriptors */
    struct ingle_source sock, pidfd, doorbell;
    struct ingle_timer timer;      /* of the state: handshake, grace */
    struct ingle_timer bell_timer; /* doorbell unheard until then */
    struct ingle_timer stall_timer;
    bool sock_watches_out;
    struct ingle_list outs; /* struct ingle_ctl_out, oldest first */
    uint32_t n_outs;
    uint64_t bell_tokens_ns; /* token bucket: time bought and not yet used */
    uint64_t bell_filled_ns;

    /* shared memory */
    struct ingle_region c2s, s2c;
    struct ingle_ctl_welcome geometry; /* as sent; h is unused */
    const uint8_t *arena;              /* C2S: read through ingle_copy_in only */
    struct ingle_sq_reader sq;
    struct ingle_cq_writer cq;
    uint32_t flags;        /* s2c.flags, whose only writer is io */
    uint32_t cqe_reserved; /* completions promised and not yet written */
    bool cq_dirty;         /* written, not published; linked in io->dirty */
    struct ingle_list dirty;

    /* requests */
    struct ingle_port port;
    uint32_t *text_ends;       /* of the port's token writer */
    bool known_to_step;        /* it has seen the port, so it must let go of it */
    bool was_live;             /* a READY now is that of a resumption */
    struct ingle_list tickets; /* struct ingle_ticket in flight */
    uint32_t n_inflight;
    struct ingle_list cancels; /* struct ingle_cancel */
    uint64_t cancel_seq;
    struct ingle_context_row contexts[INGLE_CONTEXTS_PER_SESSION];
    uint32_t n_contexts, n_promised; /* promised: requests in flight that may bring one */

    /* counters, for people */
    uint64_t n_requests, n_tokens, n_refused, n_sqes, n_floods;
};

/* session.c: life and control messages */
void ingle_session_accept(struct ingle_io *io, int fd); /* takes fd */
/* End it. code and words go to the client and the log; code 0: it left by itself. The session stays
 * in memory, CLOSING, until the end of the turn at least. */
void ingle_session_end(struct ingle_session *session, enum ingle_reject_code code, const char *fmt,
                       ...) __attribute__((format(printf, 3, 4)));
void ingle_session_detached(struct ingle_session *session); /* step has replied */
void ingle_session_bury(struct ingle_session *session);     /* nobody else uses it any more */
void ingle_session_free_dead(struct ingle_io *io);          /* at the end of each turn */
void ingle_session_set_flags(struct ingle_session *session, uint32_t flags);
/* Look at its submission ring from now on; it need not ring. */
void ingle_session_wake(struct ingle_session *session);
int ingle_session_hear_doorbell(struct ingle_session *session) INGLE_MUST_CHECK;
bool ingle_session_uid_full(const struct ingle_session *session);
/* Queue a control message; a long one is cut into datagrams, all but the last with MORE. */
void ingle_session_send(struct ingle_session *session, enum ingle_ctl_type type, uint16_t flags,
                        uint64_t seq, const void *payload, uint64_t bytes);

/* handshake.c */
void ingle_handshake_stock_up(struct ingle_timer *timer);
void ingle_kit_fini(struct ingle_kit *kit);
void ingle_handshake_hello(struct ingle_session *session, const void *msg, size_t bytes);
void ingle_handshake_ready(struct ingle_session *session, const void *msg, size_t bytes, pid_t pid);

/* context.c: CTX_EXPORT, CTX_IMPORT, CTX_REVOKE and what comes of them */
void ingle_context_message(struct ingle_session *session, const void *msg, size_t bytes);

/* admin.c */
void ingle_admin_message(struct ingle_session *session, const void *msg, size_t bytes);

#endif
