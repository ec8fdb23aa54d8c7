/* Owns the private copy of one file's header and the tables that point into it. Does not own tensor
 * data. Invariant: a pointer, count or range that leaves this file has been checked against the
 * copy (strings, arrays) or against the length of the file (tensors), so that later code never
 * checks it again. The copy is read once: a file that changes afterwards cannot change an answer.
 * Thread: any, one at a time. */
#include "runtime/weights/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#include "runtime/base/mem.h"

#define HEADER_BYTES_MAX (UINT64_C(512) << 20) /* ten times the largest vocabulary in use */
#define READ_STEP_BYTES  (UINT64_C(1) << 20)
#define KEYS_MAX         65536u
#define TENSORS_MAX      65536u
#define NAME_BYTES_MAX   64u /* of a tensor; the format's own limit */
#define KEY_BYTES_MAX    65535u
#define ALIGNMENT_MAX    65536u

/* Value types as they stand in the file. */
enum value_type {
    T_U8,
    T_I8,
    T_U16,
    T_I16,
    T_U32,
    T_I32,
    T_F32,
    T_BOOL,
    T_STR,
    T_ARRAY,
    T_U64,
    T_I64,
    T_F64,
    T_COUNT
};
static const uint8_t value_bytes[T_COUNT] = {
    [T_U8] = 1,  [T_I8] = 1,   [T_U16] = 2, [T_I16] = 2, [T_U32] = 4, [T_I32] = 4,
    [T_F32] = 4, [T_BOOL] = 1, [T_U64] = 8, [T_I64] = 8, [T_F64] = 8,
};

/* Tensor types as they stand in the file: those that are served, plus one, and the names of the
 * others, for messages. */
static const uint8_t served[] = {
    [0] = 1 + INGLE_W_F32,     [1] = 1 + INGLE_W_F16,   [2] = 1 + INGLE_W_Q4_0,
    [3] = 1 + INGLE_W_Q4_1,    [6] = 1 + INGLE_W_Q5_0,  [7] = 1 + INGLE_W_Q5_1,
    [8] = 1 + INGLE_W_Q8_0,    [10] = 1 + INGLE_W_Q2_K, [11] = 1 + INGLE_W_Q3_K,
    [12] = 1 + INGLE_W_Q4_K,   [13] = 1 + INGLE_W_Q5_K, [14] = 1 + INGLE_W_Q6_K,
    [20] = 1 + INGLE_W_IQ4_NL, [30] = 1 + INGLE_W_BF16,
};
static const char *const unserved[] = {
    [9] = "Q8_1",   [15] = "Q8_K",  [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS",
    [19] = "IQ1_S", [21] = "IQ3_S", [22] = "IQ2_S",   [23] = "IQ4_XS", [24] = "I8",
    [25] = "I16",   [26] = "I32",   [27] = "I64",     [28] = "F64",    [29] = "IQ1_M",
    [34] = "TQ1_0", [35] = "TQ2_0", [39] = "MXFP4",
};

struct ingle_gguf_array {
    enum value_type type; /* of the elements; never T_ARRAY */
    uint64_t n;
    const uint8_t *data; /* in the header copy */
    uint32_t *str_off;   /* T_STR: where string i begins in data */
};

struct entry {
    struct ingle_str key;
    bool is_array; /* a scalar is kept as an array of one */
    struct ingle_gguf_array value;
};

/* An index by name. */
struct named {
    struct ingle_str name;
    uint32_t i;
};

struct ingle_gguf {
    char *path;
    const char *shown; /* last part of path */
    int fd;
    uint64_t file_bytes;
    int64_t mtime_ns, ctime_ns;
    uint8_t *head; /* the copy: room for head_room bytes, head_have of them read */
    uint64_t head_room, head_have, head_bytes;
    uint32_t n_entries, n_tensors;
    struct entry *entries;
    struct ingle_gguf_tensor *tensors;
    struct named *keys, *names; /* of entries and tensors, sorted */
};

struct cursor {
    struct ingle_gguf *g;
    uint64_t pos;
    char what[96]; /* what is being read, for messages */
    struct ingle_error *err;
};

#define bad(c, fmt, ...) \
    ingle_fail_kind((c)->err, INGLE_ERR_BAD_MODEL, -EBADMSG, "%s: " fmt, (c)->g->shown, __VA_ARGS__)

struct ingle_shown ingle_show(struct ingle_str name)
{
    struct ingle_shown shown;
    uint64_t n = name.bytes < sizeof shown.text ? name.bytes : sizeof shown.text - 1;

    for (uint64_t i = 0; i < n; i++) {
        shown.text[i] = '?';
        if (name.p[i] >= 0x20 && name.p[i] < 0x7f) {
            shown.text[i] = name.p[i];
        }
    }
    shown.text[n] = '\0';
    if (n < name.bytes) {
        memcpy(shown.text + n - 3, "...", 3);
    }
    return shown;
}

/* ---- reading ------------------------------------------------------------------------- */

static int fill(struct cursor *c, uint64_t end)
{
    struct ingle_gguf *g = c->g;

    while (g->head_have < end) {
        uint64_t want = end - g->head_have;
        ssize_t n;

        want = want < READ_STEP_BYTES ? READ_STEP_BYTES : want;
        want = want < g->head_room - g->head_have ? want : g->head_room - g->head_have;
        n = pread(g->fd, g->head + g->head_have, want, (off_t)g->head_have);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            int code = -errno;

            return ingle_fail(c->err, code, "%s: cannot read at byte %" PRIu64 ": %s", g->shown,
                              g->head_have, strerrordesc_np(-code));
        }
        if (n == 0) {
            return bad(c,
                       "ends at byte %" PRIu64 ", it had %" PRIu64
                       " when it was opened (is something writing to it?)",
                       g->head_have, g->file_bytes);
        }
        g->head_have += (uint64_t)n;
    }
    return 0;
}

/* Make n bytes at the cursor readable and step over them; their address, or NULL with err. */
static const uint8_t *take(struct cursor *c, uint64_t n, int *rc)
{
    struct ingle_gguf *g = c->g;
    const uint8_t *p;
    uint64_t end;

    if (__builtin_add_overflow(c->pos, n, &end) || end > g->file_bytes) {
        *rc = bad(c,
                  "%s at byte %" PRIu64 " takes %" PRIu64 " bytes, the file has %" PRIu64
                  " (truncated download?)",
                  c->what, c->pos, n, g->file_bytes);
        return NULL;
    }
    if (end > g->head_room) {
        *rc = bad(c, "%s at byte %" PRIu64 " takes %" PRIu64 " bytes: the header may have %" PRIu64,
                  c->what, c->pos, n, g->head_room);
        return NULL;
    }
    *rc = fill(c, end);
    if (*rc < 0) {
        return NULL;
    }
    p = g->head + c->pos;
    c->pos = end;
    return p;
}

static uint64_t load_le(const uint8_t *p, uint32_t bytes)
{
    uint64_t v = 0;

    memcpy(&v, p, bytes); /* every machine that runs this is little-endian, as the file is */
    return v;
}

static int take_u32(struct cursor *c, uint32_t *ret)
{
    int rc;
    const uint8_t *p = take(c, 4, &rc);

    if (p != NULL) {
        *ret = (uint32_t)load_le(p, 4);
    }
    return rc;
}

static int take_u64(struct cursor *c, uint64_t *ret)
{
    int rc;
    const uint8_t *p = take(c, 8, &rc);

    if (p != NULL) {
        *ret = load_le(p, 8);
    }
    return rc;
}

static int take_str(struct cursor *c, struct ingle_str *ret)
{
    uint64_t n = 0;
    const uint8_t *p;
    int rc = take_u64(c, &n);

    if (rc < 0) {
        return rc;
    }
    p = take(c, n, &rc);
    if (p != NULL) {
        *ret = (struct ingle_str){(const char *)p, n};
    }
    return rc;
}

static void what(struct cursor *c, const char *kind, struct ingle_str name)
{
    struct ingle_shown shown = ingle_show(name);

    (void)snprintf(c->what, sizeof c->what, "%s %s", kind, shown.text);
}

/* ---- metadata ------------------------------------------------------------------------ */

static int take_values(struct cursor *c, struct ingle_gguf_array *a)
{
    uint64_t start = c->pos, bytes;
    int rc = 0;

    if (a->type != T_STR) {
        if (__builtin_mul_overflow(a->n, value_bytes[a->type], &bytes)) {
            bytes = UINT64_MAX;
        }
        a->data = take(c, bytes, &rc);
        return rc;
    }
    /* Every string takes at least its length: a count that cannot fit is refused before memory is
     * taken for it. */
    if (a->n > (c->g->head_room - start) / 8) {
        return bad(c,
                   "%s at byte %" PRIu64 " claims %" PRIu64 " strings, the file has %" PRIu64
                   " bytes (truncated download?)",
                   c->what, start, a->n, c->g->file_bytes);
    }
    a->str_off = ingle_mem_array(a->n, sizeof *a->str_off);
    if (a->str_off == NULL) {
        return ingle_fail(c->err, -ENOMEM, "%s: no memory for %" PRIu64 " strings", c->g->shown,
                          a->n);
    }
    a->data = c->g->head + start;
    for (uint64_t i = 0; i < a->n && rc == 0; i++) {
        struct ingle_str s;

        a->str_off[i] = (uint32_t)(c->pos - start); /* < HEADER_BYTES_MAX */
        rc = take_str(c, &s);
    }
    return rc;
}

static int take_entry(struct cursor *c, uint32_t i)
{
    struct entry *e = &c->g->entries[i];
    uint32_t type = 0;
    uint64_t at;
    int rc;

    (void)snprintf(c->what, sizeof c->what, "metadata key %u of %u", i + 1, c->g->n_entries);
    at = c->pos;
    rc = take_str(c, &e->key);
    if (rc < 0) {
        return rc;
    }
    if (e->key.bytes == 0 || e->key.bytes > KEY_BYTES_MAX) {
        return bad(c, "%s at byte %" PRIu64 " has a name of %" PRIu64 " bytes (1 to %u)", c->what,
                   at, e->key.bytes, KEY_BYTES_MAX);
    }
    what(c, "key", e->key);
    at = c->pos;
    rc = take_u32(c, &type);
    if (rc == 0 && type == T_ARRAY) {
        e->is_array = true;
        rc = take_u32(c, &type);
        if (rc == 0) {
            rc = take_u64(c, &e->value.n);
        }
    } else {
        e->value.n = 1;
    }
    if (rc < 0) {
        return rc;
    }
    if (type >= T_COUNT || type == T_ARRAY) {
        return bad(c, "%s at byte %" PRIu64 " has %s type %u", c->what, at,
                   type == T_ARRAY ? "the unsupported nested" : "the unknown", type);
    }
    e->value.type = (enum value_type)type;
    return take_values(c, &e->value);
}

static int str_cmp(struct ingle_str a, struct ingle_str b)
{
    uint64_t n = a.bytes < b.bytes ? a.bytes : b.bytes;
    int order = memcmp(a.p, b.p, n);

    return order != 0 ? order : (a.bytes > b.bytes) - (a.bytes < b.bytes);
}

static int named_order(const void *a, const void *b)
{
    return str_cmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

/* Sort an index and refuse a name that stands twice. */
static int index_names(struct cursor *c, const char *kind, struct named *index, uint32_t n)
{
    qsort(index, n, sizeof *index, named_order);
    for (uint32_t i = 1; i < n; i++) {
        const char *a = index[i - 1].name.p, *b = index[i].name.p;

        if (str_cmp(index[i - 1].name, index[i].name) == 0) {
            return bad(c, "%s %s stands twice, again at byte %" PRIu64, kind,
                       ingle_show(index[i].name).text,
                       (uint64_t)((const uint8_t *)(a > b ? a : b) - c->g->head));
        }
    }
    return 0;
}

static const struct named *find_name(const struct named *index, uint32_t n, const char *name)
{
    struct named want = {.name = {name, strlen(name)}};

    return bsearch(&want, index, n, sizeof *index, named_order);
}

static int take_metadata(struct cursor *c)
{
    struct ingle_gguf *g = c->g;

    for (uint32_t i = 0; i < g->n_entries; i++) {
        int rc = take_entry(c, i);

        if (rc < 0) {
            return rc;
        }
        g->keys[i] = (struct named){g->entries[i].key, i};
    }
    return index_names(c, "key", g->keys, g->n_entries);
}

/* ---- tensors ------------------------------------------------------------------------- */

static int take_tensor(struct cursor *c, uint32_t i)
{
    struct ingle_gguf_tensor *t = &c->g->tensors[i];
    uint32_t type = 0;
    uint64_t at = c->pos, n = 1;
    int rc;

    (void)snprintf(c->what, sizeof c->what, "tensor %u of %u", i + 1, c->g->n_tensors);
    rc = take_str(c, &t->name);
    if (rc < 0) {
        return rc;
    }
    if (t->name.bytes == 0 || t->name.bytes > NAME_BYTES_MAX) {
        return bad(c, "%s at byte %" PRIu64 " has a name of %" PRIu64 " bytes (1 to %u)", c->what,
                   at, t->name.bytes, NAME_BYTES_MAX);
    }
    what(c, "tensor", t->name);
    rc = take_u32(c, &t->n_dims);
    if (rc < 0) {
        return rc;
    }
    if (t->n_dims == 0 || t->n_dims > 4) {
        return bad(c, "%s at byte %" PRIu64 " has %u dimensions (1 to 4)", c->what, c->pos - 4,
                   t->n_dims);
    }
    for (uint32_t d = 0; d < 4; d++) {
        t->dims[d] = 1;
        if (d < t->n_dims) {
            rc = take_u64(c, &t->dims[d]);
            if (rc < 0) {
                return rc;
            }
        }
        if (t->dims[d] == 0 || __builtin_mul_overflow(n, t->dims[d], &n) || n > INT64_MAX) {
            return bad(c, "%s: dimension %u at byte %" PRIu64 " is %" PRIu64 ": %s", c->what, d,
                       c->pos - 8, t->dims[d],
                       t->dims[d] == 0 ? "nothing" : "more elements than 64 bits count");
        }
    }
    rc = take_u32(c, &type);
    if (rc == 0) {
        rc = take_u64(c, &t->file_off); /* relative to the data until place_tensors() */
    }
    if (rc < 0) {
        return rc;
    }
    if (type >= sizeof served || served[type] == 0) {
        bool known = type < sizeof unserved / sizeof unserved[0] && unserved[type] != NULL;

        return bad(c,
                   "%s at byte %" PRIu64 " has type %u (%s): served are F32 F16 BF16 Q4_0 Q4_1 "
                   "Q5_0 Q5_1 Q8_0 Q2_K to Q6_K and IQ4_NL",
                   c->what, at, type, known ? unserved[type] : "unknown");
    }
    t->type = (enum ingle_wtype)(served[type] - 1);
    if (t->dims[0] % ingle_wtype_block(t->type) != 0) {
        return bad(c,
                   "%s at byte %" PRIu64 " has rows of %" PRIu64 ", %s stores whole blocks of %u",
                   c->what, at, t->dims[0], ingle_wtype_name(t->type), ingle_wtype_block(t->type));
    }
    if (__builtin_mul_overflow(n / ingle_wtype_block(t->type), ingle_wtype_block_bytes(t->type),
                               &t->bytes)) {
        return bad(c, "%s at byte %" PRIu64 " has more bytes than 64 bits count", c->what, at);
    }
    return 0;
}

static int place_order(const void *a, const void *b)
{
    uint64_t x = (*(const struct ingle_gguf_tensor *const *)a)->file_off;
    uint64_t y = (*(const struct ingle_gguf_tensor *const *)b)->file_off;

    return (x > y) - (x < y);
}

static int refuse_overlap(struct cursor *c)
{
    struct ingle_gguf *g = c->g;
    const struct ingle_gguf_tensor **by_place = ingle_mem_array(g->n_tensors, sizeof *by_place);
    int rc = 0;

    if (by_place == NULL) {
        return ingle_fail(c->err, -ENOMEM, "%s: no memory for its header", g->shown);
    }
    for (uint32_t i = 0; i < g->n_tensors; i++) {
        by_place[i] = &g->tensors[i];
    }
    qsort(by_place, g->n_tensors, sizeof *by_place, place_order);
    for (uint32_t i = 1; i < g->n_tensors && rc == 0; i++) {
        const struct ingle_gguf_tensor *a = by_place[i - 1], *b = by_place[i];

        if (b->file_off < a->file_off + a->bytes) {
            rc = bad(c, "tensor %s begins at byte %" PRIu64 ", inside tensor %s",
                     ingle_show(b->name).text, b->file_off, ingle_show(a->name).text);
        }
    }
    ingle_mem_free(by_place);
    return rc;
}

/* From an offset inside the data to an offset in the file, its range checked. */
static int place_tensor(struct cursor *c, struct ingle_gguf_tensor *t, uint64_t data,
                        uint64_t alignment)
{
    uint64_t off = t->file_off, end;

    if (off % alignment != 0) {
        return bad(c,
                   "tensor %s begins at byte %" PRIu64
                   " of the data, which is no multiple of the alignment %" PRIu64,
                   ingle_show(t->name).text, off, alignment);
    }
    if (__builtin_add_overflow(data, off, &t->file_off) ||
        __builtin_add_overflow(t->file_off, t->bytes, &end)) {
        return bad(c, "tensor %s begins at byte %" PRIu64 " of the data: beyond any file",
                   ingle_show(t->name).text, off);
    }
    if (end > c->g->file_bytes) {
        return bad(c,
                   "tensor %s ends at byte %" PRIu64 ", file has %" PRIu64 " (truncated download?)",
                   ingle_show(t->name).text, end, c->g->file_bytes);
    }
    return 0;
}

static int take_tensors(struct cursor *c)
{
    struct ingle_gguf *g = c->g;
    uint64_t alignment = 32, data;
    int rc = 0;

    for (uint32_t i = 0; i < g->n_tensors && rc == 0; i++) {
        rc = take_tensor(c, i);
        g->names[i] = (struct named){g->tensors[i].name, i};
    }
    if (rc == 0) {
        rc = index_names(c, "tensor", g->names, g->n_tensors);
    }
    if (rc < 0) {
        return rc;
    }
    g->head_bytes = c->pos;
    (void)ingle_gguf_u64(g, "general.alignment", &alignment);
    if (alignment < 8 || alignment > ALIGNMENT_MAX || (alignment & (alignment - 1)) != 0) {
        return bad(c, "key general.alignment is %" PRIu64 ": no power of two from 8 to %u",
                   alignment, ALIGNMENT_MAX);
    }
    data = (g->head_bytes + alignment - 1) & ~(alignment - 1);
    for (uint32_t i = 0; i < g->n_tensors && rc == 0; i++) {
        rc = place_tensor(c, &g->tensors[i], data, alignment);
    }
    return rc == 0 ? refuse_overlap(c) : rc;
}

/* ---- the whole header ---------------------------------------------------------------- */

static int take_counts(struct cursor *c)
{
    struct ingle_gguf *g = c->g;
    uint32_t version = 0;
    uint64_t n_tensors = 0, n_entries = 0;
    const uint8_t *magic;
    int rc;

    (void)snprintf(c->what, sizeof c->what, "the header");
    magic = take(c, 4, &rc);
    if (magic == NULL) {
        return rc;
    }
    if (memcmp(magic, "GGUF", 4) != 0) {
        return bad(c, "is not a GGUF file: byte 0 begins %02x %02x %02x %02x, not \"GGUF\"",
                   magic[0], magic[1], magic[2], magic[3]);
    }
    rc = take_u32(c, &version);
    if (rc < 0) {
        return rc;
    }
    if (version != 2 && version != 3) {
        bool swapped = (version & 0xffff) == 0 && version != 0;

        return bad(c, "has GGUF version %u at byte 4%s; served are 2 and 3",
                   swapped ? __builtin_bswap32(version) : version,
                   swapped ? " in big-endian order" : "");
    }
    rc = take_u64(c, &n_tensors);
    if (rc == 0) {
        rc = take_u64(c, &n_entries);
    }
    if (rc < 0) {
        return rc;
    }
    if (n_tensors > TENSORS_MAX || n_entries > KEYS_MAX) {
        return bad(c,
                   "claims %" PRIu64 " tensors (byte 8, at most %u) and %" PRIu64
                   " keys (byte 16, at most %u)",
                   n_tensors, TENSORS_MAX, n_entries, KEYS_MAX);
    }
    g->n_tensors = (uint32_t)n_tensors;
    g->n_entries = (uint32_t)n_entries;
    g->tensors = ingle_mem_array(n_tensors, sizeof *g->tensors);
    g->entries = ingle_mem_array(n_entries, sizeof *g->entries);
    g->names = ingle_mem_array(n_tensors, sizeof *g->names);
    g->keys = ingle_mem_array(n_entries, sizeof *g->keys);
    if (g->tensors == NULL || g->entries == NULL || g->names == NULL || g->keys == NULL) {
        return ingle_fail(c->err, -ENOMEM, "%s: no memory for its header", g->shown);
    }
    return 0;
}

static int parse(struct ingle_gguf *g, struct ingle_error *err)
{
    struct cursor c = {.g = g, .err = err};
    int rc = take_counts(&c);

    if (rc == 0) {
        rc = take_metadata(&c);
    }
    if (rc == 0) {
        rc = take_tensors(&c);
    }
    return rc;
}

/* Room for the header of a file of file_bytes; pages that are never read into cost nothing. */
static int reserve(struct ingle_gguf *g, uint64_t room, uint64_t file_bytes,
                   struct ingle_error *err)
{
    g->file_bytes = file_bytes;
    g->head_room = room < HEADER_BYTES_MAX ? room : HEADER_BYTES_MAX;
    g->head = ingle_mem_alloc(g->head_room);
    if (g->head == NULL) {
        return ingle_fail(err, -ENOMEM, "%s: no memory for its header", g->shown);
    }
    return 0;
}

static struct ingle_gguf *create(const char *path, struct ingle_error *err)
{
    struct ingle_gguf *g = ingle_mem_alloc(sizeof *g);

    if (g != NULL) {
        const char *slash;

        g->fd = -1;
        g->path = ingle_mem_strdup(path);
        if (g->path != NULL) {
            slash = strrchr(g->path, '/');
            g->shown = slash != NULL && slash[1] != '\0' ? slash + 1 : g->path;
            return g;
        }
        ingle_mem_free(g);
    }
    (void)ingle_fail(err, -ENOMEM, "%s: no memory to open it", path);
    return NULL;
}

static int64_t time_ns(struct timespec t)
{
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int open_file(struct ingle_gguf *g, struct ingle_error *err)
{
    struct stat st;

    /* O_NONBLOCK: a FIFO in place of a model must not hang the loader. */
    g->fd = open(g->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (g->fd < 0) {
        int code = -errno;
        enum ingle_error_kind kind = code == -ENOENT ? INGLE_ERR_NOT_FOUND : INGLE_ERR_OTHER;

        return ingle_fail_kind(err, kind, code, "cannot open %s: %s", g->path,
                               strerrordesc_np(-code));
    }
    if (fstat(g->fd, &st) != 0) {
        int code = -errno;

        return ingle_fail(err, code, "cannot stat %s: %s", g->path, strerrordesc_np(-code));
    }
    if (!S_ISREG(st.st_mode)) {
        return ingle_fail_kind(err, INGLE_ERR_BAD_MODEL, -EINVAL, "%s is %s, not a file", g->path,
                               S_ISDIR(st.st_mode) ? "a directory" : "a device, pipe or socket");
    }
    (void)fcntl(g->fd, F_SETFL, 0);
    g->mtime_ns = time_ns(st.st_mtim);
    g->ctime_ns = time_ns(st.st_ctim);
    return reserve(g, (uint64_t)st.st_size, (uint64_t)st.st_size, err);
}

int ingle_gguf_open(const char *path, struct ingle_gguf **ret, struct ingle_error *err)
{
    struct ingle_gguf *g = create(path, err);
    int rc;

    if (g == NULL) {
        return -ENOMEM;
    }
    rc = open_file(g, err);
    if (rc == 0) {
        rc = parse(g, err);
    }
    if (rc < 0) {
        ingle_gguf_close(g);
        return rc;
    }
    *ret = g;
    return 0;
}

int ingle_gguf_parse(const void *bytes, uint64_t n_bytes, uint64_t file_bytes,
                     struct ingle_gguf **ret, struct ingle_error *err)
{
    struct ingle_gguf *g = create("gguf", err);
    int rc;

    if (g == NULL) {
        return -ENOMEM;
    }
    rc = reserve(g, n_bytes, file_bytes, err);
    if (rc == 0) {
        memcpy(g->head, bytes, g->head_room);
        g->head_have = g->head_room;
        rc = parse(g, err);
    }
    if (rc < 0) {
        ingle_gguf_close(g);
        return rc;
    }
    *ret = g;
    return 0;
}

void ingle_gguf_close(struct ingle_gguf *gguf)
{
    if (gguf == NULL) {
        return;
    }
    if (gguf->fd >= 0) {
        (void)close(gguf->fd);
    }
    for (uint32_t i = 0; gguf->entries != NULL && i < gguf->n_entries; i++) {
        ingle_mem_free(gguf->entries[i].value.str_off);
    }
    ingle_mem_free(gguf->entries);
    ingle_mem_free(gguf->tensors);
    ingle_mem_free(gguf->keys);
    ingle_mem_free(gguf->names);
    ingle_mem_free(gguf->head);
    ingle_mem_free(gguf->path);
    ingle_mem_free(gguf);
}

/* ---- answers ------------------------------------------------------------------------- */

int ingle_gguf_fd(const struct ingle_gguf *gguf)
{
    return gguf->fd;
}

const char *ingle_gguf_path(const struct ingle_gguf *gguf)
{
    return gguf->path;
}

const char *ingle_gguf_shown(const struct ingle_gguf *gguf)
{
    return gguf->shown;
}

uint64_t ingle_gguf_file_bytes(const struct ingle_gguf *gguf)
{
    return gguf->file_bytes;
}

void ingle_gguf_hash(const struct ingle_gguf *gguf, uint8_t ret[16])
{
    uint64_t facts[5] = {0, 0, gguf->file_bytes, (uint64_t)gguf->mtime_ns,
                         (uint64_t)gguf->ctime_ns};
    XXH128_canonical_t bytes;
    XXH128_hash_t header = XXH3_128bits(gguf->head, gguf->head_bytes);

    facts[0] = header.low64;
    facts[1] = header.high64;
    XXH128_canonicalFromHash(&bytes, XXH3_128bits(facts, sizeof facts));
    memcpy(ret, bytes.digest, sizeof bytes.digest);
}

bool ingle_gguf_unchanged(const struct ingle_gguf *gguf)
{
    struct stat st;

    return fstat(gguf->fd, &st) == 0 && (uint64_t)st.st_size == gguf->file_bytes &&
           time_ns(st.st_mtim) == gguf->mtime_ns && time_ns(st.st_ctim) == gguf->ctime_ns;
}

uint32_t ingle_gguf_n_tensors(const struct ingle_gguf *gguf)
{
    return gguf->n_tensors;
}

const struct ingle_gguf_tensor *ingle_gguf_tensor_at(const struct ingle_gguf *gguf, uint32_t i)
{
    ingle_assert(i < gguf->n_tensors);
    return &gguf->tensors[i];
}

const struct ingle_gguf_tensor *ingle_gguf_find_tensor(const struct ingle_gguf *gguf,
                                                       const char *name)
{
    const struct named *found = find_name(gguf->names, gguf->n_tensors, name);

    return found != NULL ? &gguf->tensors[found->i] : NULL;
}

static const struct entry *find_entry(const struct ingle_gguf *gguf, const char *key)
{
    const struct named *found = find_name(gguf->keys, gguf->n_entries, key);

    return found != NULL ? &gguf->entries[found->i] : NULL;
}

bool ingle_gguf_has(const struct ingle_gguf *gguf, const char *key)
{
    return find_entry(gguf, key) != NULL;
}

static const struct ingle_gguf_array *find_scalar(const struct ingle_gguf *gguf, const char *key)
{
    const struct entry *e = find_entry(gguf, key);

    return e != NULL && !e->is_array ? &e->value : NULL;
}

static bool is_int(enum value_type type)
{
    return type < T_COUNT && value_bytes[type] != 0 && type != T_F32 && type != T_F64 &&
           type != T_BOOL;
}

static bool is_signed(enum value_type type)
{
    return type == T_I8 || type == T_I16 || type == T_I32 || type == T_I64;
}

bool ingle_gguf_u64(const struct ingle_gguf *gguf, const char *key, uint64_t *ret)
{
    const struct ingle_gguf_array *a = find_scalar(gguf, key);
    int64_t v;

    if (a == NULL || !is_int(a->type)) {
        return false;
    }
    v = ingle_gguf_array_int(a, 0);
    if (v < 0 && is_signed(a->type)) {
        return false;
    }
    *ret = (uint64_t)v;
    return true;
}

bool ingle_gguf_f64(const struct ingle_gguf *gguf, const char *key, double *ret)
{
    const struct ingle_gguf_array *a = find_scalar(gguf, key);

    if (a == NULL) {
        return false;
    }
    if (a->type == T_F32 || a->type == T_F64) {
        *ret = ingle_gguf_array_float(a, 0);
        return true;
    }
    if (!is_int(a->type)) {
        return false;
    }
    *ret = is_signed(a->type) ? (double)ingle_gguf_array_int(a, 0)
                              : (double)(uint64_t)ingle_gguf_array_int(a, 0);
    return true;
}

bool ingle_gguf_bool(const struct ingle_gguf *gguf, const char *key, bool *ret)
{
    const struct ingle_gguf_array *a = find_scalar(gguf, key);

    if (a == NULL || a->type != T_BOOL) {
        return false;
    }
    *ret = ingle_gguf_array_int(a, 0) != 0;
    return true;
}

bool ingle_gguf_str(const struct ingle_gguf *gguf, const char *key, struct ingle_str *ret)
{
    const struct ingle_gguf_array *a = find_scalar(gguf, key);

    if (a == NULL || a->type != T_STR) {
        return false;
    }
    *ret = ingle_gguf_array_str(a, 0);
    return true;
}

const struct ingle_gguf_array *ingle_gguf_array(const struct ingle_gguf *gguf, const char *key,
                                                enum ingle_gguf_kind kind, uint64_t *ret_n)
{
    const struct entry *e = find_entry(gguf, key);
    enum value_type type;
    bool right = false;

    if (e == NULL || !e->is_array) {
        return NULL;
    }
    type = e->value.type;
    switch (kind) {
    case INGLE_GGUF_INT:
        right = is_int(type);
        break;
    case INGLE_GGUF_FLOAT:
        right = type == T_F32 || type == T_F64;
        break;
    case INGLE_GGUF_BOOL:
        right = type == T_BOOL;
        break;
    case INGLE_GGUF_STR:
        right = type == T_STR;
        break;
    }
    if (!right) {
        return NULL;
    }
    *ret_n = e->value.n;
    return &e->value;
}

int64_t ingle_gguf_array_int(const struct ingle_gguf_array *a, uint64_t i)
{
    uint32_t bytes = value_bytes[a->type];
    uint64_t v;

    ingle_assert(i < a->n);
    v = load_le(a->data + i * bytes, bytes);
    if (is_signed(a->type) && bytes < 8) {
        uint64_t sign = UINT64_C(1) << (8 * bytes - 1);

        v = (v ^ sign) - sign;
    }
    return (int64_t)v;
}

double ingle_gguf_array_float(const struct ingle_gguf_array *a, uint64_t i)
{
    double wide;
    float narrow;

    ingle_assert(i < a->n);
    if (a->type == T_F64) {
        memcpy(&wide, a->data + i * sizeof wide, sizeof wide);
        return wide;
    }
    memcpy(&narrow, a->data + i * sizeof narrow, sizeof narrow);
    return (double)narrow;
}

struct ingle_str ingle_gguf_array_str(const struct ingle_gguf_array *a, uint64_t i)
{
    const uint8_t *p;

    ingle_assert(i < a->n);
    p = a->data + a->str_off[i];
    return (struct ingle_str){(const char *)p + 8, load_le(p, 8)};
}
