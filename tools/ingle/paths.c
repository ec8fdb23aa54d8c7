/* Owns nothing. Computes paths from the environment on each call; relative XDG values are ignored,
 * as the base directory specification asks. Thread: main. */
#include "tools/ingle/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *env_get(const char *name)
{
    const char *value = secure_getenv(name);

    return value != NULL && value[0] != 0 ? value : NULL;
}

const char *path_home(void)
{
    const char *home = env_get("HOME");

    return home != NULL ? home : "/nonexistent";
}

static void __attribute__((format(printf, 3, 0)))
join(char ret[PATH_MAX], const char *folder, const char *fmt, va_list ap)
{
    int n = snprintf(ret, PATH_MAX, "%s", folder);
    int m;

    if (n < 0 || n >= PATH_MAX - 1) {
        ret[0] = 0;
        return;
    }
    ret[n] = '/';
    m = vsnprintf(ret + n + 1, (size_t)(PATH_MAX - n - 1), fmt, ap);
    if (m < 0 || m >= PATH_MAX - n - 1) {
        ret[0] = 0;
    } else if (m == 0) {
        ret[n] = 0;
    }
}

void path_in(enum path_base base, char ret[PATH_MAX], const char *fmt, ...)
{
    static const char *const variable[] = {"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME",
                                           "XDG_STATE_HOME"};
    static const char *const fallback[] = {".config", ".local/share", ".cache", ".local/state"};
    const char *root = env_get(variable[base]);
    char folder[PATH_MAX];
    va_list ap;

    if (root != NULL && root[0] == '/') {
        path_format(folder, "%s/ingle", root);
    } else {
        path_format(folder, "%s/%s/ingle", path_home(), fallback[base]);
    }
    va_start(ap, fmt);
    join(ret, folder, fmt, ap);
    va_end(ap);
}

void path_format(char ret[PATH_MAX], const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(ret, PATH_MAX, fmt, ap);
    va_end(ap);
    if (n < 0 || n >= PATH_MAX) {
        ret[0] = 0;
    }
}

int path_make(const char *folder)
{
    char path[PATH_MAX];
    struct stat st;

    path_format(path, "%s", folder);
    if (path[0] != '/') {
        return -EINVAL;
    }
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(path, 0700) < 0 && errno != EEXIST && stat(path, &st) < 0) {
            return -errno;
        }
        *slash = '/';
    }
    if (mkdir(path, 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    if (stat(path, &st) < 0) {
        return -errno;
    }
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int file_read(const char *path, size_t max_bytes, char **ret_text, size_t *ret_bytes)
{
    int fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    size_t room = 4096, used = 0;
    char *text = NULL;
    int r = 0;

    if (fd < 0) {
        return -errno;
    }
    for (;;) {
        char *more =
            text == NULL || used == room ? realloc(text, (room = used * 2 + 4096) + 1) : text;
        ssize_t n;

        if (more == NULL) {
            r = -ENOMEM;
            break;
        }
        text = more;
        n = read(fd, text + used, room - used);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            r = -errno;
            break;
        }
        if (n == 0) {
            break;
        }
        used += (size_t)n;
        if (used > max_bytes) {
            r = -EFBIG;
            break;
        }
    }
    (void)close(fd);
    if (r < 0) {
        free(text);
        return r;
    }
    text[used] = 0;
    *ret_text = text;
    *ret_bytes = used;
    return 0;
}

void file_show_tail(const char *path, int lines)
{
    char *text = NULL, *start;
    size_t bytes = 0;

    if (file_read(path, 1 << 24, &text, &bytes) < 0) {
        return;
    }
    for (start = text + bytes; start > text; start--) {
        if (start[-1] == '\n' && start != text + bytes && --lines == 0) {
            break;
        }
    }
    (void)fputs(start, stderr);
    free(text);
}

int file_write_all(int fd, const void *data, size_t bytes)
{
    const char *p = data;

    while (bytes > 0) {
        ssize_t n = write(fd, p, bytes);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        p += n;
        bytes -= (size_t)n;
    }
    return 0;
}

const char *bytes_text(uint64_t bytes, char ret[16])
{
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double x = (double)bytes;
    int u = 0;

    while (x >= 999.5 && u < 6) {
        x /= 1000;
        u++;
    }
    (void)snprintf(ret, 16, u == 0 || x >= 99.95 ? "%.0f %s" : "%.1f %s", x, unit[u]);
    return ret;
}
