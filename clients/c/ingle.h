/* libingle: attach to a running ingled, submit requests, take tokens. No threads, no signals;
 * nothing is allocated after attach; usable by one thread at a time; a forked child must attach
 * anew. */
#ifndef INGLE_H
#define INGLE_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define INGLE_API __attribute__((visibility("default")))

struct ingle_client; /* opaque */

struct ingle_attach_options {
    const char *socket_path; /* NULL: $XDG_RUNTIME_DIR/ingle/ingle.sock and its fallbacks */
    const char *name;        /* of this program, for people */
    const char *label;       /* subdivides this uid's own tenant; NULL: none */
    uint32_t arena_bytes;    /* prompt arena; 0 = default (1 MiB) */
    uint32_t spin_us;        /* how long wait() spins before it sleeps; at most 20 */
    uint32_t timeout_ms;     /* 0 = 5,000 */
};

INGLE_API int ingle_attach(const struct ingle_attach_options *options, struct ingle_client **ret,
                           char *err, size_t err_bytes);
INGLE_API void ingle_detach(struct ingle_client *client);
INGLE_API int ingle_fd(const struct ingle_client *client);

enum ingle_payload_kind {
    INGLE_TEXT = 0,
    INGLE_IDS = 1,
    INGLE_CHAT = 2
};

struct ingle_stop {
    const char *text;
    size_t bytes;
};
struct ingle_bias {
    int32_t id;
    float bias;
};

struct ingle_generate {
    uint64_t user_data;
    uint64_t ctx;   /* 0: a new context */
    uint16_t model; /* slot from ingle_open; 0: the default model */
    uint16_t prio;
    enum ingle_payload_kind kind;
    const void *payload;
    size_t payload_bytes;
    int keep_ctx, no_special, no_bos, latest, ignore_eos;
    uint32_t max_tokens; /* 0: until the model stops or the context is full */
    uint32_t min_tokens, top_k, repeat_last_n, resume_idx;
    float temperature, top_p, min_p, typical_p, repeat_penalty, frequency_penalty, presence_penalty;
    uint64_t seed;
    uint16_t n_logprobs, n_prompt_logprobs;
    const struct ingle_stop *stops;
    const int32_t *stop_ids;
    const struct ingle_bias *biases;
    uint32_t n_stops, n_stop_ids, n_biases;
};
/* Fill with the defaults (temperature 0, top_p 1, every filter off). */
INGLE_API void ingle_generate_init(struct ingle_generate *g);

enum ingle_event_kind {
    INGLE_EVENT_TOKEN,
    INGLE_EVENT_COMPLETION
};
struct ingle_event_info {
    enum ingle_event_kind kind;
    uint64_t user_data;
    /* TOKEN */
    int32_t token;
    uint32_t index, flags; /* flags: INGLE_TOK_F_* of shm/layout.h */
    float logprob;
    uint32_t t_us;
    const char *text; /* valid until the next ingle_next; never split inside a code point */
    uint32_t text_bytes;
    /* COMPLETION */
    int32_t res;
    uint32_t cqe_flags; /* INGLE_CQE_F_* */
    uint64_t ctx;
    uint32_t n_prompt, n_cached;
};

INGLE_API int ingle_submit(struct ingle_client *client, const struct ingle_generate *g);
INGLE_API int ingle_append(struct ingle_client *client, const struct ingle_generate *g);
INGLE_API int ingle_embed(struct ingle_client *client, const struct ingle_generate *g);
INGLE_API int ingle_tokenize(struct ingle_client *client, const struct ingle_generate *g);
INGLE_API int ingle_detokenize(struct ingle_client *client, const struct ingle_generate *g);
INGLE_API int ingle_template(struct ingle_client *client, const struct ingle_generate *g);
INGLE_API int ingle_nop(struct ingle_client *client, uint64_t user_data);
INGLE_API int ingle_cancel(struct ingle_client *client, uint64_t user_data,
                           uint64_t cancel_user_data);
INGLE_API int ingle_ctx_fork(struct ingle_client *client, uint64_t ctx, uint64_t user_data);
INGLE_API int ingle_ctx_close(struct ingle_client *client, uint64_t ctx, uint64_t user_data);

/* The next event: 1 and *ret filled, 0 none now, -errno (-EPIPE: the runtime is gone). */
INGLE_API int ingle_next(struct ingle_client *client, struct ingle_event_info *ret);
/* Sleep until ingle_next has something: 1, 0 on timeout, -errno. timeout_ms < 0: for ever. */
INGLE_API int ingle_wait(struct ingle_client *client, int timeout_ms);

/* Capability tokens, as text "ctx1_<base64url>" of at most INGLE_TOKEN_TEXT bytes with its NUL. */
#define INGLE_TOKEN_TEXT 64
INGLE_API int ingle_ctx_export(struct ingle_client *client, uint64_t ctx, uint32_t ttl_s,
                               uint32_t uses, char ret_token[INGLE_TOKEN_TEXT]);
INGLE_API int ingle_ctx_import(struct ingle_client *client, const char *token, uint64_t *ret_ctx,
                               uint32_t *ret_tokens);
INGLE_API int ingle_ctx_revoke(struct ingle_client *client, const char *token);

/* One administrative request, JSON in, JSON out (docs/PROTOCOL.md lists the verbs). progress is
 * called with whole JSON objects while the runtime works; NULL allowed. reply is NUL-terminated;
 * -ENOBUFS when it is too small. */
INGLE_API int ingle_admin(struct ingle_client *client, const char *request, char *reply,
                          size_t reply_bytes, void (*progress)(void *arg, const char *json),
                          void *arg);

INGLE_API const char *ingle_version(void);

#ifdef __cplusplus
}
#endif
#endif
