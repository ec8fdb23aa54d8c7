/* Filters, tests, functions and methods: how they are declared, found and called. */
#ifndef INGLE_RUNTIME_MODEL_TEMPLATE_BUILTIN_H
#define INGLE_RUNTIME_MODEL_TEMPLATE_BUILTIN_H
#include "runtime/model/template_value.h"

#define INGLE_TPL_PARAMS_MAX 6u

struct ingle_tpl_args { /* of a call, evaluated */
    struct ingle_tv_list *pos;
    struct ingle_tv_dict *named;
};

/* `call` gets a[0] = input or self and a[1..] by the names of `params` (TV_ABSENT where left out);
 * `call_any` gets the arguments as they are. Exactly one of them is set; neither: known in Jinja2
 * or Python, not here, and refused by name. */
struct ingle_tpl_builtin {
    const char *name;
    const char *params; /* separated by spaces, the n_required first ones must be given */
    uint8_t n_required;
    struct ingle_tv (*call)(struct ingle_tpl_run *run, const struct ingle_tv *a);
    struct ingle_tv (*call_any)(struct ingle_tpl_run *run, struct ingle_tv self,
                                const struct ingle_tpl_args *args);
};

const struct ingle_tpl_builtin *ingle_tpl_filter_find(struct ingle_tv name); /* NULL: no such */
const struct ingle_tpl_builtin *ingle_tpl_test_find(struct ingle_tv name);
const struct ingle_tpl_builtin *ingle_tpl_function_find(struct ingle_tv name);

struct ingle_tv ingle_tpl_builtin_call(struct ingle_tpl_run *run,
                                       const struct ingle_tpl_builtin *builtin,
                                       struct ingle_tv self, const struct ingle_tpl_args *args);

/* v.name and v[key] with the rules of Jinja2's sandbox: methods before items, or items before
 * methods; what modifies or pries is undefined. */
struct ingle_tv ingle_tpl_getattr(struct ingle_tpl_run *run, struct ingle_tv v,
                                  struct ingle_tv name);
struct ingle_tv ingle_tpl_getitem(struct ingle_tpl_run *run, struct ingle_tv v,
                                  struct ingle_tv key);

#endif
