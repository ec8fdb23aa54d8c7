/* The configuration: one table of keys (config.c) with type, range, default and help; read from
 * ingle.conf and conf.d, printed with comments. The only reader of the environment in runtime/. */
#ifndef INGLE_RUNTIME_DAEMON_CONFIG_H
#define INGLE_RUNTIME_DAEMON_CONFIG_H
#include <stdint.h>
#include <stdio.h>

#include "runtime/base/error.h"
#include "shm/paths.h"

#define INGLE_CONFIG_MODELS_MAX 32u
#define INGLE_CONFIG_NAME_BYTES 40u  /* what inih keeps of a section header */
#define INGLE_CONFIG_TEXT_BYTES 192u /* what inih keeps of a line */

/* Positions in the key table's lists of choices. */
enum ingle_config_kernels {
    INGLE_CONFIG_KERNELS_AUTO,
    INGLE_CONFIG_KERNELS_REF
};
enum ingle_config_activations {
    INGLE_CONFIG_ACTIVATIONS_8,
    INGLE_CONFIG_ACTIVATIONS_16,
    INGLE_CONFIG_ACTIVATIONS_32,
    INGLE_CONFIG_ACTIVATIONS_BF16
};
enum ingle_config_answer {
    INGLE_CONFIG_NO,
    INGLE_CONFIG_YES
};
enum ingle_config_keep {
    INGLE_CONFIG_KEEP_ON_DEMAND,
    INGLE_CONFIG_KEEP_ALWAYS
};

struct ingle_config_model { /* [model "NAME"] */
    char name[INGLE_CONFIG_NAME_BYTES];
    char file[INGLE_CONFIG_TEXT_BYTES];
    int32_t kv_bits, kernels, activations, context, keep;
};

struct ingle_config {
    struct {
        uint64_t memory; /* bytes; a percentage is resolved when it is read */
        int32_t threads, spin_us, log_level;
        char log_file[INGLE_CONFIG_TEXT_BYTES], default_model[INGLE_CONFIG_TEXT_BYTES];
    } daemon;
    struct {
        uint64_t kv_bytes;
        int32_t image_cache;
    } cache;
    struct {
        char base[INGLE_CONFIG_TEXT_BYTES];
    } hub;
    uint32_t n_models;
    struct ingle_config_model models[INGLE_CONFIG_MODELS_MAX];
};

/* Every key at its default, no models. */
void ingle_config_init(struct ingle_config *config);
/* Add what `text` says; name stands in messages. Errors (kind USAGE) name file, line and key, and
 * the nearest right key. */
int ingle_config_parse(struct ingle_config *config, const char *text, size_t bytes,
                       const char *name, struct ingle_error *err) INGLE_MUST_CHECK;
/* path: that file alone, which must exist. NULL: $XDG_CONFIG_HOME/ingle/ingle.conf, then
 * conf.d/[*].conf by name; none of them need exist. *config is untouched on failure. */
int ingle_config_load(const char *path, struct ingle_config *config,
                      struct ingle_error *err) INGLE_MUST_CHECK;
/* The configuration as a file with every key, its range and its help. */
void ingle_config_print(const struct ingle_config *config, FILE *out);

/* Where things lie (XDG), absolute. */
struct ingle_paths {
    char models[512]; /* $XDG_DATA_HOME/ingle/models */
    char images[512]; /* $XDG_CACHE_HOME/ingle/images */
    char state[512];  /* $XDG_STATE_HOME/ingle */
};
/* Make a directory and its parents, mode 0700. */
int ingle_config_make_dirs(const char *path);
/* The default place of the socket. */
int ingle_config_socket_path(char ret_path[INGLE_SOCKET_PATH_BYTES],
                             struct ingle_error *err) INGLE_MUST_CHECK;
int ingle_paths_find(struct ingle_paths *ret, struct ingle_error *err) INGLE_MUST_CHECK;

#endif
