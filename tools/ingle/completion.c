/* Owns nothing. Completion scripts and the option part of the man page, from the verb table. An
 * operand or value named MODEL completes model names, FILE files, "a|b" its words. Thread: main. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "tools/ingle/catalogue.h"
#include "tools/ingle/verbs.h"

/* "a|b|c ..." -> "a b c": the words that may stand first, or false where they are not literal. */
static bool literal_words(const char *text, char *ret, size_t bytes)
{
    size_t n = strcspn(text, " ");

    if (memchr(text, '|', n) == NULL || n >= bytes) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!islower((unsigned char)text[i]) && !isdigit((unsigned char)text[i]) &&
            text[i] != '|') {
            return false;
        }
        ret[i] = (char)(text[i] == '|' ? ' ' : text[i]);
    }
    ret[n] = 0;
    return true;
}

enum kind {
    KIND_NONE,
    KIND_MODEL,
    KIND_OWN_MODEL,
    KIND_CATALOGUE,
    KIND_FILE,
    KIND_VERB,
    KIND_WORDS
};

static enum kind kind_of(const char *text, char *ret_words, size_t bytes)
{
    if (literal_words(text, ret_words, bytes)) {
        return KIND_WORDS;
    }
    return strncmp(text, "MODEL", 5) == 0     ? KIND_MODEL
           : strncmp(text, "NAME|", 5) == 0   ? KIND_CATALOGUE
           : strncmp(text, "NAME...", 7) == 0 ? KIND_OWN_MODEL
           : strstr(text, "FILE") != NULL     ? KIND_FILE
           : strncmp(text, "[VERB]", 6) == 0  ? KIND_VERB
                                              : KIND_NONE;
}

static const char models_command[] =
    "ingle ls --json 2>/dev/null | tr '{' '\\n' | sed -n 's/^\"name\":\"\\([^\"]*\\)\".*/\\1/p'";

static void catalogue_words(void)
{
    for (const struct catalogue_model *m = catalogue; m->name != NULL; m++) {
        (void)printf("%s%s", m == catalogue ? "" : " ", m->name);
    }
}

static void verb_words(void)
{
    for (const struct cli_verb *v = cli_verbs; v->name != NULL; v++) {
        (void)printf("%s%s", v == cli_verbs ? "" : " ", v->name);
    }
}

/* The bash command that fills COMPREPLY for one kind. */
static void bash_reply(enum kind kind, const char *words)
{
    if (kind == KIND_NONE) {
        (void)printf("COMPREPLY=()");
        return;
    }
    (void)printf("mapfile -t COMPREPLY < <(");
    if (kind != KIND_FILE) {
        (void)printf("compgen -W \"");
        switch (kind) {
        case KIND_MODEL:
        case KIND_OWN_MODEL:
            (void)printf("$(%s)", models_command);
            break;
        case KIND_CATALOGUE:
            catalogue_words();
            break;
        case KIND_VERB:
            verb_words();
            break;
        case KIND_WORDS:
            (void)printf("%s", words);
            break;
        case KIND_FILE:
        case KIND_NONE:
            break;
        }
        (void)printf("\" -- \"$cur\"");
    }
    if (kind == KIND_MODEL || kind == KIND_CATALOGUE || kind == KIND_FILE) {
        (void)printf("%scompgen -f -- \"$cur\"", kind == KIND_FILE ? "" : "; ");
    }
    (void)printf(")");
}

static void bash_verb(const struct cli_verb *v)
{
    char words[256];
    enum kind kind;

    (void)printf("    %s)\n        case $prev in\n", v->name);
    for (const struct cli_option *o = v->options; o->name != NULL; o++) {
        if (o->value != NULL) {
            (void)printf("        --%s", o->name);
            if (o->letter != 0) {
                (void)printf("|-%c", o->letter);
            }
            (void)printf(") ");
            kind = kind_of(o->value, words, sizeof words);
            bash_reply(kind, words);
            (void)printf("; return;;\n");
        }
    }
    (void)printf("        esac\n        if [[ $cur == -* ]]; then\n"
                 "            mapfile -t COMPREPLY < <(compgen -W \"--help");
    for (const struct cli_option *o = v->options; o->name != NULL; o++) {
        (void)printf(" --%s", o->name);
    }
    (void)printf("\" -- \"$cur\")\n        else\n            ");
    kind = kind_of(v->operands, words, sizeof words);
    bash_reply(kind, words);
    (void)printf("\n        fi;;\n");
}

static void bash(void)
{
    (void)printf("# bash completion for ingle; made by `ingle completion bash`\n"
                 "_ingle() {\n"
                 "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                 "    COMPREPLY=()\n"
                 "    if ((COMP_CWORD == 1)); then\n"
                 "        mapfile -t COMPREPLY < <(compgen -W \"");
    verb_words();
    (void)printf("\" -- \"$cur\")\n        return\n    fi\n    case ${COMP_WORDS[1]} in\n");
    for (const struct cli_verb *v = cli_verbs; v->name != NULL; v++) {
        bash_verb(v);
    }
    (void)printf("    esac\n}\ncomplete -o filenames -F _ingle ingle\n");
}

/* Text inside single quotes of zsh's _arguments specifications or of fish. */
static void quoted(const char *text)
{
    for (; *text != 0; text++) {
        if (*text == '\'') {
            (void)fputs("'\\''", stdout);
        } else if (strchr("[]:", *text) != NULL) {
            (void)printf("\\%c", *text);
        } else {
            (void)putchar(*text);
        }
    }
}

static void zsh_action(enum kind kind, const char *words)
{
    switch (kind) {
    case KIND_MODEL:
        (void)printf("_ingle_models_or_files");
        break;
    case KIND_OWN_MODEL:
        (void)printf("_ingle_models");
        break;
    case KIND_CATALOGUE:
        (void)printf("_ingle_catalogue");
        break;
    case KIND_FILE:
        (void)printf("_files");
        break;
    case KIND_VERB:
        (void)printf("_ingle_verbs");
        break;
    case KIND_WORDS:
        (void)printf("(%s)", words);
        break;
    case KIND_NONE:
        (void)printf(" ");
        break;
    }
}

static void zsh_verb(const struct cli_verb *v)
{
    char words[256];

    (void)printf("    %s) _arguments -s '(-h --help)'{-h,--help}'[show help]'", v->name);
    for (const struct cli_option *o = v->options; o->name != NULL; o++) {
        if (o->letter != 0) {
            (void)printf(" \\\n        '*'{-%c%s,--%s%s}'[", o->letter, o->value != NULL ? "+" : "",
                         o->name, o->value != NULL ? "=" : "");
        } else {
            (void)printf(" \\\n        '*--%s%s[", o->name, o->value != NULL ? "=" : "");
        }
        quoted(o->help);
        (void)printf("]");
        if (o->value != NULL) {
            (void)printf(":value:");
            zsh_action(kind_of(o->value, words, sizeof words), words);
        }
        (void)printf("'");
    }
    if (v->operands[0] != 0) {
        (void)printf(" \\\n        '*:operand:");
        zsh_action(kind_of(v->operands, words, sizeof words), words);
        (void)printf("'");
    }
    (void)printf(";;\n");
}

static void zsh(void)
{
    (void)printf("#compdef ingle\n# made by `ingle completion zsh`\n"
                 "_ingle_models() { compadd -- ${(f)\"$(%s)\"} }\n"
                 "_ingle_models_or_files() { _ingle_models; _files -g '*.gguf' }\n"
                 "_ingle_catalogue() { compadd ",
                 models_command);
    catalogue_words();
    (void)printf("; _files -g '*.gguf' }\n"
                 "_ingle_verbs() {\n    local -a verbs=(\n");
    for (const struct cli_verb *v = cli_verbs; v->name != NULL; v++) {
        (void)printf("        '%s:", v->name);
        quoted(v->summary);
        (void)printf("'\n");
    }
    (void)printf("    )\n    _describe verb verbs\n}\n"
                 "_ingle() {\n"
                 "    if ((CURRENT == 2)); then _ingle_verbs; return; fi\n"
                 "    local verb=$words[2]\n"
                 "    shift words; ((CURRENT--))\n"
                 "    case $verb in\n");
    for (const struct cli_verb *v = cli_verbs; v->name != NULL; v++) {
        zsh_verb(v);
    }
    (void)printf("    esac\n}\n_ingle \"$@\"\n");
}

static void fish_values(enum kind kind, const char *words)
{
    switch (kind) {
    case KIND_MODEL:
        (void)printf(" -Fa '(__ingle_models)'");
        break;
    case KIND_OWN_MODEL:
        (void)printf(" -fa '(__ingle_models)'");
        break;
    case KIND_CATALOGUE:
        (void)printf(" -Fa '");
        catalogue_words();
        (void)printf("'");
        break;
    case KIND_FILE:
        (void)printf(" -F");
        break;
    case KIND_VERB:
        (void)printf(" -fa '");
        verb_words();
        (void)printf("'");
        break;
    case KIND_WORDS:
        (void)printf(" -fa '%s'", words);
        break;
    case KIND_NONE:
        (void)printf(" -f");
        break;
    }
}

static void fish_text(const char *text)
{
    for (; *text != 0; text++) {
        (void)fputs(*text == '\'' ? "\\" : "", stdout);
        (void)putchar(*text);
    }
}

static void fish(void)
{
    char words[256];

    (void)printf("# fish completion for ingle; made by `ingle completion fish`\n"
                 "function __ingle_models\n    %s\nend\n"
                 "complete -c ingle -f\n",
                 models_command);
    for (const struct cli_verb *v = cli_verbs; v->name != NULL; v++) {
        (void)printf("complete -c ingle -n __fish_use_subcommand -a %s -d '", v->name);
        fish_text(v->summary);
        (void)printf("'\n");
    }
    for (const struct cli_verb *v = cli_verbs; v->name != NULL; v++) {
        for (const struct cli_option *o = v->options; o->name != NULL; o++) {
            (void)printf("complete -c ingle -n '__fish_seen_subcommand_from %s' -l %s", v->name,
                         o->name);
            if (o->letter != 0) {
                (void)printf(" -s %c", o->letter);
            }
            if (o->value != NULL) {
                (void)printf(" -r");
                fish_values(kind_of(o->value, words, sizeof words), words);
            }
            (void)printf(" -d '");
            fish_text(o->help);
            (void)printf("'\n");
        }
        if (v->operands[0] != 0) {
            (void)printf("complete -c ingle -n '__fish_seen_subcommand_from %s'", v->name);
            fish_values(kind_of(v->operands, words, sizeof words), words);
            (void)printf("\n");
        }
    }
}

/* scdoc: a line per verb with its options; docs/man/ingle.1.scd has the prose around it. */
static void man_text(const char *text)
{
    for (; *text != 0; text++) {
        if (strchr("_*\\", *text) != NULL) {
            (void)putchar('\\');
        }
        (void)putchar(*text);
    }
}

static void man(void)
{
    for (const struct cli_verb *v = cli_verbs; v->name != NULL; v++) {
        (void)printf("*ingle %s*", v->name);
        if (v->options[0].name != NULL) {
            (void)printf(" [_OPTION_]\\.\\.\\.");
        }
        if (v->operands[0] != 0) {
            (void)printf(" ");
            man_text(v->operands);
        }
        (void)printf("\n\t");
        man_text(v->summary);
        (void)printf("\n\n");
        for (const struct cli_option *o = v->options; o->name != NULL; o++) {
            (void)printf("\t");
            if (o->letter != 0) {
                (void)printf("*-%c*, ", o->letter);
            }
            (void)printf("*--%s*", o->name);
            if (o->value != NULL) {
                (void)printf(" ");
                man_text(o->value);
            }
            (void)printf("\n\t\t");
            man_text(o->help);
            (void)printf("\n\n");
        }
    }
}

enum cli_exit verb_completion(const struct cli_call *call)
{
    static const struct {
        const char *name;
        void (*print)(void);
    } makers[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}, {"man", man}};

    for (size_t i = 0; i < sizeof makers / sizeof makers[0]; i++) {
        if (strcmp(call->operands[0], makers[i].name) == 0) {
            makers[i].print();
            return CLI_OK;
        }
    }
    return cli_fail(CLI_USAGE, "completion: no shell \"%s\"; one of bash, zsh, fish",
                    call->operands[0]);
}
