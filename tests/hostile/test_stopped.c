/* A client that is stopped for half a minute in the middle of an answer: its ring fills and its
 * request waits, nobody else notices, and it goes on where it was. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/hostile/house.h"

#define STOPPED_S     30
#define TOKENS        2000 /* twice the ring */
#define TOKENS_BEFORE 500

/* Between the client and the test. */
static struct {
    const void *s2c; /* in the client */
    _Atomic uint32_t n_read;
    _Atomic bool continued;
    int32_t res;
    uint32_t n_out_of_order, n_last;
    bool same_text;
} * shared;

/* Reads slowly until it has been stopped and continued, then as fast as it can. */
static void stream(const char *solo)
{
    char *text = calloc(1, sizeof((struct honest *)NULL)->solo);
    struct ingle_cqe cqe = {0};
    struct ingle_sqe sqe;
    struct peer p;
    size_t at = 0;

    peer_open(&p, house.socket, "stopped");
    shared->s2c = p.s2c.base;
    sqe = peer_generate(&p, 1, "the honest client's prompt", TOKENS);
    peer_submit(&p, &sqe);
    while (shared->n_last == 0) {
        struct ingle_tok tok;

        if (ingle_tok_read(&p.tk, &tok, p.text) != 0) {
            (void)usleep(100);
            continue;
        }
        ingle_tok_release(&p.tk);
        memcpy(text + at, p.text, tok.text_len);
        at += tok.text_len;
        shared->n_out_of_order += tok.index != shared->n_read;
        shared->n_last += (tok.flags & INGLE_TOK_F_LAST) != 0;
        shared->n_read++;
        if (!shared->continued && shared->n_read >= TOKENS_BEFORE) {
            (void)usleep(10000);
        }
    }
    while ((cqe.flags & INGLE_CQE_F_FINAL) == 0 && peer_completion(&p, &cqe, 2000)) {
    }
    shared->res = cqe.res;
    shared->same_text = strcmp(text, solo) == 0;
    _exit(0);
}

/* Where the runtime stands in the token ring of a process that does not run. */
static uint32_t tail_of(pid_t pid)
{
    char path[32];
    uint32_t tail;
    int fd;

    (void)snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &tail, sizeof tail,
                           (off_t)(uintptr_t)shared->s2c +
                               (off_t)offsetof(struct ingle_s2c_ctl, tk_tail)),
                     sizeof tail);
    (void)close(fd);
    return tail;
}

static void a_client_stopped_for_30_s_gets_every_token_once_and_disturbs_nobody(void **state)
{
    struct honest *honest = honest_start();
    uint32_t tail, n_read, n_rounds;
    struct house_state now;
    pid_t client = fork();
    int status;

    (void)state;
    assert_true(client >= 0);
    if (client == 0) {
        stream(honest->solo);
    }
    for (int i = 0; i < 1000 && shared->n_read < TOKENS_BEFORE; i++) {
        (void)usleep(5000);
    }
    assert_int_equal(kill(client, SIGSTOP), 0);
    assert_int_equal(waitpid(client, &status, WUNTRACED), client);
    assert_true(WIFSTOPPED(status));
    n_read = shared->n_read;
    assert_in_range(n_read, TOKENS_BEFORE, TOKENS / 2);

    (void)sleep(1); /* plenty to fill the ring */
    tail = tail_of(client);
    /* Full, and no more; the client may have been stopped between a release and its count. */
    assert_in_range(tail, n_read + 1024, n_read + 1024 + 1);
    n_rounds = honest->n_rounds;
    for (int i = 1; i < STOPPED_S; i++) {
        (void)sleep(1);
        now = house_look();
        assert_true(now.running >= 1);
        assert_true(now.rss_bytes < house.calm.rss_bytes + (16u << 20));
        assert_int_equal(tail_of(client), tail);
    }
    assert_true(honest->n_rounds > n_rounds + STOPPED_S);
    assert_int_equal(now.violations, house.calm.violations);

    shared->continued = true;
    assert_int_equal(kill(client, SIGCONT), 0);
    assert_int_equal(waitpid(client, &status, 0), client);
    assert_int_equal(status, 0);
    assert_int_equal(shared->n_read, TOKENS);
    assert_int_equal(shared->n_out_of_order, 0);
    assert_int_equal(shared->n_last, 1);
    assert_int_equal(shared->res, TOKENS);
    assert_true(shared->same_text);
    honest_stop(honest);
    (void)house_settle();
}

static int set_up(void **state)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    return house_open(state);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_stopped_for_30_s_gets_every_token_once_and_disturbs_nobody),
    };

    house_prepare(argc, argv, NULL);
    return cmocka_run_group_tests(tests, set_up, house_close);
}
