/* Owns the grammar: tokens to a syntax tree, names interned, filters and tests looked up. The
 * precedence is Jinja2's: or, and, not, comparison, + -, ~, * / // %, **, unary, postfix, filters.
 * Chains of one level become one node, so depth is what a person nested. Thread: the caller's. */
#include "runtime/model/template_parser.h"

#include <stdarg.h>

#include "runtime/model/template_builtin.h"
#include "runtime/model/template_lexer.h"

struct parser {
    struct ingle_tpl_run *run;
    const struct ingle_tpl_token *t; /* the current token */
    struct ingle_tv_dict *name_index;
    struct ingle_tpl_program program;
    uint32_t loops;      /* loops around, inside the innermost macro */
    uint8_t macro_flags; /* special names that the innermost macros use */
};

struct kids { /* children under construction */
    struct ingle_tpl_node **kid;
    uint32_t n, room;
};

static struct ingle_tpl_node *parse_expression(struct parser *p);
static struct ingle_tpl_node *parse_unary(struct parser *p, bool with_filter);
static struct ingle_tpl_node *parse_body(struct parser *p, const char *const *ends, uint32_t line);

/* ---- tokens ---- */

static bool is_op(const struct ingle_tpl_token *t, const char *op)
{
    return t->type == TPL_T_OP && strcmp(t->op, op) == 0;
}

static bool is_name(const struct ingle_tpl_token *t, const char *name)
{
    return t->type == TPL_T_NAME && ingle_tv_is_str((struct ingle_tv){.kind = TV_STR,
                                                                      .bytes = t->value.bytes,
                                                                      .u.text = t->value.u.text},
                                                    name);
}

static void advance(struct parser *p)
{
    if (p->t->type != TPL_T_EOF) {
        p->t++;
    }
    p->run->line = p->t->line;
}

static bool skip_op(struct parser *p, const char *op)
{
    if (!is_op(p->t, op)) {
        return false;
    }
    advance(p);
    return true;
}

static bool skip_name(struct parser *p, const char *name)
{
    if (!is_name(p->t, name)) {
        return false;
    }
    advance(p);
    return true;
}

static _Noreturn void fail_expected(struct parser *p, const char *what)
{
    const struct ingle_tpl_token *t = p->t;
    int n = t->value.kind == TV_STR && t->value.bytes < 60 ? (int)t->value.bytes : 60;

    p->run->line = t->line;
    if (t->type == TPL_T_OP) {
        ingle_tpl_fail(p->run, "expected %s, got '%s'", what, t->op);
    }
    if (t->type == TPL_T_NAME || t->type == TPL_T_STR) {
        ingle_tpl_fail(p->run, "expected %s, got '%.*s'", what, n, t->value.u.text);
    }
    ingle_tpl_fail(p->run, "expected %s, got %s", what,
                   t->type == TPL_T_EOF         ? "the end of the template"
                   : t->type == TPL_T_BLOCK_END ? "'%}'"
                   : t->type == TPL_T_PRINT_END ? "'}}'"
                                                : "a number");
}

static void expect_op(struct parser *p, const char *op)
{
    char what[8] = "'";

    if (!is_op(p->t, op)) {
        strncat(what, op, 3);
        strncat(what, "'", 2);
        fail_expected(p, what);
    }
    advance(p);
}

static struct ingle_tv expect_name(struct parser *p)
{
    struct ingle_tv name = p->t->value;

    if (p->t->type != TPL_T_NAME) {
        fail_expected(p, "a name");
    }
    advance(p);
    name.kind = TV_STR;
    return name;
}

static void expect_block_end(struct parser *p)
{
    if (p->t->type != TPL_T_BLOCK_END) {
        fail_expected(p, "'%}'");
    }
    advance(p);
}

/* ---- nodes ---- */

static struct ingle_tpl_node *node_new(struct parser *p, enum ingle_tpl_op op, uint32_t line)
{
    struct ingle_tpl_node *node = ingle_tpl_alloc(p->run, sizeof(*node));

    node->op = (uint8_t)op;
    node->line = line;
    return node;
}

static void kids_add(struct parser *p, struct kids *kids, struct ingle_tpl_node *kid)
{
    struct ingle_tpl_node **bigger;

    if (kids->n == kids->room) {
        kids->room = kids->room == 0 ? 4 : kids->room * 2;
        bigger = ingle_tpl_alloc(p->run, (uint64_t)kids->room * sizeof(void *));
        if (kids->n > 0) {
            memcpy(bigger, kids->kid, (uint64_t)kids->n * sizeof(void *));
        }
        kids->kid = bigger;
    }
    kids->kid[kids->n++] = kid;
}

static struct ingle_tpl_node *node_of(struct parser *p, enum ingle_tpl_op op, uint32_t line,
                                      const struct kids *kids)
{
    struct ingle_tpl_node *node = node_new(p, op, line);

    node->n = kids->n;
    node->kid = kids->kid;
    return node;
}

/* A node with n children given in order. */
static struct ingle_tpl_node *node_with(struct parser *p, enum ingle_tpl_op op, uint32_t line,
                                        uint32_t n, ...)
{
    struct kids kids = {NULL, 0, 0};
    va_list ap;

    va_start(ap, n);
    while (n-- > 0) {
        kids_add(p, &kids, va_arg(ap, struct ingle_tpl_node *));
    }
    va_end(ap);
    return node_of(p, op, line, &kids);
}

static uint32_t intern(struct parser *p, struct ingle_tv name)
{
    const struct ingle_tv *known;
    uint32_t id = p->program.names->n;

    known = ingle_tv_dict_get(p->run, p->name_index, name);
    if (known != NULL) {
        return (uint32_t)known->u.i;
    }
    ingle_tv_list_add(p->run, p->program.names, name);
    ingle_tv_dict_put(p->run, p->name_index, name, ingle_tv_int(id));
    return id;
}

static void note_special_name(struct parser *p, struct ingle_tv name)
{
    p->macro_flags |= ingle_tv_is_str(name, "caller")    ? TPL_USES_CALLER
                      : ingle_tv_is_str(name, "kwargs")  ? TPL_USES_KWARGS
                      : ingle_tv_is_str(name, "varargs") ? TPL_USES_VARARGS
                                                         : 0;
}

static struct ingle_tpl_node *name_node(struct parser *p, struct ingle_tv name, uint32_t line)
{
    struct ingle_tpl_node *node = node_new(p, TPL_NAME, line);

    node->name = intern(p, name);
    return node;
}

/* ---- expressions ---- */

static bool tuple_ends(const struct parser *p, const char *end_name)
{
    return p->t->type == TPL_T_PRINT_END || p->t->type == TPL_T_BLOCK_END || is_op(p->t, ")") ||
           (end_name != NULL && is_name(p->t, end_name));
}

/* parse() separated by commas: one alone, or a tuple. end_name: a name that also ends it. */
static struct ingle_tpl_node *parse_tuple(struct parser *p,
                                          struct ingle_tpl_node *(*parse)(struct parser *),
                                          const char *end_name, bool may_be_empty)
{
    struct kids kids = {NULL, 0, 0};
    uint32_t line = p->t->line;
    bool is_tuple = false;

    while (!tuple_ends(p, end_name)) {
        kids_add(p, &kids, parse(p));
        if (!skip_op(p, ",")) {
            break;
        }
        is_tuple = true;
    }
    if (!is_tuple && kids.n > 0) {
        return kids.kid[0];
    }
    if (!is_tuple && !may_be_empty) {
        fail_expected(p, "an expression");
    }
    return node_of(p, TPL_TUPLE, line, &kids);
}

static struct ingle_tpl_node *parse_list(struct parser *p)
{
    struct kids kids = {NULL, 0, 0};
    uint32_t line = p->t->line;

    expect_op(p, "[");
    while (!is_op(p->t, "]")) {
        if (kids.n > 0) {
            expect_op(p, ",");
            if (is_op(p->t, "]")) {
                break;
            }
        }
        kids_add(p, &kids, parse_expression(p));
    }
    expect_op(p, "]");
    return node_of(p, TPL_LIST, line, &kids);
}

static struct ingle_tpl_node *parse_dict(struct parser *p)
{
    struct kids kids = {NULL, 0, 0};
    uint32_t line = p->t->line;

    expect_op(p, "{");
    while (!is_op(p->t, "}")) {
        if (kids.n > 0) {
            expect_op(p, ",");
            if (is_op(p->t, "}")) {
                break;
            }
        }
        kids_add(p, &kids, parse_expression(p));
        expect_op(p, ":");
        kids_add(p, &kids, parse_expression(p));
    }
    expect_op(p, "}");
    return node_of(p, TPL_DICT, line, &kids);
}

static struct ingle_tpl_node *const_node(struct parser *p, struct ingle_tv value, uint32_t line)
{
    struct ingle_tpl_node *node = node_new(p, TPL_CONST, line);

    node->value = value;
    return node;
}

static struct ingle_tpl_node *parse_name(struct parser *p)
{
    uint32_t line = p->t->line;
    struct ingle_tv name = expect_name(p);

    if (ingle_tv_is_str(name, "true") || ingle_tv_is_str(name, "True")) {
        return const_node(p, ingle_tv_bool(true), line);
    }
    if (ingle_tv_is_str(name, "false") || ingle_tv_is_str(name, "False")) {
        return const_node(p, ingle_tv_bool(false), line);
    }
    if (ingle_tv_is_str(name, "none") || ingle_tv_is_str(name, "None")) {
        return const_node(p, ingle_tv_none(), line);
    }
    note_special_name(p, name);
    return name_node(p, name, line);
}

static struct ingle_tpl_node *parse_strings(struct parser *p) /* "a" 'b' is one string */
{
    struct ingle_tpl_text text = {NULL, 0, 0};
    uint32_t line = p->t->line;

    while (p->t->type == TPL_T_STR) {
        ingle_tpl_put(p->run, &text, p->t->value.u.text, p->t->value.bytes);
        advance(p);
    }
    return const_node(p, ingle_tv_text(&text), line);
}

static struct ingle_tpl_node *parse_primary(struct parser *p)
{
    const struct ingle_tpl_token *t = p->t;
    struct ingle_tpl_node *node;

    if (t->type == TPL_T_NAME) {
        return parse_name(p);
    }
    if (t->type == TPL_T_STR) {
        return parse_strings(p);
    }
    if (t->type == TPL_T_INT || t->type == TPL_T_FLOAT) {
        advance(p);
        return const_node(p, t->value, t->line);
    }
    if (skip_op(p, "(")) {
        node = parse_tuple(p, parse_expression, NULL, true);
        expect_op(p, ")");
        return node;
    }
    if (is_op(t, "[")) {
        return parse_list(p);
    }
    if (is_op(t, "{")) {
        return parse_dict(p);
    }
    fail_expected(p, "an expression");
}

/* Arguments behind `kids`, which already holds what is called or filtered. */
static void parse_args(struct parser *p, struct kids *kids)
{
    bool list = false, dict = false, named = false, first = true;
    struct ingle_tpl_node *arg;

    expect_op(p, "(");
    while (!is_op(p->t, ")")) {
        uint32_t line = p->t->line;

        if (!first) {
            expect_op(p, ",");
            if (is_op(p->t, ")")) {
                break;
            }
        }
        first = false;
        if (skip_op(p, "*")) {
            if (list || dict) {
                ingle_tpl_fail(p->run, "misplaced * in a call");
            }
            list = true;
            arg = node_with(p, TPL_ARG_LIST, line, 1, parse_expression(p));
        } else if (skip_op(p, "**")) {
            if (dict) {
                ingle_tpl_fail(p->run, "misplaced ** in a call");
            }
            dict = true;
            arg = node_with(p, TPL_ARG_DICT, line, 1, parse_expression(p));
        } else if (p->t->type == TPL_T_NAME && is_op(p->t + 1, "=")) {
            struct ingle_tv name = expect_name(p);

            if (dict) {
                ingle_tpl_fail(p->run, "a named argument behind **");
            }
            named = true;
            advance(p);
            arg = node_with(p, TPL_ARG_NAMED, line, 1, parse_expression(p));
            arg->value = name;
        } else {
            if (list || dict || named) {
                ingle_tpl_fail(p->run, "a positional argument behind named ones");
            }
            arg = parse_expression(p);
        }
        kids_add(p, kids, arg);
    }
    expect_op(p, ")");
}

static struct ingle_tpl_node *parse_call(struct parser *p, struct ingle_tpl_node *callee)
{
    struct kids kids = {NULL, 0, 0};
    uint32_t line = p->t->line;

    kids_add(p, &kids, callee);
    parse_args(p, &kids);
    return node_of(p, TPL_CALL, line, &kids);
}

static struct ingle_tpl_node *parse_bracket(struct parser *p, struct ingle_tpl_node *object)
{
    struct ingle_tpl_node *bound[3] = {NULL, NULL, NULL};
    uint32_t line = p->t->line, i;

    expect_op(p, "[");
    if (is_op(p->t, "]")) {
        fail_expected(p, "an expression");
    }
    if (!is_op(p->t, ":")) {
        bound[0] = parse_expression(p);
    }
    if (!is_op(p->t, ":")) {
        if (!is_op(p->t, "]")) {
            ingle_tpl_fail(p->run, "a subscript with commas is not supported");
        }
        advance(p);
        return node_with(p, TPL_ITEM, line, 2, object, bound[0]);
    }
    for (i = 1; i < 3 && skip_op(p, ":"); i++) {
        if (!is_op(p->t, ":") && !is_op(p->t, "]")) {
            bound[i] = parse_expression(p);
        }
    }
    expect_op(p, "]");
    return node_with(p, TPL_SLICE, line, 4, object, bound[0], bound[1], bound[2]);
}

static void limit_chain(struct parser *p, uint32_t *links)
{
    if (++*links > INGLE_TPL_NEST_MAX) {
        ingle_tpl_fail(p->run, "chains more than %u accesses, calls or filters",
                       INGLE_TPL_NEST_MAX);
    }
}

static struct ingle_tpl_node *parse_postfix(struct parser *p, struct ingle_tpl_node *node)
{
    struct ingle_tpl_node *object;
    uint32_t links = 0, line;

    for (;; limit_chain(p, &links)) {
        line = p->t->line;
        if (is_op(p->t, "[")) {
            node = parse_bracket(p, node);
        } else if (is_op(p->t, "(")) {
            node = parse_call(p, node);
        } else if (skip_op(p, ".")) {
            object = node;
            if (p->t->type == TPL_T_INT) {
                node = node_with(p, TPL_ITEM, line, 2, object, const_node(p, p->t->value, line));
                advance(p);
            } else {
                node = node_with(p, TPL_ATTR, line, 1, object);
                node->value = expect_name(p);
            }
        } else {
            return node;
        }
    }
}

static struct ingle_tpl_node *parse_filter(struct parser *p, struct ingle_tpl_node *input)
{
    struct kids kids = {NULL, 0, 0};
    struct ingle_tpl_node *node;
    uint32_t line = p->t->line;
    struct ingle_tv name = expect_name(p);
    const struct ingle_tpl_builtin *filter = ingle_tpl_filter_find(name);

    if (filter == NULL || (filter->call == NULL && filter->call_any == NULL)) {
        p->run->line = line;
        ingle_tpl_fail(p->run, "filter '%.*s' %s", name.bytes > 80 ? 80 : (int)name.bytes,
                       name.u.text, filter == NULL ? "is unknown" : "is not supported");
    }
    kids_add(p, &kids, input);
    if (is_op(p->t, "(")) {
        parse_args(p, &kids);
    }
    node = node_of(p, TPL_FILTER, line, &kids);
    node->builtin = filter;
    return node;
}

static struct ingle_tpl_node *parse_test(struct parser *p, struct ingle_tpl_node *input)
{
    struct kids kids = {NULL, 0, 0};
    struct ingle_tpl_node *node;
    uint32_t line = p->t->line;
    const struct ingle_tpl_builtin *test;
    struct ingle_tv name;
    bool negated;

    negated = skip_name(p, "not");
    name = expect_name(p);
    test = ingle_tpl_test_find(name);
    if (test == NULL) {
        p->run->line = line;
        ingle_tpl_fail(p->run, "test '%.*s' is unknown", name.bytes > 80 ? 80 : (int)name.bytes,
                       name.u.text);
    }
    kids_add(p, &kids, input);
    if (is_op(p->t, "(")) {
        parse_args(p, &kids);
    } else if ((p->t->type == TPL_T_NAME && !is_name(p->t, "else") && !is_name(p->t, "or") &&
                !is_name(p->t, "and")) ||
               p->t->type == TPL_T_STR || p->t->type == TPL_T_INT || p->t->type == TPL_T_FLOAT ||
               is_op(p->t, "[") || is_op(p->t, "{")) {
        if (is_name(p->t, "is")) {
            ingle_tpl_fail(p->run, "tests cannot be chained with 'is'");
        }
        kids_add(p, &kids, parse_postfix(p, parse_primary(p)));
    }
    node = node_of(p, TPL_TEST, line, &kids);
    node->builtin = test;
    return negated ? node_with(p, TPL_NOT, line, 1, node) : node;
}

static struct ingle_tpl_node *parse_filters(struct parser *p, struct ingle_tpl_node *node)
{
    uint32_t links = 0;

    for (;; limit_chain(p, &links)) {
        if (skip_op(p, "|")) {
            node = parse_filter(p, node);
        } else if (skip_name(p, "is")) {
            node = parse_test(p, node);
        } else if (is_op(p->t, "(")) {
            node = parse_call(p, node);
        } else {
            return node;
        }
    }
}

static struct ingle_tpl_node *parse_unary(struct parser *p, bool with_filter)
{
    struct ingle_tpl_node *node;
    uint32_t line = p->t->line;

    ingle_tpl_enter(p->run);
    if (skip_op(p, "-")) {
        node = node_with(p, TPL_NEG, line, 1, parse_unary(p, false));
    } else if (skip_op(p, "+")) {
        node = node_with(p, TPL_POS, line, 1, parse_unary(p, false));
    } else {
        node = parse_primary(p);
    }
    node = parse_postfix(p, node);
    ingle_tpl_leave(p->run);
    return with_filter ? parse_filters(p, node) : node;
}

static struct ingle_tpl_node *parse_operand(struct parser *p)
{
    return parse_unary(p, true);
}

/* One level of operators that associate to the left: operands of next(), joined while letter()
 * knows the current token. */
static struct ingle_tpl_node *parse_level(struct parser *p, enum ingle_tpl_op op,
                                          char (*letter)(struct parser *),
                                          struct ingle_tpl_node *(*next)(struct parser *))
{
    struct ingle_tpl_text letters = {NULL, 0, 0};
    struct kids kids = {NULL, 0, 0};
    struct ingle_tpl_node *node;
    uint32_t line = p->t->line;
    char c;

    kids_add(p, &kids, next(p));
    while ((c = letter(p)) != '\0') {
        ingle_tpl_putc(p->run, &letters, c);
        kids_add(p, &kids, next(p));
    }
    if (kids.n == 1) {
        return kids.kid[0];
    }
    node = node_of(p, op, line, &kids);
    node->value = ingle_tv_text(&letters);
    return node;
}

/* The letter of the first of `ops` that stands here, skipped; '\0' for none. */
static char skip_one(struct parser *p, const char *const *ops, const char *letters)
{
    uint32_t i;

    for (i = 0; letters[i] != '\0'; i++) {
        if (skip_op(p, ops[i])) {
            return letters[i];
        }
    }
    return '\0';
}

static char power_letter(struct parser *p)
{
    static const char *const ops[] = {"**"};

    return skip_one(p, ops, "P");
}

static char product_letter(struct parser *p)
{
    static const char *const ops[] = {"*", "/", "//", "%"};

    return skip_one(p, ops, "*/F%");
}

static char tilde_letter(struct parser *p)
{
    static const char *const ops[] = {"~"};

    return skip_one(p, ops, "~");
}

static char sum_letter(struct parser *p)
{
    static const char *const ops[] = {"+", "-"};

    return skip_one(p, ops, "+-");
}

static char compare_letter(struct parser *p)
{
    static const char *const ops[] = {"==", "!=", "<", "<=", ">", ">="};
    char letter = skip_one(p, ops, "=!<l>g");

    if (letter != '\0') {
        return letter;
    }
    if (skip_name(p, "in")) {
        return 'i';
    }
    if (is_name(p->t, "not") && is_name(p->t + 1, "in")) {
        advance(p);
        advance(p);
        return 'n';
    }
    return '\0';
}

static char and_letter(struct parser *p)
{
    return (char)(skip_name(p, "and") ? '&' : '\0');
}

static char or_letter(struct parser *p)
{
    return (char)(skip_name(p, "or") ? '|' : '\0');
}

static bool is_number_const(const struct ingle_tpl_node *node)
{
    uint32_t i;

    for (i = 0; i < node->n && is_number_const(node->kid[i]); i++) {
    }
    return i == node->n && (node->op == TPL_CONST || node->op == TPL_NEG || node->op == TPL_POS ||
                            node->op == TPL_MATH);
}

/* Jinja2 folds a computed constant base and then loses its parentheses: (-2) ** x becomes
 * -(2 ** x). Neither answer would be right for everybody. */
static struct ingle_tpl_node *parse_power(struct parser *p)
{
    struct ingle_tpl_node *node = parse_level(p, TPL_MATH, power_letter, parse_operand);

    if (node->op == TPL_MATH && node->value.u.text[0] == 'P' && node->kid[0]->op != TPL_CONST &&
        is_number_const(node->kid[0]) && !is_number_const(node->kid[1])) {
        p->run->line = node->line;
        ingle_tpl_fail(p->run, "a computed constant before ** is not supported");
    }
    return node;
}

static struct ingle_tpl_node *parse_product(struct parser *p)
{
    return parse_level(p, TPL_MATH, product_letter, parse_power);
}

static struct ingle_tpl_node *parse_concat(struct parser *p)
{
    return parse_level(p, TPL_CONCAT, tilde_letter, parse_product);
}

static struct ingle_tpl_node *parse_sum(struct parser *p)
{
    return parse_level(p, TPL_MATH, sum_letter, parse_concat);
}

static struct ingle_tpl_node *parse_compare(struct parser *p)
{
    return parse_level(p, TPL_COMPARE, compare_letter, parse_sum);
}

static struct ingle_tpl_node *parse_not(struct parser *p)
{
    uint32_t line = p->t->line, nots = 0;
    struct ingle_tpl_node *node;

    while (skip_name(p, "not")) {
        nots++;
    }
    node = parse_compare(p);
    nots = nots < 2 ? nots : 2 - nots % 2; /* an even number of them is the truth of the operand */
    while (nots-- > 0) {
        node = node_with(p, TPL_NOT, line, 1, node);
    }
    return node;
}

static struct ingle_tpl_node *parse_and(struct parser *p)
{
    return parse_level(p, TPL_AND, and_letter, parse_not);
}

static struct ingle_tpl_node *parse_or(struct parser *p)
{
    return parse_level(p, TPL_OR, or_letter, parse_and);
}

static struct ingle_tpl_node *parse_expression(struct parser *p)
{
    struct ingle_tpl_node *node, *test;
    uint32_t line = p->t->line, links = 0;

    ingle_tpl_enter(p->run);
    node = parse_or(p);
    for (; skip_name(p, "if"); limit_chain(p, &links)) {
        test = parse_or(p);
        if (skip_name(p, "else")) {
            node = node_with(p, TPL_COND, line, 3, test, node, parse_expression(p));
        } else {
            node = node_with(p, TPL_COND, line, 2, test, node);
        }
    }
    ingle_tpl_leave(p->run);
    return node;
}

/* ---- statements ---- */

/* A target of {% set %} and {% for %}: a name, ns.name where allowed, or a nested tuple of them. */
static struct ingle_tpl_node *parse_target_item(struct parser *p)
{
    uint32_t line = p->t->line;
    struct ingle_tpl_node *node;
    struct ingle_tv name;

    ingle_tpl_enter(p->run);
    if (skip_op(p, "(")) {
        node = parse_tuple(p, parse_target_item, NULL, true);
        expect_op(p, ")");
        ingle_tpl_leave(p->run);
        return node;
    }
    name = expect_name(p);
    if (ingle_tv_is_str(name, "true") || ingle_tv_is_str(name, "True") ||
        ingle_tv_is_str(name, "false") || ingle_tv_is_str(name, "False") ||
        ingle_tv_is_str(name, "none") || ingle_tv_is_str(name, "None")) {
        ingle_tpl_fail(p->run, "cannot assign to %.*s", (int)name.bytes, name.u.text);
    }
    if (p->loops > 0 && ingle_tv_is_str(name, "loop")) {
        ingle_tpl_fail(p->run, "cannot assign to the special variable loop inside a loop");
    }
    node = name_node(p, name, line);
    if (skip_op(p, ".")) {
        node->op = TPL_MEMBER;
        node->value = expect_name(p);
        if (node->value.u.text[0] == '_') {
            ingle_tpl_fail(p->run, "a namespace member with a leading underscore is not supported");
        }
    }
    ingle_tpl_leave(p->run);
    return node;
}

static struct ingle_tpl_node *parse_target(struct parser *p, const char *end_name)
{
    return parse_tuple(p, parse_target_item, end_name, false);
}

static bool ends_here(const struct parser *p, const char *const *ends)
{
    uint32_t i;

    for (i = 0; ends[i] != NULL; i++) {
        if (is_name(p->t, ends[i])) {
            return true;
        }
    }
    return false;
}

/* The statements behind an opening tag, up to (and without) one of the names in `ends`. */
static struct ingle_tpl_node *parse_block(struct parser *p, const char *const *ends)
{
    uint32_t line = p->t->line;

    (void)skip_op(p, ":");
    expect_block_end(p);
    return parse_body(p, ends, line);
}

static struct ingle_tpl_node *parse_for(struct parser *p, uint32_t line)
{
    static const char *const body_ends[] = {"endfor", "else", NULL};
    static const char *const else_ends[] = {"endfor", NULL};
    struct ingle_tpl_node *target, *items, *filter = NULL, *body, *otherwise = NULL;

    p->loops++; /* the target may not be `loop` either */
    target = parse_target(p, "in");
    p->loops--;
    if (!skip_name(p, "in")) {
        fail_expected(p, "'in'");
    }
    items = parse_tuple(p, parse_or, "recursive", false);
    if (skip_name(p, "if")) {
        filter = parse_expression(p);
    }
    if (is_name(p->t, "recursive")) {
        ingle_tpl_fail(p->run, "{%% for ... recursive %%} is not supported");
    }
    p->loops++;
    body = parse_block(p, body_ends);
    p->loops--;
    if (skip_name(p, "else")) {
        otherwise = parse_block(p, else_ends);
    }
    advance(p); /* endfor */
    return node_with(p, TPL_FOR, line, 5, target, items, filter, body, otherwise);
}

static struct ingle_tpl_node *parse_test_tuple(struct parser *p)
{
    return parse_tuple(p, parse_or, NULL, false);
}

static struct ingle_tpl_node *parse_if(struct parser *p, uint32_t line)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const else_ends[] = {"endif", NULL};
    struct kids kids = {NULL, 0, 0};

    do {
        kids_add(p, &kids, parse_test_tuple(p));
        kids_add(p, &kids, parse_block(p, ends));
    } while (skip_name(p, "elif"));
    if (skip_name(p, "else")) {
        kids_add(p, &kids, parse_block(p, else_ends));
    }
    advance(p); /* endif */
    return node_of(p, TPL_IF, line, &kids);
}

static struct ingle_tpl_node *captured(struct parser *p)
{
    return node_new(p, TPL_CAPTURED, p->t->line);
}

static struct ingle_tpl_node *parse_set(struct parser *p, uint32_t line)
{
    static const char *const ends[] = {"endset", NULL};
    struct ingle_tpl_node *target = parse_target(p, NULL), *value, *body;

    if (skip_op(p, "=")) {
        value = parse_tuple(p, parse_expression, NULL, false);
        return node_with(p, TPL_SET, line, 2, target, value);
    }
    value = captured(p);
    while (skip_op(p, "|")) {
        value = parse_filter(p, value);
    }
    body = parse_block(p, ends);
    advance(p); /* endset */
    return node_with(p, TPL_SET_BLOCK, line, 3, target, value, body);
}

static struct ingle_tpl_node *parse_with(struct parser *p, uint32_t line)
{
    static const char *const ends[] = {"endwith", NULL};
    struct kids kids = {NULL, 0, 0};

    while (p->t->type != TPL_T_BLOCK_END && !is_op(p->t, ":")) {
        if (kids.n > 0) {
            expect_op(p, ",");
        }
        kids_add(p, &kids, parse_target_item(p));
        expect_op(p, "=");
        kids_add(p, &kids, parse_expression(p));
    }
    kids_add(p, &kids, parse_block(p, ends));
    advance(p); /* endwith */
    return node_of(p, TPL_WITH, line, &kids);
}

/* Parameters in parentheses, behind the body that is not there yet (kid 0). */
static void parse_params(struct parser *p, struct kids *kids)
{
    struct ingle_tpl_node *param;
    bool defaults = false;
    uint32_t line, name;

    kids_add(p, kids, NULL);
    expect_op(p, "(");
    while (!is_op(p->t, ")")) {
        if (kids->n > 1) {
            expect_op(p, ",");
        }
        line = p->t->line;
        name = intern(p, expect_name(p));
        if (skip_op(p, "=")) {
            defaults = true;
            param = node_with(p, TPL_PARAM, line, 1, parse_expression(p));
        } else if (defaults) {
            ingle_tpl_fail(p->run, "a parameter without a default behind one with a default");
        } else {
            param = node_new(p, TPL_PARAM, line);
        }
        param->name = name;
        kids_add(p, kids, param);
    }
    expect_op(p, ")");
}

/* The body of a macro: its own loops, and which special names it uses. */
static struct ingle_tpl_node *parse_macro_body(struct parser *p, struct kids *kids, uint32_t line,
                                               const char *const *ends)
{
    uint8_t outer_flags = p->macro_flags;
    uint32_t outer_loops = p->loops;
    struct ingle_tpl_node *node;

    p->macro_flags = 0;
    p->loops = 0;
    kids->kid[0] = parse_block(p, ends);
    advance(p);
    node = node_of(p, TPL_MACRO, line, kids);
    node->flags = p->macro_flags;
    p->macro_flags |= outer_flags;
    p->loops = outer_loops;
    return node;
}

static struct ingle_tpl_node *parse_macro(struct parser *p, uint32_t line)
{
    static const char *const ends[] = {"endmacro", NULL};
    struct kids kids = {NULL, 0, 0};
    struct ingle_tv name = expect_name(p);
    struct ingle_tpl_node *node;

    parse_params(p, &kids);
    node = parse_macro_body(p, &kids, line, ends);
    node->name = intern(p, name);
    return node;
}

static struct ingle_tpl_node *parse_call_block(struct parser *p, uint32_t line)
{
    static const char *const ends[] = {"endcall", NULL};
    struct kids kids = {NULL, 0, 0};
    struct ingle_tpl_node *call, *macro;

    if (is_op(p->t, "(")) {
        parse_params(p, &kids);
    } else {
        kids_add(p, &kids, NULL);
    }
    call = parse_expression(p);
    if (call->op != TPL_CALL) {
        ingle_tpl_fail(p->run, "{%% call %%} expects a call");
    }
    macro = parse_macro_body(p, &kids, line, ends);
    macro->name = intern(p, ingle_tv_strz("caller"));
    return node_with(p, TPL_CALL_BLOCK, line, 2, call, macro);
}

static struct ingle_tpl_node *parse_filter_block(struct parser *p, uint32_t line)
{
    static const char *const ends[] = {"endfilter", NULL};
    struct ingle_tpl_node *value = captured(p), *body;

    do {
        value = parse_filter(p, value);
    } while (skip_op(p, "|"));
    body = parse_block(p, ends);
    advance(p); /* endfilter */
    return node_with(p, TPL_FILTER_BLOCK, line, 2, value, body);
}

static struct ingle_tpl_node *parse_generation(struct parser *p, uint32_t line)
{
    static const char *const ends[] = {"endgeneration", NULL};
    uint32_t outer_loops = p->loops;
    struct ingle_tpl_node *body;

    p->loops = 0; /* a function of its own in Jinja2: break does not reach out */
    body = parse_block(p, ends);
    p->loops = outer_loops;
    advance(p); /* endgeneration */
    return node_with(p, TPL_SCOPE, line, 1, body);
}

static struct ingle_tpl_node *parse_print(struct parser *p, uint32_t line)
{
    struct kids kids = {NULL, 0, 0};

    while (p->t->type != TPL_T_BLOCK_END) {
        if (kids.n > 0) {
            expect_op(p, ",");
        }
        kids_add(p, &kids, parse_expression(p));
    }
    return node_of(p, TPL_PRINT, line, &kids);
}

static struct ingle_tpl_node *parse_jump(struct parser *p, uint32_t line, enum ingle_tpl_op op)
{
    if (p->loops == 0) {
        p->run->line = line;
        ingle_tpl_fail(p->run, "{%% %s %%} outside of a loop",
                       op == TPL_BREAK ? "break" : "continue");
    }
    return node_new(p, op, line);
}

static struct ingle_tpl_node *parse_statement(struct parser *p)
{
    static const struct {
        const char *tag;
        struct ingle_tpl_node *(*parse)(struct parser *, uint32_t);
    } tags[] = {{"if", parse_if},
                {"for", parse_for},
                {"set", parse_set},
                {"macro", parse_macro},
                {"generation", parse_generation},
                {"with", parse_with},
                {"filter", parse_filter_block},
                {"call", parse_call_block},
                {"print", parse_print}};
    static const char *const refused[] = {"block",      "extends", "include", "import", "from",
                                          "autoescape", "do",      "trans",   "debug"};
    uint32_t line = p->t->line, i;
    struct ingle_tv tag = p->t->value;

    if (p->t->type != TPL_T_NAME) {
        fail_expected(p, "a tag name");
    }
    advance(p);
    for (i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
        if (ingle_tv_is_str(tag, tags[i].tag)) {
            return tags[i].parse(p, line);
        }
    }
    if (ingle_tv_is_str(tag, "break")) {
        return parse_jump(p, line, TPL_BREAK);
    }
    if (ingle_tv_is_str(tag, "continue")) {
        return parse_jump(p, line, TPL_CONTINUE);
    }
    p->run->line = line;
    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (ingle_tv_is_str(tag, refused[i])) {
            ingle_tpl_fail(p->run, "{%% %s %%} is not supported", refused[i]);
        }
    }
    ingle_tpl_fail(p->run, "unknown tag '%.*s'", tag.bytes > 80 ? 80 : (int)tag.bytes, tag.u.text);
}

/* Statements up to one of `ends` (the current token then is that name), or to the end of the
 * template where ends is NULL. line: of the tag that opened the block. */
static struct ingle_tpl_node *parse_body(struct parser *p, const char *const *ends, uint32_t line)
{
    struct kids kids = {NULL, 0, 0}, one;
    struct ingle_tpl_node *node;

    ingle_tpl_enter(p->run);
    while (p->t->type != TPL_T_EOF) {
        uint32_t at = p->t->line;

        if (p->t->type == TPL_T_DATA) {
            node = node_new(p, TPL_DATA, at);
            node->value = p->t->value;
            advance(p);
        } else if (p->t->type == TPL_T_PRINT_BEGIN) {
            advance(p);
            one = (struct kids){NULL, 0, 0};
            kids_add(p, &one, parse_tuple(p, parse_expression, NULL, false));
            node = node_of(p, TPL_PRINT, at, &one);
            if (p->t->type != TPL_T_PRINT_END) {
                fail_expected(p, "'}}'");
            }
            advance(p);
        } else {
            advance(p); /* {% */
            if (ends != NULL && ends_here(p, ends)) {
                ingle_tpl_leave(p->run);
                return node_of(p, TPL_BODY, line, &kids);
            }
            node = parse_statement(p);
            expect_block_end(p);
        }
        kids_add(p, &kids, node);
    }
    if (ends != NULL) {
        p->run->line = line;
        ingle_tpl_fail(p->run, "block is not closed: {%% %s %%} is missing", ends[0]);
    }
    ingle_tpl_leave(p->run);
    return node_of(p, TPL_BODY, line, &kids);
}

struct ingle_tpl_program ingle_tpl_parse(struct ingle_tpl_run *run, const char *source,
                                         uint64_t bytes)
{
    struct parser p = {.run = run};
    struct ingle_tpl_node *body;

    p.name_index = ingle_tv_dict_new(run, TV_DICT).u.dict;
    p.program.names = ingle_tv_list_new(run, TV_LIST, 0).u.list;
    p.t = ingle_tpl_lex(run, source, bytes);
    run->line = p.t->line;
    body = parse_body(&p, NULL, 1);
    ingle_tpl_names(run, body, p.program.names->n);
    p.program.body = body;
    return p.program;
}
