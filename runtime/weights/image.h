/* The packed image of one model in memory: every tensor in the form that kernels read, one
 * contiguous blob per slot (a layer; or what belongs to no layer), each 4 KiB-aligned. The window
 * over the stream is as large as the model: every slot stays. Immutable after load. It comes packed
 * from the GGUF file, or as it is from the file that an earlier load kept (imagefile.h). Thread:
 * load. */
#ifndef INGLE_RUNTIME_WEIGHTS_IMAGE_H
#define INGLE_RUNTIME_WEIGHTS_IMAGE_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/error.h"
#include "runtime/weights/gguf.h"

/* One tensor and its place. */
struct ingle_image_item {
    const struct ingle_gguf_tensor *src; /* lives as long as the gguf */
    uint32_t slot;
    bool vector; /* one row, kept as f32; otherwise a packed matrix */
    /* Where source row i (of a vector: element i) goes; NULL: stays. Borrowed for the load. */
    const uint32_t *dst_rows;
    uint64_t off, bytes; /* set by ingle_image_layout() */
};

/* Give each item its place, in the order given; slots must ascend. Returns the image's bytes. */
uint64_t ingle_image_layout(struct ingle_image_item *items, uint32_t n_items);

/* The bytes that they take together. */
uint64_t ingle_image_bytes(const struct ingle_image_item *items, uint32_t n_items);

/* Where images are kept as files. Absolute, without a slash at the end. */
struct ingle_image_home {
    const char *models; /* Ingle's own models: each image lies beside its model */
    const char *cache;  /* the images of other programs' files */
};

struct ingle_image_load {
    const struct ingle_gguf *gguf;
    const struct ingle_image_item *items; /* laid out; borrowed for the load */
    uint32_t n_items;
    const struct ingle_image_home *home; /* NULL: images are neither read nor kept */
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes); /* or NULL */
    void *progress_arg;
    const _Atomic bool *cancel; /* or NULL */
};

struct ingle_image; /* opaque */

/* Read all items: from the kept image where there is a good one, otherwise read and pack. A kept
 * image that cannot be used costs a line in the log. Errors are those of the stream, and BAD_MODEL
 * naming the tensor, row and byte where a scale or value is NaN or infinite. */
int ingle_image_load(const struct ingle_image_load *load, struct ingle_image **ret,
                     struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_image_free(struct ingle_image *image); /* NULL allowed */
/* Keep it as a file, if it is not yet: some milliseconds of that work. True: there is more, call
 * again. What goes wrong is logged and no error of anybody's: the next load packs again. load. */
bool ingle_image_keep(struct ingle_image *image);
/* Borrowed until free. */
const uint8_t *ingle_image_at(const struct ingle_image *image, const struct ingle_image_item *item);

#endif
