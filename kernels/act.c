/* Owns the size of activation rows and the names of their modes. */
#include "kernels/act.h"

static const char *const names[INGLE_ACT_COUNT] = {
    [INGLE_ACT_F32] = "32",
    [INGLE_ACT_INT8] = "8",
    [INGLE_ACT_INT16] = "16",
    [INGLE_ACT_BF16] = "bf16",
};

const char *ingle_act_mode_name(enum ingle_act_mode mode)
{
    assert(mode < INGLE_ACT_COUNT);
    return names[mode];
}

bool ingle_act_mode_find(const char *name, enum ingle_act_mode *ret)
{
    for (enum ingle_act_mode mode = 0; mode < INGLE_ACT_COUNT; mode++) {
        if (strcmp(name, names[mode]) == 0) {
            *ret = mode;
            return true;
        }
    }
    return false;
}

uint64_t ingle_act_row_bytes(enum ingle_act_mode mode, uint32_t cols)
{
    uint64_t bytes = mode == INGLE_ACT_F32 ? cols * sizeof(float) /* its last group may be short */
                                           : ingle_act_groups(cols) * ingle_act_group_bytes(mode);
    return (bytes + 63) / 64 * 64;
}
