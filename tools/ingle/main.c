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

const struct cli_verb cli_verbs[] = {
    {"pull", "NAME|FILE|hf:OWNER/REPO[/FILE]|URL", "fetch or import a model", pull_options,
     verb_pull, 1, 1},
    {"ls", "", "list the models on this machine", json_options, verb_ls, 0, 0},
    {"rm", "NAME...", "remove models from Ingle's own store", no_options, verb_rm, 1, -1},
    {"config", "get|set|check ...", "read, change or check the configuration", no_options,
     verb_config, 1, 3},
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
