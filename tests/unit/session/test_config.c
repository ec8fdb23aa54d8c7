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

#include "runtime/daemon/config.h"

static int parse(struct ingle_config *config, const char *text, struct ingle_error *err)
{
    memset(err, 0, sizeof *err);
    ingle_config_init(config);
    return ingle_config_parse(config, text, strlen(text), "ingle.conf", err);
}

static void an_empty_file_means_the_defaults(void **state)
{
    struct ingle_config config;
    struct ingle_error err;

    (void)state;
    assert_int_equal(parse(&config, "", &err), 0);
    assert_int_equal(config.daemon.threads, 0);
    assert_int_equal(config.daemon.spin_us, 0);
    assert_int_equal(config.daemon.log_level, 2);
    assert_true(config.daemon.memory > 64 << 20);
    assert_true(config.cache.kv_bytes == 512 << 20);
    assert_string_equal(config.daemon.default_model, "");
    assert_string_equal(config.hub.base, "https://huggingface.co");
    assert_int_equal(config.n_models, 0);
}

static void every_key_is_read(void **state)
{
    struct ingle_config config;
    struct ingle_error err;
    const char *text = "# a comment\n"
                       "[daemon]\n"
                       "memory = 3GiB       ; of which half is KV\n"
                       "  threads = 4\n"
                       "spin_us=50\n"
                       "log_level = debug\n"
                       "log_file = ingled.log\n"
                       "default_model = qwen-fim\n"
                       "[cache]\n"
                       "kv_bytes = 256 MiB\n"
                       "[hub]\n"
                       "base = http://127.0.0.1:8080\n"
                       "[model \"qwen-fim\"]\n"
                       "file = qwen.gguf\n"
                       "kv_bits = 4\n"
                       "kernels = ref\n"
                       "activations = 16\n"
                       "context = 4096\n"
                       "keep = always\n"
                       "[model \"other\"]\n";

    (void)state;
    assert_int_equal(parse(&config, text, &err), 0);
    assert_true(config.daemon.memory == UINT64_C(3) << 30);
    assert_int_equal(config.daemon.threads, 4);
    assert_int_equal(config.daemon.spin_us, 50);
    assert_int_equal(config.daemon.log_level, 3);
    assert_string_equal(config.daemon.log_file, "ingled.log");
    assert_string_equal(config.daemon.default_model, "qwen-fim");
    assert_true(config.cache.kv_bytes == 256 << 20);
    assert_string_equal(config.hub.base, "http://127.0.0.1:8080");
    assert_int_equal(config.n_models, 2);
    assert_string_equal(config.models[0].name, "qwen-fim");
    assert_string_equal(config.models[0].file, "qwen.gguf");
    assert_int_equal(config.models[0].kv_bits, 4);
    assert_int_equal(config.models[0].kernels, INGLE_CONFIG_KERNELS_REF);
    assert_int_equal(config.models[0].activations, INGLE_CONFIG_ACTIVATIONS_16);
    assert_int_equal(config.models[0].context, 4096);
    assert_int_equal(config.models[0].keep, INGLE_CONFIG_KEEP_ALWAYS);
    assert_string_equal(config.models[1].name, "other");
    assert_int_equal(config.models[1].kv_bits, 8);
    assert_int_equal(config.models[1].activations, INGLE_CONFIG_ACTIVATIONS_8);
    assert_int_equal(config.models[1].keep, INGLE_CONFIG_KEEP_ON_DEMAND);
}

static void what_is_printed_reads_back_as_the_same(void **state)
{
    struct ingle_config config, again;
    struct ingle_error err;
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);

    (void)state;
    assert_int_equal(parse(&config,
                           "[daemon]\nmemory=1GiB\nlog_level=warn\n[model \"a\"]\nkv_bits=16\n"
                           "keep=always\n[model \"b\"]\nkernels=ref\n",
                           &err),
                     0);
    assert_non_null(out);
    ingle_config_print(&config, out);
    (void)fclose(out);
    assert_int_equal(parse(&again, text, &err), 0);
    assert_memory_equal(&config, &again, sizeof config);
    free(text);
}

/* Each error, word for word in what matters: file, line, key, the nearest right word. */
static void errors_name_line_key_and_the_nearest_right_word(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"[daemon]\n\n\n[model \"qwen-fim\"]\nkv_bit = 8\n",
         "ingle.conf:5: unknown key \"kv_bit\" in [model \"qwen-fim\"], did you mean \"kv_bits\"?"},
        {"[daemon]\nmemmory = 1GiB\n",
         "ingle.conf:2: unknown key \"memmory\" in [daemon], did you mean \"memory\"?"},
        {"[daemon]\nzzzzzz = 1\n", "ingle.conf:2: unknown key \"zzzzzz\" in [daemon]"},
        {"[deamon]\n", "ingle.conf:1: unknown section [deamon], did you mean \"daemon\"?"},
        {"[model \"x\"]\nkv_bits = 7\n",
         "ingle.conf:2: kv_bits in [model \"x\"] is \"7\", but must be one of: 16 8 4"},
        {"[daemon]\nthreads = many\n",
         "ingle.conf:2: threads in [daemon] is \"many\", but must be a number from 0 to 256"},
        {"[daemon]\nspin_us = 1001\n",
         "ingle.conf:2: spin_us in [daemon] is \"1001\", but must be a number from 0 to 1000"},
        {"[daemon]\nmemory = 0%\n",
         "ingle.conf:2: memory in [daemon] is \"0%\", but must be bytes, at least 64.0 MiB, such "
         "as 512MiB or 12GiB, or a share such as 60%"},
        {"[daemon]\nmemory = 101%\n", "ingle.conf:2: memory in [daemon] is \"101%\""},
        {"[cache]\nkv_bytes = 12\n", "ingle.conf:2: kv_bytes in [cache] is \"12\""},
        {"[cache]\nimage_cache = maybe\n",
         "ingle.conf:2: image_cache in [cache] is \"maybe\", but must be one of: no yes"},
        {"memory = 1GiB\n", "ingle.conf:1: \"memory\" stands before the first section"},
        {"[daemon]\nthreads\n", "ingle.conf:2: expected `key = value`"},
        {"[daemon\nthreads = 1\n", "ingle.conf:1: the section header has no \"]\""},
        {"[model \"a/b\"]\n", "ingle.conf:1: model name \"a/b\""},
        {"[model \"0123456789012345678901234567890123456789\"]\n", "ingle.conf:1: model name"},
        {"[model qwen]\n", "ingle.conf:1: unknown section [model qwen]"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ingle_config config;
        struct ingle_error err;

        assert_int_equal(parse(&config, cases[i].text, &err), -EINVAL);
        if (strncmp(err.text, cases[i].message, strlen(cases[i].message)) != 0) {
            fail_msg("case %zu: %s", i, err.text);
        }
        assert_int_equal(err.kind, INGLE_ERR_USAGE);
    }
}

static void long_lines_and_binary_files_are_refused(void **state)
{
    struct ingle_config config;
    struct ingle_error err;
    char text[400] = "[daemon]\nlog_file = ";

    (void)state;
    memset(text + strlen(text), 'x', 300);
    assert_int_equal(parse(&config, text, &err), -EINVAL);
    assert_non_null(strstr(err.text, "ingle.conf:2: the line is longer than 191 characters"));
    ingle_config_init(&config);
    assert_int_equal(ingle_config_parse(&config, "[daemon]\n\0", 10, "ingle.conf", &err), -EINVAL);
    assert_non_null(strstr(err.text, "ingle.conf:2: the line contains a NUL byte"));
}

static void a_value_that_would_read_back_as_a_comment_is_refused(void **state)
{
    struct ingle_config config;
    struct ingle_error err;

    (void)state;
    assert_int_equal(parse(&config, "[daemon]\nlog_file =;x\n", &err), -EINVAL);
    assert_non_null(strstr(err.text, "ingle.conf:2:"));
    assert_int_equal(parse(&config, "[daemon]\nlog_file = ;x\n", &err), 0);
    assert_string_equal(config.daemon.log_file, "");
}

/* "key=value" may fill a line that "key = value", as it is printed, would not fit into. */
static void a_text_whose_printed_line_would_be_too_long_is_refused(void **state)
{
    struct ingle_config config;
    struct ingle_error err;
    char text[400] = "[daemon]\nlog_file=";

    (void)state;
    memset(text + strlen(text), 'x', 180);
    assert_int_equal(parse(&config, text, &err), 0);
    assert_int_equal(strlen(config.daemon.log_file), 180);
    text[strlen(text)] = 'x';
    assert_int_equal(parse(&config, text, &err), -EINVAL);
    assert_non_null(strstr(err.text, "but must be a text of at most 180 characters"));
}

/* inih takes a line that begins with white space for more of the value above. */
static void a_line_that_begins_with_any_white_space_is_a_line_of_its_own(void **state)
{
    struct ingle_config config;
    struct ingle_error err;

    (void)state;
    assert_int_equal(parse(&config, "[daemon]\n\v\f\r \tthreads = 3\n", &err), 0);
    assert_int_equal(config.daemon.threads, 3);
    assert_int_equal(parse(&config, "[daemon]\nlog_file = a\n\vb ;c\n", &err), -EINVAL);
    assert_non_null(strstr(err.text, "ingle.conf:3: expected `key = value`"));
}

static void more_models_than_there_is_room_for_are_refused(void **state)
{
    struct ingle_config config;
    struct ingle_error err;
    char text[2000];
    size_t n = 0;

    (void)state;
    for (uint32_t i = 0; i <= INGLE_CONFIG_MODELS_MAX; i++) {
        n += (size_t)snprintf(text + n, sizeof text - n, "[model \"m%u\"]\n", i);
    }
    assert_int_equal(parse(&config, text, &err), -EINVAL);
    assert_non_null(strstr(err.text, "ingle.conf:33: more than 32 models"));
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void files_of_conf_d_come_last_and_in_order(void **state)
{
    char dir[] = "/tmp/ingle-config-XXXXXX", path[128];
    struct ingle_config config;
    struct ingle_error err = {0};

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(setenv("XDG_CONFIG_HOME", dir, 1), 0);
    assert_int_equal(ingle_config_load(NULL, &config, &err), 0); /* nothing there is no error */

    (void)snprintf(path, sizeof path, "%s/ingle", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/ingle/conf.d", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/ingle/ingle.conf", dir);
    write_file(path, "[daemon]\nthreads = 1\nspin_us = 1\n");
    (void)snprintf(path, sizeof path, "%s/ingle/conf.d/20.conf", dir);
    write_file(path, "[daemon]\nthreads = 3\n");
    (void)snprintf(path, sizeof path, "%s/ingle/conf.d/10.conf", dir);
    write_file(path, "[daemon]\nthreads = 2\n");
    (void)snprintf(path, sizeof path, "%s/ingle/conf.d/30.conf~", dir);
    write_file(path, "[daemon]\nthreads = 9\n");
    assert_int_equal(ingle_config_load(NULL, &config, &err), 0);
    assert_int_equal(config.daemon.threads, 3);
    assert_int_equal(config.daemon.spin_us, 1);

    /* An error leaves what there was. */
    (void)snprintf(path, sizeof path, "%s/ingle/conf.d/40.conf", dir);
    write_file(path, "[daemon]\nthreads = 4\nthread = 5\n");
    assert_int_equal(ingle_config_load(NULL, &config, &err), -EINVAL);
    assert_non_null(strstr(err.text, "conf.d/40.conf:3: unknown key \"thread\""));
    assert_int_equal(config.daemon.threads, 3);

    assert_int_equal(ingle_config_load("/nonexistent/x.conf", &config, &err), -ENOENT);
    static const char *const names[] = {"conf.d/40.conf", "conf.d/30.conf~", "conf.d/20.conf",
                                        "conf.d/10.conf", "ingle.conf"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/ingle/%s", dir, names[i]);
        assert_int_equal(unlink(path), 0);
    }
    (void)snprintf(path, sizeof path, "%s/ingle/conf.d", dir);
    assert_int_equal(rmdir(path), 0);
    (void)snprintf(path, sizeof path, "%s/ingle", dir);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_file_means_the_defaults),
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(what_is_printed_reads_back_as_the_same),
        cmocka_unit_test(errors_name_line_key_and_the_nearest_right_word),
        cmocka_unit_test(long_lines_and_binary_files_are_refused),
        cmocka_unit_test(a_value_that_would_read_back_as_a_comment_is_refused),
        cmocka_unit_test(a_text_whose_printed_line_would_be_too_long_is_refused),
        cmocka_unit_test(a_line_that_begins_with_any_white_space_is_a_line_of_its_own),
        cmocka_unit_test(more_models_than_there_is_room_for_are_refused),
        cmocka_unit_test(files_of_conf_d_come_last_and_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
