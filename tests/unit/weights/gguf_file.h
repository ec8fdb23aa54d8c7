/* Writes GGUF files for tests: keys and tensors are added, then the file is finished in memory.
 * Nothing is checked, so that bad files can be written as easily as good ones. Aborts without
 * memory. */
#ifndef INGLE_TESTS_UNIT_WEIGHTS_GGUF_FILE_H
#define INGLE_TESTS_UNIT_WEIGHTS_GGUF_FILE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Types of values and tensors as they stand in a file. */
enum gguf_value_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STR,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64
};
enum gguf_tensor_type {
    GGUF_T_F32 = 0,
    GGUF_T_F16 = 1,
    GGUF_T_Q4_0 = 2,
    GGUF_T_Q8_0 = 8,
    GGUF_T_Q6_K = 14
};

struct gguf_buf {
    uint8_t *p;
    size_t n, room;
};

struct gguf_file {
    uint32_t version;
    uint64_t n_keys, n_tensors;
    uint64_t alignment; /* 32; also write the key when changed */
    struct gguf_buf keys, tensors, data;
};

void gguf_file_init(struct gguf_file *f);
void gguf_file_fini(struct gguf_file *f);

void gguf_put(struct gguf_buf *buf, const void *bytes, size_t n);
void gguf_put_u32(struct gguf_buf *buf, uint32_t v);
void gguf_put_u64(struct gguf_buf *buf, uint64_t v);
void gguf_put_str(struct gguf_buf *buf, const char *text);

/* Keys. begin + gguf_put for what the others do not write. */
void gguf_key_begin(struct gguf_file *f, const char *key, enum gguf_value_type type);
void gguf_key_u32(struct gguf_file *f, const char *key, uint32_t v);
void gguf_key_f32(struct gguf_file *f, const char *key, float v);
void gguf_key_bool(struct gguf_file *f, const char *key, bool v);
void gguf_key_str(struct gguf_file *f, const char *key, const char *v);
/* n elements of the type follow by gguf_put(&f->keys, ...). */
void gguf_key_array(struct gguf_file *f, const char *key, enum gguf_value_type type, uint64_t n);

/* A tensor info whose data begins at `off` of the data section; nothing is added there. */
void gguf_tensor_info(struct gguf_file *f, const char *name, uint32_t n_dims, const uint64_t *dims,
                      uint32_t type, uint64_t off);
/* A tensor of cols x rows (rows 0: a vector) and its data, aligned; data NULL: zeros. */
void gguf_tensor(struct gguf_file *f, const char *name, uint64_t cols, uint64_t rows,
                 enum gguf_tensor_type type, const void *data);
/* Bytes of a row of a tensor. */
size_t gguf_row_bytes(enum gguf_tensor_type type, uint64_t cols);

/* The whole file; *ret_header: where the tensor infos end. Freed by the caller. */
uint8_t *gguf_file_finish(const struct gguf_file *f, size_t *ret_bytes, size_t *ret_header);
/* finish() and write to path; false with errno on failure. */
bool gguf_file_write(const struct gguf_file *f, const char *path);

#endif
