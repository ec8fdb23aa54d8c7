/* ref/qkv_store.h, compiled for avx2. */
#include "kernels/isa.h"
#include "kernels/ref/qkv_store.h"

void ingle_qkv_store_avx2(const struct ingle_op *op, const struct ingle_worker *worker)
{
    ingle_qkv_store(op, worker);
}
