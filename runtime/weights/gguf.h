/* The GGUF reader (v2, v3): metadata and tensor table of one file, bounds-checked, nothing trusted.
 * Owns a private copy of the header; tensor data is read by weights/stream. Thread: any, one at a
 * time. */
#ifndef INGLE_RUNTIME_WEIGHTS_GGUF_H
#define INGLE_RUNTIME_WEIGHTS_GGUF_H
#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "runtime/base/error.h"

struct ingle_gguf; /* opaque */

/* A string inside the header copy: not NUL-terminated, valid until close. */
struct ingle_str {
    const char *p;
    uint64_t bytes;
};

/* A name out of a file, cut and with everything but printable ASCII replaced: fit for a message. */
struct ingle_shown {
    char text[72];
};
struct ingle_shown ingle_show(struct ingle_str name);

struct ingle_gguf_tensor {
    struct ingle_str name;
    enum ingle_wtype type;
    uint32_t n_dims;
    uint64_t dims[4]; /* dims[0] = columns (K), dims[1] = rows (N) */
    uint64_t file_off, bytes;
};

/* Open and check a file: magic, version, counts, every string, alignment, every tensor's range,
 * overlap and type. Errors (kind BAD_MODEL) name tensor or key, byte and reason. */
int ingle_gguf_open(const char *path, struct ingle_gguf **ret,
                    struct ingle_error *err) INGLE_MUST_CHECK;
/* The same from memory, for tests and the fuzzer: header bytes and the length the file claims. */
int ingle_gguf_parse(const void *bytes, uint64_t n_bytes, uint64_t file_bytes,
                     struct ingle_gguf **ret, struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_gguf_close(struct ingle_gguf *gguf);   /* NULL allowed */
int ingle_gguf_fd(const struct ingle_gguf *gguf); /* -1 after parse() */
const char *ingle_gguf_path(const struct ingle_gguf *gguf);
const char *ingle_gguf_shown(const struct ingle_gguf *gguf); /* the file's name, for messages */
uint64_t ingle_gguf_file_bytes(const struct ingle_gguf *gguf);
/* Names the file's content without reading all of it: XXH3-128 of header, size, mtime and ctime.
 * The mtime can be set back (rsync -t, tar, stores where all files have the same); the ctime
 * cannot. */
void ingle_gguf_hash(const struct ingle_gguf *gguf, uint8_t ret[16]);
/* Has nobody written to the file since it was opened, as far as its size and times tell? */
bool ingle_gguf_unchanged(const struct ingle_gguf *gguf);

uint32_t ingle_gguf_n_tensors(const struct ingle_gguf *gguf);
/* i < n_tensors; one array, in the header's order. */
const struct ingle_gguf_tensor *ingle_gguf_tensor_at(const struct ingle_gguf *gguf, uint32_t i);
const struct ingle_gguf_tensor *ingle_gguf_find_tensor(const struct ingle_gguf *gguf,
                                                       const char *name);

/* Metadata by key. Each returns false when the key is absent or of another kind (any integer width
 * serves for u64; f32/f64 and integers for f64). */
bool ingle_gguf_has(const struct ingle_gguf *gguf, const char *key); /* of any kind */
bool ingle_gguf_u64(const struct ingle_gguf *gguf, const char *key, uint64_t *ret);
bool ingle_gguf_f64(const struct ingle_gguf *gguf, const char *key, double *ret);
bool ingle_gguf_bool(const struct ingle_gguf *gguf, const char *key, bool *ret);
bool ingle_gguf_str(const struct ingle_gguf *gguf, const char *key, struct ingle_str *ret);
/* Arrays. The element accessors need i < n and an array of the right kind (checked by array()). */
enum ingle_gguf_kind {
    INGLE_GGUF_INT,
    INGLE_GGUF_FLOAT,
    INGLE_GGUF_BOOL,
    INGLE_GGUF_STR
};
struct ingle_gguf_array; /* opaque, lives as long as the gguf */
const struct ingle_gguf_array *ingle_gguf_array(const struct ingle_gguf *gguf, const char *key,
                                                enum ingle_gguf_kind kind, uint64_t *ret_n);
int64_t ingle_gguf_array_int(const struct ingle_gguf_array *a, uint64_t i);
double ingle_gguf_array_float(const struct ingle_gguf_array *a, uint64_t i);
struct ingle_str ingle_gguf_array_str(const struct ingle_gguf_array *a, uint64_t i); /* O(1) */

#endif
