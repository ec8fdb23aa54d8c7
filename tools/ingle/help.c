/* Owns nothing. Help, shell completion and the man page, all made from the verb table. Thread:
 * main. */
#include <stdio.h>
#include <string.h>

#include "tools/ingle/verbs.h"

static void option_lines(const struct cli_option *options)
{
    for (const struct cli_option *o = options; o->name != NULL; o++) {
        char left[64], letter[8] = "    ";

        if (o->letter != 0) {
            (void)snprintf(letter, sizeof letter, "-%c, ", o->letter);
        }
        (void)snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name,
                       o->value != NULL ? " " : "", o->value != NULL ? o->value : "");
        (void)printf("  %-28s %s\n", left, o->help);
    }
}

void help_verb(const struct cli_verb *verb)
{
    (void)printf("usage: ingle %s [OPTION]...%s%s\n%s\n\n", verb->name,
                 verb->operands[0] != 0 ? " " : "", verb->operands, verb->summary);
    option_lines(verb->options);
    option_lines(cli_common_options);
}

static void help_all(void)
{
    (void)printf("usage: ingle VERB [OPTION]... [OPERAND]...\n"
                 "One resident language model runtime, used by many local programs.\n\n");
    for (const struct cli_verb *v = cli_verbs; v->name != NULL; v++) {
        (void)printf("  %-12s %s\n", v->name, v->summary);
    }
    (void)printf("\n"
                 "  ingle help VERB   the options of one verb\n"
                 "  ingle pull smollm2-135m && ingle run -m smollm2-135m \"Say hello\"\n");
}

enum cli_exit cli_unknown_verb(const char *name)
{
    const char *names[64];
    const char *near;
    size_t n = 0;

    for (const struct cli_verb *v = cli_verbs; v->name != NULL && n < 63; v++) {
        names[n++] = v->name;
    }
    names[n] = NULL;
    near = cli_nearest(name, names);
    if (near != NULL) {
        return cli_fail(CLI_USAGE, "no verb \"%s\", did you mean \"%s\"?", name, near);
    }
    return cli_fail(CLI_USAGE, "no verb \"%s\" (see: ingle help)", name);
}

enum cli_exit verb_help(const struct cli_call *call)
{
    const struct cli_verb *verb;

    if (call->n_operands == 0) {
        help_all();
        return CLI_OK;
    }
    verb = cli_find_verb(call->operands[0]);
    if (verb == NULL) {
        return cli_unknown_verb(call->operands[0]);
    }
    help_verb(verb);
    return CLI_OK;
}
