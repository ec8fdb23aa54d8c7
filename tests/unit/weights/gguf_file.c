/* Owns the buffers of a GGUF file under construction. Test code: no memory is an abort. */
#include "tests/unit/weights/gguf_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void gguf_file_init(struct gguf_file *f)
{
    *f = (struct gguf_file){.version = 3, .alignment = 32};
}

void gguf_file_fini(struct gguf_file *f)
{
    free(f->keys.p);
    free(f->tensors.p);
    free(f->data.p);
    *f = (struct gguf_file){0};
}

void gguf_put(struct gguf_buf *buf, const void *bytes, size_t n)
{
    if (n == 0) {
        return;
    }
    if (buf->n + n > buf->room) {
        buf->room = 2 * (buf->n + n);
        buf->p = realloc(buf->p, buf->room);
        if (buf->p == NULL) {
            abort();
        }
    }
    if (bytes != NULL) {
        memcpy(buf->p + buf->n, bytes, n);
    } else {
        memset(buf->p + buf->n, 0, n);
    }
    buf->n += n;
}

void gguf_put_u32(struct gguf_buf *buf, uint32_t v)
{
    gguf_put(buf, &v, sizeof v);
}

void gguf_put_u64(struct gguf_buf *buf, uint64_t v)
{
    gguf_put(buf, &v, sizeof v);
}

void gguf_put_str(struct gguf_buf *buf, const char *text)
{
    gguf_put_u64(buf, strlen(text));
    gguf_put(buf, text, strlen(text));
}

void gguf_key_begin(struct gguf_file *f, const char *key, enum gguf_value_type type)
{
    gguf_put_str(&f->keys, key);
    gguf_put_u32(&f->keys, type);
    f->n_keys++;
}

void gguf_key_u32(struct gguf_file *f, const char *key, uint32_t v)
{
    gguf_key_begin(f, key, GGUF_U32);
    gguf_put_u32(&f->keys, v);
}

void gguf_key_f32(struct gguf_file *f, const char *key, float v)
{
    gguf_key_begin(f, key, GGUF_F32);
    gguf_put(&f->keys, &v, sizeof v);
}

void gguf_key_bool(struct gguf_file *f, const char *key, bool v)
{
    uint8_t byte = v;

    gguf_key_begin(f, key, GGUF_BOOL);
    gguf_put(&f->keys, &byte, sizeof byte);
}

void gguf_key_str(struct gguf_file *f, const char *key, const char *v)
{
    gguf_key_begin(f, key, GGUF_STR);
    gguf_put_str(&f->keys, v);
}

void gguf_key_array(struct gguf_file *f, const char *key, enum gguf_value_type type, uint64_t n)
{
    gguf_key_begin(f, key, GGUF_ARRAY);
    gguf_put_u32(&f->keys, type);
    gguf_put_u64(&f->keys, n);
}

void gguf_tensor_info(struct gguf_file *f, const char *name, uint32_t n_dims, const uint64_t *dims,
                      uint32_t type, uint64_t off)
{
    gguf_put_str(&f->tensors, name);
    gguf_put_u32(&f->tensors, n_dims);
    gguf_put(&f->tensors, dims, n_dims * sizeof *dims);
    gguf_put_u32(&f->tensors, type);
    gguf_put_u64(&f->tensors, off);
    f->n_tensors++;
}

size_t gguf_row_bytes(enum gguf_tensor_type type, uint64_t cols)
{
    switch (type) {
    case GGUF_T_F16:
        return cols * 2;
    case GGUF_T_Q4_0:
        return cols / 32 * 18;
    case GGUF_T_Q8_0:
        return cols / 32 * 34;
    case GGUF_T_Q6_K:
        return cols / 256 * 210;
    case GGUF_T_F32:
    default:
        return cols * 4;
    }
}

void gguf_tensor(struct gguf_file *f, const char *name, uint64_t cols, uint64_t rows,
                 enum gguf_tensor_type type, const void *data)
{
    uint64_t dims[2] = {cols, rows};

    gguf_put(&f->data, NULL, -f->data.n & (f->alignment - 1));
    gguf_tensor_info(f, name, rows == 0 ? 1 : 2, dims, type, f->data.n);
    gguf_put(&f->data, data, gguf_row_bytes(type, cols) * (rows == 0 ? 1 : rows));
}

uint8_t *gguf_file_finish(const struct gguf_file *f, size_t *ret_bytes, size_t *ret_header)
{
    struct gguf_buf all = {0};

    gguf_put(&all, "GGUF", 4);
    gguf_put_u32(&all, f->version);
    gguf_put_u64(&all, f->n_tensors);
    gguf_put_u64(&all, f->n_keys);
    gguf_put(&all, f->keys.p, f->keys.n);
    gguf_put(&all, f->tensors.p, f->tensors.n);
    *ret_header = all.n;
    gguf_put(&all, NULL, -all.n & (f->alignment - 1));
    gguf_put(&all, f->data.p, f->data.n);
    *ret_bytes = all.n;
    return all.p;
}

bool gguf_file_write(const struct gguf_file *f, const char *path)
{
    size_t bytes, header;
    uint8_t *p = gguf_file_finish(f, &bytes, &header);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, p, bytes) == (ssize_t)bytes;

    if (fd >= 0 && close(fd) != 0) {
        ok = false;
    }
    free(p);
    return ok;
}
