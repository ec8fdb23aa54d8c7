/* Owns the memory of a packed image, and until it is kept its file. Rows are packed as they arrive
 * from the stream; only a row that is cut by two blocks is copied aside. Invariants: an image that
 * leaves this file is whole; only one that was packed without complaint is kept. Thread: load; the
 * bytes: any, after load. */
#include "runtime/weights/image.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/weights/imagefile.h"
#include "runtime/weights/stream.h"

#define SLOT_ALIGN UINT64_C(4096)
#define ITEM_ALIGN UINT64_C(64)

struct ingle_image {
    uint8_t *base;
    uint64_t bytes;
    struct ingle_imagefile *file; /* to be written; NULL: it is there, or will not be */
    uint64_t keep_from_ns;
};

struct packer {
    const struct ingle_gguf *gguf;
    const struct ingle_image_item **items; /* in file order, as the stream's spans */
    struct ingle_image *image;
    uint8_t *row; /* the one row that began in an earlier block */
    uint64_t row_have;
};

static uint64_t align_up(uint64_t v, uint64_t to)
{
    return (v + to - 1) & ~(to - 1);
}

uint64_t ingle_image_layout(struct ingle_image_item *items, uint32_t n_items)
{
    uint64_t at = 0;

    for (uint32_t i = 0; i < n_items; i++) {
        const struct ingle_gguf_tensor *t = items[i].src;

        ingle_assert(i == 0 || items[i].slot >= items[i - 1].slot);
        ingle_assert(t->dims[0] <= UINT32_MAX && t->dims[1] <= UINT32_MAX);
        at = align_up(at, i > 0 && items[i].slot != items[i - 1].slot ? SLOT_ALIGN : ITEM_ALIGN);
        items[i].off = at;
        items[i].bytes =
            items[i].vector ? t->dims[0] * sizeof(float)
                            : ingle_pack_bytes(t->type, (uint32_t)t->dims[1], (uint32_t)t->dims[0]);
        at += items[i].bytes;
    }
    return align_up(at, SLOT_ALIGN);
}

uint64_t ingle_image_bytes(const struct ingle_image_item *items, uint32_t n_items)
{
    return align_up(items[n_items - 1].off + items[n_items - 1].bytes, SLOT_ALIGN);
}

static uint64_t row_bytes(const struct ingle_gguf_tensor *t)
{
    return t->dims[0] / ingle_wtype_block(t->type) * ingle_wtype_block_bytes(t->type);
}

/* ---- packing ------------------------------------------------------------------------- */

static int refuse_row(const struct packer *p, const struct ingle_gguf_tensor *t, uint64_t row,
                      struct ingle_error *err)
{
    return ingle_fail_kind(err, INGLE_ERR_BAD_MODEL, -EBADMSG,
                           "%s: tensor %s has a NaN or infinite %s in row %" PRIu64
                           ", at or after byte %" PRIu64,
                           ingle_gguf_shown(p->gguf), ingle_show(t->name).text,
                           ingle_wtype_block(t->type) == 1 ? "value" : "scale", row,
                           t->file_off + row * row_bytes(t));
}

static int pack_vector(const struct packer *p, const struct ingle_image_item *item,
                       const uint8_t *src, struct ingle_error *err)
{
    uint32_t cols = (uint32_t)item->src->dims[0];
    float *dst = (float *)(void *)(p->image->base + item->off);

    ingle_dequant_row(item->src->type, src, cols, dst);
    for (uint32_t i = 0; i < cols; i++) {
        if (!isfinite(dst[i])) {
            return refuse_row(p, item->src, 0, err);
        }
    }
    if (item->dst_rows != NULL) {
        float *sorted = ingle_mem_array(cols, sizeof *sorted);

        if (sorted == NULL) {
            return ingle_fail(err, -ENOMEM, "%s: no memory to load it", ingle_gguf_shown(p->gguf));
        }
        for (uint32_t i = 0; i < cols; i++) {
            sorted[item->dst_rows[i]] = dst[i];
        }
        memcpy(dst, sorted, cols * sizeof *sorted);
        ingle_mem_free(sorted);
    }
    return 0;
}

static bool pack(const struct packer *p, const struct ingle_image_item *item, const uint8_t *src,
                 uint64_t row, uint64_t n)
{
    const struct ingle_gguf_tensor *t = item->src;

    return ingle_pack_rows(t->type, (uint32_t)t->dims[1], (uint32_t)t->dims[0], src, (uint32_t)n,
                           (uint32_t)row, item->dst_rows != NULL ? item->dst_rows + row : NULL,
                           p->image->base + item->off);
}

/* n whole rows of an item, from `row` on. */
static int pack_rows(const struct packer *p, const struct ingle_image_item *item,
                     const uint8_t *src, uint64_t row, uint64_t n, struct ingle_error *err)
{
    if (item->vector) {
        return pack_vector(p, item, src, err);
    }
    if (!pack(p, item, src, row, n)) {
        /* One of them is bad: again, one by one, to name it. */
        for (uint64_t i = 0; i < n; i++) {
            if (!pack(p, item, src + i * row_bytes(item->src), row + i, 1)) {
                return refuse_row(p, item->src, row + i, err);
            }
        }
    }
    return 0;
}

static int take(void *arg, uint32_t i, uint64_t off, const uint8_t *src, uint64_t n,
                struct ingle_error *err)
{
    struct packer *p = arg;
    const struct ingle_image_item *item = p->items[i];
    uint64_t one = row_bytes(item->src), row = off / one, whole;
    int rc = 0;

    if (p->row_have > 0 || n < one) {
        uint64_t part = one - p->row_have < n ? one - p->row_have : n;

        memcpy(p->row + p->row_have, src, part);
        p->row_have += part;
        src += part;
        n -= part;
        if (p->row_have < one) {
            return 0;
        }
        rc = pack_rows(p, item, p->row, row++, 1, err);
        p->row_have = 0;
    }
    whole = n / one;
    if (rc == 0 && whole > 0) {
        rc = pack_rows(p, item, src, row, whole, err);
    }
    if (rc == 0) {
        p->row_have = n - whole * one;
        memcpy(p->row, src + whole * one, p->row_have);
    }
    return rc;
}

/* ---- reading the GGUF file ------------------------------------------------------------------- */

static int place_order(const void *a, const void *b)
{
    uint64_t x = (*(const struct ingle_image_item *const *)a)->src->file_off;
    uint64_t y = (*(const struct ingle_image_item *const *)b)->src->file_off;

    return (x > y) - (x < y);
}

static int run(const struct ingle_image_load *load, struct packer *p,
               struct ingle_stream_span *spans, struct ingle_error *err)
{
    struct ingle_stream stream = {
        .fd = ingle_gguf_fd(load->gguf),
        .shown = ingle_gguf_shown(load->gguf),
        .file_bytes = ingle_gguf_file_bytes(load->gguf),
        .spans = spans,
        .n_spans = load->n_items,
        .take = take,
        .take_arg = p,
        .progress = load->progress,
        .progress_arg = load->progress_arg,
        .cancel = load->cancel,
    };
    uint64_t row_bytes_max = 0;
    int rc;

    for (uint32_t i = 0; i < load->n_items; i++) {
        p->items[i] = &load->items[i];
    }
    qsort(p->items, load->n_items, sizeof *p->items, place_order);
    for (uint32_t i = 0; i < load->n_items; i++) {
        const struct ingle_gguf_tensor *t = p->items[i]->src;

        spans[i] = (struct ingle_stream_span){t->file_off, t->bytes};
        row_bytes_max = row_bytes(t) > row_bytes_max ? row_bytes(t) : row_bytes_max;
    }
    p->row = ingle_mem_alloc(row_bytes_max);
    if (p->row == NULL) {
        return ingle_fail(err, -ENOMEM, "%s: no memory to load it", stream.shown);
    }
    rc = ingle_stream_run(&stream, err);
    ingle_mem_free(p->row);
    return rc;
}

static int no_memory(const struct ingle_image_load *load, struct ingle_error *err)
{
    return ingle_fail_kind(err, INGLE_ERR_REFUSED, -ENOMEM,
                           "%s: no memory for its %" PRIu64
                           " MiB of packed weights: unload another model, or load a smaller one",
                           ingle_gguf_shown(load->gguf),
                           ingle_image_bytes(load->items, load->n_items) >> 20);
}

static int pack_all(const struct ingle_image_load *load, struct ingle_image *image,
                    struct ingle_error *err)
{
    struct packer p = {.gguf = load->gguf, .image = image};
    struct ingle_stream_span *spans = ingle_mem_array(load->n_items, sizeof *spans);
    int rc;

    p.items = ingle_mem_array(load->n_items, sizeof *p.items);
    rc = spans == NULL || p.items == NULL ? no_memory(load, err) : run(load, &p, spans, err);
    ingle_mem_free(spans);
    ingle_mem_free(p.items);
    return rc;
}

/* ---- the kept image -------------------------------------------------------------------------- */

/* why: one of our own sentences. */
static void note(const char *event, const char *name, const char *why)
{
    char clean[160];

    ingle_log_text(clean, sizeof clean, name, (uint32_t)strlen(name));
    ingle_log(INGLE_LOG_WARN, "%s file=\"%s\" why=\"%s\"", event, clean, why);
}

/* The file that would hold this image; NULL with a line in the log: none. */
static struct ingle_imagefile *find_file(const struct ingle_image_load *load)
{
    struct ingle_imagefile *file = NULL;
    uint8_t source[16];
    char path[1024];

    ingle_gguf_hash(load->gguf, source);
    if (ingle_imagefile_path(load->home, ingle_gguf_path(load->gguf), source, path, sizeof path) ==
        0) {
        file = ingle_imagefile_create(path, source, load->items, load->n_items);
    }
    if (file == NULL) {
        note("image-not-kept", ingle_gguf_shown(load->gguf),
             "its path is too long, or memory is short");
    }
    return file;
}

/* 0: read; > 0: not, and the image's memory is as new; -ECANCELED, -ENOMEM. */
static int read_kept(const struct ingle_image_load *load, struct ingle_image *image,
                     struct ingle_error *err)
{
    struct ingle_error why = {0};
    int rc = ingle_imagefile_read(image->file, image->base, load, &why);

    if (rc == INGLE_IMAGEFILE_UNUSABLE) {
        note("image-unusable", ingle_imagefile_shown(image->file), why.text);
        ingle_mem_unmap(image->base, image->bytes);
        image->base = ingle_mem_map_huge(image->bytes);
        return image->base == NULL ? no_memory(load, err) : rc;
    }
    if (rc < 0) {
        return ingle_fail(err, rc, "%s", why.text);
    }
    return rc;
}

bool ingle_image_keep(struct ingle_image *image)
{
    struct ingle_error err = {0};
    int rc;

    if (image->file == NULL) {
        return false;
    }
    image->keep_from_ns = image->keep_from_ns != 0 ? image->keep_from_ns : ingle_clock_ns();
    rc = ingle_imagefile_write(image->file, image->base, &err);
    if (rc > 0) {
        return true;
    }
    if (rc < 0) {
        note("image-not-kept", ingle_imagefile_shown(image->file), err.text);
    } else {
        ingle_log(INGLE_LOG_INFO, "image-kept bytes=%" PRIu64 " ms=%" PRIu64, image->bytes,
                  (ingle_clock_ns() - image->keep_from_ns) / INGLE_NS_PER_MS);
    }
    ingle_imagefile_free(image->file);
    image->file = NULL;
    return false;
}

/* ---- loading --------------------------------------------------------------------------------- */

static int fill(const struct ingle_image_load *load, struct ingle_image *image,
                struct ingle_error *err)
{
    int rc = INGLE_IMAGEFILE_ABSENT;

    image->file = load->home != NULL ? find_file(load) : NULL;
    if (image->file != NULL) {
        rc = read_kept(load, image, err);
    }
    if (rc <= 0) {
        ingle_imagefile_free(image->file);
        image->file = NULL;
        return rc;
    }
    rc = pack_all(load, image, err);
    if (rc == 0 && image->file != NULL && !ingle_gguf_unchanged(load->gguf)) {
        note("image-not-kept", ingle_gguf_shown(load->gguf),
             "the model was written to, or linked, while it was read");
        ingle_imagefile_free(image->file);
        image->file = NULL;
    }
    return rc;
}

int ingle_image_load(const struct ingle_image_load *load, struct ingle_image **ret,
                     struct ingle_error *err)
{
    struct ingle_image *image = ingle_mem_alloc(sizeof *image);
    int rc;

    if (image != NULL) {
        image->bytes = ingle_image_bytes(load->items, load->n_items);
        image->base = ingle_mem_map_huge(image->bytes);
    }
    rc = image == NULL || image->base == NULL ? no_memory(load, err) : fill(load, image, err);
    if (rc < 0) {
        ingle_image_free(image);
        return rc;
    }
    *ret = image;
    return 0;
}

void ingle_image_free(struct ingle_image *image)
{
    if (image != NULL) {
        ingle_imagefile_free(image->file);
        ingle_mem_unmap(image->base, image->bytes);
        ingle_mem_free(image);
    }
}

const uint8_t *ingle_image_at(const struct ingle_image *image, const struct ingle_image_item *item)
{
    ingle_assert(item->off + item->bytes <= image->bytes);
    return image->base + item->off;
}
