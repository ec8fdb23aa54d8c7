/* Which models are on this machine: our own folder and, without copying, the stores of other
 * programs. */
#ifndef INGLE_TOOLS_MODELS_H
#define INGLE_TOOLS_MODELS_H
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "tools/ingle/cli.h"

enum model_store {
    STORE_INGLE,
    STORE_HUGGING_FACE,
    STORE_LM_STUDIO,
    STORE_OLLAMA
};
extern const char *const model_store_names[]; /* "ingle", "huggingface", ... */

struct model_entry {
    char name[256]; /* what -m takes */
    char path[PATH_MAX];
    enum model_store store;
    uint64_t bytes;
};

/* Call visit for every GGUF file found, our own folder first; stops when it returns false. */
void models_scan(bool (*visit)(const struct model_entry *entry, void *arg), void *arg);

/* The absolute path of what -m names: a path (with a '/' or ending in .gguf), or a name of
 * models_scan. Prints what is wrong: CLI_NOT_FOUND. */
enum cli_exit model_resolve(const char *name, char ret_path[PATH_MAX]);

/* $XDG_DATA_HOME/ingle/models/NAME.gguf */
void model_own_path(const char *name, char ret_path[PATH_MAX]);
/* A name is one path component that is no hidden file: letters, digits and . _ - + */
bool model_name_ok(const char *name);
/* Does the file begin as a GGUF file does? */
bool model_is_gguf(int fd);

#endif
