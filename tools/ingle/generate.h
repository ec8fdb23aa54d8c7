/* Requests that produce tokens: from the command line's options to the runtime and back. */
#ifndef INGLE_TOOLS_GENERATE_H
#define INGLE_TOOLS_GENERATE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/c/ingle.h"
#include "tools/ingle/cli.h"

#define GENERATE_STOPS 16

struct chat_message {
    const char *role;
    char *text;
    size_t bytes;
};

/* A CHAT payload: the messages, behind the system's (NULL: none). The caller frees *ret. */
enum cli_exit chat_payload(const char *system, const struct chat_message *messages, size_t n,
                           char **ret, size_t *ret_bytes);

struct generate_options {
    struct ingle_generate g;
    struct ingle_stop stops[GENERATE_STOPS];
};

/* Read the sampling options that generating verbs share. The result borrows from call and must not
 * move (g points into it). */
enum cli_exit generate_options_read(const struct cli_call *call, struct generate_options *ret);

enum request_kind {
    REQUEST_GENERATE,
    REQUEST_EMBED,
    REQUEST_TOKENIZE,
    REQUEST_DETOKENIZE,
    REQUEST_TEMPLATE
};

struct request_result {
    uint32_t n_prompt, n_cached, n_tokens;
    uint32_t last_flags; /* INGLE_TOK_F_* of the last record */
    double prompt_s, total_s;
};

/* Submit g, hand every TOKEN event to take, and return when the request has ended. Ctrl-C cancels
 * the request: CLI_CANCELLED. Other failures are printed. */
enum cli_exit request_run(struct ingle_client *client, enum request_kind kind,
                          const struct ingle_generate *g,
                          void (*take)(void *arg, const struct ingle_event_info *event), void *arg,
                          struct request_result *ret);

/* From now on Ctrl-C sets a flag instead of ending the process. */
void interrupt_catch(void);
/* Was it pressed since the last call? */
bool interrupt_taken(void);

/* Refuse what is not UTF-8. */
enum cli_exit text_check(const char *text, size_t bytes);
/* The operands joined by blanks, or all of stdin where there are none or one "-". The caller frees
 * *ret. */
enum cli_exit prompt_read(const struct cli_call *call, char **ret, size_t *ret_bytes);

#endif
