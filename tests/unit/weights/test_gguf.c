/* The GGUF reader against files written here: every kind of value, and every kind of damage. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/weights/gguf.h"
#include "tests/unit/weights/gguf_file.h"

static const uint64_t row32[1] = {32};

/* Parse an exact copy, so that a sanitizer sees a read beyond it. */
static int parse(const uint8_t *bytes, size_t n, uint64_t file_bytes, struct ingle_gguf **ret,
                 struct ingle_error *err)
{
    uint8_t *copy = malloc(n == 0 ? 1 : n);
    int rc;

    assert_non_null(copy);
    memcpy(copy, bytes, n);
    memset(err, 0, sizeof *err);
    rc = ingle_gguf_parse(copy, n, file_bytes, ret, err);
    free(copy);
    return rc;
}

static struct ingle_gguf *accept(const struct gguf_file *f)
{
    struct ingle_gguf *g = NULL;
    struct ingle_error err;
    size_t bytes, header;
    uint8_t *p = gguf_file_finish(f, &bytes, &header);

    if (parse(p, bytes, bytes, &g, &err) != 0) {
        fail_msg("refused: %s", err.text);
    }
    free(p);
    return g;
}

/* The file is refused as a bad model, in one line that holds every one of the words. */
static void refuse(struct gguf_file *f, const char *word, const char *word2)
{
    struct ingle_gguf *g = NULL;
    struct ingle_error err;
    size_t bytes, header;
    uint8_t *p = gguf_file_finish(f, &bytes, &header);

    assert_true(parse(p, bytes, bytes, &g, &err) < 0);
    assert_null(g);
    assert_int_equal(err.kind, INGLE_ERR_BAD_MODEL);
    if (strstr(err.text, word) == NULL || strstr(err.text, word2) == NULL) {
        fail_msg("expected \"%s\" and \"%s\": %s", word, word2, err.text);
    }
    for (const char *c = err.text; *c != '\0'; c++) {
        assert_true(*c >= 0x20 && *c < 0x7f);
    }
    free(p);
    gguf_file_fini(f);
}

/* A file with something of everything. */
static void sample(struct gguf_file *f)
{
    gguf_file_init(f);
    gguf_key_str(f, "general.architecture", "llama");
    gguf_key_u32(f, "a.count", 7);
    gguf_key_f32(f, "a.scale", 0.5F);
    gguf_key_bool(f, "a.flag", true);
    gguf_key_array(f, "a.words", GGUF_STR, 3);
    gguf_put_str(&f->keys, "one");
    gguf_put_str(&f->keys, "");
    gguf_put_str(&f->keys, "three");
    gguf_key_array(f, "a.ints", GGUF_I32, 2);
    gguf_put_u32(&f->keys, 5);
    gguf_put_u32(&f->keys, (uint32_t)-6);
    gguf_tensor(f, "x.weight", 32, 3, GGUF_T_Q4_0, NULL);
    gguf_tensor(f, "x.norm", 5, 0, GGUF_T_F32, NULL);
}

static void every_kind_of_scalar_reads_back(void **state)
{
    struct gguf_file f;
    struct ingle_gguf *g;
    struct ingle_str s;
    uint64_t u = 0;
    double d = 0;
    bool b = false;
    int64_t wide = INT64_MIN;
    double real = 0.1;

    (void)state;
    sample(&f);
    gguf_key_begin(&f, "i8", GGUF_I8);
    gguf_put(&f.keys, "\xfe", 1);
    gguf_key_begin(&f, "u16", GGUF_U16);
    gguf_put(&f.keys, "\x34\x12", 2);
    gguf_key_begin(&f, "i64", GGUF_I64);
    gguf_put(&f.keys, &wide, 8);
    gguf_key_begin(&f, "u64", GGUF_U64);
    gguf_put_u64(&f.keys, UINT64_MAX);
    gguf_key_begin(&f, "f64", GGUF_F64);
    gguf_put(&f.keys, &real, 8);
    g = accept(&f);

    assert_true(ingle_gguf_u64(g, "a.count", &u) && u == 7);
    assert_true(ingle_gguf_f64(g, "a.count", &d) && d == 7);
    assert_true(ingle_gguf_f64(g, "a.scale", &d) && d == 0.5);
    assert_true(ingle_gguf_bool(g, "a.flag", &b) && b);
    assert_true(ingle_gguf_str(g, "general.architecture", &s));
    assert_int_equal(s.bytes, 5);
    assert_memory_equal(s.p, "llama", 5);
    assert_true(ingle_gguf_u64(g, "u16", &u) && u == 0x1234);
    assert_true(ingle_gguf_u64(g, "u64", &u) && u == UINT64_MAX);
    assert_true(ingle_gguf_f64(g, "u64", &d) && d == 18446744073709551615.0);
    assert_true(ingle_gguf_f64(g, "f64", &d) && d == 0.1);
    assert_true(ingle_gguf_f64(g, "i8", &d) && d == -2);
    assert_true(ingle_gguf_f64(g, "i64", &d) && d == (double)INT64_MIN);
    ingle_gguf_close(g);
    gguf_file_fini(&f);
}

static void a_key_of_another_kind_counts_as_absent(void **state)
{
    struct gguf_file f;
    struct ingle_gguf *g;
    struct ingle_str s;
    uint64_t u = 99;
    double d = 99;
    bool b = false;

    (void)state;
    sample(&f);
    gguf_key_begin(&f, "negative", GGUF_I32);
    gguf_put_u32(&f.keys, (uint32_t)-1);
    g = accept(&f);
    assert_false(ingle_gguf_u64(g, "negative", &u));
    assert_false(ingle_gguf_u64(g, "a.scale", &u));
    assert_false(ingle_gguf_u64(g, "a.flag", &u));
    assert_false(ingle_gguf_u64(g, "a.ints", &u));
    assert_false(ingle_gguf_u64(g, "none", &u));
    assert_false(ingle_gguf_f64(g, "a.flag", &d));
    assert_false(ingle_gguf_f64(g, "general.architecture", &d));
    assert_false(ingle_gguf_bool(g, "a.count", &b));
    assert_false(ingle_gguf_str(g, "a.words", &s));
    assert_int_equal(u, 99);
    assert_true(ingle_gguf_has(g, "a.words"));
    assert_false(ingle_gguf_has(g, "a.word"));
    ingle_gguf_close(g);
    gguf_file_fini(&f);
}

static void arrays_read_back(void **state)
{
    const struct ingle_gguf_array *a;
    struct gguf_file f;
    struct ingle_gguf *g;
    struct ingle_str s;
    uint64_t n = 0;

    (void)state;
    sample(&f);
    gguf_key_array(&f, "floats", GGUF_F64, 1);
    gguf_put(&f.keys, &(double){-1.25}, 8);
    gguf_key_array(&f, "bools", GGUF_BOOL, 2);
    gguf_put(&f.keys, "\0\1", 2);
    gguf_key_array(&f, "empty", GGUF_STR, 0);
    g = accept(&f);

    a = ingle_gguf_array(g, "a.words", INGLE_GGUF_STR, &n);
    assert_non_null(a);
    assert_int_equal(n, 3);
    s = ingle_gguf_array_str(a, 2);
    assert_int_equal(s.bytes, 5);
    assert_memory_equal(s.p, "three", 5);
    assert_int_equal(ingle_gguf_array_str(a, 1).bytes, 0);
    a = ingle_gguf_array(g, "a.ints", INGLE_GGUF_INT, &n);
    assert_int_equal(n, 2);
    assert_int_equal(ingle_gguf_array_int(a, 0), 5);
    assert_int_equal(ingle_gguf_array_int(a, 1), -6);
    a = ingle_gguf_array(g, "floats", INGLE_GGUF_FLOAT, &n);
    assert_true(ingle_gguf_array_float(a, 0) == -1.25);
    a = ingle_gguf_array(g, "bools", INGLE_GGUF_BOOL, &n);
    assert_int_equal(ingle_gguf_array_int(a, 1), 1);
    assert_non_null(ingle_gguf_array(g, "empty", INGLE_GGUF_STR, &n));
    assert_int_equal(n, 0);
    assert_null(ingle_gguf_array(g, "a.words", INGLE_GGUF_INT, &n));
    assert_null(ingle_gguf_array(g, "a.count", INGLE_GGUF_INT, &n));
    ingle_gguf_close(g);
    gguf_file_fini(&f);
}

static void tensors_are_found_with_their_place_in_the_file(void **state)
{
    const struct ingle_gguf_tensor *t;
    struct gguf_file f;
    struct ingle_gguf *g;
    size_t bytes, header;

    (void)state;
    sample(&f);
    free(gguf_file_finish(&f, &bytes, &header));
    f.version = 2;
    g = accept(&f);
    assert_int_equal(ingle_gguf_n_tensors(g), 2);
    t = ingle_gguf_find_tensor(g, "x.weight");
    assert_ptr_equal(t, ingle_gguf_tensor_at(g, 0));
    assert_int_equal(t->type, INGLE_W_Q4_0);
    assert_int_equal(t->dims[0], 32);
    assert_int_equal(t->dims[1], 3);
    assert_int_equal(t->dims[3], 1);
    assert_int_equal(t->bytes, 54);
    assert_int_equal(t->file_off, (header + 31) & ~(size_t)31);
    t = ingle_gguf_find_tensor(g, "x.norm");
    assert_int_equal(t->file_off, ((header + 31) & ~(size_t)31) + 64);
    assert_int_equal(t->dims[1], 1);
    assert_null(ingle_gguf_find_tensor(g, "x.weigh"));
    ingle_gguf_close(g);
    gguf_file_fini(&f);
}

static void another_alignment_is_honoured(void **state)
{
    struct gguf_file f;
    struct ingle_gguf *g;

    (void)state;
    gguf_file_init(&f);
    f.alignment = 512;
    gguf_key_u32(&f, "general.alignment", 512);
    gguf_tensor(&f, "a", 32, 0, GGUF_T_F32, NULL);
    gguf_tensor(&f, "b", 32, 0, GGUF_T_F32, NULL);
    g = accept(&f);
    assert_int_equal(ingle_gguf_tensor_at(g, 0)->file_off, 512);
    assert_int_equal(ingle_gguf_tensor_at(g, 1)->file_off, 1024);
    ingle_gguf_close(g);
    gguf_file_fini(&f);
}

static void a_file_cut_at_any_byte_is_refused(void **state)
{
    struct gguf_file f;
    size_t bytes, header;
    uint8_t *p;

    (void)state;
    sample(&f);
    p = gguf_file_finish(&f, &bytes, &header);
    for (size_t n = 0; n < bytes; n++) {
        struct ingle_gguf *g = NULL;
        struct ingle_error err;

        assert_true(parse(p, n, n, &g, &err) < 0);
        assert_int_equal(err.kind, INGLE_ERR_BAD_MODEL);
        assert_non_null(strstr(err.text, "truncated download?"));
        assert_non_null(strstr(err.text, "byte"));
        assert_non_null(strstr(err.text, n >= header ? "tensor x." : "gguf: "));
        /* The file may be longer than the part that was given. */
        if (n < header) {
            assert_true(parse(p, n, bytes, &g, &err) < 0);
        }
    }
    free(p);
    gguf_file_fini(&f);
}

static void no_single_byte_of_a_header_can_do_harm(void **state)
{
    struct gguf_file f;
    size_t bytes, header;
    uint8_t *p;

    (void)state;
    sample(&f);
    p = gguf_file_finish(&f, &bytes, &header);
    for (size_t i = 0; i < header; i++) {
        uint8_t was = p[i];

        for (unsigned v = 0; v < 256; v++) {
            struct ingle_gguf *g = NULL;
            struct ingle_error err;

            p[i] = (uint8_t)v;
            if (parse(p, bytes, bytes, &g, &err) == 0) {
                for (uint32_t t = 0; t < ingle_gguf_n_tensors(g); t++) {
                    const struct ingle_gguf_tensor *x = ingle_gguf_tensor_at(g, t);

                    assert_true(x->bytes <= bytes && x->file_off <= bytes - x->bytes);
                }
                ingle_gguf_close(g);
            } else {
                assert_int_equal(err.kind, INGLE_ERR_BAD_MODEL);
            }
        }
        p[i] = was;
    }
    free(p);
    gguf_file_fini(&f);
}

static void what_is_not_gguf_is_refused_by_its_first_bytes(void **state)
{
    struct ingle_gguf *g = NULL;
    struct ingle_error err;

    (void)state;
    assert_true(parse((const uint8_t *)"PK\3\4 and so on", 15, 15, &g, &err) < 0);
    assert_non_null(strstr(err.text, "not a GGUF file"));
    assert_non_null(strstr(err.text, "50 4b 03 04"));
}

static void other_versions_are_refused_by_number(void **state)
{
    static const struct {
        uint32_t version;
        const char *word;
    } cases[] = {{0, "version 0"}, {1, "version 1"}, {4, "version 4"}, {0x03000000, "big-endian"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_file f;

        sample(&f);
        f.version = cases[i].version;
        refuse(&f, cases[i].word, "byte 4");
    }
}

static void counts_that_no_file_has_are_refused(void **state)
{
    struct gguf_file f;

    (void)state;
    sample(&f);
    f.n_tensors = UINT64_C(1) << 60;
    refuse(&f, "1152921504606846976 tensors", "byte 8");
    sample(&f);
    f.n_keys = UINT64_MAX;
    refuse(&f, "18446744073709551615 keys", "byte 16");
    sample(&f);
    f.n_keys = 60000;
    refuse(&f, "of 60000", "byte");
    sample(&f);
    f.n_tensors = 60000;
    refuse(&f, "of 60000", "byte");
}

static void hostile_lengths_are_refused(void **state)
{
    static const uint64_t lengths[] = {
        100000,           UINT64_MAX, UINT64_MAX - 7, UINT64_C(1) << 63, UINT64_C(1) << 61,
        UINT64_C(1) << 32};

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct gguf_file f;

        gguf_file_init(&f);
        gguf_key_begin(&f, "long.string", GGUF_STR);
        gguf_put_u64(&f.keys, lengths[i]);
        refuse(&f, "key long.string", "byte");
        gguf_file_init(&f);
        gguf_put_u64(&f.keys, lengths[i]);
        f.n_keys = 1;
        refuse(&f, "key 1 of 1", "byte");
        gguf_file_init(&f);
        gguf_put_u64(&f.tensors, lengths[i]);
        f.n_tensors = 1;
        refuse(&f, "tensor 1 of 1", "byte");
        for (enum gguf_value_type type = GGUF_U8; type <= GGUF_F64; type++) {
            if (type != GGUF_ARRAY) {
                gguf_file_init(&f);
                gguf_key_array(&f, "long.array", type, lengths[i]);
                gguf_put_u64(&f.keys, 0);
                refuse(&f, "key long.array", "byte");
            }
        }
    }
}

static void unknown_and_nested_value_types_are_refused(void **state)
{
    struct gguf_file f;

    (void)state;
    gguf_file_init(&f);
    gguf_key_begin(&f, "odd", (enum gguf_value_type)13);
    gguf_put_u64(&f.keys, 0);
    refuse(&f, "key odd", "type 13");
    gguf_file_init(&f);
    gguf_key_array(&f, "odd", (enum gguf_value_type)200, 0);
    refuse(&f, "key odd", "type 200");
    gguf_file_init(&f);
    gguf_key_array(&f, "odd", GGUF_ARRAY, 1);
    gguf_put_u64(&f.keys, 0);
    refuse(&f, "key odd", "nested");
}

static void a_name_that_stands_twice_is_refused(void **state)
{
    struct gguf_file f;

    (void)state;
    sample(&f);
    gguf_key_u32(&f, "a.count", 8);
    refuse(&f, "key a.count stands twice", "byte");
    sample(&f);
    gguf_tensor(&f, "x.norm", 5, 0, GGUF_T_F32, NULL);
    refuse(&f, "tensor x.norm stands twice", "byte");
}

static void names_of_no_or_too_many_bytes_are_refused(void **state)
{
    struct gguf_file f;

    (void)state;
    sample(&f);
    gguf_key_u32(&f, "", 1);
    refuse(&f, "name of 0 bytes", "byte");
    sample(&f);
    gguf_tensor(&f, "", 5, 0, GGUF_T_F32, NULL);
    refuse(&f, "tensor 3 of 3", "name of 0 bytes");
    sample(&f);
    gguf_tensor(&f, "n1234567890123456789012345678901234567890123456789012345678901234", 5, 0,
                GGUF_T_F32, NULL);
    refuse(&f, "name of 65 bytes", "byte");
}

static void a_hostile_name_is_shown_without_its_control_bytes(void **state)
{
    struct gguf_file f;

    (void)state;
    sample(&f);
    gguf_key_begin(&f, "\x1b[2Jred\n\xff", (enum gguf_value_type)77);
    refuse(&f, "key ?[2Jred??", "type 77");
}

static void impossible_dimensions_are_refused(void **state)
{
    static const struct {
        uint32_t n;
        uint64_t dims[5];
        const char *word;
    } cases[] = {
        {0, {0}, "0 dimensions"},
        {5, {32, 1, 1, 1, 1}, "5 dimensions"},
        {UINT32_MAX, {32}, "4294967295 dimensions"},
        {1, {0}, "dimension 0"},
        {2, {32, 0}, "dimension 1"},
        {2, {UINT64_C(1) << 40, UINT64_C(1) << 40}, "dimension 1"},
        {4, {32, UINT64_C(1) << 20, UINT64_C(1) << 20, UINT64_C(1) << 20}, "dimension 3"},
        {1, {UINT64_MAX}, "dimension 0"},
        {1, {(UINT64_C(1) << 63) - 32}, "more bytes"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_file f;

        gguf_file_init(&f);
        gguf_tensor_info(&f, "t", cases[i].n < 5 ? cases[i].n : 5, cases[i].dims, GGUF_T_F32, 0);
        memcpy(f.tensors.p + 9, &cases[i].n, 4);
        gguf_put(&f.data, NULL, 4096);
        refuse(&f, "tensor t", cases[i].word);
    }
}

static void types_that_are_not_served_are_named(void **state)
{
    static const struct {
        uint32_t type;
        const char *word;
    } cases[] = {{4, "type 4 (unknown)"},
                 {9, "Q8_1"},
                 {23, "IQ4_XS"},
                 {39, "MXFP4"},
                 {40, "type 40 (unknown)"},
                 {28, "F64"},
                 {16, "IQ2_XXS"},
                 {UINT32_MAX, "type 4294967295 (unknown)"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gguf_file f;

        gguf_file_init(&f);
        gguf_tensor_info(&f, "blk.3.attn_k.weight", 1, row32, cases[i].type, 0);
        gguf_put(&f.data, NULL, 4096);
        refuse(&f, "tensor blk.3.attn_k.weight", cases[i].word);
    }
}

static void rows_of_broken_blocks_are_refused(void **state)
{
    static const uint64_t dims[2] = {33, 32};
    struct gguf_file f;

    (void)state;
    gguf_file_init(&f);
    gguf_tensor_info(&f, "t", 2, dims, GGUF_T_Q4_0, 0);
    gguf_put(&f.data, NULL, 4096);
    refuse(&f, "tensor t", "rows of 33");
    gguf_file_init(&f);
    gguf_tensor_info(&f, "t", 1, row32, GGUF_T_Q6_K, 0);
    gguf_put(&f.data, NULL, 4096);
    refuse(&f, "tensor t", "blocks of 256");
}

static void a_tensor_must_lie_in_the_file_aligned_and_alone(void **state)
{
    struct gguf_file f;

    (void)state;
    gguf_file_init(&f);
    gguf_tensor_info(&f, "t", 1, row32, GGUF_T_F32, 8);
    gguf_put(&f.data, NULL, 4096);
    refuse(&f, "tensor t begins at byte 8", "alignment 32");
    gguf_file_init(&f);
    gguf_tensor_info(&f, "t", 1, row32, GGUF_T_F32, 4096 - 96);
    gguf_put(&f.data, NULL, 4096);
    refuse(&f, "tensor t ends at byte", "(truncated download?)");
    gguf_file_init(&f);
    gguf_tensor_info(&f, "t", 1, row32, GGUF_T_F32, UINT64_MAX - 31);
    gguf_put(&f.data, NULL, 4096);
    refuse(&f, "tensor t", "beyond any file");
    gguf_file_init(&f);
    gguf_tensor_info(&f, "t", 1, row32, GGUF_T_F32, UINT64_C(1) << 62);
    gguf_put(&f.data, NULL, 4096);
    refuse(&f, "tensor t ends at byte 46116860184273", "(truncated download?)");
    gguf_file_init(&f);
    gguf_tensor_info(&f, "first", 1, row32, GGUF_T_F32, 0);
    gguf_tensor_info(&f, "second", 1, row32, GGUF_T_F32, 96);
    gguf_put(&f.data, NULL, 4096);
    refuse(&f, "tensor second begins at byte", "inside tensor first");
    gguf_file_init(&f);
    gguf_tensor_info(&f, "a", 1, row32, GGUF_T_F32, 128);
    gguf_tensor_info(&f, "b", 1, row32, GGUF_T_F32, 128);
    gguf_put(&f.data, NULL, 4096);
    refuse(&f, "begins at byte", "inside tensor");
}

static void odd_alignments_are_refused(void **state)
{
    static const uint32_t odd[] = {0, 1, 4, 24, 33, 131072, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        struct gguf_file f;

        sample(&f);
        gguf_key_u32(&f, "general.alignment", odd[i]);
        refuse(&f, "general.alignment", "power of two");
    }
}

/* ---- files ---------------------------------------------------------------------------------- */

static void open_says_what_is_wrong_with_a_path(void **state)
{
    const char *dir = *state;
    struct ingle_gguf *g = NULL;
    struct ingle_error err = {0};
    char path[256];
    int fd;

    (void)snprintf(path, sizeof path, "%s/none.gguf", dir);
    assert_int_equal(ingle_gguf_open(path, &g, &err), -ENOENT);
    assert_int_equal(err.kind, INGLE_ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, path));

    assert_true(ingle_gguf_open(dir, &g, &err) < 0);
    assert_int_equal(err.kind, INGLE_ERR_BAD_MODEL);
    assert_non_null(strstr(err.text, "directory"));

    (void)snprintf(path, sizeof path, "%s/fifo.gguf", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_true(ingle_gguf_open(path, &g, &err) < 0);
    assert_int_equal(err.kind, INGLE_ERR_BAD_MODEL);
    assert_int_equal(unlink(path), 0);

    (void)snprintf(path, sizeof path, "%s/empty.gguf", dir);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    assert_true(ingle_gguf_open(path, &g, &err) < 0);
    assert_int_equal(err.kind, INGLE_ERR_BAD_MODEL);
    assert_non_null(strstr(err.text, "empty.gguf: the header at byte 0"));
    assert_int_equal(unlink(path), 0);
}

static void a_header_of_several_reads_is_whole(void **state)
{
    const char *dir = *state;
    const struct ingle_gguf_array *a;
    struct ingle_gguf *g = NULL;
    struct ingle_error err = {0};
    struct gguf_file f;
    char path[256], word[32];
    uint64_t n = 0;
    uint8_t hash[2][16];

    gguf_file_init(&f);
    gguf_key_array(&f, "words", GGUF_STR, 200000);
    for (uint32_t i = 0; i < 200000; i++) {
        (void)snprintf(word, sizeof word, "word number %u", i);
        gguf_put_str(&f.keys, word);
    }
    gguf_tensor(&f, "t", 32, 4, GGUF_T_Q8_0, NULL);
    (void)snprintf(path, sizeof path, "%s/long.gguf", dir);
    assert_true(gguf_file_write(&f, path));
    assert_int_equal(ingle_gguf_open(path, &g, &err), 0);
    a = ingle_gguf_array(g, "words", INGLE_GGUF_STR, &n);
    assert_int_equal(n, 200000);
    for (uint32_t i = 0; i < n; i += 777) {
        struct ingle_str s = ingle_gguf_array_str(a, i);

        (void)snprintf(word, sizeof word, "word number %u", i);
        assert_int_equal(s.bytes, strlen(word));
        assert_memory_equal(s.p, word, s.bytes);
    }
    assert_string_equal(ingle_gguf_path(g), path);
    assert_string_equal(ingle_gguf_shown(g), "long.gguf");
    assert_true(ingle_gguf_fd(g) >= 0);
    ingle_gguf_hash(g, hash[0]);
    ingle_gguf_close(g);

    /* The identity follows the header. */
    f.keys.p[f.keys.n - 1] ^= 1;
    assert_true(gguf_file_write(&f, path));
    assert_int_equal(ingle_gguf_open(path, &g, &err), 0);
    ingle_gguf_hash(g, hash[1]);
    assert_memory_not_equal(hash[0], hash[1], 16);
    ingle_gguf_close(g);
    assert_int_equal(unlink(path), 0);
    gguf_file_fini(&f);
}

static int make_dir(void **state)
{
    const char *base = getenv("TMPDIR");
    char *dir = malloc(256);

    if (dir == NULL) {
        return -1;
    }
    (void)snprintf(dir, 256, "%s/ingle-gguf-XXXXXX", base != NULL ? base : "/tmp");
    *state = mkdtemp(dir);
    return *state != NULL ? 0 : -1;
}

static int drop_dir(void **state)
{
    int rc = rmdir(*state);

    free(*state);
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_scalar_reads_back),
        cmocka_unit_test(a_key_of_another_kind_counts_as_absent),
        cmocka_unit_test(arrays_read_back),
        cmocka_unit_test(tensors_are_found_with_their_place_in_the_file),
        cmocka_unit_test(another_alignment_is_honoured),
        cmocka_unit_test(a_file_cut_at_any_byte_is_refused),
        cmocka_unit_test(no_single_byte_of_a_header_can_do_harm),
        cmocka_unit_test(what_is_not_gguf_is_refused_by_its_first_bytes),
        cmocka_unit_test(other_versions_are_refused_by_number),
        cmocka_unit_test(counts_that_no_file_has_are_refused),
        cmocka_unit_test(hostile_lengths_are_refused),
        cmocka_unit_test(unknown_and_nested_value_types_are_refused),
        cmocka_unit_test(a_name_that_stands_twice_is_refused),
        cmocka_unit_test(names_of_no_or_too_many_bytes_are_refused),
        cmocka_unit_test(a_hostile_name_is_shown_without_its_control_bytes),
        cmocka_unit_test(impossible_dimensions_are_refused),
        cmocka_unit_test(types_that_are_not_served_are_named),
        cmocka_unit_test(rows_of_broken_blocks_are_refused),
        cmocka_unit_test(a_tensor_must_lie_in_the_file_aligned_and_alone),
        cmocka_unit_test(odd_alignments_are_refused),
        cmocka_unit_test_setup_teardown(open_says_what_is_wrong_with_a_path, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(a_header_of_several_reads_is_whole, make_dir, drop_dir),
    };

    return cmocka_run_group_tests_name("weights/gguf", tests, NULL, NULL);
}
