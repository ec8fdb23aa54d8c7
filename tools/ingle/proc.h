/* Child processes without a shell. */
#ifndef INGLE_TOOLS_PROC_H
#define INGLE_TOOLS_PROC_H
#include <stddef.h>
#include <sys/types.h>

/* Start argv (found in PATH). out_fd and err_fd become its stdout and stderr; < 0 leaves ours. The
 * pid, or -errno. */
pid_t proc_start(const char *const *argv, int out_fd, int err_fd);
/* Start it in a session of its own, with nothing on stdin and both outputs in log_fd. */
pid_t proc_start_detached(const char *const *argv, int log_fd);
/* Wait for it, calling tick every 200 ms (NULL: never). Its exit status, 128 + signal, or -errno.
 */
int proc_wait(pid_t pid, void (*tick)(void *arg), void *arg);
/* Run it and keep the first bytes of its stdout, NUL-terminated. As proc_wait. */
int proc_capture(const char *const *argv, char *ret_text, size_t text_bytes);

#endif
