/* Owns the header of one image file, and its .part while it is written. Invariants: what has its
 * final name was written whole; nothing read from a file is used before it was compared. Thread:
 * load. */
#include "runtime/weights/imagefile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

#include "kernels/pack.h"
#include "runtime/base/mem.h"
#include "runtime/weights/stream.h"
#include "shm/paths.h"

#define ALIGN       INGLE_STREAM_SECTOR_BYTES
#define BLOCK_BYTES (UINT64_C(4) << 20) /* written by one call */

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the structs are the format");

struct ingle_imagefile {
    char *path, *part;
    struct ingle_imagefile_head *head;     /* head_bytes, page-aligned */
    struct ingle_imagefile_entry *entries; /* behind it */
    struct {
        int fd; /* of the .part, locked; -1: not begun, or over */
        bool direct;
        uint32_t n_hashed;
        uint64_t done_bytes; /* of the image */
    } write;
};

/* ---- names ----------------------------------------------------------------------------------- */

int ingle_imagefile_path(const struct ingle_image_home *home, const char *gguf_path,
                         const uint8_t source[16], char *ret, uint64_t bytes)
{
    const char *slash = strrchr(gguf_path, '/'), *base = slash != NULL ? slash + 1 : gguf_path;
    size_t dir_bytes = slash != NULL ? (size_t)(slash - gguf_path) : 0;
    bool own = strlen(home->models) == dir_bytes && memcmp(home->models, gguf_path, dir_bytes) == 0;
    char stem[256], name[256];
    int n;

    /* Elsewhere two folders may hold files of one name. */
    n = own ? snprintf(stem, sizeof stem, "%s", base)
            : snprintf(stem, sizeof stem, "%.80s-%016llx", base,
                       (unsigned long long)XXH3_64bits(gguf_path, strlen(gguf_path)));
    if (n >= (int)sizeof stem || ingle_path_image(stem, source, name, sizeof name) != 0) {
        return -ENAMETOOLONG;
    }
    n = snprintf(ret, bytes, "%s/%s", own ? home->models : home->cache, name);
    return n < 0 || (uint64_t)n >= bytes ? -ENAMETOOLONG : 0;
}

/* What the name says of its stem: a copy without ".HASH.image". */
static void stem_of(const char *name, char ret[256])
{
    const char *dot = strrchr(name, '.');

    do {
        dot--;
    } while (*dot != '.');
    (void)snprintf(ret, 256, "%.*s", (int)(dot - name), name);
}

/* Remove what went out of use: an image of the same model's earlier content, one that nobody has
 * read for a long time (of a model that was deleted or forgotten). */
static void remove_if_old(const char *dir, const char *name, const char *stem, const char *keep)
{
    time_t oldest = time(NULL) - (time_t)INGLE_IMAGEFILE_UNUSED_DAYS * 24 * 3600;
    char path[1024 + 256];
    struct stat st;

    if (strcmp(name, keep) == 0 || !ingle_path_is_image(name, NULL)) {
        return;
    }
    (void)snprintf(path, sizeof path, "%s%s", dir, name);
    if (ingle_path_is_image(name, stem) || (lstat(path, &st) == 0 && st.st_mtim.tv_sec < oldest)) {
        (void)unlink(path);
    }
}

/* The new image is there. */
static void remove_old(const struct ingle_imagefile *file)
{
    const char *name = ingle_imagefile_shown(file);
    struct dirent **entries = NULL;
    char dir[1024], stem[256];
    int n;

    stem_of(name, stem);
    (void)snprintf(dir, sizeof dir, "%.*s", (int)(name - file->path), file->path);
    n = scandir(dir, &entries, NULL, NULL);
    for (int i = 0; i < n; i++) {
        remove_if_old(dir, entries[i]->d_name, stem, name);
        free(entries[i]);
    }
    free(entries);
}

/* ---- the header ------------------------------------------------------------------------------ */

static uint64_t head_hash(struct ingle_imagefile_head *head)
{
    uint64_t was = head->hash, hash;

    head->hash = 0;
    hash = XXH3_64bits(head, head->head_bytes);
    head->hash = was;
    return hash;
}

static void fill_entry(struct ingle_imagefile_entry *entry, const struct ingle_image_item *item)
{
    const struct ingle_gguf_tensor *t = item->src;
    uint64_t n_ordered = item->vector ? t->dims[0] : t->dims[1];

    *entry = (struct ingle_imagefile_entry){
        .off = item->off,
        .bytes = item->bytes,
        .src_off = t->file_off,
        .src_bytes = t->bytes,
        .type = (uint32_t)t->type,
        .vector = item->vector,
        .cols = (uint32_t)t->dims[0],
        .rows = (uint32_t)t->dims[1],
        .order_hash = item->dst_rows == NULL
                          ? 0
                          : XXH3_64bits(item->dst_rows, n_ordered * sizeof *item->dst_rows),
    };
}

struct ingle_imagefile *ingle_imagefile_create(const char *path, const uint8_t source[16],
                                               const struct ingle_image_item *items,
                                               uint32_t n_items)
{
    uint64_t table_bytes = n_items * sizeof(struct ingle_imagefile_entry);
    uint64_t head_bytes =
        (sizeof(struct ingle_imagefile_head) + table_bytes + ALIGN - 1) / ALIGN * ALIGN;
    struct ingle_imagefile *file = ingle_mem_alloc(sizeof *file);
    size_t path_bytes = strlen(path) + 1;

    ingle_assert(strrchr(path, '/') != NULL);
    ingle_assert(ingle_path_is_image(strrchr(path, '/') + 1, NULL));
    if (file == NULL) {
        return NULL;
    }
    file->write.fd = -1;
    file->path = ingle_mem_strdup(path);
    file->part = ingle_mem_alloc(path_bytes + 5);
    file->head = ingle_mem_map(head_bytes);
    if (file->path == NULL || file->part == NULL || file->head == NULL) {
        ingle_imagefile_free(file);
        return NULL;
    }
    (void)snprintf(file->part, path_bytes + 5, "%s.part", path);
    file->entries = (struct ingle_imagefile_entry *)(void *)(file->head + 1);
    *file->head = (struct ingle_imagefile_head){
        .version = INGLE_IMAGEFILE_VERSION,
        .layout = INGLE_PACK_LAYOUT,
        .cpu_class = INGLE_PACK_CPU_CLASS,
        .n_items = n_items,
        .head_bytes = head_bytes,
        .image_bytes = ingle_image_bytes(items, n_items),
    };
    memcpy(file->head->magic, INGLE_IMAGEFILE_MAGIC, sizeof file->head->magic);
    memcpy(file->head->source, source, sizeof file->head->source);
    for (uint32_t i = 0; i < n_items; i++) {
        fill_entry(&file->entries[i], &items[i]);
    }
    return file;
}

static void end_write(struct ingle_imagefile *file)
{
    if (file->write.fd >= 0) {
        (void)unlink(file->part); /* while the lock is held: it is ours */
        (void)close(file->write.fd);
        file->write.fd = -1;
    }
}

void ingle_imagefile_free(struct ingle_imagefile *file)
{
    if (file == NULL) {
        return;
    }
    end_write(file);
    ingle_mem_unmap(file->head, file->head != NULL ? file->head->head_bytes : 0);
    ingle_mem_free(file->part);
    ingle_mem_free(file->path);
    ingle_mem_free(file);
}

const char *ingle_imagefile_shown(const struct ingle_imagefile *file)
{
    return strrchr(file->path, '/') + 1;
}

static const char *compare(const struct ingle_imagefile_head *ours,
                           struct ingle_imagefile_head *theirs, uint64_t file_bytes)
{
    if (memcmp(theirs->magic, ours->magic, sizeof ours->magic) != 0) {
        return "not an image";
    }
    if (theirs->version != ours->version) {
        return "of another version of the format";
    }
    if (theirs->layout != ours->layout) {
        return "of another layout of the kernels";
    }
    if (theirs->cpu_class != ours->cpu_class) {
        return "for another class of CPU";
    }
    if (memcmp(theirs->source, ours->source, sizeof ours->source) != 0) {
        return "of another model file";
    }
    if (theirs->n_items != ours->n_items || theirs->head_bytes != ours->head_bytes ||
        theirs->image_bytes != ours->image_bytes) {
        return "of other tensors";
    }
    if (file_bytes != ours->head_bytes + ours->image_bytes) {
        return "too short or too long";
    }
    return theirs->hash != head_hash(theirs) ? "its header is damaged" : NULL;
}

const char *ingle_imagefile_check(struct ingle_imagefile *file, const void *bytes, uint64_t n_bytes,
                                  uint64_t file_bytes)
{
    struct ingle_imagefile_head *theirs;
    const struct ingle_imagefile_entry *entries;
    const char *why = NULL;

    if (n_bytes < file->head->head_bytes) {
        return "too short for its header";
    }
    theirs = ingle_mem_alloc(file->head->head_bytes);
    if (theirs == NULL) {
        return "no memory for its header";
    }
    memcpy(theirs, bytes, file->head->head_bytes);
    entries = (const struct ingle_imagefile_entry *)(const void *)(theirs + 1);
    why = compare(file->head, theirs, file_bytes);
    for (uint32_t i = 0; why == NULL && i < file->head->n_items; i++) {
        /* All but the hash, which is last. */
        if (memcmp(&entries[i], &file->entries[i], offsetof(struct ingle_imagefile_entry, hash)) !=
            0) {
            why = "of other tensors";
        }
    }
    for (uint32_t i = 0; why == NULL && i < file->head->n_items; i++) {
        file->entries[i].hash = entries[i].hash;
    }
    ingle_mem_free(theirs);
    return why;
}

/* ---- reading --------------------------------------------------------------------------------- */

struct reading {
    const struct ingle_imagefile *file;
    XXH3_state_t *hash; /* of the tensor under way */
    uint32_t item;
};

/* The bytes are at their place already; those between two tensors are padding. */
static int take(void *arg, uint32_t span, uint64_t off, const uint8_t *p, uint64_t n,
                struct ingle_error *err)
{
    struct reading *r = arg;

    (void)span;
    while (n > 0 && r->item < r->file->head->n_items) {
        const struct ingle_imagefile_entry *entry = &r->file->entries[r->item];
        uint64_t skip = off < entry->off ? entry->off - off : 0, part;

        skip = skip < n ? skip : n;
        off += skip;
        p += skip;
        n -= skip;
        part = entry->off + entry->bytes - off;
        part = part < n ? part : n;
        (void)XXH3_64bits_update(r->hash, p, part);
        off += part;
        p += part;
        n -= part;
        if (off == entry->off + entry->bytes) {
            if (XXH3_64bits_digest(r->hash) != entry->hash) {
                return ingle_fail(err, -EBADMSG, "the bytes of tensor %u are damaged", r->item);
            }
            (void)XXH3_64bits_reset(r->hash);
            r->item++;
        }
    }
    return 0;
}

static int read_body(struct ingle_imagefile *file, int fd, uint8_t *base,
                     const struct ingle_image_load *load, struct ingle_error *err)
{
    struct ingle_stream_span span = {file->head->head_bytes, file->head->image_bytes};
    struct reading reading = {.file = file, .hash = XXH3_createState()};
    struct ingle_stream stream = {
        .fd = fd,
        .shown = "image",
        .file_bytes = span.file_off + span.bytes,
        .spans = &span,
        .n_spans = 1,
        .into = base,
        .take = take,
        .take_arg = &reading,
        .progress = load->progress,
        .progress_arg = load->progress_arg,
        .cancel = load->cancel,
    };
    int rc;

    if (reading.hash == NULL) {
        return ingle_fail(err, -ENOMEM, "no memory to read it");
    }
    (void)XXH3_64bits_reset(reading.hash);
    rc = ingle_stream_run(&stream, err);
    ingle_assert(rc < 0 || reading.item == file->head->n_items);
    (void)XXH3_freeState(reading.hash);
    return rc;
}

static int read_file(struct ingle_imagefile *file, int fd, uint8_t *base,
                     const struct ingle_image_load *load, struct ingle_error *err)
{
    uint64_t head_bytes = file->head->head_bytes;
    const char *why = "cannot be read";
    struct stat st;
    uint8_t *head;
    ssize_t n;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return ingle_fail(err, -EBADMSG, "not a regular file");
    }
    head = ingle_mem_alloc(head_bytes);
    if (head == NULL) {
        return ingle_fail(err, -ENOMEM, "no memory to read it");
    }
    n = pread(fd, head, head_bytes, 0);
    if (n >= 0) {
        why = ingle_imagefile_check(file, head, (uint64_t)n, (uint64_t)st.st_size);
    }
    ingle_mem_free(head);
    if (why != NULL) {
        return ingle_fail(err, -EBADMSG, "%s", why);
    }
    return read_body(file, fd, base, load, err);
}

int ingle_imagefile_read(struct ingle_imagefile *file, uint8_t *base,
                         const struct ingle_image_load *load, struct ingle_error *err)
{
    /* O_NONBLOCK: a FIFO in its place must not hang the loader. */
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY), rc;

    if (fd < 0) {
        int code = -errno;

        if (code == -ENOENT) {
            return INGLE_IMAGEFILE_ABSENT;
        }
        (void)ingle_fail(err, code, "cannot open it: %s", strerrordesc_np(-code));
        return INGLE_IMAGEFILE_UNUSABLE;
    }
    rc = read_file(file, fd, base, load, err);
    if (rc == 0) {
        (void)futimens(fd, NULL); /* used today: see remove_old() */
    }
    (void)close(fd);
    if (rc == 0 || rc == -ECANCELED) {
        return rc;
    }
    (void)unlink(file->path);
    return INGLE_IMAGEFILE_UNUSABLE;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int write_failed(struct ingle_imagefile *file, int code, const char *what,
                        struct ingle_error *err)
{
    end_write(file);
    return ingle_fail(err, code, "%s: %s", what, strerrordesc_np(-code));
}

static int open_part(struct ingle_imagefile *file)
{
    const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;

    file->write.direct = true;
    file->write.fd = open(file->part, flags | O_DIRECT, 0600);
    if (file->write.fd < 0 && errno == EINVAL) { /* a file system without it */
        file->write.direct = false;
        file->write.fd = open(file->part, flags, 0600);
    }
    return file->write.fd >= 0 ? 0 : -errno;
}

/* A .part that another runtime is writing is locked; one that a dead one left is taken over. */
static int begin(struct ingle_imagefile *file, struct ingle_error *err)
{
    struct stat ours, named;
    int res = open_part(file);

    if (res != 0) {
        return ingle_fail(err, res, "cannot create it: %s", strerrordesc_np(-res));
    }
    if (flock(file->write.fd, LOCK_EX | LOCK_NB) != 0 || fstat(file->write.fd, &ours) != 0 ||
        lstat(file->part, &named) != 0 || ours.st_ino != named.st_ino) {
        (void)close(file->write.fd);
        file->write.fd = -1;
        return ingle_fail(err, -EBUSY, "another runtime is writing it");
    }
    if (ftruncate(file->write.fd, 0) != 0) {
        return write_failed(file, -errno, "cannot write", err);
    }
    /* A full disk says so now. Not every file system can reserve. */
    if (fallocate(file->write.fd, 0, 0,
                  (off_t)(file->head->head_bytes + file->head->image_bytes)) != 0 &&
        errno != EOPNOTSUPP && errno != ENOSYS && errno != EINTR) {
        return write_failed(file, -errno, "no room for it", err);
    }
    return INGLE_IMAGEFILE_MORE;
}

/* Write n bytes, both ends aligned, or a part of them: > 0, or -errno. */
static int64_t put(struct ingle_imagefile *file, const void *p, uint64_t n, uint64_t off)
{
    ssize_t put = pwrite(file->write.fd, p, n, (off_t)off);

    if (put < 0 && errno == EINVAL && file->write.direct) {
        /* The flag was taken, the write was not: some stacked file systems. */
        file->write.direct = false;
        if (fcntl(file->write.fd, F_SETFL, 0) == 0) {
            put = pwrite(file->write.fd, p, n, (off_t)off);
        }
    }
    if (put < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    if (!file->write.direct) { /* to the disk now, so that the fsync at the end is short */
        (void)sync_file_range(file->write.fd, (off_t)off, put,
                              SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                  SYNC_FILE_RANGE_WAIT_AFTER);
        (void)posix_fadvise(file->write.fd, (off_t)off, put, POSIX_FADV_DONTNEED);
        return put;
    }
    return put & ~(int64_t)(ALIGN - 1);
}

static int finish(struct ingle_imagefile *file, struct ingle_error *err)
{
    uint64_t done = 0;

    file->head->hash = head_hash(file->head);
    while (done < file->head->head_bytes) {
        int64_t n =
            put(file, (const uint8_t *)file->head + done, file->head->head_bytes - done, done);

        if (n < 0) {
            return write_failed(file, (int)n, "cannot write", err);
        }
        done += (uint64_t)n;
    }
    if (fsync(file->write.fd) != 0 || rename(file->part, file->path) != 0) {
        return write_failed(file, -errno, "cannot finish", err);
    }
    (void)close(file->write.fd);
    file->write.fd = -1;
    remove_old(file);
    return 0;
}

int ingle_imagefile_write(struct ingle_imagefile *file, const uint8_t *base,
                          struct ingle_error *err)
{
    struct ingle_imagefile_head *head = file->head;
    uint64_t at = file->write.done_bytes, n = head->image_bytes - at;

    if (file->write.fd < 0) {
        return access(file->path, F_OK) == 0 ? 0 : begin(file, err);
    }
    if (file->write.n_hashed < head->n_items) {
        struct ingle_imagefile_entry *entry = &file->entries[file->write.n_hashed++];

        entry->hash = XXH3_64bits(base + entry->off, entry->bytes);
        return INGLE_IMAGEFILE_MORE;
    }
    if (n > 0) {
        int64_t put_bytes =
            put(file, base + at, n < BLOCK_BYTES ? n : BLOCK_BYTES, head->head_bytes + at);

        if (put_bytes < 0) {
            return write_failed(file, (int)put_bytes, "cannot write", err);
        }
        file->write.done_bytes += (uint64_t)put_bytes;
        return INGLE_IMAGEFILE_MORE;
    }
    return finish(file, err);
}
