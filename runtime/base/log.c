/* Owns the process's log: the queue that all threads write, the history that io keeps. Does not own
 * the destination's fd. A slot's sequence number says whose it is: 2 * lap: free for that lap's
 * writer; 2 * lap + 1: filled (a bounded multi-producer queue; io is the only consumer). */
#include "runtime/base/log.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/clock.h"

#define SLOT_N    256u
#define HISTORY_N 512u

struct slot {
    _Atomic uint32_t lap2; /* writer and io store release, load acquire */
    enum ingle_log_level level;
    uint64_t wall_ns;
    char text[INGLE_LOG_LINE_BYTES];
};

static struct {
    struct slot slots[SLOT_N];
    _Atomic uint32_t tail; /* writers: compare-exchange relaxed; the slot carries the order */
    _Atomic uint64_t n_lost;
    _Atomic int level;
    struct {
        uint32_t head;
        int fd;
        uint32_t history_n; /* lines ever written */
    } io;
} log_state = {.level = INGLE_LOG_INFO, .io.fd = STDERR_FILENO};

static char history[HISTORY_N][INGLE_LOG_LINE_BYTES + 48]; /* io */

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void ingle_log_init(int fd)
{
    log_state.io.fd = fd;
}

void ingle_log_set_level(enum ingle_log_level level)
{
    atomic_store_explicit(&log_state.level, (int)level, memory_order_relaxed);
}

enum ingle_log_level ingle_log_level(void)
{
    return (enum ingle_log_level)atomic_load_explicit(&log_state.level, memory_order_relaxed);
}

static uint32_t lap2_of(uint32_t position)
{
    return position / SLOT_N * 2;
}

static uint32_t next_lap2(uint32_t lap2)
{
    return (lap2 + 2) & (UINT32_MAX / SLOT_N * 2 + 1); /* positions wrap at 2^32 */
}

void ingle_log_write(enum ingle_log_level level, const char *fmt, ...)
{
    uint32_t position = atomic_load_explicit(&log_state.tail, memory_order_relaxed);
    struct slot *slot;
    va_list ap;

    for (;;) {
        slot = &log_state.slots[position % SLOT_N];
        if (atomic_load_explicit(&slot->lap2, memory_order_acquire) != lap2_of(position)) {
            uint32_t now = atomic_load_explicit(&log_state.tail, memory_order_relaxed);

            if (now == position) { /* full: io has not read this slot's last lap */
                atomic_fetch_add_explicit(&log_state.n_lost, 1, memory_order_relaxed);
                return;
            }
            position = now;
            continue;
        }
        if (atomic_compare_exchange_weak_explicit(&log_state.tail, &position, position + 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            break;
        }
    }
    slot->level = level;
    slot->wall_ns = ingle_clock_wall_ns();
    va_start(ap, fmt);
    (void)vsnprintf(slot->text, sizeof slot->text, fmt, ap);
    va_end(ap);
    atomic_store_explicit(&slot->lap2, lap2_of(position) + 1, memory_order_release);
}

static void write_line(const char *line, size_t bytes)
{
    struct pollfd out = {.fd = log_state.io.fd, .events = POLLOUT};

    /* A pipe that polls writable takes PIPE_BUF bytes, which is more than a line, at once. */
    if (poll(&out, 1, 0) != 1 || (out.revents & POLLOUT) == 0 ||
        write(log_state.io.fd, line, bytes) != (ssize_t)bytes) {
        atomic_fetch_add_explicit(&log_state.n_lost, 1, memory_order_relaxed);
    }
}

void ingle_log_drain(void)
{
    for (;;) {
        struct slot *slot = &log_state.slots[log_state.io.head % SLOT_N];
        uint32_t lap2 = lap2_of(log_state.io.head);
        char *line;
        size_t bytes;
        struct tm tm;
        time_t seconds;

        if (atomic_load_explicit(&slot->lap2, memory_order_acquire) != lap2 + 1) {
            return;
        }
        line = history[log_state.io.history_n % HISTORY_N];
        seconds = (time_t)(slot->wall_ns / INGLE_NS_PER_S);
        (void)gmtime_r(&seconds, &tm);
        bytes = strftime(line, 32, "%Y-%m-%dT%H:%M:%S", &tm);
        bytes += (size_t)snprintf(line + bytes, sizeof history[0] - bytes, ".%03uZ %-5s %s\n",
                                  (unsigned)(slot->wall_ns / INGLE_NS_PER_MS % 1000),
                                  level_names[slot->level], slot->text);
        atomic_store_explicit(&slot->lap2, next_lap2(lap2), memory_order_release);
        log_state.io.head++;
        write_line(line, bytes);
        line[bytes - 1] = '\0';
        log_state.io.history_n++;
    }
}

uint64_t ingle_log_lost(void)
{
    return atomic_load_explicit(&log_state.n_lost, memory_order_relaxed);
}

void ingle_log_history(uint32_t n, void (*emit)(void *arg, const char *line), void *arg)
{
    uint32_t end = log_state.io.history_n;
    uint32_t kept = end < HISTORY_N ? end : HISTORY_N;

    for (uint32_t i = end - (n < kept ? n : kept); i != end; i++) {
        emit(arg, history[i % HISTORY_N]);
    }
}

void ingle_log_text(char *dst, uint32_t dst_bytes, const void *text, uint32_t n)
{
    const unsigned char *in = text;
    uint32_t i;

    for (i = 0; i < n && i + 1 < dst_bytes && in[i] != '\0'; i++) {
        dst[i] =
            (char)(in[i] > 0x20 && in[i] < 0x7f && in[i] != '"' && in[i] != '\\' ? in[i] : '_');
    }
    dst[i] = '\0';
}
