/* A runtime in a thread, small and obedient: it speaks the handshake and the rings, generates "t0
 * ", "t1 ", ... and does on command what no runtime should. One client at a time. */
#ifndef INGLE_TESTS_UNIT_CLIENTS_FAKE_H
#define INGLE_TESTS_UNIT_CLIENTS_FAKE_H
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/layout.h"
#include "shm/region.h"
#include "shm/ring.h"

enum fake_command {
    FAKE_NONE,
    FAKE_HANG_UP,      /* close the connection, keep the session */
    FAKE_FORGET,       /* close the connection and forget the session: a restart */
    FAKE_PING,         /* answered? see n_pongs */
    FAKE_GOODBYE,      /* orderly end announced */
    FAKE_REJECT,       /* last words, then silence */
    FAKE_GARBAGE,      /* a datagram that is no message */
    FAKE_OVERSIZED,    /* a datagram longer than any message */
    FAKE_LIVE_AGAIN,   /* a message out of place */
    FAKE_GIFT,         /* 8 descriptors that nobody asked for */
    FAKE_STALE_REPLY,  /* an answer to a question that was not asked */
    FAKE_LIE_TOK_TAIL, /* more records than the ring has */
    FAKE_LIE_CQ_TAIL,
    FAKE_LIE_TEXT,    /* a record whose text lies outside of its ring */
    FAKE_LIE_SQ_HEAD, /* entries consumed that were never submitted */
};

struct fake_got { /* the last submission */
    struct ingle_sqe sqe;
    uint8_t payload[1 << 16], params[4096];
};

struct fake {
    /* set before fake_start */
    bool mute;             /* accepts, never answers */
    bool unsealed;         /* regions without seals */
    bool other_size;       /* regions of another size than WELCOME says */
    bool blank_header;     /* S2C without its magic */
    uint32_t n_fds;        /* sent with WELCOME; 0: 3 */
    uint32_t reject_hello; /* enum ingle_reject_code */
    uint32_t reject_ready;
    bool withhold; /* ACCEPTED and everything after it wait for fake_let_go */
    void (*bend)(struct ingle_ctl_welcome *welcome);

    /* for the test to read */
    char dir[64], path[108];
    _Atomic uint32_t n_pongs, n_goodbyes, n_sqes, n_bad_sqes, n_bells;
    pthread_mutex_t lock;
    struct fake_got got; /* under lock */
    struct ingle_ctl_hello last_hello;

    /* the thread's own */
    struct {
        int listener, nudge, socket, submit_fd;
        pthread_t thread;
        _Atomic bool stop, let_go;
        _Atomic int command;
        bool has_session, live;
        uint64_t epoch;
        struct ingle_region c2s, s2c;
        struct ingle_ctl_welcome welcome;
        struct ingle_sq_reader sq;
        struct ingle_cq_writer cq;
        struct ingle_tok_writer tok;
        uint32_t text_ends[1 << 16];
        bool streaming;
        uint64_t stream_user_data;
        uint32_t stream_index, stream_end; /* end 0: until cancelled */
    } t;
};

/* Begin to listen at f->path. False: the test cannot run. */
bool fake_start(struct fake *f);
void fake_stop(struct fake *f);
/* Do it, and return once it is done. */
void fake_do(struct fake *f, enum fake_command command);
void fake_let_go(struct fake *f);

#endif
