/* Structured log: one event a line, key=value. Any thread may log; the line goes into a bounded
 * queue without a system call, an allocation or a lock, and io writes it out when it next wakes. */
#ifndef INGLE_RUNTIME_BASE_LOG_H
#define INGLE_RUNTIME_BASE_LOG_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum ingle_log_level {
    INGLE_LOG_ERROR,
    INGLE_LOG_WARN,
    INGLE_LOG_INFO,
    INGLE_LOG_DEBUG
};

#define INGLE_LOG_LINE_BYTES 480u /* a longer line is cut */

/* Before the first thread starts, and again to change the destination: io. fd is borrowed. */
void ingle_log_init(int fd);
void ingle_log_set_level(enum ingle_log_level level); /* any thread */
enum ingle_log_level ingle_log_level(void);

/* Any thread. fmt makes the part after the level: `event key=value key=value`. Text that came from
 * outside goes through ingle_log_text() or is known to be clean. */
void ingle_log_write(enum ingle_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
#define ingle_log(level, ...) \
    ((level) <= ingle_log_level() ? ingle_log_write((level), __VA_ARGS__) : (void)0)

/* io: write what the threads have queued. Never blocks: a line that the destination cannot take at
 * once is kept in the history and counted as lost. */
void ingle_log_drain(void);
uint64_t ingle_log_lost(void);

/* io: the last lines, oldest first; emit is called at most n times with NUL-terminated lines. */
void ingle_log_history(uint32_t n, void (*emit)(void *arg, const char *line), void *arg);

/* Copy text of at most n bytes into dst as printable ASCII without quotes or backslashes, so that
 * it can stand in a line, a message or JSON. dst_bytes >= 1; always NUL-terminated. */
void ingle_log_text(char *dst, uint32_t dst_bytes, const void *text, uint32_t n);

#endif
