/* Owns the size of activation rows. */
#include "kernels/act.h"

uint64_t ingle_act_row_bytes(enum ingle_act_mode mode, uint32_t cols)
{
    uint64_t bytes = mode == INGLE_ACT_F32 ? cols * sizeof(float) /* its last group may be short */
                                           : ingle_act_groups(cols) * ingle_act_group_bytes(mode);
    return (bytes + 63) / 64 * 64;
}
