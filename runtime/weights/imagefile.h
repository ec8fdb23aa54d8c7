/* The packed image kept as a file, so that a model is packed once and read straight into memory
 * afterwards. All numbers little endian:
 *
 *   0            struct ingle_imagefile_head
 *   64           [n_items] struct ingle_imagefile_entry, in the order of the image
 *   head_bytes   the image, byte for byte what kernels read; its slots are 4 KiB-aligned
 *
 * head_bytes and image_bytes are multiples of 4096, so both ends take O_DIRECT. The reader knows
 * beforehand what the header must be (the GGUF header says which tensors go where) and takes
 * nothing from the file but the hashes: a file that is cut, damaged, of another source, version,
 * layout or CPU class differs, and is then made anew from the GGUF file. XXH3 finds damage, not
 * malice: who can write here can write the model.
 *
 * Written to NAME.part under a lock, a block a call, header last, fsync, rename. Thread: load. */
#ifndef INGLE_RUNTIME_WEIGHTS_IMAGEFILE_H
#define INGLE_RUNTIME_WEIGHTS_IMAGEFILE_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/error.h"
#include "runtime/weights/image.h"

#define INGLE_IMAGEFILE_MAGIC       "INGLEIMG"
#define INGLE_IMAGEFILE_VERSION     1u
#define INGLE_IMAGEFILE_UNUSED_DAYS 90u

struct ingle_imagefile_head {
    char magic[8];
    uint32_t version;
    uint32_t layout, cpu_class; /* of kernels/pack.h */
    uint32_t n_items;
    uint64_t head_bytes, image_bytes;
    uint8_t source[16]; /* ingle_gguf_hash() */
    uint64_t hash;      /* XXH3-64 of head_bytes, this field taken as 0 */
};
_Static_assert(sizeof(struct ingle_imagefile_head) == 64, "the format of version 1");

struct ingle_imagefile_entry {
    uint64_t off, bytes;         /* in the image */
    uint64_t src_off, src_bytes; /* in the GGUF file */
    uint32_t type;               /* enum ingle_wtype */
    uint32_t vector;             /* 1: f32 of one row */
    uint32_t cols, rows;
    uint64_t order_hash; /* XXH3-64 of the order of its rows (u32 each); 0: as in the file */
    uint64_t hash;       /* XXH3-64 of its bytes in the image */
};
_Static_assert(sizeof(struct ingle_imagefile_entry) == 64, "the format of version 1");

struct ingle_imagefile; /* opaque: one file, there or to be written */

/* The path of the image of a GGUF file: -ENAMETOOLONG. */
int ingle_imagefile_path(const struct ingle_image_home *home, const char *gguf_path,
                         const uint8_t source[16], char *ret, uint64_t bytes) INGLE_MUST_CHECK;

/* What the file at path, of ingle_imagefile_path(), has to be for these items (laid out); source:
 * ingle_gguf_hash(). NULL: no memory. */
struct ingle_imagefile *ingle_imagefile_create(const char *path, const uint8_t source[16],
                                               const struct ingle_image_item *items,
                                               uint32_t n_items);
/* NULL allowed. Removes what was begun and not finished. */
void ingle_imagefile_free(struct ingle_imagefile *file);
const char *ingle_imagefile_shown(const struct ingle_imagefile *file);

/* Is this the header that the file must have? file_bytes: of the whole file. NULL: yes, and its
 * hashes are now the file's; otherwise why not. */
const char *ingle_imagefile_check(struct ingle_imagefile *file, const void *bytes, uint64_t n_bytes,
                                  uint64_t file_bytes);

enum ingle_imagefile_outcome {
    INGLE_IMAGEFILE_ABSENT = 1,
    INGLE_IMAGEFILE_UNUSABLE, /* err says why; the file is removed, base may hold anything */
    INGLE_IMAGEFILE_MORE,
};

/* Read the image to base, checking every hash. Returns 0, an outcome, or -ECANCELED. */
int ingle_imagefile_read(struct ingle_imagefile *file, uint8_t *base,
                         const struct ingle_image_load *load,
                         struct ingle_error *err) INGLE_MUST_CHECK;

/* Write the image at base: some milliseconds of it. Returns MORE, 0 when the file is there, or
 * -errno; then it is over. */
int ingle_imagefile_write(struct ingle_imagefile *file, const uint8_t *base,
                          struct ingle_error *err) INGLE_MUST_CHECK;

#endif
