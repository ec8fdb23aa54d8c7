/* The bytes of shm/layout.h against layout.golden: every field's offset and size, and every number
 * that both sides must mean the same by. A line that changes is a new protocol version, or a bug.
 * Usage: test_layout layout.golden; with --print the present layout goes to stdout instead. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "shm/layout.h"

#define SIZE(s) .name = #s, .bytes = sizeof(struct s)
#define FIELD(s, f) \
    .name = #s "." #f, .off = offsetof(struct s, f), .bytes = sizeof(((struct s *)0)->f)
#define NUMBER(n) .name = #n, .value = (n)

static const struct {
    const char *name;
    size_t bytes;
} sizes[] = {
    {SIZE(ingle_ctl_hdr)},   {SIZE(ingle_ctl_hello)},  {SIZE(ingle_ctl_welcome)},
    {SIZE(ingle_ctl_ready)}, {SIZE(ingle_ctl_reject)}, {SIZE(ingle_ctl_ctx)},
    {SIZE(ingle_bell)},      {SIZE(ingle_c2s_ctl)},    {SIZE(ingle_s2c_ctl)},
    {SIZE(ingle_sqe)},       {SIZE(ingle_cqe)},        {SIZE(ingle_tok)},
    {SIZE(ingle_params)},
};

static const struct {
    const char *name;
    size_t off, bytes;
} fields[] = {
    {FIELD(ingle_ctl_hdr, magic)},
    {FIELD(ingle_ctl_hdr, type)},
    {FIELD(ingle_ctl_hdr, flags)},
    {FIELD(ingle_ctl_hdr, payload_bytes)},
    {FIELD(ingle_ctl_hdr, n_fds)},
    {FIELD(ingle_ctl_hdr, seq)},
    {FIELD(ingle_ctl_hdr, epoch)},
    {FIELD(ingle_ctl_hello, ver_min)},
    {FIELD(ingle_ctl_hello, ver_max)},
    {FIELD(ingle_ctl_hello, endian)},
    {FIELD(ingle_ctl_hello, feat_want)},
    {FIELD(ingle_ctl_hello, feat_need)},
    {FIELD(ingle_ctl_hello, sq_log2)},
    {FIELD(ingle_ctl_hello, cq_log2)},
    {FIELD(ingle_ctl_hello, tk_log2)},
    {FIELD(ingle_ctl_hello, arena_log2)},
    {FIELD(ingle_ctl_hello, last_epoch)},
    {FIELD(ingle_ctl_hello, resume)},
    {FIELD(ingle_ctl_hello, name)},
    {FIELD(ingle_ctl_hello, label)},
    {FIELD(ingle_ctl_hello, rsv)},
    {FIELD(ingle_ctl_welcome, ver)},
    {FIELD(ingle_ctl_welcome, sqe_bytes)},
    {FIELD(ingle_ctl_welcome, cqe_bytes)},
    {FIELD(ingle_ctl_welcome, tok_bytes)},
    {FIELD(ingle_ctl_welcome, feat)},
    {FIELD(ingle_ctl_welcome, client_id)},
    {FIELD(ingle_ctl_welcome, tenant_id)},
    {FIELD(ingle_ctl_welcome, nonce)},
    {FIELD(ingle_ctl_welcome, c2s_bytes)},
    {FIELD(ingle_ctl_welcome, s2c_bytes)},
    {FIELD(ingle_ctl_welcome, sq_off)},
    {FIELD(ingle_ctl_welcome, sq_n)},
    {FIELD(ingle_ctl_welcome, cq_off)},
    {FIELD(ingle_ctl_welcome, cq_n)},
    {FIELD(ingle_ctl_welcome, tk_off)},
    {FIELD(ingle_ctl_welcome, tk_n)},
    {FIELD(ingle_ctl_welcome, arena_off)},
    {FIELD(ingle_ctl_welcome, arena_bytes)},
    {FIELD(ingle_ctl_welcome, text_off)},
    {FIELD(ingle_ctl_welcome, text_bytes)},
    {FIELD(ingle_ctl_welcome, wake_hz)},
    {FIELD(ingle_ctl_welcome, max_inflight)},
    {FIELD(ingle_ctl_welcome, resume)},
    {FIELD(ingle_ctl_welcome, rsv)},
    {FIELD(ingle_ctl_ready, nonce)},
    {FIELD(ingle_ctl_reject, code)},
    {FIELD(ingle_ctl_reject, text)},
    {FIELD(ingle_ctl_ctx, ctx)},
    {FIELD(ingle_ctl_ctx, token)},
    {FIELD(ingle_ctl_ctx, rights)},
    {FIELD(ingle_ctl_ctx, ttl_s)},
    {FIELD(ingle_ctl_ctx, uses)},
    {FIELD(ingle_ctl_ctx, res)},
    {FIELD(ingle_ctl_ctx, n_tokens)},
    {FIELD(ingle_ctl_ctx, rsv)},
    {FIELD(ingle_bell, magic)},
    {FIELD(ingle_bell, bits)},
    {FIELD(ingle_c2s_ctl, sq_tail)},
    {FIELD(ingle_c2s_ctl, cq_head)},
    {FIELD(ingle_c2s_ctl, tk_head)},
    {FIELD(ingle_c2s_ctl, need_wake)},
    {FIELD(ingle_c2s_ctl, beat_ns)},
    {FIELD(ingle_c2s_ctl, state)},
    {FIELD(ingle_s2c_ctl, magic)},
    {FIELD(ingle_s2c_ctl, ver)},
    {FIELD(ingle_s2c_ctl, hdr_bytes)},
    {FIELD(ingle_s2c_ctl, epoch)},
    {FIELD(ingle_s2c_ctl, feat)},
    {FIELD(ingle_s2c_ctl, client_id)},
    {FIELD(ingle_s2c_ctl, tenant_id)},
    {FIELD(ingle_s2c_ctl, sq_head)},
    {FIELD(ingle_s2c_ctl, cq_tail)},
    {FIELD(ingle_s2c_ctl, tk_tail)},
    {FIELD(ingle_s2c_ctl, flags)},
    {FIELD(ingle_s2c_ctl, sq_bad)},
    {FIELD(ingle_s2c_ctl, cq_stall)},
    {FIELD(ingle_s2c_ctl, tk_stall)},
    {FIELD(ingle_s2c_ctl, wake_seq)},
    {FIELD(ingle_s2c_ctl, beat_ns)},
    {FIELD(ingle_s2c_ctl, load_pct)},
    {FIELD(ingle_s2c_ctl, queue_hint)},
    {FIELD(ingle_sqe, op)},
    {FIELD(ingle_sqe, flags)},
    {FIELD(ingle_sqe, prio)},
    {FIELD(ingle_sqe, max_tokens)},
    {FIELD(ingle_sqe, user_data)},
    {FIELD(ingle_sqe, ctx)},
    {FIELD(ingle_sqe, arg)},
    {FIELD(ingle_sqe, off)},
    {FIELD(ingle_sqe, payload_bytes)},
    {FIELD(ingle_sqe, par_off)},
    {FIELD(ingle_sqe, par_bytes)},
    {FIELD(ingle_sqe, model)},
    {FIELD(ingle_sqe, idem)},
    {FIELD(ingle_sqe, resume_idx)},
    {FIELD(ingle_sqe, rsv)},
    {FIELD(ingle_cqe, user_data)},
    {FIELD(ingle_cqe, res)},
    {FIELD(ingle_cqe, flags)},
    {FIELD(ingle_cqe, ctx)},
    {FIELD(ingle_cqe, n_prompt)},
    {FIELD(ingle_cqe, n_cached)},
    {FIELD(ingle_tok, user_data)},
    {FIELD(ingle_tok, token)},
    {FIELD(ingle_tok, index)},
    {FIELD(ingle_tok, text_off)},
    {FIELD(ingle_tok, text_len)},
    {FIELD(ingle_tok, flags)},
    {FIELD(ingle_tok, logprob)},
    {FIELD(ingle_tok, t_us)},
    {FIELD(ingle_params, ver)},
    {FIELD(ingle_params, flags)},
    {FIELD(ingle_params, temperature)},
    {FIELD(ingle_params, top_p)},
    {FIELD(ingle_params, min_p)},
    {FIELD(ingle_params, typical_p)},
    {FIELD(ingle_params, repeat_penalty)},
    {FIELD(ingle_params, frequency_penalty)},
    {FIELD(ingle_params, presence_penalty)},
    {FIELD(ingle_params, top_k)},
    {FIELD(ingle_params, repeat_last_n)},
    {FIELD(ingle_params, min_tokens)},
    {FIELD(ingle_params, seed)},
    {FIELD(ingle_params, n_logprobs)},
    {FIELD(ingle_params, n_prompt_logprobs)},
    {FIELD(ingle_params, n_stop)},
    {FIELD(ingle_params, n_stop_ids)},
    {FIELD(ingle_params, n_bias)},
};

static const struct {
    const char *name;
    uint32_t value;
} numbers[] = {
    {NUMBER(INGLE_MAGIC)},
    {NUMBER(INGLE_BELL_MAGIC)},
    {NUMBER(INGLE_ENDIAN_TAG)},
    {NUMBER(INGLE_PROTO_VER)},
    {NUMBER(INGLE_CTL_BYTES_MAX)},
    {NUMBER(INGLE_CTL_HELLO)},
    {NUMBER(INGLE_CTL_WELCOME)},
    {NUMBER(INGLE_CTL_READY)},
    {NUMBER(INGLE_CTL_LIVE)},
    {NUMBER(INGLE_CTL_REJECT)},
    {NUMBER(INGLE_CTL_PING)},
    {NUMBER(INGLE_CTL_PONG)},
    {NUMBER(INGLE_CTL_GOODBYE)},
    {NUMBER(INGLE_CTL_CTX_EXPORT)},
    {NUMBER(INGLE_CTL_CTX_IMPORT)},
    {NUMBER(INGLE_CTL_CTX_REVOKE)},
    {NUMBER(INGLE_CTL_CTX_REPLY)},
    {NUMBER(INGLE_CTL_ADMIN)},
    {NUMBER(INGLE_CTL_ADMIN_REPLY)},
    {NUMBER(INGLE_CTL_F_MORE)},
    {NUMBER(INGLE_CTL_F_PROGRESS)},
    {NUMBER(INGLE_REJECT_VERSION)},
    {NUMBER(INGLE_REJECT_ENDIAN)},
    {NUMBER(INGLE_REJECT_MALFORMED)},
    {NUMBER(INGLE_REJECT_TOO_MANY)},
    {NUMBER(INGLE_REJECT_NO_MEMORY)},
    {NUMBER(INGLE_REJECT_DRAINING)},
    {NUMBER(INGLE_REJECT_PROTOCOL)},
    {NUMBER(INGLE_REJECT_DENIED)},
    {NUMBER(INGLE_CTX_RIGHT_FORK)},
    {NUMBER(INGLE_CTX_RIGHT_APPEND)},
    {NUMBER(INGLE_WAKE_FUTEX)},
    {NUMBER(INGLE_WAKE_BELL)},
    {NUMBER(INGLE_S2C_SQ_NEED_WAKEUP)},
    {NUMBER(INGLE_S2C_DRAINING)},
    {NUMBER(INGLE_S2C_PAUSED)},
    {NUMBER(INGLE_OP_NOP)},
    {NUMBER(INGLE_OP_GENERATE)},
    {NUMBER(INGLE_OP_APPEND)},
    {NUMBER(INGLE_OP_FORK_CTX)},
    {NUMBER(INGLE_OP_CLOSE_CTX)},
    {NUMBER(INGLE_OP_CANCEL)},
    {NUMBER(INGLE_OP_EMBED)},
    {NUMBER(INGLE_OP_TOKENIZE)},
    {NUMBER(INGLE_OP_DETOKENIZE)},
    {NUMBER(INGLE_OP_TEMPLATE)},
    {NUMBER(INGLE_PAYLOAD_TEXT)},
    {NUMBER(INGLE_PAYLOAD_IDS)},
    {NUMBER(INGLE_PAYLOAD_CHAT)},
    {NUMBER(INGLE_SQE_F_PAYLOAD_MASK)},
    {NUMBER(INGLE_SQE_F_KEEP_CTX)},
    {NUMBER(INGLE_SQE_F_NO_SPECIAL)},
    {NUMBER(INGLE_SQE_F_NO_BOS)},
    {NUMBER(INGLE_SQE_F_LATEST)},
    {NUMBER(INGLE_CQE_F_ACCEPTED)},
    {NUMBER(INGLE_CQE_F_FINAL)},
    {NUMBER(INGLE_CQE_F_TRUNC)},
    {NUMBER(INGLE_TOK_F_LAST)},
    {NUMBER(INGLE_TOK_F_STOP)},
    {NUMBER(INGLE_TOK_F_ALT)},
    {NUMBER(INGLE_TOK_F_PROMPT)},
    {NUMBER(INGLE_TOK_F_LENGTH)},
    {NUMBER(INGLE_TOK_F_CUT)},
    {NUMBER(INGLE_PAR_F_IGNORE_EOS)},
    {NUMBER(INGLE_STOP_N_MAX)},
    {NUMBER(INGLE_STOP_BYTES_MAX)},
    {NUMBER(INGLE_STOP_ID_N_MAX)},
    {NUMBER(INGLE_BIAS_N_MAX)},
    {NUMBER(INGLE_LOGPROBS_MAX)},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void print_layout(FILE *to)
{
    for (size_t i = 0; i < COUNT(sizes); i++) {
        (void)fprintf(to, "%s %zu\n", sizes[i].name, sizes[i].bytes);
    }
    for (size_t i = 0; i < COUNT(fields); i++) {
        (void)fprintf(to, "%s %zu %zu\n", fields[i].name, fields[i].off, fields[i].bytes);
    }
    for (size_t i = 0; i < COUNT(numbers); i++) {
        (void)fprintf(to, "%s %#x\n", numbers[i].name, numbers[i].value);
    }
}

int main(int argc, char **argv)
{
    static char now[32768], golden[32768];
    FILE *f;
    size_t n;

    if (argc == 2 && strcmp(argv[1], "--print") == 0) {
        print_layout(stdout);
        return 0;
    }
    f = argc == 2 ? fopen(argv[1], "r") : NULL;
    if (f == NULL) {
        (void)fprintf(stderr, "usage: test_layout layout.golden | --print\n");
        return 2;
    }
    n = fread(golden, 1, sizeof golden - 1, f);
    golden[n] = '\0';
    (void)fclose(f);
    f = fmemopen(now, sizeof now, "w");
    print_layout(f);
    (void)fclose(f);
    for (char *a = now, *b = golden; *a != '\0' || *b != '\0';) {
        size_t a_bytes = strcspn(a, "\n"), b_bytes = strcspn(b, "\n");

        if (a_bytes != b_bytes || memcmp(a, b, a_bytes) != 0) {
            (void)fprintf(stderr, "layout is   %.*s\nand was     %.*s\n", (int)a_bytes, a,
                          (int)b_bytes, b);
            return 1;
        }
        a += a_bytes + (a[a_bytes] != '\0');
        b += b_bytes + (b[b_bytes] != '\0');
    }
    return 0;
}
