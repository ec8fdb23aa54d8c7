/* Any bytes as the header of a kept image. Each input is tried as it is, and with its hash set
 * right, so that what lies behind the hash is reached. Whatever passes must be what the writer
 * would have written, but for the hashes of the tensors. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "runtime/weights/imagefile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define HEAD_BYTES 4096u

static struct ingle_imagefile *expected(uint64_t *ret_file_bytes)
{
    static const uint32_t order[4] = {3, 2, 1, 0};
    static const uint8_t source[16] = "source of 16 by";
    static const struct ingle_gguf_tensor tensors[] = {
        {.type = INGLE_W_F32, .n_dims = 1, .dims = {32, 1}, .file_off = 1024, .bytes = 128},
        {.type = INGLE_W_Q8_0, .n_dims = 2, .dims = {32, 4}, .file_off = 1152, .bytes = 136},
    };
    struct ingle_image_item items[] = {
        {.src = &tensors[0], .vector = true},
        {.src = &tensors[1], .slot = 1, .dst_rows = order},
    };

    *ret_file_bytes = HEAD_BYTES + ingle_image_layout(items, 2);
    return ingle_imagefile_create("/images/m.gguf.00112233445566778899aabbccddeeff.image", source,
                                  items, 2);
}

static void try(const uint8_t *bytes, size_t n)
{
    uint64_t file_bytes;
    struct ingle_imagefile *file = expected(&file_bytes);
    const char *why;

    if (file == NULL) {
        abort();
    }
    why = ingle_imagefile_check(file, bytes, n, file_bytes);
    if (why != NULL ? why[0] == '\0' : n < HEAD_BYTES) {
        __builtin_trap();
    }
    if (why == NULL) {
        struct ingle_imagefile_entry entry;

        memcpy(&entry, bytes + sizeof(struct ingle_imagefile_head) + sizeof entry, sizeof entry);
        if (entry.off != 4096 || entry.src_off != 1152 || entry.rows != 4 ||
            entry.order_hash == 0) {
            __builtin_trap();
        }
    }
    ingle_imagefile_free(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    _Alignas(8) uint8_t bytes[HEAD_BYTES] = {0};
    uint64_t hash;

    try(data, n);
    memcpy(bytes, data, n < sizeof bytes ? n : sizeof bytes);
    memset(bytes + offsetof(struct ingle_imagefile_head, hash), 0, sizeof hash);
    hash = XXH3_64bits(bytes, sizeof bytes);
    memcpy(bytes + offsetof(struct ingle_imagefile_head, hash), &hash, sizeof hash);
    try(bytes, sizeof bytes);
    return 0;
}
