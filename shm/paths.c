/* The rendezvous path, decided in one place for both sides. Owns nothing; the environment comes in
 * as arguments, so that a test can state it. Any thread. */
#include "shm/paths.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int usable(const char *dir)
{
    return dir != NULL && dir[0] == '/';
}

static int print_path(char ret_path[INGLE_SOCKET_PATH_BYTES], const char *dir, const char *below)
{
    char path[INGLE_SOCKET_PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s%s/ingle/ingle.sock", dir, below);

    if (n < 0 || (size_t)n >= sizeof path) {
        return -ENAMETOOLONG;
    }
    memcpy(ret_path, path, (size_t)n + 1);
    return 0;
}

int ingle_path_socket(const char *runtime_dir, const char *home, uid_t uid,
                      char ret_path[INGLE_SOCKET_PATH_BYTES])
{
    char dir[32];
    struct stat st;

    if (usable(runtime_dir)) {
        return print_path(ret_path, runtime_dir, "");
    }
    (void)snprintf(dir, sizeof dir, "/run/user/%lu", (unsigned long)uid);
    if (stat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == uid) {
        return print_path(ret_path, dir, "");
    }
    return usable(home) ? print_path(ret_path, home, "/.local/state") : -ENOENT;
}

int ingle_path_prepare(const char *socket_path, uid_t uid)
{
    char dir[INGLE_SOCKET_PATH_BYTES];
    size_t bytes = strnlen(socket_path, sizeof dir);
    struct stat st;
    char *slash;

    if (bytes == sizeof dir) {
        return -ENAMETOOLONG;
    }
    memcpy(dir, socket_path, bytes + 1);
    slash = strrchr(dir, '/');
    if (dir[0] != '/' || slash == dir) {
        return -EINVAL;
    }
    *slash = '\0';
    for (char *p = dir + 1;; p++) {
        if (*p == '/' || *p == '\0') {
            char end = *p;

            *p = '\0';
            if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
                return -errno;
            }
            *p = end;
            if (end == '\0') {
                break;
            }
        }
    }
    if (lstat(dir, &st) != 0) {
        return -errno;
    }
    if (!S_ISDIR(st.st_mode)) {
        return -ENOTDIR;
    }
    if (st.st_uid != uid) {
        return -EPERM;
    }
    return (st.st_mode & (S_IWGRP | S_IWOTH)) != 0 ? -EACCES : 0;
}
