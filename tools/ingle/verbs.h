/* The verbs: each checks its own operands, prints what is wrong, and returns the exit status. */
#ifndef INGLE_TOOLS_VERBS_H
#define INGLE_TOOLS_VERBS_H
#include "tools/ingle/cli.h"

enum cli_exit verb_setup(const struct cli_call *call);
enum cli_exit verb_doctor(const struct cli_call *call);
enum cli_exit verb_pull(const struct cli_call *call);
enum cli_exit verb_ls(const struct cli_call *call);
enum cli_exit verb_rm(const struct cli_call *call);
enum cli_exit verb_run(const struct cli_call *call);
enum cli_exit verb_chat(const struct cli_call *call);
enum cli_exit verb_complete(const struct cli_call *call);
enum cli_exit verb_embed(const struct cli_call *call);
enum cli_exit verb_ps(const struct cli_call *call);
enum cli_exit verb_load(const struct cli_call *call);
enum cli_exit verb_unload(const struct cli_call *call);
enum cli_exit verb_sessions(const struct cli_call *call);
enum cli_exit verb_kill(const struct cli_call *call);
enum cli_exit verb_shutdown(const struct cli_call *call);
enum cli_exit verb_logs(const struct cli_call *call);
enum cli_exit verb_tokenize(const struct cli_call *call);
enum cli_exit verb_template(const struct cli_call *call);
enum cli_exit verb_config(const struct cli_call *call);
enum cli_exit verb_eval(const struct cli_call *call);
enum cli_exit verb_version(const struct cli_call *call);
enum cli_exit verb_completion(const struct cli_call *call);
enum cli_exit verb_help(const struct cli_call *call);

void help_verb(const struct cli_verb *verb);
enum cli_exit cli_unknown_verb(const char *name);

#endif
