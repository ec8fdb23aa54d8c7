/* The only door to malloc inside runtime/. Every allocation is counted, by thread class, so that a
 * test can prove that the step thread allocates nothing after ready. */
#ifndef INGLE_RUNTIME_BASE_MEM_H
#define INGLE_RUNTIME_BASE_MEM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/error.h"

/* Zeroed memory, or NULL. Any thread but step after ready. */
void *ingle_mem_alloc(uint64_t bytes);
void *ingle_mem_array(uint64_t n, uint64_t item_bytes); /* NULL on overflow too */
void *ingle_mem_grow(void *old, uint64_t n_old, uint64_t n_new,
                     uint64_t item_bytes); /* NULL: old stays valid */
char *ingle_mem_strdup(const char *text);
void ingle_mem_free(void *p);
/* Zeroed, 64-byte (and, from 4 KiB on, page) aligned memory straight from mmap; freed by its bytes.
 */
void *ingle_mem_map(uint64_t bytes);
/* The same on pages of 2 MiB where the kernel gives them: for what is read whole, over and over.
 * One core of a Zen 4 machine read 23 GB/s from them and 17 GB/s from pages of 4 KiB. */
void *ingle_mem_map_huge(uint64_t bytes);
/* Have the kernel give the pages of mapped memory now rather than at their first write, which takes
 * it 1 to 4 ms for 2 MiB in a virtual machine; what they hold stays. Others may use the memory
 * meanwhile. False: it cannot. */
bool ingle_mem_populate(void *p, uint64_t bytes);
void ingle_mem_unmap(void *p, uint64_t bytes);

/* Mark the calling thread as the step thread: from now on its calls are counted apart. */
void ingle_mem_watch_thread(void);
uint64_t ingle_mem_watched_calls(void);

#endif
