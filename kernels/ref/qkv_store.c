/* ref/qkv_store.h, compiled for any machine. */
#include "kernels/ref/qkv_store.h"

#include "kernels/isa.h"

void ingle_qkv_store_ref(const struct ingle_op *op, const struct ingle_worker *worker)
{
    ingle_qkv_store(op, worker);
}
