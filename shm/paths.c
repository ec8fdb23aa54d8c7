/* The rendezvous path and the names of images, decided in one place for both sides. Owns nothing;
 * the environment comes in as arguments, so that a test can state it. Any thread. */
#include "shm/paths.h"

#include <errno.h>
#include <limits.h>
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

#define HASH_DIGITS 32u

int ingle_path_image(const char *stem, const uint8_t source[16], char *ret_name, size_t bytes)
{
    char hash[HASH_DIGITS + 1];
    size_t n = strlen(stem) + HASH_DIGITS + strlen("..image");

    if (n >= bytes || n + strlen(".part") > NAME_MAX) {
        return -ENAMETOOLONG;
    }
    for (size_t i = 0; i < HASH_DIGITS / 2; i++) {
        (void)snprintf(hash + 2 * i, 3, "%02x", source[i]);
    }
    (void)snprintf(ret_name, bytes, "%s.%s.image", stem, hash);
    return 0;
}

bool ingle_path_is_image(const char *name, const char *stem)
{
    const size_t tail = HASH_DIGITS + strlen("..image");
    size_t n = strlen(name);
    const char *hash;

    n -= n > 5 && strcmp(name + n - 5, ".part") == 0 ? 5 : 0;
    if (n <= tail ||
        (stem != NULL && (strlen(stem) != n - tail || memcmp(name, stem, n - tail) != 0))) {
        return false;
    }
    hash = name + n - tail + 1;
    return hash[-1] == '.' && strspn(hash, "0123456789abcdef") == HASH_DIGITS &&
           strncmp(hash + HASH_DIGITS, ".image", 6) == 0;
}
