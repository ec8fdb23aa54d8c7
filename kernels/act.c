/* Owns the size of activation rows. */
#include "kernels/act.h"

uint64_t ingle_act_row_bytes(enum ingle_act_mode mode, uint32_t cols)
{
    uint64_t groups = ingle_act_groups(cols), bytes;
    switch (mode) {
    case INGLE_ACT_INT8:
        bytes = groups * sizeof(struct ingle_act8);
        break;
    case INGLE_ACT_INT16:
        bytes = groups * sizeof(struct ingle_act16);
        break;
    case INGLE_ACT_F32:
    case INGLE_ACT_COUNT:
    default:
        bytes = (uint64_t)cols * sizeof(float);
        break;
    }
    return (bytes + 63) / 64 * 64;
}
