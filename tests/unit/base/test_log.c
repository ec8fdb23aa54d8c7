#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/log.h"

static char last[1024];
static uint32_t n_lines;

static void remember(void *arg, const char *line)
{
    (void)arg;
    n_lines++;
    (void)snprintf(last, sizeof last, "%s", line);
}

static void history(uint32_t n)
{
    n_lines = 0;
    last[0] = '\0';
    ingle_log_history(n, remember, NULL);
}

static int log_to_pipe(int ends[2])
{
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    ingle_log_init(ends[1]);
    return ends[0];
}

static void a_line_has_time_level_and_pairs(void **state)
{
    int ends[2];
    char line[256];
    ssize_t n;

    (void)state;
    (void)log_to_pipe(ends);
    ingle_log(INGLE_LOG_WARN, "attach client=%d", 7);
    ingle_log_drain();
    n = read(ends[0], line, sizeof line - 1);
    assert_true(n > 0);
    line[n] = '\0';
    assert_non_null(strstr(line, "Z warn  attach client=7\n"));
    assert_int_equal(line[10], 'T');
    history(1);
    assert_int_equal(n_lines, 1);
    assert_non_null(strstr(last, "attach client=7"));
    assert_null(strchr(last, '\n'));
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void what_is_below_the_level_is_not_logged(void **state)
{
    (void)state;
    ingle_log_init(open("/dev/null", O_WRONLY | O_CLOEXEC));
    ingle_log_set_level(INGLE_LOG_WARN);
    ingle_log(INGLE_LOG_WARN, "shown");
    ingle_log(INGLE_LOG_INFO, "hidden");
    ingle_log_set_level(INGLE_LOG_INFO);
    ingle_log_drain();
    history(1);
    assert_non_null(strstr(last, "shown"));
}

static void a_long_line_is_cut(void **state)
{
    char text[2000];

    (void)state;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    ingle_log(INGLE_LOG_INFO, "%s", text);
    ingle_log_drain();
    history(1);
    assert_true(strlen(last) < INGLE_LOG_LINE_BYTES + 40);
    assert_int_equal(last[strlen(last) - 1], 'x');
}

/* Nobody reads the pipe: the lines stay in the history, and drain comes back all the same. */
static void a_reader_that_is_stuck_does_not_stop_the_log(void **state)
{
    uint64_t lost = ingle_log_lost();
    int ends[2];

    (void)state;
    (void)log_to_pipe(ends);
    for (int i = 0; i < 2000; i++) {
        ingle_log(INGLE_LOG_INFO, "line number %d with enough text to fill a pipe of 64 KiB", i);
        ingle_log_drain();
    }
    assert_true(ingle_log_lost() > lost);
    history(1);
    assert_non_null(strstr(last, "line number 1999 "));
    history(100000);
    assert_int_equal(n_lines, 512);
    (void)close(ends[0]);
    (void)close(ends[1]);
    ingle_log_init(open("/dev/null", O_WRONLY | O_CLOEXEC));
}

static void *write_lines(void *arg)
{
    for (int i = 0; i < 5000; i++) {
        ingle_log(INGLE_LOG_INFO, "thread=%d line=%d end", *(int *)arg, i);
    }
    return NULL;
}

static uint64_t n_torn;

static void look_for_torn(void *arg, const char *line)
{
    size_t n = strlen(line);

    (void)arg;
    n_lines++;
    n_torn += strstr(line, "thread=") == NULL || n < 4 || strcmp(line + n - 4, " end") != 0;
}

static void lines_of_many_threads_stay_whole(void **state)
{
    pthread_t threads[3];
    int ids[3] = {0, 1, 2};

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, &ids[i]), 0);
    }
    for (int i = 0; i < 2000; i++) {
        ingle_log_drain();
    }
    for (int i = 0; i < 3; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    ingle_log_drain();
    n_lines = 0;
    ingle_log_history(200, look_for_torn, NULL);
    assert_int_equal(n_lines, 200);
    assert_true(n_torn == 0);
}

static void text_from_outside_becomes_harmless(void **state)
{
    char text[16];

    (void)state;
    ingle_log_text(text, sizeof text, "a b\"c\\d\n\xff", 9);
    assert_string_equal(text, "a_b_c_d__");
    ingle_log_text(text, 4, "abcdef", 6);
    assert_string_equal(text, "abc");
    ingle_log_text(text, sizeof text, "ab\0cd", 5);
    assert_string_equal(text, "ab");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_time_level_and_pairs),
        cmocka_unit_test(what_is_below_the_level_is_not_logged),
        cmocka_unit_test(a_long_line_is_cut),
        cmocka_unit_test(a_reader_that_is_stuck_does_not_stop_the_log),
        cmocka_unit_test(lines_of_many_threads_stay_whole),
        cmocka_unit_test(text_from_outside_becomes_harmless),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
