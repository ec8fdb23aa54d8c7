/* Where things lie (XDG base directories) and small file helpers. */
#ifndef INGLE_TOOLS_PATHS_H
#define INGLE_TOOLS_PATHS_H
#include <limits.h>
#include <stddef.h>
#include <stdint.h>

enum path_base {
    PATH_CONFIG, /* $XDG_CONFIG_HOME/ingle */
    PATH_DATA,   /* $XDG_DATA_HOME/ingle */
    PATH_CACHE,  /* $XDG_CACHE_HOME/ingle */
    PATH_STATE   /* $XDG_STATE_HOME/ingle */
};

/* An environment variable, or NULL when it is unset or empty. */
const char *env_get(const char *name);
const char *path_home(void);
/* base joined with the formatted tail ("" for the folder itself). Too long: an empty string. */
void path_in(enum path_base base, char ret[PATH_MAX], const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* snprintf into a path; too long gives an empty string, which no call opens. */
void path_format(char ret[PATH_MAX], const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Like mkdir -p with mode 0700 for what is new: 0 or -errno. */
int path_make(const char *folder);
/* A whole file, NUL-terminated, at most max_bytes: *ret_text is the caller's to free. 0, -errno. */
int file_read(const char *path, size_t max_bytes, char **ret_text, size_t *ret_bytes);
/* The last lines of a text file, on stderr. */
void file_show_tail(const char *path, int lines);
/* Write all of it: 0 or -errno. */
int file_write_all(int fd, const void *data, size_t bytes);
/* "98.4 MB" */
const char *bytes_text(uint64_t bytes, char ret[16]);

#endif
