/* A model file while it comes in: NAME.gguf.part, locked, then checked and renamed. */
#ifndef INGLE_TOOLS_PART_H
#define INGLE_TOOLS_PART_H
#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/ingle/cli.h"

#define SHA256_TEXT 65

struct part {
    char name[201];
    char final_path[PATH_MAX];
    char path[PATH_MAX];
    int fd;         /* the .part file, locked; -1: none */
    uint64_t bytes; /* already there */
};

/* Open NAME.gguf.part for a new model, keeping what an earlier attempt left. Refused when another
 * process has it. The caller ends it with part_commit or part_close. */
enum cli_exit part_open(struct part *part, const char *name);
/* Is there room for so many more bytes? */
enum cli_exit part_room(const struct part *part, uint64_t more_bytes);
enum cli_exit part_append(struct part *part, const void *data, size_t bytes);
enum cli_exit part_truncate(struct part *part);
/* Check magic and checksum (NULL: none known; *ret_sha gets the real one), rename, close. A wrong
 * file is removed. */
enum cli_exit part_commit(struct part *part, const char *sha256, char ret_sha[SHA256_TEXT]);
/* Leaves the bytes for the next attempt. */
void part_close(struct part *part);

/* The SHA-256 of a whole file, with progress. */
enum cli_exit sha256_file(const char *path, const char *what, char ret_sha[SHA256_TEXT]);

#endif
