/* ingle: the command. Owns the verb table; everything that people read about verbs and options is
 * made from it. Thread: main. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tools/ingle/cli.h"
#include "tools/ingle/verbs.h"

#define END                 \
    {                       \
        0, NULL, NULL, NULL \
    }
#define JSON                                      \
    {                                             \
        0, "json", NULL, "print JSON on one line" \
    }
#define MODEL                                                                         \
    {                                                                                 \
        'm', "model", "MODEL", "a model's name (ingle ls) or the path of a GGUF file" \
    }

const struct cli_option cli_common_options[] = {
    {'h', "help", NULL, "show this help"},
    END,
};

static const struct cli_option no_options[] = {END};
static const struct cli_option json_options[] = {JSON, END};
static const struct cli_option pull_options[] = {
    {0, "name", "NAME", "the model's name from now on"},
    {0, "sha256", "SUM", "refuse anything else"},
    END,
};

#define OPEN                                                                                 \
    {0, "kv-bits", "16|8|4", "bits of a stored key or value"},                               \
        {0, "kernels", "auto|ref", "the fastest for this CPU, or the plain C reference"},    \
    {                                                                                        \
        0, "activations", "8|16|32|bf16", "bits of an activation; 32 is float, bf16 for AMX" \
    }

#define SAMPLING                                                                      \
    {'n', "tokens", "N", "at most so many tokens"},                                   \
        {'t', "temperature", "T", "0 (the default) takes the likeliest token"},       \
        {'s', "seed", "S", "the same seed gives the same answer"},                    \
        {0, "top-k", "K", "only the K likeliest tokens"},                             \
        {0, "top-p", "P", "only the likeliest tokens that make up P"},                \
        {0, "min-p", "P", "only tokens at least P times as likely as the likeliest"}, \
        {0, "typical-p", "P", "locally typical sampling"},                            \
        {0, "repeat-penalty", "X", "divide the logits of recent tokens"},             \
        {0, "repeat-last-n", "N", "how far back the penalties look"},                 \
        {0, "frequency-penalty", "X", "per occurrence"},                              \
        {0, "presence-penalty", "X", "once for each token that has occurred"},        \
        {0, "stop", "TEXT", "end before this text; may be repeated"},                 \
    {                                                                                 \
        0, "ignore-eos", NULL, "go on past the end of the answer"                     \
    }
#define SYSTEM                                    \
    {                                             \
        0, "system", "TEXT", "the system message" \
    }
#define STATS                                                          \
    {                                                                  \
        0, "stats", NULL, "say on stderr how many tokens and how fast" \
    }

static const struct cli_option load_options[] = {OPEN, END};
static const struct cli_option run_options[] = {
    MODEL, SAMPLING, SYSTEM, {0, "raw", NULL, "the prompt as it is, without a chat template"},
    STATS, JSON,     OPEN,   END,
};
static const struct cli_option complete_options[] = {MODEL, SAMPLING, STATS, JSON, OPEN, END};
static const struct cli_option chat_options[] = {MODEL, SAMPLING, SYSTEM, OPEN, END};
static const struct cli_option embed_options[] = {MODEL, OPEN, END};
static const struct cli_option tokenize_options[] = {
    MODEL,
    {0, "no-special", NULL, "control tokens in the text are plain text"},
    {0, "no-bos", NULL, "no begin-of-text token in front"},
    {0, "decode", NULL, "from ids back to text"},
    JSON,
    END,
};
static const struct cli_option model_options[] = {MODEL, END};
static const struct cli_option eval_options[] = {MODEL, JSON, OPEN, END};
static const struct cli_option logs_options[] = {{'n', "lines", "N", "the last N (50)"}, END};

const struct cli_verb cli_verbs[] = {
    {"setup", "", "make folders, a configuration and, with systemd, the socket unit", no_options,
     verb_setup, 0, 0},
    {"doctor", "", "look at what this machine has and lacks", json_options, verb_doctor, 0, 0},
    {"pull", "NAME|FILE|hf:OWNER/REPO[/FILE]|URL", "fetch or import a model", pull_options,
     verb_pull, 1, 1},
    {"ls", "", "list the models on this machine", json_options, verb_ls, 0, 0},
    {"rm", "NAME...", "remove models from Ingle's own store", no_options, verb_rm, 1, -1},
    {"run", "[PROMPT]...", "answer one prompt (from stdin where none is given)", run_options,
     verb_run, 0, -1},
    {"chat", "", "talk with a model", chat_options, verb_chat, 0, 0},
    {"complete", "[TEXT]...", "continue a text", complete_options, verb_complete, 0, -1},
    {"embed", "[TEXT]...", "print the text's vector as a JSON array", embed_options, verb_embed, 0,
     -1},
    {"ps", "", "show what the runtime holds, and where the memory is", json_options, verb_ps, 0, 0},
    {"load", "MODEL", "load a model, and keep it", load_options, verb_load, 1, 1},
    {"unload", "MODEL", "unload a model", no_options, verb_unload, 1, 1},
    {"sessions", "", "list the attached clients", json_options, verb_sessions, 0, 0},
    {"kill", "CLIENT", "disconnect a client", no_options, verb_kill, 1, 1},
    {"shutdown", "", "end the runtime", no_options, verb_shutdown, 0, 0},
    {"logs", "", "print the runtime's last log lines", logs_options, verb_logs, 0, 0},
    {"tokenize", "", "turn the text on stdin into token ids, or back", tokenize_options,
     verb_tokenize, 0, 0},
    {"template", "[FILE]", "render a chat (JSON messages) with the model's template", model_options,
     verb_template, 0, 1},
    {"config", "get|set|check ...", "read, change or check the configuration", no_options,
     verb_config, 1, 3},
    {"eval", "FILE.json", "measure a model against a golden file", eval_options, verb_eval, 1, 1},
    {"version", "", "show the versions", json_options, verb_version, 0, 0},
    {"completion", "bash|zsh|fish", "print the shell's completion script", no_options,
     verb_completion, 1, 1},
    {"help", "[VERB]", "show help", no_options, verb_help, 0, 1},
    {NULL, NULL, NULL, NULL, NULL, 0, 0},
};

int main(int argc, char **argv)
{
    const struct cli_verb *verb;
    struct cli_call call;
    enum cli_exit e;

    (void)signal(SIGPIPE, SIG_DFL);
    if (argc < 2 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0) {
        verb = cli_find_verb("help");
        argc = argc < 2 ? 2 : argc;
        e = cli_parse(&call, verb, argc - 2, argv + 2);
        return (int)(e == CLI_OK ? verb->run(&call) : e);
    }
    verb = cli_find_verb(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
    if (verb == NULL) {
        return (int)cli_unknown_verb(argv[1]);
    }
    e = cli_parse(&call, verb, argc - 2, argv + 2);
    if (e != CLI_OK) {
        return (int)e;
    }
    if (cli_has(&call, "help")) {
        help_verb(verb);
        return CLI_OK;
    }
    e = verb->run(&call);
    if (fflush(stdout) != 0 && e == CLI_OK) {
        e = cli_fail(CLI_FAIL, "cannot write the output: %m");
    }
    return (int)e;
}
