/* ref/kv_seal.h, compiled for avx2. */
#include "kernels/isa.h"
#include "kernels/ref/kv_seal.h"

void ingle_kv_seal_avx2(const struct ingle_op *op, const struct ingle_worker *worker)
{
    ingle_kv_seal(op, worker);
}
