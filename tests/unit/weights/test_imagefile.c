/* The kept image: written, read back, and damaged in every way that a disk, a crash, a later
 * version or a full disk can. A file that cannot be used must cost one line in the log and never
 * more. Faults are put between it and the kernel by the linker's --wrap. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <liburing.h>
#include <xxhash.h>

#include "kernels/pack.h"
#include "runtime/base/log.h"
#include "runtime/weights/imagefile.h"
#include "shm/paths.h"
#include "tests/unit/weights/gguf_file.h"

enum {
    COLS = 256,
    ROWS = 4000,
    ITEMS = 3
};

/* ---- faults ---------------------------------------------------------------------------------- */

static struct {
    int n_until; /* this many calls pass, then one fails; < 0: no fault */
    int code;
    bool no_ring; /* reads are preads */
} fault;

ssize_t __real_pwrite64(int fd, const void *buf, size_t n, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t off);
ssize_t __real_pread64(int fd, void *buf, size_t n, off_t off);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off);
int __real_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);

static bool fails(void)
{
    if (fault.n_until < 0 || fault.n_until-- > 0) {
        return false;
    }
    errno = fault.code;
    return true;
}

ssize_t __wrap_pwrite64(int fd, const void *buf, size_t n, off_t off)
{
    return !fault.no_ring && fails() ? -1 : __real_pwrite64(fd, buf, n, off);
}

ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off)
{
    return fault.no_ring && fails() ? -1 : __real_pread64(fd, buf, n, off);
}

int __wrap_io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    return fault.no_ring ? -EPERM : __real_io_uring_queue_init(entries, ring, flags);
}

/* ---- a model and its image ------------------------------------------------------------------- */

struct rig {
    char dir[64], models[96], cache[96], gguf[128];
    struct ingle_image_home home;
    uint32_t order[ROWS];
    bool reversed; /* the rows of the matrix */
    _Atomic bool cancel;
    int log_fd;
};

static struct rig rig;

static void write_model(uint8_t salt, bool nan)
{
    static uint8_t q8[(size_t)ROWS * COLS / 32 * 34];
    static float f32[COLS * 3];
    struct gguf_file f;

    for (size_t i = 0; i < sizeof q8; i++) {
        q8[i] = i % 34 == 1 ? 0x2c : (uint8_t)(i * 7 + salt); /* scales of about 0.06 */
    }
    for (size_t i = 0; i < COLS * 3; i++) {
        f32[i] = (float)i + salt;
    }
    if (nan) {
        f32[COLS + 5] = NAN;
    }
    gguf_file_init(&f);
    gguf_tensor(&f, "vector", COLS, 0, GGUF_T_F32, f32);
    gguf_tensor(&f, "matrix", COLS, ROWS, GGUF_T_Q8_0, q8);
    gguf_tensor(&f, "small", COLS, 3, GGUF_T_F32, f32);
    assert_true(gguf_file_write(&f, rig.gguf));
    gguf_file_fini(&f);
}

static int setup(void **state)
{
    (void)state;
    memset(&rig, 0, sizeof rig);
    memcpy(rig.dir, "/var/tmp/ingle-image-XXXXXX", 28); /* not a tmpfs, where there is a choice */
    assert_non_null(mkdtemp(rig.dir));
    (void)snprintf(rig.models, sizeof rig.models, "%s/models", rig.dir);
    (void)snprintf(rig.cache, sizeof rig.cache, "%s/images", rig.dir);
    (void)snprintf(rig.gguf, sizeof rig.gguf, "%s/m.gguf", rig.models);
    assert_int_equal(mkdir(rig.models, 0700) | mkdir(rig.cache, 0700), 0);
    rig.home = (struct ingle_image_home){rig.models, rig.cache};
    for (uint32_t i = 0; i < ROWS; i++) {
        rig.order[i] = ROWS - 1 - i;
    }
    rig.log_fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(rig.log_fd >= 0);
    ingle_log_init(rig.log_fd);
    fault.n_until = -1;
    fault.no_ring = false;
    write_model(0, false);
    return 0;
}

/* The files of a folder whose name holds `part`; the last one's path. */
static int count(const char *dir, const char *part, char ret_path[512])
{
    DIR *d = opendir(dir);
    int n = 0;

    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (e->d_name[0] != '.' && strstr(e->d_name, part) != NULL) {
            n++;
            (void)snprintf(ret_path, 512, "%s/%s", dir, e->d_name);
        }
    }
    (void)closedir(d);
    return n;
}

static void empty(const char *dir)
{
    char path[512];

    while (count(dir, "", path) > 0) {
        assert_int_equal(unlink(path), 0);
    }
    (void)rmdir(dir);
}

static int teardown(void **state)
{
    (void)state;
    ingle_log_drain();
    empty(rig.models);
    empty(rig.cache);
    (void)rmdir(rig.dir);
    (void)close(rig.log_fd);
    return 0;
}

/* What was logged since the last call: the number of lines, and the text. */
static int logged(char ret[1024])
{
    ssize_t n;
    int lines = 0;

    ingle_log_drain();
    n = __real_pread64(rig.log_fd, ret, 1023, 0);
    assert_true(n >= 0 && n < 1023);
    ret[n] = '\0';
    for (const char *p = ret; *p != '\0'; p++) {
        lines += *p == '\n';
    }
    assert_int_equal(ftruncate(rig.log_fd, 0), 0);
    assert_int_equal(lseek(rig.log_fd, 0, SEEK_SET), 0);
    return lines;
}

static void expect_line(const char *event, const char *why)
{
    char text[1024];

    assert_int_equal(logged(text), 1);
    if (strstr(text, event) == NULL || strstr(text, why) == NULL) {
        fail_msg("expected \"%s\" and \"%s\": %s", event, why, text);
    }
}

static void expect_silence(void)
{
    char text[1024];

    if (logged(text) != 0) {
        fail_msg("logged: %s", text);
    }
}

struct opened {
    struct ingle_gguf *gguf;
    struct ingle_image_item items[ITEMS];
    uint8_t source[16];
    char path[512]; /* of its image */
};

static void open_model(struct opened *o)
{
    static const char *const names[ITEMS] = {"vector", "matrix", "small"};
    struct ingle_error err;

    memset(o, 0, sizeof *o);
    if (ingle_gguf_open(rig.gguf, &o->gguf, &err) != 0) {
        fail_msg("%s", err.text);
    }
    for (uint32_t i = 0; i < ITEMS; i++) {
        o->items[i] = (struct ingle_image_item){.src = ingle_gguf_find_tensor(o->gguf, names[i]),
                                                .slot = i / 2,
                                                .vector = i == 0};
        assert_non_null(o->items[i].src);
    }
    o->items[1].dst_rows = rig.reversed ? rig.order : NULL;
    (void)ingle_image_layout(o->items, ITEMS);
    ingle_gguf_hash(o->gguf, o->source);
    assert_int_equal(ingle_imagefile_path(&rig.home, rig.gguf, o->source, o->path, sizeof o->path),
                     0);
}

static int try_load(const struct ingle_image_home *home, struct ingle_image **ret,
                    struct ingle_error *err)
{
    struct opened o;
    struct ingle_image_load load = {.home = home, .n_items = ITEMS, .cancel = &rig.cancel};
    int rc;

    open_model(&o);
    load.gguf = o.gguf;
    load.items = o.items;
    memset(err, 0, sizeof *err);
    rc = ingle_image_load(&load, ret, err);
    ingle_gguf_close(o.gguf);
    return rc;
}

static struct ingle_image *load_from(const struct ingle_image_home *home)
{
    struct ingle_image *image = NULL;
    struct ingle_error err;

    if (try_load(home, &image, &err) != 0) {
        fail_msg("%s", err.text);
    }
    return image;
}

static void keep(struct ingle_image *image)
{
    int n = 0;

    while (ingle_image_keep(image)) {
        assert_true(++n < 100);
    }
}

/* Load and keep, as the runtime does. */
static void load_and_keep(void)
{
    struct ingle_image *image = load_from(&rig.home);

    keep(image);
    ingle_image_free(image);
}

static int count_images(void)
{
    char path[512];

    return count(rig.models, ".image", path);
}

/* A good image is there: it is read, without a word, and holds what packing makes. */
static void expect_good_image(void)
{
    struct ingle_image *packed = load_from(NULL), *kept;
    struct opened o;
    char path[512];

    assert_int_equal(count(rig.models, ".image", path), 1);
    expect_silence();
    kept = load_from(&rig.home);
    expect_silence();
    assert_false(ingle_image_keep(kept)); /* it was read, so there is nothing to write */
    open_model(&o);
    assert_string_equal(path, o.path);
    for (uint32_t i = 0; i < ITEMS; i++) {
        assert_memory_equal(ingle_image_at(packed, &o.items[i]), ingle_image_at(kept, &o.items[i]),
                            o.items[i].bytes);
    }
    assert_int_equal(access(path, F_OK), 0);
    ingle_gguf_close(o.gguf);
    ingle_image_free(packed);
    ingle_image_free(kept);
}

/* The image is there and cannot be used: one line says why; the next one is made and good. */
static void expect_made_anew(const char *why)
{
    struct ingle_image *image = load_from(&rig.home);

    expect_line("image-unusable", why);
    keep(image);
    ingle_image_free(image);
    expect_line("image-kept", "");
    expect_good_image();
}

static void kept_path(char ret[512])
{
    assert_int_equal(count(rig.models, ".image", ret), 1);
}

static void patch(uint64_t off, const void *bytes, size_t n)
{
    char path[512];
    int fd;

    kept_path(path);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(__real_pwrite64(fd, bytes, n, (off_t)off), n);
    assert_int_equal(close(fd), 0);
}

static void flip(uint64_t off)
{
    char path[512];
    uint8_t byte;
    int fd;

    kept_path(path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(__real_pread64(fd, &byte, 1, (off_t)off), 1);
    assert_int_equal(close(fd), 0);
    byte ^= 1;
    patch(off, &byte, 1);
}

static void patch_u32(uint64_t off, uint32_t v)
{
    patch(off, &v, sizeof v);
}

#define HEAD_AT(field) offsetof(struct ingle_imagefile_head, field)

static struct ingle_imagefile_head kept_head(void)
{
    struct ingle_imagefile_head head;
    char path[512];
    int fd;

    kept_path(path);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(__real_pread64(fd, &head, sizeof head, 0), sizeof head);
    (void)close(fd);
    return head;
}

/* ---- reading back ---------------------------------------------------------------------------- */

static void what_is_read_back_is_equal_byte_for_byte(void **state)
{
    struct ingle_imagefile_head head;
    struct stat st;
    char path[512];

    (void)state;
    load_and_keep();
    expect_line("image-kept", "bytes=");
    expect_good_image();
    kept_path(path);
    head = kept_head();
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size, head.head_bytes + head.image_bytes);
    assert_int_equal(head.head_bytes % 4096 | head.image_bytes % 4096, 0);
}

static void it_is_read_without_io_uring_too(void **state)
{
    (void)state;
    load_and_keep();
    expect_line("image-kept", "");
    fault.no_ring = true;
    expect_good_image();
}

static void without_a_home_nothing_is_kept(void **state)
{
    struct ingle_image *image = load_from(NULL);

    (void)state;
    assert_false(ingle_image_keep(image));
    assert_int_equal(count_images(), 0);
    ingle_image_free(image);
}

static void rows_in_another_order_are_another_image(void **state)
{
    (void)state;
    load_and_keep();
    expect_line("image-kept", "");
    rig.reversed = true;
    expect_made_anew("of other tensors");
}

static void a_changed_model_never_meets_the_old_image(void **state)
{
    struct timespec times[2];
    struct stat before, after;
    char old[512], now[512];

    (void)state;
    load_and_keep();
    kept_path(old);
    expect_line("image-kept", "");
    /* The same header, the same length, and the time set back. */
    assert_int_equal(stat(rig.gguf, &before), 0);
    write_model(1, false);
    times[0] = before.st_atim;
    times[1] = before.st_mtim;
    assert_int_equal(utimensat(AT_FDCWD, rig.gguf, times, 0), 0);
    assert_int_equal(stat(rig.gguf, &after), 0);
    assert_int_equal(before.st_size, after.st_size);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    load_and_keep();
    expect_line("image-kept", "");
    kept_path(now); /* one: the old one is gone */
    assert_string_not_equal(old, now);
    expect_good_image();
}

static void an_image_under_a_wrong_name_is_found_out(void **state)
{
    char old[512];
    struct opened o;

    (void)state;
    load_and_keep();
    kept_path(old);
    expect_line("image-kept", "");
    write_model(1, false);
    open_model(&o);
    assert_int_equal(rename(old, o.path), 0);
    ingle_gguf_close(o.gguf);
    expect_made_anew("of another model file");
}

static void cancelling_leaves_the_image_alone(void **state)
{
    struct ingle_image *image = NULL;
    struct ingle_error err;

    (void)state;
    load_and_keep();
    expect_line("image-kept", "");
    atomic_store_explicit(&rig.cancel, true, memory_order_relaxed);
    assert_int_equal(try_load(&rig.home, &image, &err), -ECANCELED);
    assert_null(image);
    atomic_store_explicit(&rig.cancel, false, memory_order_relaxed);
    expect_good_image();
}

/* Images outlive the program that wrote them. Whoever changes what packing writes must count
 * INGLE_PACK_LAYOUT up, and then states here what the new number stands for. */
static void the_number_of_the_layout_stands_for_these_bytes(void **state)
{
    static uint8_t src[(size_t)40 * 512 * 4], dst[(size_t)48 * 512 * 4];
    XXH64_hash_t hash = 0;
    uint32_t x = 1;

    (void)state;
    for (size_t i = 0; i < sizeof src; i++) {
        x = x * 1664525u + 1013904223u;
        src[i] = (uint8_t)(x >> 24);
    }
    for (uint32_t type = 0; type < INGLE_W_COUNT; type++) {
        uint64_t bytes = ingle_pack_bytes((enum ingle_wtype)type, 40, 512);

        assert_true(bytes <= sizeof dst);
        memset(dst, 0, sizeof dst);
        /* Random scales may be infinite: that is for others to refuse. */
        (void)ingle_pack_rows((enum ingle_wtype)type, 40, 512, src, 40, 0, NULL, dst);
        hash = XXH3_64bits_withSeed(dst, bytes, hash);
    }
    assert_int_equal(INGLE_PACK_LAYOUT, 1);
    assert_int_equal(hash, UINT64_C(0xd80c16a0bfd7bf89));
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void a_cut_image_is_made_anew(void **state)
{
    static const off_t cuts[] = {0, 1, 4095, 4096, 8192, -1};
    char path[512];
    struct stat st;

    (void)state;
    load_and_keep();
    expect_line("image-kept", "");
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        kept_path(path);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(truncate(path, cuts[i] < 0 ? st.st_size + cuts[i] : cuts[i]), 0);
        expect_made_anew("too short");
    }
    assert_int_equal(truncate(path, st.st_size + 1), 0);
    expect_made_anew("too short or too long");
}

static void a_flipped_bit_in_any_tensor_is_found(void **state)
{
    struct opened o;
    uint64_t at[ITEMS];

    (void)state;
    load_and_keep();
    expect_line("image-kept", "");
    open_model(&o);
    ingle_gguf_close(o.gguf);
    at[0] = 4096 + o.items[0].off;
    at[1] = 4096 + o.items[1].off + o.items[1].bytes / 2;
    at[2] = 4096 + o.items[2].off + o.items[2].bytes - 1;
    for (uint32_t i = 0; i < ITEMS; i++) {
        char why[64];

        flip(at[i]);
        (void)snprintf(why, sizeof why, "the bytes of tensor %u are damaged", i);
        expect_made_anew(why);
    }
}

static void a_flipped_bit_anywhere_in_the_header_is_found(void **state)
{
    uint8_t bytes[4096];
    struct ingle_imagefile *file;
    uint64_t file_bytes;
    struct opened o;
    char path[512];
    int fd;

    (void)state;
    load_and_keep();
    expect_line("image-kept", "");
    kept_path(path);
    file_bytes = 4096 + kept_head().image_bytes;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(__real_pread64(fd, bytes, sizeof bytes, 0), sizeof bytes);
    (void)close(fd);
    open_model(&o);
    file = ingle_imagefile_create(path, o.source, o.items, ITEMS);
    assert_non_null(file);
    assert_null(ingle_imagefile_check(file, bytes, sizeof bytes, file_bytes));
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] ^= (uint8_t)(1u << i % 8);
        assert_non_null(ingle_imagefile_check(file, bytes, sizeof bytes, file_bytes));
        bytes[i] ^= (uint8_t)(1u << i % 8);
    }
    assert_non_null(ingle_imagefile_check(file, bytes, sizeof bytes - 1, file_bytes));
    ingle_imagefile_free(file);
    ingle_gguf_close(o.gguf);
}

static void another_version_layout_or_cpu_class_is_made_anew(void **state)
{
    (void)state;
    load_and_keep();
    expect_line("image-kept", "");
    patch_u32(HEAD_AT(version), INGLE_IMAGEFILE_VERSION - 1);
    expect_made_anew("of another version of the format");
    patch_u32(HEAD_AT(version), INGLE_IMAGEFILE_VERSION + 1);
    expect_made_anew("of another version of the format");
    patch_u32(HEAD_AT(layout), kept_head().layout + 1);
    expect_made_anew("of another layout of the kernels");
    patch_u32(HEAD_AT(cpu_class), kept_head().cpu_class + 1);
    expect_made_anew("for another class of CPU");
    patch_u32(HEAD_AT(n_items), ITEMS + 1);
    expect_made_anew("of other tensors");
    patch_u32(HEAD_AT(n_items), UINT32_MAX);
    expect_made_anew("of other tensors");
    patch(HEAD_AT(magic), "GGUF", 4);
    expect_made_anew("not an image");
}

static void what_is_no_file_is_passed_over(void **state)
{
    struct ingle_image *image;
    struct opened o;

    (void)state;
    open_model(&o);
    ingle_gguf_close(o.gguf);
    assert_int_equal(mkfifo(o.path, 0600), 0); /* without a hang */
    expect_made_anew("not a regular file");
    assert_int_equal(unlink(o.path), 0);
    assert_int_equal(symlink("/etc/hostname", o.path), 0);
    image = load_from(&rig.home);
    expect_line("image-unusable", "cannot open it");
    ingle_image_free(image);
}

static void a_failing_disk_under_the_image_falls_back_to_the_model(void **state)
{
    struct ingle_image *image;

    (void)state;
    load_and_keep();
    expect_line("image-kept", "");
    fault.no_ring = true; /* the header's pread passes, the second block's does not */
    fault.n_until = 2;
    fault.code = EIO;
    image = load_from(&rig.home);
    expect_line("image-unusable", "cannot read at byte");
    keep(image);
    ingle_image_free(image);
    expect_line("image-kept", "");
    expect_good_image();
}

static void nan_is_refused_by_name_and_nothing_is_kept(void **state)
{
    struct ingle_image *image = NULL;
    struct ingle_error err;

    (void)state;
    load_and_keep(); /* of the good model: it must not stand in for the bad one */
    expect_line("image-kept", "");
    write_model(0, true);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(try_load(i == 0 ? &rig.home : NULL, &image, &err), -EBADMSG);
        assert_int_equal(err.kind, INGLE_ERR_BAD_MODEL);
        assert_non_null(strstr(err.text, "tensor small has a NaN or infinite value in row 1"));
        assert_null(image);
    }
    assert_int_equal(count_images(), 1);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Loading went well; keeping fails, says so in one line, and leaves no file. */
static void expect_not_kept(const char *why)
{
    struct ingle_image *image = load_from(&rig.home);

    keep(image);
    expect_line("image-not-kept", why);
    assert_int_equal(count_images(), 0);
    assert_false(ingle_image_keep(image)); /* not tried again */
    ingle_image_free(image);
}

static void a_limit_on_file_sizes_is_no_error_of_the_load(void **state)
{
    struct rlimit was, small;

    (void)state;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    small = was;
    small.rlim_cur = 1 << 19;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    expect_not_kept("File too large");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    load_and_keep();
    expect_line("image-kept", "");
    expect_good_image();
}

static void a_disk_that_fills_up_in_the_middle_leaves_nothing(void **state)
{
    (void)state;
    fault.code = ENOSPC;
    fault.n_until = 0; /* the image */
    expect_not_kept("No space left on device");
    fault.n_until = 1; /* the header */
    expect_not_kept("No space left on device");
}

static void a_file_system_that_refuses_direct_writes_is_served_too(void **state)
{
    (void)state;
    fault.code = EINVAL;
    fault.n_until = 0;
    load_and_keep();
    expect_line("image-kept", "");
    expect_good_image();
}

static void a_folder_that_cannot_be_written_costs_one_line(void **state)
{
    char path[512];

    (void)state;
    (void)snprintf(path, sizeof path, "%s/nowhere", rig.dir);
    rig.home = (struct ingle_image_home){"/elsewhere", path};
    expect_not_kept("cannot create it: No such file or directory");
}

static void a_write_that_is_given_up_leaves_nothing(void **state)
{
    struct ingle_image *image = load_from(&rig.home);

    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_true(ingle_image_keep(image));
    }
    assert_int_equal(count_images(), 1); /* the .part */
    ingle_image_free(image);             /* the model is unloaded, or the runtime ends */
    assert_int_equal(count_images(), 0);
    expect_silence();
}

/* A beginning of the model's image, as another runtime makes it: its descriptor and its path. */
static int begin_part(char ret_part[520])
{
    struct opened o;

    open_model(&o);
    ingle_gguf_close(o.gguf);
    (void)snprintf(ret_part, 520, "%s.part", o.path);
    return open(ret_part, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

static void a_part_that_a_dead_runtime_left_is_replaced(void **state)
{
    char part[520];
    int fd = begin_part(part);

    (void)state;
    assert_int_equal(ftruncate(fd, 50 << 20), 0);
    (void)close(fd);
    load_and_keep();
    expect_line("image-kept", "");
    assert_int_equal(access(part, F_OK), -1);
    expect_good_image();
}

static void a_part_that_another_runtime_writes_is_left_alone(void **state)
{
    struct ingle_image *image = load_from(&rig.home);
    char part[520];
    int fd = begin_part(part);

    (void)state;
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(ftruncate(fd, 99), 0);
    keep(image);
    ingle_image_free(image);
    expect_line("image-not-kept", "another runtime is writing it");
    assert_int_equal(lseek(fd, 0, SEEK_END), 99);
    assert_int_equal(access(part, F_OK), 0);
    (void)close(fd);
}

static void two_instances_of_a_model_write_one_image(void **state)
{
    struct ingle_image *a = load_from(&rig.home), *b = load_from(&rig.home);
    struct stat first, second;
    char path[512];

    (void)state;
    keep(a);
    kept_path(path);
    assert_int_equal(stat(path, &first), 0);
    keep(b);
    assert_int_equal(stat(path, &second), 0);
    assert_int_equal(first.st_ino, second.st_ino);
    ingle_image_free(a);
    ingle_image_free(b);
}

static void a_model_written_to_while_it_is_read_is_not_kept(void **state)
{
    struct opened o;
    struct ingle_image *image = NULL;
    struct ingle_image_load load = {.home = &rig.home, .n_items = ITEMS};
    struct ingle_error err;

    (void)state;
    /* An old file, so that the clock need not tick between two writes. */
    assert_int_equal(utimensat(AT_FDCWD, rig.gguf, (struct timespec[2]){{0}}, 0), 0);
    open_model(&o);
    write_model(1, false);
    load.gguf = o.gguf;
    load.items = o.items;
    assert_int_equal(ingle_image_load(&load, &image, &err), 0);
    expect_line("image-not-kept", "the model was written to");
    assert_false(ingle_image_keep(image));
    assert_int_equal(count_images(), 0);
    ingle_image_free(image);
    ingle_gguf_close(o.gguf);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void own_models_have_their_image_beside_them_others_in_the_cache(void **state)
{
    static const uint8_t source[16] = {0xab, 1};
    char a[512], b[512], want[512];

    (void)state;
    assert_int_equal(ingle_imagefile_path(&rig.home, rig.gguf, source, a, sizeof a), 0);
    (void)snprintf(want, sizeof want, "%s.ab010000000000000000000000000000.image", rig.gguf);
    assert_string_equal(a, want);
    assert_int_equal(ingle_imagefile_path(&rig.home, "/x/m.gguf", source, a, sizeof a), 0);
    assert_int_equal(ingle_imagefile_path(&rig.home, "/y/m.gguf", source, b, sizeof b), 0);
    (void)snprintf(want, sizeof want, "%s/m.gguf-", rig.cache);
    assert_memory_equal(a, want, strlen(want));
    assert_string_not_equal(a, b);
    (void)snprintf(want, sizeof want, "%s/below/m.gguf", rig.models);
    assert_int_equal(ingle_imagefile_path(&rig.home, want, source, a, sizeof a), 0);
    assert_memory_equal(a, rig.cache, strlen(rig.cache));
    assert_int_equal(ingle_imagefile_path(&rig.home, rig.gguf, source, a, 60), -ENAMETOOLONG);
}

static void images_that_nobody_reads_go_when_another_is_written(void **state)
{
    static const char *const names[] = {
        "gone.gguf-0011223344556677.00112233445566778899aabbccddeeff.image", /* unused */
        "used.gguf-0011223344556677.00112233445566778899aabbccddeeff.image",
        "notes.image", /* not ours */
    };
    char path[3][512];

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct timespec times[2] = {{0}};
        int fd;

        (void)snprintf(path[i], sizeof path[i], "%s/%s", rig.models, names[i]);
        fd = open(path[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        times[0].tv_nsec = times[1].tv_nsec = i == 1 ? UTIME_NOW : 0;
        assert_int_equal(futimens(fd, times), 0);
        (void)close(fd);
    }
    load_and_keep();
    assert_int_equal(access(path[0], F_OK), -1);
    assert_int_equal(access(path[1], F_OK), 0);
    assert_int_equal(access(path[2], F_OK), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(what_is_read_back_is_equal_byte_for_byte),
        CASE(it_is_read_without_io_uring_too),
        CASE(without_a_home_nothing_is_kept),
        CASE(rows_in_another_order_are_another_image),
        CASE(a_changed_model_never_meets_the_old_image),
        CASE(an_image_under_a_wrong_name_is_found_out),
        CASE(cancelling_leaves_the_image_alone),
        CASE(the_number_of_the_layout_stands_for_these_bytes),
        CASE(a_cut_image_is_made_anew),
        CASE(a_flipped_bit_in_any_tensor_is_found),
        CASE(a_flipped_bit_anywhere_in_the_header_is_found),
        CASE(another_version_layout_or_cpu_class_is_made_anew),
        CASE(what_is_no_file_is_passed_over),
        CASE(a_failing_disk_under_the_image_falls_back_to_the_model),
        CASE(nan_is_refused_by_name_and_nothing_is_kept),
        CASE(a_limit_on_file_sizes_is_no_error_of_the_load),
        CASE(a_disk_that_fills_up_in_the_middle_leaves_nothing),
        CASE(a_file_system_that_refuses_direct_writes_is_served_too),
        CASE(a_folder_that_cannot_be_written_costs_one_line),
        CASE(a_write_that_is_given_up_leaves_nothing),
        CASE(a_part_that_a_dead_runtime_left_is_replaced),
        CASE(a_part_that_another_runtime_writes_is_left_alone),
        CASE(two_instances_of_a_model_write_one_image),
        CASE(a_model_written_to_while_it_is_read_is_not_kept),
        CASE(own_models_have_their_image_beside_them_others_in_the_cache),
        CASE(images_that_nobody_reads_go_when_another_is_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
