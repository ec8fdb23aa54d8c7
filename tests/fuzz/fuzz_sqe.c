/* Submission entries and parameter blocks. Input: log2 of the arena (one byte), 64 bytes of entry,
 * the rest is a parameter block; what passes keeps its promises. */
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "shm/check.h"
#include "shm/region.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void hold(int promise)
{
    if (!promise) {
        abort();
    }
}

static void params(const uint8_t *block, size_t bytes)
{
    static struct ingle_params_view v;
    size_t used = sizeof v.p;

    if (ingle_check_params(block, bytes, &v) != 0) {
        return;
    }
    hold(bytes <= INGLE_PARAMS_BYTES_MAX);
    hold(isfinite(v.p.temperature) && v.p.temperature >= 0 && v.p.top_p > 0 && v.p.top_p <= 1);
    hold(v.p.min_p >= 0 && v.p.min_p < 1 && v.p.typical_p > 0 && v.p.typical_p <= 1);
    hold(v.p.repeat_penalty > 0 && isfinite(v.p.frequency_penalty + v.p.presence_penalty));
    hold(v.p.n_stop <= INGLE_STOP_N_MAX && v.p.n_stop_ids <= INGLE_STOP_ID_N_MAX &&
         v.p.n_bias <= INGLE_BIAS_N_MAX && v.p.n_logprobs <= INGLE_LOGPROBS_MAX);
    for (uint32_t i = 0; i < v.p.n_stop; i++) {
        hold(v.stops[i].bytes >= 1 && v.stops[i].bytes <= INGLE_STOP_BYTES_MAX);
        used += 2u + v.stops[i].bytes;
    }
    used = ((used + 3) & ~(size_t)3) + v.p.n_stop_ids * 4u + v.p.n_bias * 8u;
    hold(used == bytes);
    for (uint32_t i = 0; i < v.p.n_stop_ids; i++) {
        hold(v.stop_ids[i] >= 0);
    }
    for (uint32_t i = 0; i < v.p.n_bias; i++) {
        hold(v.biases[i].id >= 0 && isfinite(v.biases[i].bias));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct ingle_sqe sqe;
    uint32_t arena_bytes;
    int res;

    if (bytes < 1 + sizeof sqe) {
        return 0;
    }
    arena_bytes = 1u << (12 + data[0] % 13);
    memcpy(&sqe, data + 1, sizeof sqe);
    res = ingle_check_sqe(&sqe, arena_bytes);
    hold(res == 0 || res == -EPROTO || res == -EINVAL || res == -ENOSYS);
    if (res == 0) {
        hold(sqe.op < INGLE_OP_END && sqe.rsv == 0);
        hold(ingle_range_ok(sqe.off, sqe.payload_bytes, arena_bytes));
        hold(ingle_range_ok(sqe.par_off, sqe.par_bytes, arena_bytes));
        hold(sqe.par_bytes == 0 || sqe.par_bytes >= sizeof(struct ingle_params));
        hold((sqe.flags & 3) != INGLE_PAYLOAD_IDS || sqe.payload_bytes % 4 == 0);
    }
    params(data + 1 + sizeof sqe, bytes - 1 - sizeof sqe);
    return 0;
}
