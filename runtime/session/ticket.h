/* A request on its way: what io remembers about it while step has it. Thread: io. */
#ifndef INGLE_RUNTIME_SESSION_TICKET_H
#define INGLE_RUNTIME_SESSION_TICKET_H
#include <stdbool.h>
#include <stdint.h>

#include "runtime/session/session.h"

enum ingle_ticket_kind {
    INGLE_TICKET_OP,     /* an SQE; answered in the completion ring */
    INGLE_TICKET_EXPORT, /* answered by CTX_REPLY */
    INGLE_TICKET_IMPORT,
    INGLE_TICKET_DROP, /* of a held context; answered to nobody */
};

struct ingle_ticket {
    struct ingle_request req; /* step's from submit to DONE */
    enum ingle_ticket_kind kind;
    struct ingle_list link;          /* session->tickets; DROP: none */
    struct ingle_session *session;   /* NULL: DROP */
    struct ingle_instance *instance; /* NULL where no model is involved */
    uint64_t idem;
    bool cancelled; /* one cancel is under way */
    int32_t res;    /* RECORDS: what the completion says, if step published them all */
    uint8_t op;     /* enum ingle_op_code */
    bool promised_mine, promised; /* room for a context: in the session's table, in the model */
    bool keep;                    /* the context is to be the client's own */
    uint64_t seq;                 /* EXPORT, IMPORT: of the control message */
    uint32_t rights, ttl_s, uses; /* EXPORT */
    uint32_t n_tokens;            /* IMPORT */
};

/* ingest.c: the submission ring. Returns how many entries were taken; the session may be over
 * afterwards. */
uint32_t ingle_ingest(struct ingle_session *session);

/* emit.c: completions and step's replies */
struct ingle_ticket *ingle_ticket_create(struct ingle_session *session,
                                         enum ingle_ticket_kind kind);
void ingle_ticket_submit(struct ingle_io *io, struct ingle_ticket *ticket); /* to step */
void ingle_ticket_free(struct ingle_ticket *ticket);
void ingle_complete(struct ingle_session *session, const struct ingle_cqe *cqe);
void ingle_show_load(struct ingle_session *session);
void ingle_publish_completions(struct ingle_io *io);
void ingle_take_reply(struct ingle_io *io, const struct ingle_from_step *msg);

/* context.c: the contexts that a client may name. promise: room for the one that this ticket may
 * bring (mine: into its session's table), kept until the ticket is freed; -ENOSPC. */
struct ingle_context_row *ingle_context_find(struct ingle_session *session, uint64_t ctx);
int ingle_context_promise(struct ingle_ticket *ticket, bool mine) INGLE_MUST_CHECK;
void ingle_context_unpromise(struct ingle_ticket *ticket);
void ingle_context_add(struct ingle_session *session, uint64_t ctx, uint16_t slot);
void ingle_context_remove(struct ingle_session *session, uint64_t ctx);
/* A ticket of kind EXPORT or IMPORT has come back. */
void ingle_context_done(struct ingle_ticket *ticket);
void ingle_context_drop_held(struct ingle_io *io, uint64_t ctx);
void ingle_context_caps_fired(struct ingle_timer *timer);
void ingle_context_session_over(struct ingle_session *session);
void ingle_context_model_over(struct ingle_io *io, uint16_t slot);

/* prompt.c: payloads to tokens and prepared records. 0, or a -errno to complete with;
 * *ret_detail is then the second number of the completion (byte offset, limit). */
struct ingle_prompt_refusal {
    uint32_t n_prompt, n_cached;
    struct ingle_error err; /* text, where there is one */
};
int ingle_prompt_tokens(struct ingle_ticket *ticket, const struct ingle_sqe *sqe,
                        const char *payload, struct ingle_prompt_refusal *ret) INGLE_MUST_CHECK;
int ingle_prompt_records(struct ingle_ticket *ticket, const struct ingle_sqe *sqe,
                         const char *payload, struct ingle_prompt_refusal *ret) INGLE_MUST_CHECK;

#endif
