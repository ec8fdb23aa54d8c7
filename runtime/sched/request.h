/* What io hands to step: one validated request. io allocates and fills it; from submit until it
 * comes back in a reply message it belongs to step; then io frees it. */
#ifndef INGLE_RUNTIME_SCHED_REQUEST_H
#define INGLE_RUNTIME_SCHED_REQUEST_H
#include <stdint.h>

#include "runtime/model/sampler.h"
#include "runtime/model/textout.h"
#include "shm/layout.h"

struct ingle_port;

enum ingle_request_op {
    INGLE_REQ_GENERATE,
    INGLE_REQ_APPEND,
    INGLE_REQ_EMBED,
    INGLE_REQ_FORK_CTX,
    INGLE_REQ_CLOSE_CTX,
    INGLE_REQ_HOLD_CTX, /* export: a fork of ctx that belongs to no client; its id in `ctx` of the
                           reply */
    INGLE_REQ_TAKE_CTX, /* import: a fork of the held context `ctx`, owned by `port` */
    INGLE_REQ_DROP_CTX, /* revoke: close the held context `ctx` */
    INGLE_REQ_RECORDS,  /* publish `records` as they are, ring space permitting, then DONE: the
                           answer to TOKENIZE, DETOKENIZE and TEMPLATE, which io has computed (the
                           token ring has one writer). No model, no context */
};

struct ingle_request {
    struct { /* io writes, step reads */
        enum ingle_request_op op;
        uint16_t model; /* slot; ctx != 0: ignored, the context's own model serves */
        uint16_t prio;
        uint8_t sqe_flags; /* KEEP_CTX, LATEST */
        struct ingle_port *port;
        uint64_t user_data, ctx, deadline_ns;
        uint32_t max_tokens, resume_idx;
        int32_t *tokens; /* ids in 0..V-1, owned by the request; BOS included */
        uint32_t n_tokens;
        struct ingle_sampling sampling;
        struct ingle_stop_set stops;
        /* RECORDS: complete but for user_data, text_off and t_us, which step fills; the texts lie
         * end to end in record_text, text_len bytes each. Owned by the request. */
        struct ingle_tok *records;
        uint32_t n_records;
        char *record_text;
        uint64_t accepted_ns; /* clock at ACCEPTED */
        void *io_private;     /* session's own */
    } in;
    struct {            /* step writes before the reply */
        int32_t res;    /* tokens generated, or -errno */
        uint32_t flags; /* INGLE_CQE_F_TRUNC */
        uint64_t ctx;   /* kept, forked, held or taken context */
        uint32_t n_prompt, n_cached;
    } out;
    struct ingle_request *next; /* step's queues */
};

#endif
