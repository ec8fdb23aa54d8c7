/* Owns the .part file and its lock from part_open to part_commit or part_close. Invariant: a file
 * under its final name is whole and has the checksum that was asked for. Thread: main. */
#include "tools/ingle/part.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tools/ingle/models.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/progress.h"

enum cli_exit part_open(struct part *part, const char *name)
{
    char folder[PATH_MAX];
    struct stat st;
    int r;

    *part = (struct part){.fd = -1};
    (void)snprintf(part->name, sizeof part->name, "%s", name);
    path_in(PATH_DATA, folder, "models");
    r = path_make(folder);
    if (r < 0) {
        return cli_fail(CLI_FAIL, "cannot make folder %s: %s", folder, strerrordesc_np(-r));
    }
    model_own_path(name, part->final_path);
    path_format(part->path, "%s.part", part->final_path);
    part->fd = open(part->path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (part->fd < 0) {
        return cli_fail(CLI_FAIL, "cannot write %s: %m", part->path);
    }
    if (flock(part->fd, LOCK_EX | LOCK_NB) < 0) {
        part_close(part);
        return cli_fail(CLI_REFUSED, "another process is fetching \"%s\"; wait for it", name);
    }
    if (fstat(part->fd, &st) < 0 || lseek(part->fd, 0, SEEK_END) < 0) {
        int why = errno;

        part_close(part);
        return cli_fail(CLI_FAIL, "cannot read %s: %s", part->path, strerrordesc_np(why));
    }
    part->bytes = (uint64_t)st.st_size;
    return CLI_OK;
}

enum cli_exit part_room(const struct part *part, uint64_t more_bytes)
{
    struct statvfs fs;
    char need[16], have[16];
    uint64_t free_bytes;

    if (fstatvfs(part->fd, &fs) < 0) {
        return CLI_OK; /* a file system that cannot say: the write will */
    }
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (free_bytes >= more_bytes) {
        return CLI_OK;
    }
    return cli_fail(CLI_REFUSED, "\"%s\" needs %s more, the disk of %s has %s free", part->name,
                    bytes_text(more_bytes, need), part->final_path, bytes_text(free_bytes, have));
}

enum cli_exit part_append(struct part *part, const void *data, size_t bytes)
{
    int r = file_write_all(part->fd, data, bytes);

    if (r < 0) {
        return cli_fail(r == -ENOSPC ? CLI_REFUSED : CLI_FAIL, "cannot write %s: %s", part->path,
                        strerrordesc_np(-r));
    }
    part->bytes += bytes;
    return CLI_OK;
}

enum cli_exit part_truncate(struct part *part)
{
    if (ftruncate(part->fd, 0) < 0 || lseek(part->fd, 0, SEEK_SET) < 0) {
        return cli_fail(CLI_FAIL, "cannot write %s: %m", part->path);
    }
    part->bytes = 0;
    return CLI_OK;
}

static enum cli_exit sha256_fd(int fd, const char *path, const char *what,
                               char ret_sha[SHA256_TEXT])
{
    EVP_MD_CTX *sha = EVP_MD_CTX_new();
    unsigned char digest[EVP_MAX_MD_SIZE];
    struct progress progress;
    char block[1 << 13];
    uint64_t done = 0;
    struct stat st;
    ssize_t n = 0;
    bool ok = sha != NULL && EVP_DigestInit_ex(sha, EVP_sha256(), NULL) == 1 && fstat(fd, &st) == 0;

    if (ok) {
        progress_start(&progress, what, (uint64_t)st.st_size);
        while ((n = pread(fd, block, sizeof block, (off_t)done)) > 0) {
            ok = EVP_DigestUpdate(sha, block, (size_t)n) == 1 && ok;
            done += (uint64_t)n;
            progress_at(&progress, done);
        }
        progress_end(&progress);
        ok = n == 0 && EVP_DigestFinal_ex(sha, digest, NULL) == 1 && ok;
    }
    EVP_MD_CTX_free(sha);
    if (!ok) {
        return cli_fail(CLI_FAIL, "cannot read %s: %m", path);
    }
    for (int i = 0; i < 32; i++) {
        (void)snprintf(ret_sha + (size_t)i * 2, 3, "%02x", digest[i]);
    }
    return CLI_OK;
}

enum cli_exit sha256_file(const char *path, const char *what, char ret_sha[SHA256_TEXT])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    enum cli_exit e;

    if (fd < 0) {
        return cli_fail(CLI_FAIL, "cannot read %s: %m", path);
    }
    e = sha256_fd(fd, path, what, ret_sha);
    (void)close(fd);
    return e;
}

static enum cli_exit discard(struct part *part)
{
    (void)unlink(part->path);
    part_close(part);
    return CLI_BAD_MODEL;
}

enum cli_exit part_commit(struct part *part, const char *sha256, char ret_sha[SHA256_TEXT])
{
    char what[256];
    enum cli_exit e;

    (void)snprintf(what, sizeof what, "check %s", part->name);
    e = sha256_fd(part->fd, part->path, what, ret_sha);
    if (e != CLI_OK) {
        part_close(part);
        return e;
    }
    if (sha256 != NULL && strcasecmp(sha256, ret_sha) != 0) {
        (void)cli_fail(CLI_BAD_MODEL, "\"%s\" arrived with SHA-256 %s, expected %s; removed",
                       part->name, ret_sha, sha256);
        return discard(part);
    }
    if (!model_is_gguf(part->fd)) {
        (void)cli_fail(CLI_BAD_MODEL, "\"%s\" is not a GGUF file (its first bytes say so); removed",
                       part->name);
        return discard(part);
    }
    if (fsync(part->fd) < 0 || rename(part->path, part->final_path) < 0) {
        int why = errno;

        part_close(part);
        return cli_fail(CLI_FAIL, "cannot finish %s: %s", part->final_path, strerrordesc_np(why));
    }
    part_close(part);
    return CLI_OK;
}

void part_close(struct part *part)
{
    if (part->fd >= 0) {
        (void)close(part->fd);
        part->fd = -1;
    }
}
