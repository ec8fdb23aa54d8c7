/* Owns one question about names: which of them a scope hides before it sets them. Jinja2 decides at
 * compile time which scope a name belongs to. A scope that sets a name outside of any {% if %}
 * without having read it first owns it from its start: inner scopes that read it early find it
 * undefined, even where the request has a variable of that name. This pass walks every scope as
 * Jinja2's symbol analysis does and leaves the list of such names in the scope's body node. Thread:
 * the caller's. */
#include "runtime/model/template_parser.h"

enum fate {
    UNKNOWN,
    PARAMETER,
    RESOLVED,
    ALIAS,
    HIDDEN
}; /* what a scope's name starts as */

struct table { /* of one scope; a branch of {% if %} works on a copy */
    struct table *parent;
    uint8_t *fate;   /* [names] */
    uint8_t *stored; /* [names] */
};

struct names {
    struct ingle_tpl_run *run;
    uint32_t n;
};

static void visit(struct names *ns, struct table *t, const struct ingle_tpl_node *node);
static void scopes_in(struct names *ns, struct table *t, struct ingle_tpl_node *node);

static struct table table_new(struct names *ns, struct table *parent)
{
    struct table t = {parent, ingle_tpl_alloc(ns->run, ns->n), ingle_tpl_alloc(ns->run, ns->n)};

    ingle_tpl_charge(ns->run, 1 + ns->n / 64);
    return t;
}

static bool known(const struct table *t, uint32_t name)
{
    for (; t != NULL; t = t->parent) {
        if (t->fate[name] != UNKNOWN) {
            return true;
        }
    }
    return false;
}

static void store(struct table *t, uint32_t name)
{
    t->stored[name] = 1;
    if (t->fate[name] == UNKNOWN) {
        t->fate[name] = known(t->parent, name) ? ALIAS : HIDDEN;
    }
}

static void store_target(struct table *t, const struct ingle_tpl_node *target, bool parameter)
{
    uint32_t i;

    if (target->op == TPL_NAME) {
        if (parameter) {
            t->stored[target->name] = 1;
            t->fate[target->name] = PARAMETER;
        } else {
            store(t, target->name);
        }
    } else if (target->op == TPL_MEMBER) {
        if (!known(t, target->name)) {
            t->fate[target->name] = RESOLVED;
        }
    }
    for (i = 0; i < target->n; i++) {
        store_target(t, target->kid[i], parameter);
    }
}

static struct table branch_of(struct names *ns, const struct table *t,
                              const struct ingle_tpl_node *body)
{
    struct table branch = table_new(ns, t->parent);

    memcpy(branch.fate, t->fate, ns->n);
    memcpy(branch.stored, t->stored, ns->n);
    if (body != NULL) {
        visit(ns, &branch, body);
    }
    return branch;
}

/* A name that a branch sets may still come from outside, even where every branch sets it. */
static void join_branches(struct names *ns, struct table *t, const struct table *branch,
                          uint32_t n_branches)
{
    uint32_t name, i;
    bool stored;

    for (name = 0; name < ns->n; name++) {
        stored = false;
        for (i = 0; i < n_branches; i++) {
            stored = stored || branch[i].stored[name];
            if (branch[i].fate[name] != UNKNOWN) {
                t->fate[name] = branch[i].fate[name];
            }
        }
        if (stored && !t->stored[name]) {
            t->stored[name] = 1;
            t->fate[name] = known(t->parent, name) ? ALIAS : RESOLVED;
        }
    }
}

/* Jinja2 sees the {% elif %}s as {% if %}s one after the other in a branch of their own. */
static void visit_if(struct names *ns, struct table *t, const struct ingle_tpl_node *node)
{
    bool has_else = node->n % 2 != 0;
    struct table branch[3], inner;
    uint32_t i;

    visit(ns, t, node->kid[0]);
    branch[0] = branch_of(ns, t, node->kid[1]);
    branch[1] = branch_of(ns, t, NULL);
    for (i = 2; i + 1 < node->n; i += 2) {
        visit(ns, &branch[1], node->kid[i]);
        inner = branch_of(ns, &branch[1], node->kid[i + 1]);
        join_branches(ns, &branch[1], &inner, 1);
    }
    branch[2] = branch_of(ns, t, has_else ? node->kid[node->n - 1] : NULL);
    join_branches(ns, t, branch, 3);
}

/* What a node reads and sets in the scope that it stands in; inner scopes are not entered. */
static void visit(struct names *ns, struct table *t, const struct ingle_tpl_node *node)
{
    uint32_t i, n = node->n;

    ingle_tpl_enter(ns->run);
    if (node->op == TPL_NAME) {
        t->fate[node->name] = known(t, node->name) ? t->fate[node->name] : RESOLVED;
    } else if (node->op == TPL_IF) {
        visit_if(ns, t, node);
    } else if (node->op == TPL_SET) {
        visit(ns, t, node->kid[1]);
        store_target(t, node->kid[0], false);
    } else if (node->op == TPL_SET_BLOCK) {
        store_target(t, node->kid[0], false);
    } else if (node->op == TPL_FOR) {
        visit(ns, t, node->kid[1]);
    } else if (node->op == TPL_MACRO) {
        store(t, node->name);
    } else if (node->op == TPL_CALL_BLOCK || node->op == TPL_FILTER_BLOCK) {
        visit(ns, t, node->kid[0]);
    } else if (node->op == TPL_WITH) {
        for (i = 1; i < n; i += 2) {
            visit(ns, t, node->kid[i]);
        }
    } else if (node->op != TPL_SCOPE) {
        for (i = 0; i < n; i++) {
            if (node->kid[i] != NULL) {
                visit(ns, t, node->kid[i]);
            }
        }
    }
    ingle_tpl_leave(ns->run);
}

/* The scope whose statements are `body`; t already knows its parameters. */
static void scope(struct names *ns, struct table *t, struct ingle_tpl_node *body)
{
    uint32_t name;

    visit(ns, t, body);
    body->hidden = ingle_tv_list_new(ns->run, TV_LIST, 0).u.list;
    for (name = 0; name < ns->n; name++) {
        if (t->fate[name] == HIDDEN) {
            ingle_tv_list_add(ns->run, body->hidden, ingle_tv_int(name));
        }
    }
    scopes_in(ns, t, body);
}

static void macro_scope(struct names *ns, struct table *t, const struct ingle_tpl_node *macro)
{
    struct table inner = table_new(ns, t);
    uint32_t i;

    for (i = 1; i < macro->n; i++) {
        inner.stored[macro->kid[i]->name] = 1;
        inner.fate[macro->kid[i]->name] = PARAMETER;
    }
    for (i = 1; i < macro->n; i++) {
        if (macro->kid[i]->n > 0) {
            visit(ns, &inner, macro->kid[i]->kid[0]);
        }
    }
    scope(ns, &inner, macro->kid[0]);
}

/* Every scope that begins inside node, with t as the scope around it. */
static void scopes_in(struct names *ns, struct table *t, struct ingle_tpl_node *node)
{
    struct table inner;
    uint32_t i;

    if (node->op < TPL_BODY) {
        return; /* no scope begins inside an expression */
    }
    ingle_tpl_enter(ns->run);
    inner = table_new(ns, t);
    if (node->op == TPL_BODY || node->op == TPL_IF) {
        for (i = 0; i < node->n; i++) {
            scopes_in(ns, t, node->kid[i]);
        }
    } else if (node->op == TPL_FOR) {
        store_target(&inner, node->kid[0], true);
        scope(ns, &inner, node->kid[3]);
        if (node->kid[4] != NULL) {
            inner = table_new(ns, t);
            scope(ns, &inner, node->kid[4]);
        }
    } else if (node->op == TPL_WITH) {
        for (i = 0; i + 1 < node->n; i += 2) {
            store_target(&inner, node->kid[i], true);
        }
        scope(ns, &inner, node->kid[i]);
    } else if (node->op == TPL_MACRO) {
        macro_scope(ns, t, node);
    } else if (node->op == TPL_CALL_BLOCK) {
        macro_scope(ns, t, node->kid[1]);
    } else if (node->op == TPL_SET_BLOCK || node->op == TPL_FILTER_BLOCK || node->op == TPL_SCOPE) {
        scope(ns, &inner, node->kid[node->n - 1]);
    }
    ingle_tpl_leave(ns->run);
}

void ingle_tpl_names(struct ingle_tpl_run *run, struct ingle_tpl_node *body, uint32_t n_names)
{
    struct names ns = {run, n_names};
    struct table root = table_new(&ns, NULL);

    scope(&ns, &root, body);
}
