/* libingle: attach to a running ingled, submit requests, take tokens.
 *
 *     struct ingle_client *client;
 *     struct ingle_generate g;
 *     char why[256];
 *
 *     if (ingle_attach(NULL, &client, why, sizeof why) != 0)
 *         ...                                  // why says what, why and what to do
 *     ingle_generate_init(&g);
 *     g.user_data = 1;
 *     g.payload = "Once upon a time";
 *     g.payload_bytes = 16;
 *     g.max_tokens = 64;
 *     ingle_submit(client, &g);
 *     ingle_await(client, 1, -1, on_event, arg, NULL);   // or ingle_next / ingle_wait
 *     ingle_detach(client);
 *
 * What holds for every function here:
 * - No threads, no signals, no global state; nothing is allocated after attach; nothing aborts.
 * - A client is used by one thread at a time. Different clients are independent.
 * - Functions return 0 (or a count they document) or a -errno; ingle_strerror puts it in words.
 *   Anywhere: -EINVAL (NULL client, or an argument out of its documented range), -ECHILD (this is a
 *   forked child: its parent's client is not usable here; attach anew), -EPIPE (the runtime is
 *   gone; ingle_reattach), -EPROTO (the runtime sent something impossible; detach).
 * - A request is known by the user_data that the caller gives it, unique among those in flight. It
 *   ends with exactly one completion whose flags have INGLE_DONE_FINAL, and no token follows that.
 * - Sleeping between events costs no CPU; polling (ingle_next alone) makes no system call.
 */
#ifndef INGLE_H
#define INGLE_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define INGLE_API __attribute__((visibility("default")))

struct ingle_client; /* opaque */

/* ---- attach ---------------------------------------------------------------------------------- */

struct ingle_attach_options {
    const char *socket_path; /* NULL: $XDG_RUNTIME_DIR/ingle/ingle.sock and its fallbacks */
    const char *name;        /* of this program, for people: printable ASCII, 31 bytes at most */
    const char *label;       /* subdivides this uid's own tenant: as name; NULL: none */
    uint32_t arena_bytes;    /* for prompts in transit; rounded up to a power of two; 4 KiB ..
                                16 MiB, 0 = the runtime's default (256 KiB) */
    uint32_t spin_us;        /* how long ingle_wait spins before it sleeps; 20 at most, 0 = not */
    uint32_t timeout_ms;     /* of attach, and of ingle_ctx_*; 0 = 5,000 */
};

/**
 * Attach to the runtime. Where socket_path is NULL the runtime must run as this user or as root.
 *
 * @options    NULL or zeroed: the defaults; not needed after the call
 * @ret        the client
 * @err        on failure one line: what, why, what to do (NULL allowed)
 * @err_bytes  room in err, with its NUL
 *
 * Ownership: returns owned, end it with ingle_detach.
 * Errors: -ENOENT, -ECONNREFUSED (nobody listens: start a runtime), -EACCES (no permission, or
 * another user's runtime), -ECONNREFUSED with a text from the runtime (it said no: too many
 * clients, draining, version), -ETIMEDOUT, -EPROTO (it does not speak this protocol), -ENOMEM,
 * -ENAMETOOLONG, -ENFILE, -EMFILE.
 */
INGLE_API int ingle_attach(const struct ingle_attach_options *options, struct ingle_client **ret,
                           char *err, size_t err_bytes);

/**
 * Attach again after -EPIPE, to the same socket. When the runtime still knows the session (it was
 * only the connection that broke, seconds ago) everything goes on: requests in flight, contexts,
 * tokens not yet taken. Otherwise (the runtime was restarted) this is a new session: every request
 * in flight is gone without a completion and every context id is void. Send such a request again
 * with the same seed and resume_idx = the number of tokens already taken: the answer continues bit
 * for bit.
 *
 * @client     attached once; usable or not
 * @err, @err_bytes  as for ingle_attach
 *
 * Ownership: borrows; on failure the client is as after -EPIPE, and this may be tried again (wait
 * 10 ms, then twice as long each time, up to 1 s).
 * Returns 0 (the same session), 1 (a new one), or the errors of ingle_attach.
 */
INGLE_API int ingle_reattach(struct ingle_client *client, char *err, size_t err_bytes);

/**
 * End the session: its requests are cancelled, its contexts closed, all memory returned. NULL is
 * allowed. In a forked child this frees the child's copy and leaves the parent's session alone.
 *
 * Ownership: takes always.
 */
INGLE_API void ingle_detach(struct ingle_client *client);

struct ingle_session_info {
    uint64_t epoch; /* changes when the runtime restarts */
    uint32_t client_id;
    uint32_t arena_bytes;  /* no payload with its parameters can be longer */
    uint32_t requests_max; /* in flight at once; cancellations come on top */
    uint32_t requests_now;
    int draining; /* the runtime is about to end; it takes no new requests */
};

/**
 * Facts about the session.
 *
 * Ownership: fills *ret.
 */
INGLE_API int ingle_session(const struct ingle_client *client, struct ingle_session_info *ret);

/* ---- requests -------------------------------------------------------------------------------- */

enum ingle_payload_kind {
    INGLE_TEXT = 0, /* UTF-8 */
    INGLE_IDS = 1,  /* int32_t token ids */
    INGLE_CHAT = 2  /* UTF-8 JSON {"messages":[...], "tools":[...], "add_generation_prompt":bool} */
};

struct ingle_stop {
    const char *text;
    size_t bytes; /* 1..64 */
};
struct ingle_bias {
    int32_t id;
    float bias; /* added to the token's logit; finite */
};

struct ingle_generate {
    uint64_t user_data; /* names the request; unique among those in flight */
    uint64_t ctx;       /* the payload is appended to this context; 0: to a new one */
    uint16_t model;     /* slot from the "open" verb of ingle_admin; 0: the default model */
    uint16_t prio;
    enum ingle_payload_kind kind;
    const void *payload; /* borrowed during the call */
    size_t payload_bytes;
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
    int keep_ctx;         /* ctx 0: keep the new context; the completion names it */
    int no_special;       /* INGLE_TEXT: control tokens in the text are plain text */
    int no_bos;           /* no begin-of-text token even where the model asks for one */
    int latest;           /* tokens not taken in time cancel the request instead of pausing it */
    int ignore_eos;
    uint32_t max_tokens; /* 0: until the model stops or the context is full */
    uint32_t min_tokens;
    uint32_t top_k;         /* 0: off */
    uint32_t repeat_last_n; /* window of the three penalties, tokens */
    uint32_t resume_idx;    /* tokens below this index are not sent again (ingle_reattach) */
    float temperature;      /* 0..100; 0: the likeliest token, lowest id on a tie */
    float top_p;            /* 0 < p <= 1; 1: off */
    float min_p;            /* 0 <= p < 1; 0: off */
    float typical_p;        /* 0 < p <= 1; 1: off */
    float repeat_penalty;   /* 0 < p <= 100; 1: off */
    float frequency_penalty, presence_penalty; /* -100..100; 0: off */
    uint64_t seed;                             /* the same seed and prompt give the same answer */
    uint16_t n_logprobs;                       /* alternatives to each token, 0..64 */
    uint16_t n_prompt_logprobs; /* 0: none; n: the prompt's tokens and n - 1 alternatives, ..65 */
    const struct ingle_stop *stops;  /* at most 16; borrowed during the call, like the next two */
    const int32_t *stop_ids;         /* at most 32 */
    const struct ingle_bias *biases; /* at most 64 */
    uint32_t n_stops, n_stop_ids, n_biases;
};

/**
 * Fill with the defaults: text, temperature 0, every filter and penalty off.
 *
 * Ownership: fills *g.
 */
INGLE_API void ingle_generate_init(struct ingle_generate *g);

/**
 * Append the payload to a context and generate. Tokens come as events, then one FINAL completion:
 * res = tokens generated, or -errno (-ECANCELED, -E2BIG: the prompt's n_prompt tokens do not fit
 * the context's n_cached, -EILSEQ: byte n_cached is not UTF-8, -ENOENT: no such context, -ENODEV:
 * no such model, -EBUSY: the context is being generated into, -EOPNOTSUPP: the model cannot,
 * -ENOMEM, -ENOSPC, -EMFILE, -ENFILE: over a budget, -ETIME: deadline, -EOVERFLOW: latest,
 * -ESHUTDOWN).
 *
 * @g  all fields are read during the call, and copied
 *
 * Ownership: borrows.
 * Errors: -EAGAIN (as many requests in flight as there may be, or the arena is full: take events,
 * then try again), -EMSGSIZE (longer than the arena: attach with a larger one), -EEXIST (this
 * user_data is in flight), -EINVAL (a value out of range).
 */
INGLE_API int ingle_submit(struct ingle_client *client, const struct ingle_generate *g);

/**
 * Append the payload to a context (0: a new one) and generate nothing. One FINAL completion.
 *
 * @g  user_data, ctx, model, prio, kind, payload, deadline_ns, keep_ctx, no_special, no_bos
 *
 * Ownership: borrows.  Errors: as ingle_submit.
 */
INGLE_API int ingle_append(struct ingle_client *client, const struct ingle_generate *g);

/**
 * Embed the payload. The text of the token events, joined, is the vector: f32, little endian,
 * length 1.
 *
 * @g  user_data, model, prio, kind, payload, deadline_ns, no_special, no_bos
 *
 * Ownership: borrows.  Errors: as ingle_submit.
 */
INGLE_API int ingle_embed(struct ingle_client *client, const struct ingle_generate *g);

/**
 * Turn text, or a chat through the model's template, into tokens: one event without text each.
 *
 * @g  user_data, model, prio, kind (not INGLE_IDS), payload, no_special, no_bos
 *
 * Ownership: borrows.  Errors: as ingle_submit.
 */
INGLE_API int ingle_tokenize(struct ingle_client *client, const struct ingle_generate *g);

/**
 * Turn token ids into text: the text of the events, joined.
 *
 * @g  user_data, model, prio, kind INGLE_IDS, payload, no_special (leave control tokens out)
 *
 * Ownership: borrows.  Errors: as ingle_submit.
 */
INGLE_API int ingle_detokenize(struct ingle_client *client, const struct ingle_generate *g);

/**
 * Render a chat with the model's template: the text of the events, joined, is the prompt.
 *
 * @g  user_data, model, prio, kind INGLE_CHAT, payload
 *
 * Ownership: borrows.  Errors: as ingle_submit.
 */
INGLE_API int ingle_template(struct ingle_client *client, const struct ingle_generate *g);

/**
 * Ask for a completion and nothing else: whether the runtime answers, and how fast.
 *
 * Errors: -EAGAIN, -EEXIST.
 */
INGLE_API int ingle_nop(struct ingle_client *client, uint64_t user_data);

/**
 * Cancel a request. Two completions follow: the request's own (res -ECANCELED, or what it had
 * reached), and the cancellation's (res 0, -ENOENT: not in flight, -EALREADY).
 *
 * @user_data         names the cancellation itself
 * @cancel_user_data  names the request to end
 *
 * Errors: -EAGAIN, -EEXIST (user_data is in flight).
 */
INGLE_API int ingle_cancel(struct ingle_client *client, uint64_t user_data,
                           uint64_t cancel_user_data);

/* ---- contexts -------------------------------------------------------------------------------- */

/**
 * Copy a context: the completion's ctx is the copy. Nothing is recomputed and nothing is copied
 * until the two differ.
 *
 * @ctx  not 0
 *
 * Errors: -EAGAIN, -EEXIST, -EINVAL; the completion's res: -ENOENT, -ENOMEM.
 */
INGLE_API int ingle_ctx_fork(struct ingle_client *client, uint64_t ctx, uint64_t user_data);

/**
 * Let a context go. Its pages stay cached as long as there is room.
 *
 * @ctx  not 0
 *
 * Errors: -EAGAIN, -EEXIST, -EINVAL; the completion's res: -ENOENT.
 */
INGLE_API int ingle_ctx_close(struct ingle_client *client, uint64_t ctx, uint64_t user_data);

/* Capability tokens, as text "ctx1_<base64url>" of at most INGLE_TOKEN_TEXT bytes with its NUL. */
#define INGLE_TOKEN_TEXT 64

/**
 * Make a token by which another process of this tenant can take a copy of the context as it is now.
 * Whoever holds the token may use it.
 *
 * @ctx   not 0                      @ttl_s  seconds that it lives; 0: until revoked or this client
 * @uses  imports that it is good for; 0: any number              leaves
 * @ret_token  the token
 *
 * Blocks for the runtime's answer.
 * Errors: -ENOENT (no such context), -EBUSY (it is being generated into), -ERANGE (ttl_s beyond a
 * day), -ENOSPC (64 tokens of this client live), -ENOMEM, -ETIMEDOUT.
 */
INGLE_API int ingle_ctx_export(struct ingle_client *client, uint64_t ctx, uint32_t ttl_s,
                               uint32_t uses, char ret_token[INGLE_TOKEN_TEXT]);

/**
 * Take a copy of an exported context. Nothing is recomputed.
 *
 * @token       from ingle_ctx_export            @ret_ctx  the copy, this client's own
 * @ret_tokens  how many tokens it holds; NULL allowed
 *
 * Blocks for the runtime's answer.
 * Errors: -EINVAL (not a token), -ENOENT (unknown, expired, used up or revoked), -EACCES (another
 * tenant's), -ENOMEM, -ETIMEDOUT.
 */
INGLE_API int ingle_ctx_import(struct ingle_client *client, const char *token, uint64_t *ret_ctx,
                               uint32_t *ret_tokens);

/**
 * Make a token void. Copies already taken live on.
 *
 * @token  from ingle_ctx_export
 *
 * Blocks for the runtime's answer.  Errors: -EINVAL, -ENOENT, -ETIMEDOUT.
 */
INGLE_API int ingle_ctx_revoke(struct ingle_client *client, const char *token);

/* ---- events ---------------------------------------------------------------------------------- */

enum ingle_event_kind {
    INGLE_EVENT_TOKEN,
    INGLE_EVENT_COMPLETION
};

enum ingle_token_flag {
    INGLE_TOKEN_LAST = 1,    /* the request's last token */
    INGLE_TOKEN_STOP = 2,    /* with LAST: a stop string, a stop id or the end of the text */
    INGLE_TOKEN_ALT = 4,     /* an alternative to the chosen token of this index, likeliest first */
    INGLE_TOKEN_PROMPT = 8,  /* a token of the prompt */
    INGLE_TOKEN_LENGTH = 16, /* with LAST: max_tokens or the end of the context */
    INGLE_TOKEN_CUT = 32     /* with LAST: cancelled or failed; the completion says which */
};

enum ingle_done_flag {
    INGLE_DONE_ACCEPTED = 1, /* not the end: the payload was read; n_prompt is set; tokens may
                                come before it */
    INGLE_DONE_FINAL = 2,    /* the last event of the request */
    INGLE_DONE_TRUNC = 4     /* ended at max_tokens or at the end of the context */
};

struct ingle_event_info {
    enum ingle_event_kind kind;
    uint64_t user_data;
    /* TOKEN */
    int32_t token;
    uint32_t index;   /* dense within a request; an alternative repeats its token's */
    uint32_t flags;   /* enum ingle_token_flag */
    float logprob;    /* natural logarithm */
    uint32_t t_us;    /* since the request was accepted */
    const char *text; /* what can be shown now, with a NUL behind it; valid until the next call with
                         this client; never split inside a code point */
    uint32_t text_bytes;
    /* COMPLETION */
    int32_t res;        /* >= 0, or -errno */
    uint32_t cqe_flags; /* enum ingle_done_flag */
    uint64_t ctx;       /* the kept or forked context, 0: none */
    uint32_t n_prompt;  /* tokens of the payload */
    uint32_t n_cached;  /* FINAL: of these, reused bit for bit instead of computed */
};

/**
 * Take the next event. Tokens of a request come in order and before its FINAL completion.
 *
 * @ret  untouched when there is none
 *
 * Ownership: fills *ret; ret->text is borrowed until the next call with this client.
 * Returns 1 (*ret is filled), 0 (none now), or -EPIPE, -EPROTO once everything that had arrived
 * before is taken.
 */
INGLE_API int ingle_next(struct ingle_client *client, struct ingle_event_info *ret);

/**
 * Sleep until ingle_next has something.
 *
 * @timeout_ms  < 0: for ever; 0: only look
 *
 * Returns 1, 0 on timeout, -EINTR (a signal handler ran), -EPIPE, -EPROTO.
 */
INGLE_API int ingle_wait(struct ingle_client *client, int timeout_ms);

/**
 * Take events until the request's FINAL completion: a loop of ingle_next and ingle_wait.
 *
 * @user_data   of the request
 * @timeout_ms  in all; < 0: for ever
 * @on_event    called with every event, those of other requests included, the FINAL one last; when
 *              it returns other than 0 for the first time the request is cancelled (and the loop
 *              goes on to its FINAL completion); NULL allowed
 * @arg         handed to on_event
 * @ret_final   the FINAL completion; NULL allowed
 *
 * Returns 0 once the request has ended, however it ended (ret_final->res says how), -ETIMEDOUT (it
 * goes on; call again or cancel), -EINTR, -EPIPE, -EPROTO.
 */
INGLE_API int ingle_await(struct ingle_client *client, uint64_t user_data, int timeout_ms,
                          int (*on_event)(void *arg, const struct ingle_event_info *event),
                          void *arg, struct ingle_event_info *ret_final);

/**
 * The descriptor for an event loop: readable once something happens after ingle_arm said 0, and
 * when the runtime is gone. Only poll it; never read, write or close it. ingle_reattach may change
 * it.
 *
 * Returns a descriptor, or -EINVAL, -ECHILD.
 */
INGLE_API int ingle_fd(const struct ingle_client *client);

/**
 * Ask for the descriptor to become readable at the next event. The loop: when readable, ingle_next
 * until 0, then ingle_arm; while that says 1, again; then back to the loop. Whatever else is called
 * in between, arm last.
 *
 * Returns 0 (armed: poll the descriptor), 1 (there are events already: do not), -EPIPE, -EPROTO.
 */
INGLE_API int ingle_arm(struct ingle_client *client);

/* ---- administration -------------------------------------------------------------------------- */

/**
 * One administrative request: a JSON object in, a JSON value out (docs/PROTOCOL.md lists the
 * verbs). Blocks until the answer is there, however long the runtime works at it; the rings fill
 * meanwhile.
 *
 * @request      UTF-8, 4,064 bytes at most
 * @reply        the answer, NUL-terminated           @reply_bytes  room in it, with the NUL
 * @progress     called with whole JSON objects while the runtime works; NULL allowed; it must not
 *               call anything with this client
 * @arg          handed to progress
 *
 * Errors: -E2BIG (request too long), -ENOBUFS (reply too small; what fits is there), -EINTR (a
 * signal handler ran; the answer, when it comes, is dropped).
 */
INGLE_API int ingle_admin(struct ingle_client *client, const char *request, char *reply,
                          size_t reply_bytes, void (*progress)(void *arg, const char *json),
                          void *arg);

/* ---- words ----------------------------------------------------------------------------------- */

/**
 * Why the session ended, in words, where the runtime or the library knows more than the error code.
 *
 * Returns borrowed until the next call with this client; "" while the session is well, never NULL.
 */
INGLE_API const char *ingle_why(const struct ingle_client *client);

/**
 * What an error code means here, in words.
 *
 * @error  an -errno from this library or from a completion's res (its sign does not matter)
 *
 * Returns static storage, never NULL.  Thread: any.
 */
INGLE_API const char *ingle_strerror(int error);

/**
 * The library's version.
 *
 * Returns static storage, "major.minor.patch".  Thread: any.
 */
INGLE_API const char *ingle_version(void);

#ifdef __cplusplus
}
#endif
#endif
