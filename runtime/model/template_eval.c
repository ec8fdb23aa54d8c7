/* Owns rendering: scopes, statements, expressions, macros, loops. Does not own what values do.
 * Scopes follow Jinja2: a loop's round, a macro, a set, filter, with or generation block each have
 * their own; {% if %} has none. Invariant: the tree is shared by renders and never written. Thread:
 * the caller's. */
#include "runtime/model/template_eval.h"

#include "runtime/model/template_builtin.h"

enum flow {
    FLOW_ON,
    FLOW_BREAK,
    FLOW_CONTINUE
};

struct binding {
    uint32_t name;
    struct ingle_tv value;
};
struct scope { /* few bindings each: searched from the newest */
    struct scope *parent;
    bool kept; /* a macro closes over it: not to be used for another round */
    uint32_t n, room;
    struct binding *binding;
};

struct eval {
    struct ingle_tpl_run *run;
    const struct ingle_tpl_program *program;
    struct scope *scope;
    struct ingle_tpl_text *out;
    struct ingle_tv captured;               /* the text under a filter or set block */
    struct ingle_tpl_args no_args;          /* of every call without any: never written */
    uint32_t loop, caller, kwargs, varargs; /* ids of the special names; UINT32_MAX: never said */
};

static struct ingle_tv eval(struct eval *e, const struct ingle_tpl_node *node);
static enum flow exec(struct eval *e, const struct ingle_tpl_node *node);

/* ---- scopes ---- */

static void scope_set(struct eval *e, struct scope *scope, uint32_t name, struct ingle_tv value)
{
    struct binding *bigger;
    uint32_t i;

    for (i = 0; i < scope->n; i++) {
        if (scope->binding[i].name == name) {
            scope->binding[i].value = value;
            return;
        }
    }
    if (scope->n == scope->room) {
        scope->room = scope->room == 0 ? 4 : scope->room * 2;
        bigger = ingle_tpl_alloc(e->run, (uint64_t)scope->room * sizeof(bigger[0]));
        if (scope->n > 0) {
            memcpy(bigger, scope->binding, (uint64_t)scope->n * sizeof(bigger[0]));
        }
        scope->binding = bigger;
    }
    scope->binding[scope->n++] = (struct binding){name, value};
}

/* A scope for `body` (NULL: for no statements), with the names that it hides. used: one of an
 * earlier round that may serve again, or NULL. */
static struct scope *scope_new(struct eval *e, struct scope *parent,
                               const struct ingle_tpl_node *body, struct scope *used)
{
    struct scope *scope = used;
    uint32_t i;

    if (scope == NULL || scope->kept) {
        scope = ingle_tpl_alloc(e->run, sizeof(*scope));
    }
    scope->parent = parent;
    scope->n = 0;
    for (i = 0; body != NULL && i < body->hidden->n; i++) {
        scope_set(e, scope, (uint32_t)body->hidden->item[i].u.i, ingle_tv_absent());
    }
    return scope;
}

static struct ingle_tv name_of(const struct eval *e, uint32_t name)
{
    return e->program->names->item[name];
}

static struct ingle_tv lookup(struct eval *e, uint32_t name)
{
    struct ingle_tv text = name_of(e, name), value;
    const struct ingle_tpl_builtin *function;
    struct scope *scope;
    uint32_t i;

    for (scope = e->scope; scope != NULL; scope = scope->parent) {
        ingle_tpl_charge(e->run, 1 + scope->n / 16);
        for (i = scope->n; i-- > 0;) {
            if (scope->binding[i].name == name) {
                value = scope->binding[i].value;
                return value.kind != TV_ABSENT ? value
                                               : ingle_tv_undefined(text.u.text, text.bytes);
            }
        }
    }
    function = ingle_tpl_function_find(text);
    if (function != NULL) {
        if (function->call == NULL && function->call_any == NULL) {
            ingle_tpl_fail(e->run, "the function %s is not supported", function->name);
        }
        return (struct ingle_tv){.kind = TV_FUNCTION, .u.function = function};
    }
    return ingle_tv_undefined(text.u.text, text.bytes);
}

/* ---- calls ---- */

/* Evaluate the arguments behind kid 0. */
static struct ingle_tpl_args eval_args(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tpl_args args;
    struct ingle_tv v, item;
    uint32_t i, k;

    if (node->n == 1) {
        return e->no_args;
    }
    args.pos = ingle_tv_list_new(e->run, TV_LIST, node->n - 1).u.list;
    args.named = ingle_tv_dict_new(e->run, TV_DICT).u.dict;
    for (i = 1; i < node->n; i++) {
        const struct ingle_tpl_node *arg = node->kid[i];

        if (arg->op == TPL_ARG_NAMED) {
            if (ingle_tv_dict_get(e->run, args.named, arg->value) != NULL) {
                ingle_tpl_fail(e->run, "keyword argument repeated");
            }
            ingle_tv_dict_put(e->run, args.named, arg->value, eval(e, arg->kid[0]));
        } else if (arg->op == TPL_ARG_LIST) {
            v = ingle_tv_collect(e->run, eval(e, arg->kid[0]));
            for (k = 0; k < v.u.list->n; k++) {
                ingle_tv_list_add(e->run, args.pos, v.u.list->item[k]);
            }
        } else if (arg->op == TPL_ARG_DICT) {
            v = eval(e, arg->kid[0]);
            if (v.kind != TV_DICT) {
                ingle_tpl_fail(e->run, "argument after ** must be a mapping, not %s",
                               ingle_tv_type_name(v));
            }
            for (k = 0; k < v.u.dict->n; k++) {
                item = v.u.dict->pair[k].key;
                if (item.kind != TV_STR || ingle_tv_dict_get(e->run, args.named, item) != NULL) {
                    ingle_tpl_fail(e->run, "keywords must be strings, each given once");
                }
                ingle_tv_dict_put(e->run, args.named, item, v.u.dict->pair[k].value);
            }
        } else {
            ingle_tv_list_add(e->run, args.pos, eval(e, arg));
        }
    }
    e->run->line = node->line;
    return args;
}

static struct ingle_tv take_named(struct eval *e, struct ingle_tv_dict *named, uint32_t *used,
                                  struct ingle_tv name)
{
    const struct ingle_tv *given = ingle_tv_dict_get(e->run, named, name);

    if (given == NULL) {
        return ingle_tv_absent();
    }
    (*used)++;
    return *given;
}

/* Named arguments that are no parameter, for `kwargs`. */
static struct ingle_tv rest_named(struct eval *e, const struct ingle_tpl_node *macro,
                                  const struct ingle_tv_dict *named, bool but_caller)
{
    struct ingle_tv rest = ingle_tv_dict_new(e->run, TV_DICT);
    uint32_t i, k;

    for (i = 0; i < named->n; i++) {
        bool taken = but_caller && ingle_tv_is_str(named->pair[i].key, "caller");

        for (k = 1; k < macro->n; k++) {
            taken = taken || ingle_tv_same(named->pair[i].key, name_of(e, macro->kid[k]->name));
        }
        if (!taken) {
            ingle_tv_dict_put(e->run, rest.u.dict, named->pair[i].key, named->pair[i].value);
        }
    }
    return rest;
}

static void bind_params(struct eval *e, const struct ingle_tpl_node *macro,
                        const struct ingle_tpl_args *args)
{
    struct ingle_tv name = name_of(e, macro->name), value, rest;
    uint32_t n_params = macro->n - 1, used = 0, i;

    for (i = 0; i < n_params; i++) {
        const struct ingle_tpl_node *param = macro->kid[i + 1];

        if (i < args->pos->n) {
            value = args->pos->item[i];
        } else {
            value = take_named(e, args->named, &used, name_of(e, param->name));
        }
        if (value.kind == TV_ABSENT && param->n > 0) {
            value = eval(e, param->kid[0]); /* sees the parameters before it */
        } else if (value.kind == TV_ABSENT) {
            struct ingle_tpl_text hint = {NULL, 0, 0};

            ingle_tpl_putz(e->run, &hint, "parameter '");
            ingle_tv_put_str(e->run, &hint, name_of(e, param->name));
            ingle_tpl_putz(e->run, &hint, "' was not provided");
            ingle_tpl_putc(e->run, &hint, '\0');
            value = ingle_tv_undefined_hint(hint.p);
        }
        scope_set(e, e->scope, param->name, value);
    }
    if ((macro->flags & TPL_USES_CALLER) != 0) {
        value = take_named(e, args->named, &used, ingle_tv_strz("caller"));
        scope_set(e, e->scope, e->caller,
                  value.kind == TV_ABSENT ? ingle_tv_undefined_hint("No caller defined") : value);
    }
    if ((macro->flags & TPL_USES_KWARGS) != 0) {
        rest = rest_named(e, macro, args->named, (macro->flags & TPL_USES_CALLER) != 0);
        scope_set(e, e->scope, e->kwargs, rest);
    } else if (used < args->named->n) {
        ingle_tpl_fail(e->run, "macro '%.*s' takes no such keyword argument", (int)name.bytes,
                       name.u.text);
    }
    if ((macro->flags & TPL_USES_VARARGS) != 0) {
        rest = ingle_tv_list_new(e->run, TV_TUPLE, 0);
        for (i = n_params; i < args->pos->n; i++) {
            ingle_tv_list_add(e->run, rest.u.list, args->pos->item[i]);
        }
        scope_set(e, e->scope, e->varargs, rest);
    } else if (args->pos->n > n_params) {
        ingle_tpl_fail(e->run, "macro '%.*s' takes not more than %u argument(s)", (int)name.bytes,
                       name.u.text, n_params);
    }
}

static struct ingle_tv call_macro(struct eval *e, const struct ingle_tv_macro *macro,
                                  const struct ingle_tpl_args *args)
{
    struct ingle_tpl_text text = {NULL, 0, 0}, *out = e->out;
    struct ingle_tv captured = e->captured;
    struct scope *scope = e->scope;

    ingle_tpl_enter(e->run);
    e->scope = scope_new(e, macro->scope, macro->node->kid[0], NULL);
    bind_params(e, macro->node, args);
    e->out = &text;
    (void)exec(e, macro->node->kid[0]);
    e->out = out;
    e->scope = scope;
    e->captured = captured;
    ingle_tpl_leave(e->run);
    return ingle_tv_text(&text);
}

static struct ingle_tv call(struct eval *e, struct ingle_tv callee,
                            const struct ingle_tpl_args *args)
{
    if (callee.kind == TV_MACRO) {
        return call_macro(e, callee.u.macro, args);
    }
    if (callee.kind == TV_METHOD) {
        return ingle_tpl_builtin_call(e->run, callee.u.bound->method, callee.u.bound->self, args);
    }
    if (callee.kind == TV_FUNCTION) {
        return ingle_tpl_builtin_call(e->run, callee.u.function, ingle_tv_absent(), args);
    }
    if (callee.kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(e->run, callee);
    }
    if (callee.kind == TV_LOOP) {
        ingle_tpl_fail(e->run, "calling loop(...), a recursive loop, is not supported");
    }
    ingle_tpl_fail(e->run, "'%s' object is not callable", ingle_tv_type_name(callee));
}

static struct ingle_tv eval_call(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tv callee = eval(e, node->kid[0]);
    struct ingle_tpl_args args = eval_args(e, node);

    return call(e, callee, &args);
}

/* ---- expressions ---- */

static struct ingle_tv eval_items(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tv list =
        ingle_tv_list_new(e->run, node->op == TPL_LIST ? TV_LIST : TV_TUPLE, node->n);
    uint32_t i;

    for (i = 0; i < node->n; i++) {
        ingle_tv_list_add(e->run, list.u.list, eval(e, node->kid[i]));
    }
    return list;
}

static struct ingle_tv eval_dict(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tv dict = ingle_tv_dict_new(e->run, TV_DICT), key;
    uint32_t i;

    for (i = 0; i < node->n; i += 2) {
        key = eval(e, node->kid[i]);
        ingle_tv_dict_put(e->run, dict.u.dict, key, eval(e, node->kid[i + 1]));
    }
    return dict;
}

static struct ingle_tv eval_logic(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tv v = ingle_tv_none();
    uint32_t i;

    for (i = 0; i < node->n; i++) {
        v = eval(e, node->kid[i]);
        if (i + 1 < node->n && ingle_tv_truth(e->run, v) == (node->op == TPL_OR)) {
            break;
        }
    }
    return v;
}

static struct ingle_tv eval_math(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tv v = eval(e, node->kid[0]), right;
    uint32_t i;

    for (i = 1; i < node->n; i++) {
        right = eval(e, node->kid[i]);
        e->run->line = node->line;
        v = ingle_tv_binary(e->run, node->value.u.text[i - 1], v, right);
    }
    return v;
}

static struct ingle_tv eval_concat(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tpl_text text = {NULL, 0, 0};
    struct ingle_tv items = eval_items(e, node); /* all of them before any becomes text */
    uint32_t i;

    for (i = 0; i < node->n; i++) {
        ingle_tv_put_str(e->run, &text, items.u.list->item[i]);
    }
    return ingle_tv_text(&text);
}

static bool compare(struct ingle_tpl_run *run, char letter, struct ingle_tv a, struct ingle_tv b)
{
    switch (letter) {
    case '=':
        return ingle_tv_equal(run, a, b);
    case '!':
        return !ingle_tv_equal(run, a, b);
    case 'i':
        return ingle_tv_contains(run, b, a);
    case 'n':
        return !ingle_tv_contains(run, b, a);
    case '<':
        return ingle_tv_ordered(run, "<", a, b);
    case 'l':
        return ingle_tv_ordered(run, "<=", a, b);
    case '>':
        return ingle_tv_ordered(run, ">", a, b);
    default:
        return ingle_tv_ordered(run, ">=", a, b);
    }
}

static struct ingle_tv eval_compare(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tv left = eval(e, node->kid[0]), right;
    uint32_t i;

    for (i = 1; i < node->n; i++) {
        right = eval(e, node->kid[i]);
        e->run->line = node->line;
        if (!compare(e->run, node->value.u.text[i - 1], left, right)) {
            return ingle_tv_bool(false);
        }
        left = right;
    }
    return ingle_tv_bool(true);
}

static struct ingle_tv eval_cond(struct eval *e, const struct ingle_tpl_node *node)
{
    if (ingle_tv_truth(e->run, eval(e, node->kid[0]))) {
        return eval(e, node->kid[1]);
    }
    if (node->n > 2) {
        return eval(e, node->kid[2]);
    }
    return ingle_tv_undefined_hint(
        "the inline if-expression evaluated to false and no else section was defined");
}

static struct ingle_tv eval_slice(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tv v = eval(e, node->kid[0]), bound[3];
    uint32_t i;

    for (i = 0; i < 3; i++) {
        bound[i] = node->kid[i + 1] == NULL ? ingle_tv_none() : eval(e, node->kid[i + 1]);
    }
    e->run->line = node->line;
    return ingle_tv_slice(e->run, v, bound[0], bound[1], bound[2]);
}

static struct ingle_tv eval_access(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tv v = eval(e, node->kid[0]), key;

    if (node->op == TPL_ATTR) {
        e->run->line = node->line;
        return ingle_tpl_getattr(e->run, v, node->value);
    }
    key = eval(e, node->kid[1]);
    e->run->line = node->line;
    return ingle_tpl_getitem(e->run, v, key);
}

static struct ingle_tv eval_builtin(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tv input = eval(e, node->kid[0]);
    struct ingle_tpl_args args = eval_args(e, node);

    return ingle_tpl_builtin_call(e->run, node->builtin, input, &args);
}

static struct ingle_tv eval_node(struct eval *e, const struct ingle_tpl_node *node)
{
    switch ((enum ingle_tpl_op)node->op) {
    case TPL_CONST:
        return node->value;
    case TPL_NAME:
        return lookup(e, node->name);
    case TPL_TUPLE:
    case TPL_LIST:
        return eval_items(e, node);
    case TPL_DICT:
        return eval_dict(e, node);
    case TPL_NEG:
    case TPL_POS:
        return ingle_tv_negate(e->run, eval(e, node->kid[0]), node->op == TPL_NEG);
    case TPL_NOT:
        return ingle_tv_bool(!ingle_tv_truth(e->run, eval(e, node->kid[0])));
    case TPL_AND:
    case TPL_OR:
        return eval_logic(e, node);
    case TPL_MATH:
        return eval_math(e, node);
    case TPL_CONCAT:
        return eval_concat(e, node);
    case TPL_COMPARE:
        return eval_compare(e, node);
    case TPL_COND:
        return eval_cond(e, node);
    case TPL_ATTR:
    case TPL_ITEM:
        return eval_access(e, node);
    case TPL_SLICE:
        return eval_slice(e, node);
    case TPL_CALL:
        return eval_call(e, node);
    case TPL_FILTER:
    case TPL_TEST:
        return eval_builtin(e, node);
    case TPL_CAPTURED:
        return e->captured;
    case TPL_ARG_NAMED:
    case TPL_ARG_LIST:
    case TPL_ARG_DICT:
    case TPL_BODY:
    case TPL_DATA:
    case TPL_PRINT:
    case TPL_FOR:
    case TPL_IF:
    case TPL_SET:
    case TPL_SET_BLOCK:
    case TPL_WITH:
    case TPL_MACRO:
    case TPL_PARAM:
    case TPL_CALL_BLOCK:
    case TPL_FILTER_BLOCK:
    case TPL_SCOPE:
    case TPL_BREAK:
    case TPL_CONTINUE:
    case TPL_MEMBER:
        break;
    }
    ingle_assert(false); /* the parser puts only expressions where one is evaluated */
    return ingle_tv_none();
}

static struct ingle_tv eval(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tv v;

    ingle_tpl_charge(e->run, 1);
    ingle_tpl_enter(e->run);
    e->run->line = node->line;
    v = eval_node(e, node);
    ingle_tpl_leave(e->run);
    return v;
}

/* ---- statements ---- */

static void assign(struct eval *e, struct scope *scope, const struct ingle_tpl_node *target,
                   struct ingle_tv value)
{
    struct ingle_tv items, ns;
    uint32_t i;

    if (target->op == TPL_NAME) {
        scope_set(e, scope, target->name, value);
        return;
    }
    e->run->line = target->line;
    if (target->op == TPL_MEMBER) {
        ns = lookup(e, target->name);
        if (ns.kind != TV_NAMESPACE) {
            ingle_tpl_fail(e->run, "cannot assign attribute on non-namespace object");
        }
        ingle_tv_dict_put(e->run, ns.u.dict, target->value, value);
        return;
    }
    items = ingle_tv_collect(e->run, value);
    if (items.u.list->n != target->n) {
        ingle_tpl_fail(e->run, "expected %u values to unpack, got %u", target->n, items.u.list->n);
    }
    for (i = 0; i < target->n; i++) {
        assign(e, scope, target->kid[i], items.u.list->item[i]);
    }
}

/* The items of a loop, those that its `if` lets through. */
static struct ingle_tv loop_items(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tv all = ingle_tv_collect(e->run, eval(e, node->kid[1])), items;
    struct scope *scope = e->scope, *round = NULL;
    uint32_t i;

    if (node->kid[2] == NULL) {
        return all;
    }
    items = ingle_tv_list_new(e->run, TV_LIST, 0);
    for (i = 0; i < all.u.list->n; i++) {
        e->scope = round = scope_new(e, scope, NULL, round);
        assign(e, e->scope, node->kid[0], all.u.list->item[i]);
        if (ingle_tv_truth(e->run, eval(e, node->kid[2]))) {
            ingle_tv_list_add(e->run, items.u.list, all.u.list->item[i]);
        }
    }
    e->scope = scope;
    return items;
}

static enum flow exec_for(struct eval *e, const struct ingle_tpl_node *node)
{
    const struct ingle_tv_list *items = loop_items(e, node).u.list;
    struct ingle_tv_loop *loop = ingle_tpl_alloc(e->run, sizeof(*loop));
    struct scope *scope = e->scope, *round = NULL;
    enum flow flow = FLOW_ON;
    bool completed = false;

    loop->items = items;
    for (loop->at = 0; loop->at < items->n && flow != FLOW_BREAK; loop->at++) {
        ingle_tpl_charge(e->run, 1);
        e->scope = round = scope_new(e, scope, node->kid[3], round);
        if (e->loop != UINT32_MAX) {
            scope_set(e, e->scope, e->loop, (struct ingle_tv){.kind = TV_LOOP, .u.loop = loop});
        }
        assign(e, e->scope, node->kid[0], items->item[loop->at]);
        flow = exec(e, node->kid[3]);
        completed = completed || flow == FLOW_ON;
    }
    e->scope = scope;
    /* As Jinja2 counts: a round that break or continue cut short was none. */
    if (!completed && node->kid[4] != NULL) {
        e->scope = scope_new(e, scope, node->kid[4], NULL);
        flow = exec(e, node->kid[4]);
        e->scope = scope;
        return flow; /* its break and continue are those of the loop around */
    }
    return FLOW_ON;
}

static enum flow exec_if(struct eval *e, const struct ingle_tpl_node *node)
{
    uint32_t i;

    for (i = 0; i + 1 < node->n; i += 2) {
        if (ingle_tv_truth(e->run, eval(e, node->kid[i]))) {
            return exec(e, node->kid[i + 1]);
        }
    }
    return i < node->n ? exec(e, node->kid[i]) : FLOW_ON;
}

/* Run a body in a scope of its own. text: where its output goes, or NULL for the current output. */
static enum flow exec_inner(struct eval *e, const struct ingle_tpl_node *body,
                            struct ingle_tpl_text *text)
{
    struct ingle_tpl_text *out = e->out;
    struct scope *scope = e->scope;
    enum flow flow;

    e->scope = scope_new(e, scope, body, NULL);
    e->out = text == NULL ? out : text;
    flow = exec(e, body);
    e->out = out;
    e->scope = scope;
    return flow;
}

static enum flow exec_capture(struct eval *e, const struct ingle_tpl_node *body,
                              const struct ingle_tpl_node *expression, struct ingle_tv *ret)
{
    struct ingle_tpl_text text = {NULL, 0, 0};
    enum flow flow = exec_inner(e, body, &text);

    if (flow == FLOW_ON) {
        e->captured = ingle_tv_text(&text);
        *ret = eval(e, expression);
    }
    return flow;
}

static enum flow exec_with(struct eval *e, const struct ingle_tpl_node *node)
{
    struct scope *outer = e->scope, *inner = scope_new(e, outer, node->kid[node->n - 1], NULL);
    enum flow flow;
    uint32_t i;

    for (i = 0; i + 1 < node->n; i += 2) {
        assign(e, inner, node->kid[i], eval(e, node->kid[i + 1]));
    }
    e->scope = inner;
    flow = exec(e, node->kid[i]);
    e->scope = outer;
    return flow;
}

static struct ingle_tv macro_value(struct eval *e, const struct ingle_tpl_node *node,
                                   struct ingle_tv name)
{
    struct ingle_tv_macro *macro = ingle_tpl_alloc(e->run, sizeof(*macro));
    struct scope *scope;

    macro->name = name;
    macro->node = node;
    macro->scope = e->scope;
    for (scope = e->scope; scope != NULL && !scope->kept; scope = scope->parent) {
        scope->kept = true;
    }
    return (struct ingle_tv){.kind = TV_MACRO, .u.macro = macro};
}

static void exec_call_block(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tv caller = macro_value(e, node->kid[1], ingle_tv_none());
    struct ingle_tv callee = eval(e, node->kid[0]->kid[0]);
    struct ingle_tpl_args given = eval_args(e, node->kid[0]), args = given;
    uint32_t i;

    args.named = ingle_tv_dict_new(e->run, TV_DICT).u.dict;
    for (i = 0; i < given.named->n; i++) {
        ingle_tv_dict_put(e->run, args.named, given.named->pair[i].key, given.named->pair[i].value);
    }
    ingle_tv_dict_put(e->run, args.named, ingle_tv_strz("caller"), caller);
    ingle_tv_put_str(e->run, e->out, call(e, callee, &args));
}

static enum flow exec_body(struct eval *e, const struct ingle_tpl_node *node)
{
    enum flow flow = FLOW_ON;
    uint32_t i;

    for (i = 0; i < node->n && flow == FLOW_ON; i++) {
        flow = exec(e, node->kid[i]);
    }
    return flow;
}

static enum flow exec_node(struct eval *e, const struct ingle_tpl_node *node)
{
    struct ingle_tv v;
    enum flow flow;
    uint32_t i;

    switch ((enum ingle_tpl_op)node->op) {
    case TPL_BODY:
        return exec_body(e, node);
    case TPL_DATA:
        ingle_tv_put_str(e->run, e->out, node->value);
        return FLOW_ON;
    case TPL_PRINT:
        for (i = 0; i < node->n; i++) {
            v = eval(e, node->kid[i]);
            e->run->line = node->line;
            ingle_tv_put_str(e->run, e->out, v);
        }
        return FLOW_ON;
    case TPL_FOR:
        return exec_for(e, node);
    case TPL_IF:
        return exec_if(e, node);
    case TPL_SET:
        assign(e, e->scope, node->kid[0], eval(e, node->kid[1]));
        return FLOW_ON;
    case TPL_SET_BLOCK:
        flow = exec_capture(e, node->kid[2], node->kid[1], &v);
        if (flow == FLOW_ON) {
            assign(e, e->scope, node->kid[0], v);
        }
        return flow;
    case TPL_FILTER_BLOCK:
        flow = exec_capture(e, node->kid[1], node->kid[0], &v);
        if (flow == FLOW_ON) {
            ingle_tv_put_str(e->run, e->out, v);
        }
        return flow;
    case TPL_WITH:
        return exec_with(e, node);
    case TPL_MACRO:
        scope_set(e, e->scope, node->name, macro_value(e, node, name_of(e, node->name)));
        return FLOW_ON;
    case TPL_CALL_BLOCK:
        exec_call_block(e, node);
        return FLOW_ON;
    case TPL_SCOPE:
        return exec_inner(e, node->kid[0], NULL);
    case TPL_BREAK:
        return FLOW_BREAK;
    case TPL_CONTINUE:
        return FLOW_CONTINUE;
    case TPL_CONST:
    case TPL_NAME:
    case TPL_TUPLE:
    case TPL_LIST:
    case TPL_DICT:
    case TPL_NEG:
    case TPL_POS:
    case TPL_NOT:
    case TPL_AND:
    case TPL_OR:
    case TPL_MATH:
    case TPL_CONCAT:
    case TPL_COMPARE:
    case TPL_COND:
    case TPL_ATTR:
    case TPL_ITEM:
    case TPL_SLICE:
    case TPL_CALL:
    case TPL_FILTER:
    case TPL_TEST:
    case TPL_CAPTURED:
    case TPL_ARG_NAMED:
    case TPL_ARG_LIST:
    case TPL_ARG_DICT:
    case TPL_PARAM:
    case TPL_MEMBER:
        break;
    }
    ingle_assert(false); /* the parser puts only statements into a body */
    return FLOW_ON;
}

static enum flow exec(struct eval *e, const struct ingle_tpl_node *node)
{
    enum flow flow;

    ingle_tpl_charge(e->run, 1);
    ingle_tpl_enter(e->run);
    e->run->line = node->line;
    flow = exec_node(e, node);
    ingle_tpl_leave(e->run);
    return flow;
}

static uint32_t find_name(const struct eval *e, const char *name)
{
    uint32_t i;

    for (i = 0; i < e->program->names->n; i++) {
        if (ingle_tv_is_str(e->program->names->item[i], name)) {
            return i;
        }
    }
    return UINT32_MAX;
}

struct ingle_tv ingle_tpl_eval(struct ingle_tpl_run *run, const struct ingle_tpl_program *program,
                               const struct ingle_tv_dict *variables)
{
    struct ingle_tpl_text out = {NULL, 0, 0};
    struct eval e = {.run = run, .program = program, .out = &out};
    const struct ingle_tv *value;
    uint32_t i;

    e.no_args.pos = ingle_tv_list_new(run, TV_LIST, 0).u.list;
    e.no_args.named = ingle_tv_dict_new(run, TV_DICT).u.dict;
    e.loop = find_name(&e, "loop");
    e.caller = find_name(&e, "caller");
    e.kwargs = find_name(&e, "kwargs");
    e.varargs = find_name(&e, "varargs");
    /* The outermost scope holds the variables that the template names. */
    e.scope = scope_new(&e, NULL, NULL, NULL);
    for (i = 0; i < program->names->n; i++) {
        value = ingle_tv_dict_get(run, variables, program->names->item[i]);
        if (value != NULL) {
            scope_set(&e, e.scope, i, *value);
        }
    }
    e.scope = scope_new(&e, e.scope, program->body, NULL);
    (void)exec(&e, program->body);
    return ingle_tv_text(&out);
}
