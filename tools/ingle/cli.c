/* Owns nothing. Parses options against the verb table and prints errors. Invariant: an option that
 * a verb asks for stands in its table (asserted: it is our own bug). Thread: main. */
#include "tools/ingle/cli.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum cli_exit cli_fail(enum cli_exit code, const char *fmt, ...)
{
    va_list ap;

    (void)fputs("ingle: ", stderr);
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
    return code;
}

void cli_note(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    va_end(ap);
    (void)fputc('\n', stderr);
}

const struct cli_verb *cli_find_verb(const char *name)
{
    for (const struct cli_verb *v = cli_verbs; v->name != NULL; v++) {
        if (strcmp(v->name, name) == 0) {
            return v;
        }
    }
    return NULL;
}

/* Levenshtein distance, bounded by the row: words longer than that are not near anything. */
static size_t distance(const char *a, const char *b)
{
    size_t row[33];
    size_t n = strlen(b);

    if (n >= 33 || strlen(a) >= 33) {
        return 33;
    }
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i] != 0; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (a[i] != b[j - 1]);

            if (row[j] + 1 < best) {
                best = row[j] + 1;
            }
            if (row[j - 1] + 1 < best) {
                best = row[j - 1] + 1;
            }
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

const char *cli_nearest(const char *word, const char *const *names)
{
    const char *best = NULL;
    size_t best_distance = strlen(word) / 3 + 2; /* a third of the word may be wrong */

    for (; *names != NULL; names++) {
        size_t d = distance(word, *names);

        if (d < best_distance) {
            best_distance = d;
            best = *names;
        }
    }
    return best;
}

static const struct cli_option *find_option(const struct cli_verb *verb, const char *name,
                                            size_t name_bytes)
{
    const struct cli_option *tables[] = {verb->options, cli_common_options};

    for (int t = 0; t < 2; t++) {
        for (const struct cli_option *o = tables[t]; o->name != NULL; o++) {
            if (strlen(o->name) == name_bytes && strncmp(o->name, name, name_bytes) == 0) {
                return o;
            }
        }
    }
    return NULL;
}

static const struct cli_option *find_letter(const struct cli_verb *verb, char letter)
{
    const struct cli_option *tables[] = {verb->options, cli_common_options};

    for (int t = 0; t < 2; t++) {
        for (const struct cli_option *o = tables[t]; o->name != NULL; o++) {
            if (o->letter == letter) {
                return o;
            }
        }
    }
    return NULL;
}

static enum cli_exit unknown_option(const struct cli_verb *verb, const char *word)
{
    const char *names[CLI_GIVEN_MAX];
    const char *near;
    size_t n = 0;

    for (const struct cli_option *o = verb->options; o->name != NULL && n < CLI_GIVEN_MAX - 1;
         o++) {
        names[n++] = o->name;
    }
    names[n] = NULL;
    near = cli_nearest(word, names);
    if (near != NULL) {
        return cli_fail(CLI_USAGE, "%s: unknown option --%s, did you mean --%s?", verb->name, word,
                        near);
    }
    return cli_fail(CLI_USAGE, "%s: unknown option --%s (see: ingle help %s)", verb->name, word,
                    verb->name);
}

static enum cli_exit give(struct cli_call *call, const struct cli_option *option, const char *value)
{
    if (call->n_given == CLI_GIVEN_MAX) {
        return cli_fail(CLI_USAGE, "%s: more than %d options", call->verb->name, CLI_GIVEN_MAX);
    }
    call->given[call->n_given].option = option;
    call->given[call->n_given++].value = value;
    return CLI_OK;
}

static enum cli_exit parse_long(struct cli_call *call, int argc, char **argv, int *i)
{
    const char *word = argv[*i] + 2;
    const char *equals = strchr(word, '=');
    size_t name_bytes = equals != NULL ? (size_t)(equals - word) : strlen(word);
    const struct cli_option *o = find_option(call->verb, word, name_bytes);

    if (o == NULL) {
        char name[64];

        (void)snprintf(name, sizeof name, "%.*s", (int)name_bytes, word);
        return unknown_option(call->verb, name);
    }
    if (o->value == NULL) {
        if (equals != NULL) {
            return cli_fail(CLI_USAGE, "%s: --%s takes no value", call->verb->name, o->name);
        }
        return give(call, o, "");
    }
    if (equals != NULL) {
        return give(call, o, equals + 1);
    }
    if (*i + 1 >= argc) {
        return cli_fail(CLI_USAGE, "%s: --%s wants a value: %s", call->verb->name, o->name,
                        o->value);
    }
    return give(call, o, argv[++*i]);
}

static enum cli_exit parse_letters(struct cli_call *call, int argc, char **argv, int *i)
{
    for (const char *p = argv[*i] + 1; *p != 0; p++) {
        const struct cli_option *o = find_letter(call->verb, *p);
        enum cli_exit e;

        if (o == NULL) {
            return cli_fail(CLI_USAGE, "%s: unknown option -%c (see: ingle help %s)",
                            call->verb->name, *p, call->verb->name);
        }
        if (o->value == NULL) {
            e = give(call, o, "");
        } else if (p[1] != 0) {
            return give(call, o, p + 1);
        } else if (*i + 1 < argc) {
            return give(call, o, argv[++*i]);
        } else {
            return cli_fail(CLI_USAGE, "%s: -%c wants a value: %s", call->verb->name, *p, o->value);
        }
        if (e != CLI_OK) {
            return e;
        }
    }
    return CLI_OK;
}

enum cli_exit cli_parse(struct cli_call *call, const struct cli_verb *verb, int argc, char **argv)
{
    bool only_operands = false;

    *call = (struct cli_call){.verb = verb};
    for (int i = 0; i < argc; i++) {
        enum cli_exit e = CLI_OK;

        if (!only_operands && strcmp(argv[i], "--") == 0) {
            only_operands = true;
        } else if (!only_operands && strncmp(argv[i], "--", 2) == 0) {
            e = parse_long(call, argc, argv, &i);
        } else if (!only_operands && argv[i][0] == '-' && argv[i][1] != 0) {
            e = parse_letters(call, argc, argv, &i);
        } else if (call->n_operands == CLI_OPERANDS_MAX) {
            e = cli_fail(CLI_USAGE, "%s: more than %d operands", verb->name, CLI_OPERANDS_MAX);
        } else {
            call->operands[call->n_operands++] = argv[i];
        }
        if (e != CLI_OK) {
            return e;
        }
    }
    if (cli_has(call, "help")) {
        return CLI_OK;
    }
    if (call->n_operands < verb->operands_min ||
        (verb->operands_max >= 0 && call->n_operands > verb->operands_max)) {
        return cli_fail(CLI_USAGE, "usage: ingle %s [OPTION]... %s", verb->name, verb->operands);
    }
    return CLI_OK;
}

const char *cli_value_at(const struct cli_call *call, const char *option, int i)
{
    assert(find_option(call->verb, option, strlen(option)) != NULL);
    for (int k = 0; k < call->n_given; k++) {
        if (strcmp(call->given[k].option->name, option) == 0 && i-- == 0) {
            return call->given[k].value;
        }
    }
    return NULL;
}

const char *cli_value(const struct cli_call *call, const char *option)
{
    const char *last = NULL;

    assert(find_option(call->verb, option, strlen(option)) != NULL);
    for (int k = 0; k < call->n_given; k++) {
        if (strcmp(call->given[k].option->name, option) == 0) {
            last = call->given[k].value;
        }
    }
    return last;
}

bool cli_knows(const struct cli_call *call, const char *option)
{
    return find_option(call->verb, option, strlen(option)) != NULL;
}

bool cli_has(const struct cli_call *call, const char *option)
{
    return cli_value(call, option) != NULL;
}

enum cli_exit cli_u64(const struct cli_call *call, const char *option, uint64_t min, uint64_t max,
                      uint64_t *ret)
{
    const char *value = cli_value(call, option);
    unsigned long long n;
    char *end;

    if (value == NULL) {
        return CLI_OK;
    }
    errno = 0;
    n = strtoull(value, &end, 10);
    if (errno != 0 || *end != 0 || *value < '0' || *value > '9' || n < min || n > max) {
        return cli_fail(CLI_USAGE, "%s: --%s wants a whole number from %llu to %llu, not \"%s\"",
                        call->verb->name, option, (unsigned long long)min, (unsigned long long)max,
                        value);
    }
    *ret = n;
    return CLI_OK;
}

enum cli_exit cli_u32(const struct cli_call *call, const char *option, uint32_t min, uint32_t max,
                      uint32_t *ret)
{
    uint64_t wide = *ret;
    enum cli_exit e = cli_u64(call, option, min, max, &wide);

    *ret = (uint32_t)wide;
    return e;
}

enum cli_exit cli_float(const struct cli_call *call, const char *option, float min, float max,
                        float *ret)
{
    const char *value = cli_value(call, option);
    float x;
    char *end;

    if (value == NULL) {
        return CLI_OK;
    }
    x = strtof(value, &end);
    if (end == value || *end != 0 || !isfinite(x) || x < min || x > max) {
        return cli_fail(CLI_USAGE, "%s: --%s wants a number from %g to %g, not \"%s\"",
                        call->verb->name, option, (double)min, (double)max, value);
    }
    *ret = x;
    return CLI_OK;
}

enum cli_exit cli_choice(const struct cli_call *call, const char *option, int *ret)
{
    const char *value = cli_value(call, option);
    const char *choice;
    int i = 0;

    if (value == NULL) {
        return CLI_OK;
    }
    choice = find_option(call->verb, option, strlen(option))->value;
    for (;; i++) {
        size_t n = strcspn(choice, "|");

        if (strlen(value) == n && strncmp(value, choice, n) == 0) {
            *ret = i;
            return CLI_OK;
        }
        if (choice[n] == 0) {
            break;
        }
        choice += n + 1;
    }
    return cli_fail(CLI_USAGE, "%s: --%s wants one of %s, not \"%s\"", call->verb->name, option,
                    find_option(call->verb, option, strlen(option))->value, value);
}
