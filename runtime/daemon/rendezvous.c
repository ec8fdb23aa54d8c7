/* Owns the listening socket and the lock beside it. One runtime a socket: the lock is taken first
 * and held for life, so between it and the end nobody else binds, unlinks or finds a stale socket.
 * The lock file itself stays: unlinking it would let two runtimes hold two files of one name.
 * Thread: main. */
#include "runtime/daemon/rendezvous.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/daemon/config.h"
#include "runtime/daemon/notify.h"

static int refuse_directory(const char *path, int code, struct ingle_error *err)
{
    char dir[INGLE_SOCKET_PATH_BYTES];
    char *slash;

    (void)snprintf(dir, sizeof dir, "%s", path);
    slash = strrchr(dir, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    switch (code) {
    case -EPERM:
        return ingle_fail(err, code,
                          "%s belongs to another user. Try: remove it as its owner, or another "
                          "place with --socket",
                          dir);
    case -EACCES:
        return ingle_fail(err, code,
                          "others may write to %s, so a client could be led to a stranger's "
                          "socket. Try: chmod 700 %s",
                          dir, dir);
    case -ENOTDIR:
        return ingle_fail(err, code, "%s is not a directory (or a symbolic link). Try: remove it",
                          dir);
    default:
        return ingle_fail(err, code, "cannot make %s: %s", dir, strerrordesc_np(-code));
    }
}

/* The lock, with our pid in it for whoever comes second. */
static int take_lock(struct ingle_rendezvous *r, struct ingle_error *err)
{
    char path[sizeof r->path + 8], text[32] = "";
    ssize_t n;

    (void)snprintf(path, sizeof path, "%s.lock", r->path);
    r->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (r->lock_fd < 0) {
        int code = -errno;

        return ingle_fail(err, code, "cannot open the lock %s: %s", path, strerrordesc_np(-code));
    }
    if (flock(r->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        int code = -errno;

        n = pread(r->lock_fd, text, sizeof text - 1, 0);
        text[n < 0 ? 0 : strcspn(text, "\n")] = '\0';
        if (code != -EWOULDBLOCK) {
            return ingle_fail(err, code, "cannot lock %s: %s", path, strerrordesc_np(-code));
        }
        return ingle_fail(err, -EADDRINUSE,
                          "another ingled (pid %s) already serves %s. Use it, or stop it: ingle "
                          "shutdown",
                          text[0] == '\0' ? "unknown" : text, r->path);
    }
    n = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(r->lock_fd, 0) != 0 || pwrite(r->lock_fd, text, (size_t)n, 0) != n) {
        int code = -errno;

        return ingle_fail(err, code, "cannot write the lock %s: %s", path, strerrordesc_np(-code));
    }
    return 0;
}

/* Under the lock: a socket that nobody answers on is left over from a crash. */
static int clear_stale(const struct ingle_rendezvous *r, const struct sockaddr_un *address,
                       struct ingle_error *err)
{
    struct stat st;
    int fd, code;

    if (lstat(r->path, &st) != 0) {
        code = -errno;
        return code == -ENOENT ? 0
                               : ingle_fail(err, code, "cannot look at %s: %s", r->path,
                                            strerrordesc_np(-code));
    }
    if (!S_ISSOCK(st.st_mode)) {
        return ingle_fail(err, -EEXIST,
                          "%s exists and is not a socket. Try: remove it, or another --socket",
                          r->path);
    }
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        code = -errno;
        return ingle_fail(err, code, "cannot make a socket: %s", strerrordesc_np(-code));
    }
    code = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : -errno;
    (void)close(fd);
    if (code != -ECONNREFUSED) {
        return ingle_fail(err, -EADDRINUSE,
                          "somebody answers on %s without holding its lock (a socket unit of "
                          "systemd?). Try: systemctl --user stop ingled.socket",
                          r->path);
    }
    if (unlink(r->path) != 0) {
        code = -errno;
        return ingle_fail(err, code, "cannot remove the stale socket %s: %s", r->path,
                          strerrordesc_np(-code));
    }
    return 0;
}

static int bind_socket(struct ingle_rendezvous *r, struct ingle_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    mode_t mask;
    int res, code = 0;

    _Static_assert(sizeof r->path <= sizeof address.sun_path, "a path that fits is an address");
    memcpy(address.sun_path, r->path, strlen(r->path) + 1);
    res = clear_stale(r, &address, err);
    if (res != 0) {
        return res;
    }
    r->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mask = umask(0177); /* the socket is 0600 from its first moment */
    if (r->listen_fd < 0 ||
        bind(r->listen_fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        listen(r->listen_fd, 128) != 0 || lstat(r->path, &r->bound) != 0) {
        code = -errno;
    }
    (void)umask(mask);
    return code == 0
               ? 0
               : ingle_fail(err, code, "cannot listen on %s: %s", r->path, strerrordesc_np(-code));
}

/* A socket that a service manager made: it watches over its place and keeps it. Ours to see to is
 * that it does not block io, which accepts until nobody waits. */
static int take_over(struct ingle_rendezvous *r, struct ingle_error *err)
{
    struct sockaddr_un address;
    socklen_t bytes = sizeof address;
    int flags = fcntl(r->listen_fd, F_GETFL);

    r->inherited = true;
    if (flags < 0 || fcntl(r->listen_fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        int code = -errno;

        return ingle_fail(err, code, "cannot use the socket that was handed over: %s",
                          strerrordesc_np(-code));
    }
    if (getsockname(r->listen_fd, (struct sockaddr *)&address, &bytes) == 0) {
        (void)snprintf(r->path, sizeof r->path, "%.*s", (int)sizeof r->path - 1, address.sun_path);
    }
    return 0;
}

int ingle_rendezvous_open(struct ingle_rendezvous *r, const char *path, struct ingle_error *err)
{
    int res;

    memset(r, 0, sizeof *r);
    r->lock_fd = r->listen_fd = -1;
    if (path == NULL) {
        res = ingle_config_socket_path(r->path, err);
    } else if (path[0] != '/' || strlen(path) >= sizeof r->path) {
        res = ingle_fail_kind(err, INGLE_ERR_USAGE, -EINVAL,
                              "--socket needs an absolute path of at most %zu bytes",
                              sizeof r->path - 1);
    } else {
        (void)snprintf(r->path, sizeof r->path, "%s", path);
        res = 0;
    }
    if (res != 0) {
        return res;
    }
    r->listen_fd = ingle_notify_listen_fd();
    if (r->listen_fd >= 0) {
        return take_over(r, err);
    }
    res = ingle_path_prepare(r->path, getuid());
    if (res != 0) {
        return refuse_directory(r->path, res, err);
    }
    res = take_lock(r, err);
    return res != 0 ? res : bind_socket(r, err);
}

void ingle_rendezvous_close(struct ingle_rendezvous *r)
{
    struct stat st;

    if (!r->inherited && r->listen_fd >= 0 && lstat(r->path, &st) == 0 &&
        st.st_dev == r->bound.st_dev && st.st_ino == r->bound.st_ino) {
        (void)unlink(r->path);
    }
    if (r->listen_fd >= 0) {
        (void)close(r->listen_fd);
    }
    if (r->lock_fd >= 0) {
        (void)close(r->lock_fd);
    }
    r->listen_fd = r->lock_fd = -1;
}
