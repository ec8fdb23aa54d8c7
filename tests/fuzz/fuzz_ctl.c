/* Control messages, both directions: any datagram through every check, and what a check lets pass
 * keeps its promises. Input: one byte of direction, then the datagram. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shm/check.h"
#include "shm/geometry.h"
#include "shm/proto.h"
#include "shm/region.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void hold(int promise)
{
    if (!promise) {
        abort();
    }
}

static void from_client(const uint8_t *msg, size_t bytes)
{
    struct ingle_ctl_hello hello;
    struct ingle_ctl_ready ready;
    struct ingle_ctl_ctx ctx;
    int res = ingle_check_hello(msg, bytes, &hello);

    hold(res >= 0 && res <= INGLE_REJECT_DENIED);
    if (res == 0) {
        struct ingle_ctl_welcome welcome = {.client_id = 1};

        hold(hello.name[31] == 0 && hello.label[31] == 0);
        ingle_geometry_plan(&hello, &welcome);
        hold(ingle_geometry_check(&welcome) == 0);
    }
    (void)!ingle_check_ready(msg, bytes, &ready);
    if (ingle_check_ctx(msg, bytes, &ctx) == 0) {
        hold(ctx.res == 0 && (ctx.h.type == INGLE_CTL_CTX_EXPORT) == (ctx.ctx != 0));
    }
}

static void from_runtime(const uint8_t *msg, size_t bytes)
{
    struct ingle_ctl_welcome w;
    struct ingle_ctl_reject reject;
    struct ingle_ctl_ctx ctx;

    if (ingle_check_welcome(msg, bytes, &w) == 0) {
        hold(ingle_range_ok(w.sq_off, (uint64_t)w.sq_n * 64, w.c2s_bytes));
        hold(ingle_range_ok(w.arena_off, w.arena_bytes, w.c2s_bytes));
        hold(ingle_range_ok(w.cq_off, (uint64_t)w.cq_n * 32, w.s2c_bytes));
        hold(ingle_range_ok(w.tk_off, (uint64_t)w.tk_n * 32, w.s2c_bytes));
        hold(ingle_range_ok(w.text_off, w.text_bytes, w.s2c_bytes));
        hold(w.sq_off >= 4096 && w.cq_off >= 4096);
    }
    if (ingle_check_reject(msg, bytes, &reject) == 0) {
        hold(strnlen((const char *)reject.text, sizeof reject.text) < sizeof reject.text);
    }
    if (ingle_check_ctx_reply(msg, bytes, &ctx) == 0) {
        hold(ctx.res <= 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    uint32_t from;
    struct ingle_ctl_hdr h;
    const char *text;
    size_t text_bytes;

    if (bytes == 0) {
        return 0;
    }
    from = (data[0] & 1) != 0 ? INGLE_FROM_CLIENT : INGLE_FROM_RUNTIME;
    data++, bytes--;
    if (ingle_check_hdr(data, bytes, from, &h) == 0) {
        hold(ingle_ctl_kind(h.type) != NULL && h.payload_bytes + sizeof h == bytes);
    }
    if (from == INGLE_FROM_CLIENT) {
        from_client(data, bytes);
    } else {
        from_runtime(data, bytes);
    }
    if (ingle_check_admin(data, bytes, from, &h, &text, &text_bytes) == 0) {
        hold(text == (const char *)data + 32 && text_bytes == bytes - 32);
        hold(memchr(text, 0, text_bytes) == NULL);
    }
    return 0;
}
