/* The contract between ingled and its clients: every byte that both processes compile.
 *
 * Fixed width, little endian (checked in HELLO), offsets instead of pointers, free-running u32
 * indices. Each cache line has one writer process. The client writes the C2S region, the runtime
 * the S2C region; each maps the other's region read-only, so the MMU enforces the rule.
 * docs/PROTOCOL.md explains the reasons. The static assertions hold for x86-64, i386 and aarch64.
 */
#ifndef INGLE_SHM_LAYOUT_H
#define INGLE_SHM_LAYOUT_H
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define INGLE_STATIC_ASSERT(cond, text) static_assert(cond, text)
#else
#define INGLE_STATIC_ASSERT(cond, text) _Static_assert(cond, text)
#endif
#define INGLE_AT(type, field, off) \
    INGLE_STATIC_ASSERT(offsetof(struct type, field) == (off), #type "." #field)
#define INGLE_SIZE(type, n) INGLE_STATIC_ASSERT(sizeof(struct type) == (n), #type)

typedef uint64_t ingle_u64 __attribute__((aligned(8))); /* i386 would align it to 4 */

#define INGLE_MAGIC         0x4c474e49u /* the bytes 'I' 'N' 'G' 'L' in memory */
#define INGLE_BELL_MAGIC    0x4c4c4542u /* the bytes 'B' 'E' 'L' 'L' */
#define INGLE_ENDIAN_TAG    0x01020304u
#define INGLE_PROTO_VER     1u
#define INGLE_CTL_BYTES_MAX 4096u
#define INGLE_RING_PAGE     0x1000u

/* ---- control socket: one header, one payload, one SEQPACKET datagram ------------------------ */

enum ingle_ctl_type {
    INGLE_CTL_HELLO = 1,   /* C->S ingle_ctl_hello                                   */
    INGLE_CTL_WELCOME,     /* S->C ingle_ctl_welcome + fds {c2s, s2c, submit eventfd} */
    INGLE_CTL_READY,       /* C->S ingle_ctl_ready + SCM_CREDENTIALS                 */
    INGLE_CTL_LIVE,        /* S->C header only: the rings are open                   */
    INGLE_CTL_REJECT,      /* S->C ingle_ctl_reject                                  */
    INGLE_CTL_PING,        /* both, header only                                      */
    INGLE_CTL_PONG,        /* both, header only                                      */
    INGLE_CTL_GOODBYE,     /* both, header only: orderly end                         */
    INGLE_CTL_CTX_EXPORT,  /* C->S ingle_ctl_ctx                                     */
    INGLE_CTL_CTX_IMPORT,  /* C->S ingle_ctl_ctx                                     */
    INGLE_CTL_CTX_REVOKE,  /* C->S ingle_ctl_ctx                                     */
    INGLE_CTL_CTX_REPLY,   /* S->C ingle_ctl_ctx, same seq as the request            */
    INGLE_CTL_ADMIN,       /* C->S UTF-8 JSON object {"verb":..., ...}               */
    INGLE_CTL_ADMIN_REPLY, /* S->C UTF-8 JSON, same seq; flag MORE = next part follows */
    INGLE_CTL_TYPE_END
};
#define INGLE_CTL_F_MORE 1u /* ADMIN_REPLY: another datagram of the same reply follows        */
#define INGLE_CTL_F_PROGRESS \
    2u /* ADMIN_REPLY: a whole JSON progress object, not part of the reply */

enum ingle_reject_code {
    INGLE_REJECT_VERSION = 1,
    INGLE_REJECT_ENDIAN,
    INGLE_REJECT_MALFORMED,
    INGLE_REJECT_TOO_MANY,
    INGLE_REJECT_NO_MEMORY,
    INGLE_REJECT_DRAINING,
    INGLE_REJECT_PROTOCOL, /* a protocol violation on a live session: last words before the close */
    INGLE_REJECT_DENIED
};

struct ingle_ctl_hdr {
    uint32_t magic;
    uint16_t type, flags;
    uint32_t payload_bytes, n_fds;
    ingle_u64 seq, epoch;
};
INGLE_SIZE(ingle_ctl_hdr, 32);
INGLE_AT(ingle_ctl_hdr, epoch, 24);

struct ingle_ctl_hello {
    struct ingle_ctl_hdr h;
    uint16_t ver_min, ver_max;
    uint32_t endian;
    ingle_u64 feat_want, feat_need;
    uint32_t sq_log2, cq_log2, tk_log2, arena_log2; /* 0 = the runtime's default */
    ingle_u64 last_epoch;
    uint8_t resume[32]; /* zero = a new session */
    uint8_t name[32];   /* of the program, for people; NUL padded */
    uint8_t label[32];  /* subdivides the connecting uid's own tenant; NUL padded */
    uint8_t rsv[16];
};
INGLE_SIZE(ingle_ctl_hello, 192);
INGLE_AT(ingle_ctl_hello, resume, 80);

struct ingle_ctl_welcome {
    struct ingle_ctl_hdr h;
    uint16_t ver;
    uint8_t sqe_bytes, cqe_bytes, tok_bytes, rsv0[3];
    ingle_u64 feat;
    uint32_t client_id, tenant_id;
    ingle_u64 nonce;
    uint32_t c2s_bytes, s2c_bytes;
    uint32_t sq_off, sq_n, cq_off, cq_n, tk_off, tk_n, arena_off, arena_bytes, text_off, text_bytes;
    uint32_t wake_hz, max_inflight;
    uint8_t resume[32];
    uint8_t rsv[8];
};
INGLE_SIZE(ingle_ctl_welcome, 160);
INGLE_AT(ingle_ctl_welcome, nonce, 56);
INGLE_AT(ingle_ctl_welcome, sq_off, 72);

struct ingle_ctl_ready {
    struct ingle_ctl_hdr h;
    ingle_u64 nonce;
};
INGLE_SIZE(ingle_ctl_ready, 40);

struct ingle_ctl_reject {
    struct ingle_ctl_hdr h;
    uint32_t code, rsv;
    uint8_t text[120]; /* UTF-8, NUL padded: what, why, what to do */
};
INGLE_SIZE(ingle_ctl_reject, 160);

#define INGLE_CTX_RIGHT_FORK   1u
#define INGLE_CTX_RIGHT_APPEND 2u
struct ingle_ctl_ctx {
    struct ingle_ctl_hdr h;
    ingle_u64 ctx;     /* EXPORT: which; REPLY to IMPORT: the receiver's new id */
    uint8_t token[32]; /* IMPORT, REVOKE: which; REPLY to EXPORT: the capability */
    uint32_t rights;   /* INGLE_CTX_RIGHT_* */
    uint32_t ttl_s;    /* 0 = until revoked or its owner leaves */
    uint32_t uses;     /* 0 = any number of imports */
    int32_t res;       /* REPLY: 0 or -errno */
    uint32_t n_tokens; /* REPLY: tokens in the context */
    uint32_t rsv[3];
};
INGLE_SIZE(ingle_ctl_ctx, 104);

struct ingle_bell { /* S->C, 8 bytes, no header: something is in a ring */
    uint32_t magic, bits;
};
INGLE_SIZE(ingle_bell, 8);

/* ---- region C2S: client maps read-write, runtime PROT_READ ---------------------------------- */
#define INGLE_PAD(n, bytes) uint8_t pad##n[bytes]
#define INGLE_WAKE_FUTEX    1u
#define INGLE_WAKE_BELL     2u

struct ingle_c2s_ctl {
    uint32_t sq_tail;
    INGLE_PAD(0, 124); /* 0x000 store seq_cst, then load flags seq_cst */
    uint32_t cq_head;
    INGLE_PAD(1, 124); /* 0x080 release */
    uint32_t tk_head;
    INGLE_PAD(2, 124); /* 0x100 release; also frees the records' text */
    uint32_t need_wake;
    INGLE_PAD(3, 124); /* 0x180 INGLE_WAKE_* */
    ingle_u64 beat_ns;
    uint32_t state;
    INGLE_PAD(4, 116); /* 0x200 diagnosis only */
    INGLE_PAD(5, 0x1000 - 0x280);
};
INGLE_SIZE(ingle_c2s_ctl, 0x1000);
INGLE_AT(ingle_c2s_ctl, cq_head, 0x80);
INGLE_AT(ingle_c2s_ctl, tk_head, 0x100);
INGLE_AT(ingle_c2s_ctl, need_wake, 0x180);
INGLE_AT(ingle_c2s_ctl, beat_ns, 0x200);

/* ---- region S2C: runtime maps read-write, client PROT_READ (F_SEAL_FUTURE_WRITE) ------------- */
#define INGLE_S2C_SQ_NEED_WAKEUP 1u
#define INGLE_S2C_DRAINING       2u
#define INGLE_S2C_PAUSED         4u

struct ingle_s2c_ctl {
    uint32_t magic;
    uint16_t ver, hdr_bytes;
    ingle_u64 epoch, feat;
    uint32_t client_id, tenant_id;
    INGLE_PAD(r, 96); /* 0x000 immutable; magic stored last */
    uint32_t sq_head;
    INGLE_PAD(0, 124); /* 0x080 */
    uint32_t cq_tail;
    INGLE_PAD(1, 124); /* 0x100 */
    uint32_t tk_tail;
    INGLE_PAD(2, 124); /* 0x180 */
    uint32_t flags, sq_bad, cq_stall, tk_stall;
    INGLE_PAD(3, 112); /* 0x200 INGLE_S2C_* */
    uint32_t wake_seq;
    INGLE_PAD(4, 124); /* 0x280 futex word */
    ingle_u64 beat_ns;
    uint32_t load_pct, queue_hint;
    INGLE_PAD(5, 112); /* 0x300 quantised to 1/8 */
    INGLE_PAD(6, 0x1000 - 0x380);
};
INGLE_SIZE(ingle_s2c_ctl, 0x1000);
INGLE_AT(ingle_s2c_ctl, sq_head, 0x80);
INGLE_AT(ingle_s2c_ctl, cq_tail, 0x100);
INGLE_AT(ingle_s2c_ctl, tk_tail, 0x180);
INGLE_AT(ingle_s2c_ctl, flags, 0x200);
INGLE_AT(ingle_s2c_ctl, wake_seq, 0x280);
INGLE_AT(ingle_s2c_ctl, beat_ns, 0x300);

/* ---- ring entries ---------------------------------------------------------------------------- */
enum ingle_op_code {
    INGLE_OP_NOP = 0,
    INGLE_OP_GENERATE, /* payload appended to ctx (0 = a new one), then tokens are generated      */
    INGLE_OP_APPEND,   /* payload appended to ctx, nothing generated                              */
    INGLE_OP_FORK_CTX, /* FINAL.ctx is a copy-on-write copy of ctx                                */
    INGLE_OP_CLOSE_CTX,
    INGLE_OP_CANCEL, /* arg = user_data of the request to end                                   */
    INGLE_OP_EMBED,  /* the final hidden state, mean over tokens, L2-normalised: text ring, f32  */
    INGLE_OP_TOKENIZE, /* payload text -> one TOK record per id, no text                          */
    INGLE_OP_DETOKENIZE, /* payload ids -> TOK records whose text, joined, is the answer */
    INGLE_OP_TEMPLATE, /* payload CHAT -> TOK records whose text, joined, is the rendered prompt  */
    INGLE_OP_END
};

enum ingle_payload {        /* sqe.flags, low two bits */
    INGLE_PAYLOAD_TEXT = 0, /* UTF-8                                                              */
    INGLE_PAYLOAD_IDS = 1,  /* int32 little endian token ids                                      */
    INGLE_PAYLOAD_CHAT =
        2, /* UTF-8 JSON {"messages":[...], "tools":[...], "add_generation_prompt":bool} */
};
#define INGLE_SQE_F_PAYLOAD_MASK 3u
#define INGLE_SQE_F_KEEP_CTX     4u /* ctx = 0: keep the new context, FINAL.ctx names it */
#define INGLE_SQE_F_NO_SPECIAL \
    8u                         /* TEXT: control tokens in the text are read as plain text       */
#define INGLE_SQE_F_NO_BOS 16u /* TEXT: no BOS even where the model asks for one                */
#define INGLE_SQE_F_LATEST 32u /* a full token ring cancels this request instead of parking it  */
#define INGLE_SQE_F_ALL    63u

struct ingle_sqe {
    uint8_t op, flags;
    uint16_t prio;
    uint32_t max_tokens;
    ingle_u64 user_data, ctx, arg; /* arg: cancel target, or deadline in ns */
    uint32_t off, payload_bytes;   /* payload in the arena */
    uint32_t par_off;              /* struct ingle_params in the arena */
    uint16_t par_bytes,
        model; /* par_bytes 0 = defaults; model: slot from ADMIN open, 0 = default */
    ingle_u64 idem;
    uint32_t resume_idx, rsv; /* resume_idx: records below it are not published again */
};
INGLE_SIZE(ingle_sqe, 64);
INGLE_AT(ingle_sqe, user_data, 8);
INGLE_AT(ingle_sqe, ctx, 16);
INGLE_AT(ingle_sqe, arg, 24);
INGLE_AT(ingle_sqe, off, 32);
INGLE_AT(ingle_sqe, par_off, 40);
INGLE_AT(ingle_sqe, par_bytes, 44);
INGLE_AT(ingle_sqe, idem, 48);
INGLE_AT(ingle_sqe, resume_idx, 56);

#define INGLE_CQE_F_ACCEPTED \
    1u                       /* payload copied, its arena block is free again; n_prompt is set    */
#define INGLE_CQE_F_FINAL 2u /* the last word about user_data */
#define INGLE_CQE_F_TRUNC 4u /* ended at max_tokens or at the end of the context */
struct ingle_cqe {
    ingle_u64 user_data;
    int32_t res;    /* >= 0, or -errno. FINAL of GENERATE: tokens generated                       */
    uint32_t flags; /* INGLE_CQE_F_*                                                              */
    ingle_u64 ctx;
    uint32_t n_prompt; /* tokens of the payload; with res -E2BIG: what the prompt has */
    uint32_t n_cached; /* FINAL: of these, reused bit for bit; with res -E2BIG: what the context
                          has; with res -EILSEQ: byte offset of the invalid UTF-8 */
};
INGLE_SIZE(ingle_cqe, 32);
INGLE_AT(ingle_cqe, ctx, 16);

#define INGLE_TOK_F_LAST 1u /* last record of the request */
#define INGLE_TOK_F_STOP 2u /* with LAST: ended by a stop id, stop string or end-of-text */
#define INGLE_TOK_F_ALT \
    4u /* an alternative to the chosen token of the same index, likeliest first */
#define INGLE_TOK_F_PROMPT \
    8u /* a token of the prompt; logprob given all before it (index 0: 0)    */
#define INGLE_TOK_F_LENGTH \
    16u                     /* with LAST: ended at max_tokens or at the end of the context        */
#define INGLE_TOK_F_CUT 32u /* with LAST: cancelled or failed; the CQE says which */
struct ingle_tok {
    ingle_u64 user_data;
    uint32_t token, index; /* index is dense within a request; ALT repeats its token's index */
    uint32_t text_off; /* free-running offset into the text ring, mod text_bytes                 */
    uint16_t text_len, flags;
    float logprob;
    uint32_t t_us; /* since ACCEPTED */
};
INGLE_SIZE(ingle_tok, 32);
INGLE_AT(ingle_tok, text_off, 16);
INGLE_AT(ingle_tok, logprob, 24);

/* ---- parameter block ------------------------------------------------------------------------- */
#define INGLE_PAR_F_IGNORE_EOS 1u
#define INGLE_PAR_F_ALL        1u
#define INGLE_STOP_N_MAX       16u
#define INGLE_STOP_BYTES_MAX   64u
#define INGLE_STOP_ID_N_MAX    32u
#define INGLE_BIAS_N_MAX       64u
#define INGLE_LOGPROBS_MAX     64u
struct ingle_params {
    uint16_t ver, rsv0;                        /* 1, 0 */
    uint32_t flags;                            /* INGLE_PAR_F_* */
    float temperature;                         /* 0..100; 0 = argmax, lowest id on a tie */
    float top_p;                               /* 0 < p <= 1; 1 = off */
    float min_p;                               /* 0 <= p < 1; 0 = off */
    float typical_p;                           /* 0 < p <= 1; 1 = off */
    float repeat_penalty;                      /* 0 < p <= 100; 1 = off */
    float frequency_penalty, presence_penalty; /* -100..100; 0 = off */
    uint32_t top_k;                            /* 0 = off */
    uint32_t repeat_last_n;                    /* window of the three penalties, tokens */
    uint32_t min_tokens;
    ingle_u64 seed;
    uint16_t n_logprobs;        /* GENERATE: alternatives per token; INGLE_LOGPROBS_MAX at most */
    uint16_t n_prompt_logprobs; /* 0 = no records for the prompt; n = its tokens and n - 1
                                   alternatives */
    uint16_t n_stop, n_stop_ids, n_bias, rsv1;
    uint32_t rsv2;
    /* then n_stop x { uint16_t bytes; char text[bytes] }, padded to 4; n_stop_ids x int32_t;
     * n_bias x { int32_t id; float bias } */
};
INGLE_SIZE(ingle_params, 72);
INGLE_AT(ingle_params, seed, 48);

#endif
