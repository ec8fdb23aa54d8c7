/* Where the processor is none that machine_x86.c knows. */
#include "tools/benchmark/machine_work.h"

machine_work_fn *machine_read_work(void)
{
    return NULL;
}

machine_work_fn *machine_int8_work(bool tiles, double *ret_products)
{
    (void)tiles;
    *ret_products = 0;
    return NULL;
}
