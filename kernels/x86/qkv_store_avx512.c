/* ref/qkv_store.h, compiled for avx512. */
#include "kernels/isa.h"
#include "kernels/ref/qkv_store.h"

void ingle_qkv_store_avx512(const struct ingle_op *op, const struct ingle_worker *worker)
{
    ingle_qkv_store(op, worker);
}
