/* The command line: one table of verbs and options, from which parsing, help, completion and the
 * man page come. A verb adds its options there and nowhere else. */
#ifndef INGLE_TOOLS_CLI_H
#define INGLE_TOOLS_CLI_H
#include <stdbool.h>
#include <stdint.h>

/* Exit status of every verb; scripts rely on it. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAIL = 1,
    CLI_USAGE = 2,
    CLI_UNREACHABLE = 3, /* the runtime is not there */
    CLI_NOT_FOUND = 4,
    CLI_REFUSED = 5, /* quota, budget, context length, something in the way */
    CLI_BAD_MODEL = 6,
    CLI_CANCELLED = 130
};

/* value: NULL for a switch; MODEL, FILE or "a|b|c" also say what the shell completes. */
struct cli_option {
    char letter; /* 0: none */
    const char *name;
    const char *value;
    const char *help;
};

#define CLI_GIVEN_MAX    64
#define CLI_OPERANDS_MAX 512

struct cli_call;
struct cli_verb {
    const char *name;
    const char *operands; /* as the synopsis shows them; "" for none */
    const char *summary;
    const struct cli_option *options; /* ends with a zero entry */
    enum cli_exit (*run)(const struct cli_call *call);
    int operands_min, operands_max; /* max < 0: any number */
};

struct cli_call {
    const struct cli_verb *verb;
    struct {
        const struct cli_option *option;
        const char *value;
    } given[CLI_GIVEN_MAX];
    int n_given;
    const char *operands[CLI_OPERANDS_MAX];
    int n_operands;
};

extern const struct cli_verb cli_verbs[]; /* ends with a zero entry */
extern const struct cli_option cli_common_options[];

/* Split argv (without program and verb) into options and operands; prints what is wrong. */
enum cli_exit cli_parse(struct cli_call *call, const struct cli_verb *verb, int argc, char **argv);

/* Does the verb have the option at all, and was it given? */
bool cli_knows(const struct cli_call *call, const char *option);
bool cli_has(const struct cli_call *call, const char *option);
/* The value given last, or NULL. */
const char *cli_value(const struct cli_call *call, const char *option);
/* The value given as number i (from 0) where an option may be repeated, or NULL. */
const char *cli_value_at(const struct cli_call *call, const char *option, int i);
/* Leave *ret as it is where the option is absent. Prints what is wrong. */
enum cli_exit cli_u64(const struct cli_call *call, const char *option, uint64_t min, uint64_t max,
                      uint64_t *ret);
enum cli_exit cli_u32(const struct cli_call *call, const char *option, uint32_t min, uint32_t max,
                      uint32_t *ret);
enum cli_exit cli_float(const struct cli_call *call, const char *option, float min, float max,
                        float *ret);
/* Index of the value among the choices in the option's own table entry ("a|b|c"); otherwise as
 * above. */
enum cli_exit cli_choice(const struct cli_call *call, const char *option, int *ret);

const struct cli_verb *cli_find_verb(const char *name);
/* The entry of a zero-ended name list nearest to word, or NULL when nothing is near. */
const char *cli_nearest(const char *word, const char *const *names);

/* Print "ingle: ..." on stderr and return code, so that an origin reads `return cli_fail(...)`. */
enum cli_exit cli_fail(enum cli_exit code, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* A line for people on stderr. */
void cli_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
