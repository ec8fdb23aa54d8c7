/* The way to the runtime: find it, start it, attach to it, ask it. Everything here prints what is
 * wrong and returns the exit status. */
#ifndef INGLE_TOOLS_RUNTIME_H
#define INGLE_TOOLS_RUNTIME_H
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/c/ingle.h"
#include "tools/ingle/cli.h"

struct json_object;

/* The ingled that belongs to this ingle: beside it, else in PATH. */
bool runtime_program(char ret_path[PATH_MAX]);

enum runtime_start {
    RUNTIME_MUST_RUN,
    RUNTIME_MAY_START /* start it where none runs */
};
/* payload_bytes: the largest prompt that will be sent. The caller ends with ingle_detach. */
enum cli_exit runtime_attach(enum runtime_start start, size_t payload_bytes,
                             struct ingle_client **ret);

/* One request; what names the work for the progress line (NULL: none). The caller puts *ret. */
enum cli_exit runtime_admin(struct ingle_client *client, const char *request, const char *what,
                            struct json_object **ret);
/* The request {"verb":verb} with at most one more member. */
enum cli_exit runtime_ask(struct ingle_client *client, const char *verb, const char *key,
                          const char *value, struct json_object **ret);

enum kernels_choice { /* the order of the option's "auto|ref" */
    KERNELS_AUTO,
    KERNELS_REF
};

struct model_info {
    uint16_t slot;
    bool has_template;
    uint32_t n_ctx, n_vocab;
    int32_t bos;
};
/* Open the model of --model (the runtime's default, or the only one here, where it is not given)
 * with the options --kv-bits, --kernels and --activations where the verb has them. */
enum cli_exit runtime_open(struct ingle_client *client, const struct cli_call *call,
                           struct model_info *ret);
enum cli_exit runtime_open_named(struct ingle_client *client, const struct cli_call *call,
                                 const char *name, struct model_info *ret);

#endif
