/* ref/kv_seal.h, compiled for any machine. */
#include "kernels/ref/kv_seal.h"

#include "kernels/isa.h"

void ingle_kv_seal_ref(const struct ingle_op *op, const struct ingle_worker *worker)
{
    ingle_kv_seal(op, worker);
}
