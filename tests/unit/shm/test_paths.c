/* shm/paths.c: where the socket is, and whose directory may hold it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "shm/paths.h"

#define NO_SUCH_UID 4000000000u /* without a /run/user directory */

static char root[64];

static int setup(void **state)
{
    (void)state;
    memcpy(root, "/tmp/ingle-paths-XXXXXX", 24);
    return mkdtemp(root) == NULL;
}

static int teardown(void **state)
{
    const char *below[] = {"/a/b/ingle", "/a/b",        "/a",    "/file",
                           "/link",      "/open/ingle", "/open", ""};
    char path[128];

    (void)state;
    for (size_t i = 0; i < sizeof below / sizeof below[0]; i++) {
        (void)snprintf(path, sizeof path, "%s%s", root, below[i]);
        (void)remove(path);
    }
    return 0;
}

static void runtime_dir_comes_first_then_home(void **state)
{
    char path[INGLE_SOCKET_PATH_BYTES] = "untouched";
    char longest[200];

    (void)state;
    assert_int_equal(ingle_path_socket("/run/user/7", "/home/x", NO_SUCH_UID, path), 0);
    assert_string_equal(path, "/run/user/7/ingle/ingle.sock");
    assert_int_equal(ingle_path_socket(NULL, "/home/x", NO_SUCH_UID, path), 0);
    assert_string_equal(path, "/home/x/.local/state/ingle/ingle.sock");
    assert_int_equal(ingle_path_socket("", "/home/x", NO_SUCH_UID, path), 0);
    assert_string_equal(path, "/home/x/.local/state/ingle/ingle.sock");
    assert_int_equal(ingle_path_socket("relative", "/home/x", NO_SUCH_UID, path), 0);
    assert_string_equal(path, "/home/x/.local/state/ingle/ingle.sock");
    assert_int_equal(ingle_path_socket(NULL, NULL, NO_SUCH_UID, path), -ENOENT);
    memset(longest, 'x', sizeof longest - 1);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(ingle_path_socket(longest, NULL, NO_SUCH_UID, path), -ENAMETOOLONG);
    assert_string_equal(path, "/home/x/.local/state/ingle/ingle.sock");
    longest[INGLE_SOCKET_PATH_BYTES - sizeof "/ingle/ingle.sock"] = '\0'; /* fits exactly */
    assert_int_equal(ingle_path_socket(longest, NULL, NO_SUCH_UID, path), 0);
    assert_int_equal(strlen(path), INGLE_SOCKET_PATH_BYTES - 1);
    longest[strlen(longest)] = 'x';
    assert_int_equal(ingle_path_socket(longest, NULL, NO_SUCH_UID, path), -ENAMETOOLONG);
}

static void missing_directories_are_made_private(void **state)
{
    char path[128];
    struct stat st;

    (void)state;
    (void)snprintf(path, sizeof path, "%s/a/b/ingle/ingle.sock", root);
    assert_int_equal(ingle_path_prepare(path, getuid()), 0);
    assert_int_equal(ingle_path_prepare(path, getuid()), 0); /* and again */
    (void)snprintf(path, sizeof path, "%s/a/b/ingle", root);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

static void directory_that_is_not_ours_alone_is_refused(void **state)
{
    char path[128], target[128];
    FILE *f;

    (void)state;
    (void)snprintf(path, sizeof path, "%s/open", root);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/open/ingle", root);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chmod(path, 0775), 0);
    (void)snprintf(path, sizeof path, "%s/open/ingle/ingle.sock", root);
    assert_int_equal(ingle_path_prepare(path, getuid()), -EACCES);
    (void)snprintf(target, sizeof target, "%s/open/ingle", root);
    assert_int_equal(chmod(target, 0755), 0);
    assert_int_equal(ingle_path_prepare(path, getuid()), 0);
    assert_int_equal(ingle_path_prepare(path, getuid() + 1), -EPERM);

    (void)snprintf(path, sizeof path, "%s/link", root);
    assert_int_equal(symlink(target, path), 0);
    (void)snprintf(path, sizeof path, "%s/link/ingle.sock", root);
    assert_int_equal(ingle_path_prepare(path, getuid()), -ENOTDIR);

    (void)snprintf(path, sizeof path, "%s/file", root);
    f = fopen(path, "w");
    assert_non_null(f);
    (void)fclose(f);
    (void)snprintf(path, sizeof path, "%s/file/ingle.sock", root);
    assert_int_equal(ingle_path_prepare(path, getuid()), -ENOTDIR);
}

static void paths_that_name_no_directory_are_refused(void **state)
{
    char longest[200];

    (void)state;
    assert_int_equal(ingle_path_prepare("relative/ingle.sock", getuid()), -EINVAL);
    assert_int_equal(ingle_path_prepare("", getuid()), -EINVAL);
    assert_int_equal(ingle_path_prepare("/ingle.sock", getuid()), -EINVAL);
    memset(longest, 'x', sizeof longest - 1);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(ingle_path_prepare(longest, getuid()), -ENAMETOOLONG);
}

static void an_image_is_known_by_its_stem_and_its_hash(void **state)
{
    static const uint8_t source[16] = {0x01, 0xfe, [15] = 0xff};
    const char *want = "a.gguf.01fe00000000000000000000000000ff.image";
    char name[256], stem[256];

    (void)state;
    assert_int_equal(ingle_path_image("a.gguf", source, name, sizeof name), 0);
    assert_string_equal(name, want);
    assert_int_equal(ingle_path_image("a.gguf", source, name, strlen(want)), -ENAMETOOLONG);
    memset(stem, 'x', sizeof stem);
    stem[255 - 5 - 39] = '\0'; /* with ".part" it is as long as a name may be */
    assert_int_equal(ingle_path_image(stem, source, name, sizeof name), 0);
    assert_int_equal(strlen(name) + 5, 255);
    stem[255 - 5 - 39] = 'x';
    stem[255 - 5 - 38] = '\0';
    assert_int_equal(ingle_path_image(stem, source, name, sizeof name), -ENAMETOOLONG);

    assert_true(ingle_path_is_image(want, "a.gguf"));
    assert_true(ingle_path_is_image(want, NULL));
    assert_true(
        ingle_path_is_image("a.gguf.01fe00000000000000000000000000ff.image.part", "a.gguf"));
    assert_false(ingle_path_is_image(want, "b.gguf"));
    assert_false(ingle_path_is_image(want, "a"));
    assert_false(ingle_path_is_image("a.gguf", "a.gguf"));
    assert_false(ingle_path_is_image("a.gguf.image", "a.gguf"));
    assert_false(ingle_path_is_image("a.gguf.01FE00000000000000000000000000ff.image", NULL));
    assert_false(ingle_path_is_image("a.gguf.01fe00000000000000000000000000ff.imagf", NULL));
    assert_false(ingle_path_is_image(".01fe00000000000000000000000000ff.image", NULL));
    assert_false(ingle_path_is_image("", NULL));
    assert_false(ingle_path_is_image(".part", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runtime_dir_comes_first_then_home),
        cmocka_unit_test(an_image_is_known_by_its_stem_and_its_hash),
        cmocka_unit_test(missing_directories_are_made_private),
        cmocka_unit_test(directory_that_is_not_ours_alone_is_refused),
        cmocka_unit_test(paths_that_name_no_directory_are_refused),
    };

    return cmocka_run_group_tests_name("shm/paths", tests, setup, teardown);
}
