/* Owns the tests (x is ...) and the functions that every template may call. Thread: the caller's.
 */
#include "runtime/model/template_builtin.h"
#include "runtime/model/template_text.h"

/* ---- tests ---- */

static struct ingle_tv t_defined(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(a[0].kind != TV_UNDEFINED);
}

static struct ingle_tv t_undefined(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(a[0].kind == TV_UNDEFINED);
}

static struct ingle_tv t_none(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(a[0].kind == TV_NONE);
}

static struct ingle_tv t_boolean(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(a[0].kind == TV_BOOL);
}

static struct ingle_tv t_true(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(a[0].kind == TV_BOOL && a[0].u.b);
}

static struct ingle_tv t_false(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(a[0].kind == TV_BOOL && !a[0].u.b);
}

static struct ingle_tv t_integer(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(a[0].kind == TV_INT);
}

static struct ingle_tv t_float(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(a[0].kind == TV_FLOAT);
}

static struct ingle_tv t_number(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(ingle_tv_is_number(a[0]));
}

static struct ingle_tv t_string(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(a[0].kind == TV_STR);
}

static struct ingle_tv t_mapping(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(a[0].kind == TV_DICT);
}

static struct ingle_tv t_sequence(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run; /* has a length and __getitem__ */
    return ingle_tv_bool(ingle_tv_has_length(a[0]) && a[0].kind != TV_VIEW && a[0].kind != TV_LOOP);
}

static struct ingle_tv t_iterable(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(ingle_tv_iterable(a[0]) || a[0].kind == TV_LOOP);
}

static struct ingle_tv t_callable(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(a[0].kind == TV_MACRO || a[0].kind == TV_METHOD ||
                         a[0].kind == TV_FUNCTION || a[0].kind == TV_UNDEFINED ||
                         a[0].kind == TV_LOOP);
}

static struct ingle_tv t_escaped(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(a[0].kind == TV_STR && a[0].tag);
}

static struct ingle_tv t_sameas(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(ingle_tv_same(a[0], a[1]));
}

static struct ingle_tv t_eq(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_bool(ingle_tv_equal(run, a[0], a[1]));
}

static struct ingle_tv t_ne(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_bool(!ingle_tv_equal(run, a[0], a[1]));
}

static struct ingle_tv t_lt(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_bool(ingle_tv_ordered(run, "<", a[0], a[1]));
}

static struct ingle_tv t_le(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_bool(ingle_tv_ordered(run, "<=", a[0], a[1]));
}

static struct ingle_tv t_gt(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_bool(ingle_tv_ordered(run, ">", a[0], a[1]));
}

static struct ingle_tv t_ge(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_bool(ingle_tv_ordered(run, ">=", a[0], a[1]));
}

static struct ingle_tv t_in(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_bool(ingle_tv_contains(run, a[1], a[0]));
}

static bool leaves(struct ingle_tpl_run *run, struct ingle_tv v, struct ingle_tv by, int64_t rest)
{
    return ingle_tv_equal(run, ingle_tv_binary(run, '%', v, by), ingle_tv_int(rest));
}

static struct ingle_tv t_odd(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_bool(leaves(run, a[0], ingle_tv_int(2), 1));
}

static struct ingle_tv t_even(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_bool(leaves(run, a[0], ingle_tv_int(2), 0));
}

static struct ingle_tv t_divisibleby(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_bool(leaves(run, a[0], a[1], 0));
}

static struct ingle_tv by_method(struct ingle_tpl_run *run, struct ingle_tv v, const char *method)
{
    struct ingle_tv s = ingle_tv_to_str(run, v);
    struct ingle_tv bound = ingle_tpl_getattr(run, s, ingle_tv_strz(method));

    return bound.u.bound->method->call(run, &s);
}

static struct ingle_tv t_lower(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return by_method(run, a[0], "islower");
}

static struct ingle_tv t_upper(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return by_method(run, a[0], "isupper");
}

static struct ingle_tv t_filter(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(a[0].kind == TV_STR && ingle_tpl_filter_find(a[0]) != NULL);
}

static struct ingle_tv t_test(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return ingle_tv_bool(a[0].kind == TV_STR && ingle_tpl_test_find(a[0]) != NULL);
}

static const struct ingle_tpl_builtin tests[] = {
    {"boolean", "", 0, t_boolean, NULL},     {"callable", "", 0, t_callable, NULL},
    {"defined", "", 0, t_defined, NULL},     {"divisibleby", "num", 1, t_divisibleby, NULL},
    {"eq", "other", 1, t_eq, NULL},          {"equalto", "other", 1, t_eq, NULL},
    {"==", "other", 1, t_eq, NULL},          {"escaped", "", 0, t_escaped, NULL},
    {"even", "", 0, t_even, NULL},           {"false", "", 0, t_false, NULL},
    {"filter", "", 0, t_filter, NULL},       {"float", "", 0, t_float, NULL},
    {"ge", "other", 1, t_ge, NULL},          {">=", "other", 1, t_ge, NULL},
    {"greaterthan", "other", 1, t_gt, NULL}, {"gt", "other", 1, t_gt, NULL},
    {">", "other", 1, t_gt, NULL},           {"in", "seq", 1, t_in, NULL},
    {"integer", "", 0, t_integer, NULL},     {"iterable", "", 0, t_iterable, NULL},
    {"le", "other", 1, t_le, NULL},          {"<=", "other", 1, t_le, NULL},
    {"lessthan", "other", 1, t_lt, NULL},    {"lower", "", 0, t_lower, NULL},
    {"lt", "other", 1, t_lt, NULL},          {"<", "other", 1, t_lt, NULL},
    {"mapping", "", 0, t_mapping, NULL},     {"ne", "other", 1, t_ne, NULL},
    {"!=", "other", 1, t_ne, NULL},          {"none", "", 0, t_none, NULL},
    {"number", "", 0, t_number, NULL},       {"odd", "", 0, t_odd, NULL},
    {"sameas", "other", 1, t_sameas, NULL},  {"sequence", "", 0, t_sequence, NULL},
    {"string", "", 0, t_string, NULL},       {"test", "", 0, t_test, NULL},
    {"true", "", 0, t_true, NULL},           {"undefined", "", 0, t_undefined, NULL},
    {"upper", "", 0, t_upper, NULL},
};

const struct ingle_tpl_builtin *ingle_tpl_test_find(struct ingle_tv name)
{
    size_t i;

    for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        if (ingle_tv_is_str(name, tests[i].name)) {
            return &tests[i];
        }
    }
    return NULL;
}

/* ---- functions ---- */

static struct ingle_tv g_range(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv_range *range = ingle_tpl_alloc(run, sizeof(*range));
    int64_t bound[3] = {0, 0, 1}, n;
    uint32_t i, n_args = a[2].kind == TV_ABSENT ? 1 : a[3].kind == TV_ABSENT ? 2 : 3;

    for (i = 0; i < n_args; i++) {
        if (!ingle_tv_is_whole(a[i + 1])) {
            ingle_tpl_fail(run, "range: '%s' object cannot be interpreted as an integer",
                           ingle_tv_type_name(a[i + 1]));
        }
        bound[n_args == 1 ? 1 : i] = ingle_tv_whole(a[i + 1]);
    }
    for (i = 0; i < 3; i++) { /* so that no arithmetic on bounds can overflow */
        if (bound[i] > INT64_C(1000000000000) || bound[i] < -INT64_C(1000000000000)) {
            ingle_tpl_fail(run, "range: a bound of %lld is not supported", (long long)bound[i]);
        }
    }
    if (bound[2] == 0) {
        ingle_tpl_fail(run, "range: step must not be zero");
    }
    n = bound[2] > 0 ? (bound[1] - bound[0] + bound[2] - 1) / bound[2]
                     /* cppcheck-suppress zerodivcond; a step of zero was refused above */
                     : (bound[0] - bound[1] - bound[2] - 1) / -bound[2];
    n = (bound[2] > 0 ? bound[0] < bound[1] : bound[1] < bound[0]) ? n : 0;
    if (n > INGLE_TPL_RANGE_MAX) {
        ingle_tpl_fail(run, "range: more than %d items", INGLE_TPL_RANGE_MAX);
    }
    range->start = bound[0];
    range->stop = bound[1];
    range->step = bound[2];
    range->n = (uint32_t)n;
    return (struct ingle_tv){.kind = TV_RANGE, .u.range = range};
}

/* dict(mapping or pairs, **named) into a new dict or namespace. */
static struct ingle_tv dict_from(struct ingle_tpl_run *run, enum ingle_tv_kind kind,
                                 const struct ingle_tpl_args *args)
{
    struct ingle_tv dict = ingle_tv_dict_new(run, kind), source, item, pair;
    struct ingle_tv_iter *it;
    uint32_t i;

    if (args->pos->n > 1) {
        ingle_tpl_fail(run, "dict expected at most 1 argument, got %u", args->pos->n);
    }
    if (args->pos->n == 1) {
        source = args->pos->item[0];
        if (source.kind == TV_UNDEFINED) {
            ingle_tv_fail_undefined(run, source); /* Python looks for .keys before it iterates */
        }
        if (source.kind == TV_DICT) {
            source.kind = TV_VIEW;
            source.tag = TV_VIEW_ITEMS;
        }
        it = ingle_tv_iterate(run, source);
        while (ingle_tv_next(run, it, &item)) {
            pair = ingle_tv_collect(run, item);
            if (pair.u.list->n != 2) {
                ingle_tpl_fail(run, "dict: an element has length %u; 2 is required",
                               pair.u.list->n);
            }
            ingle_tv_dict_put(run, dict.u.dict, pair.u.list->item[0], pair.u.list->item[1]);
        }
    }
    for (i = 0; i < args->named->n; i++) {
        ingle_tv_dict_put(run, dict.u.dict, args->named->pair[i].key, args->named->pair[i].value);
    }
    return dict;
}

static struct ingle_tv g_dict(struct ingle_tpl_run *run, struct ingle_tv self,
                              const struct ingle_tpl_args *args)
{
    (void)self;
    return dict_from(run, TV_DICT, args);
}

static struct ingle_tv g_namespace(struct ingle_tpl_run *run, struct ingle_tv self,
                                   const struct ingle_tpl_args *args)
{
    struct ingle_tv ns = dict_from(run, TV_NAMESPACE, args);
    uint32_t i;

    (void)self;
    for (i = 0; i < ns.u.dict->n; i++) {
        struct ingle_tv key = ns.u.dict->pair[i].key;

        if (key.kind != TV_STR || (key.bytes > 0 && key.u.text[0] == '_')) {
            ingle_tpl_fail(run, "a namespace member that is no string or has a leading "
                                "underscore is not supported");
        }
    }
    return ns;
}

static struct ingle_tv g_raise(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv text = ingle_tv_to_str(run, a[1]);

    ingle_tpl_fail(run, "raise_exception: %.*s", text.bytes > 250 ? 250 : (int)text.bytes,
                   text.u.text);
}

static struct ingle_tv g_strftime(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    if (a[1].kind != TV_STR) {
        ingle_tpl_fail(run, "strftime_now: a str is required, not %s", ingle_tv_type_name(a[1]));
    }
    return ingle_tv_strftime(run, a[1], run->now_s);
}

static const struct ingle_tpl_builtin functions[] = {
    {"range", "start stop step", 1, g_range, NULL},
    {"dict", "", 0, NULL, g_dict},
    {"namespace", "", 0, NULL, g_namespace},
    {"raise_exception", "message", 1, g_raise, NULL},
    {"strftime_now", "format", 1, g_strftime, NULL},
    {"self", "", 0, NULL, NULL},
    {"lipsum", "", 0, NULL, NULL},
    {"cycler", "", 0, NULL, NULL},
    {"joiner", "", 0, NULL, NULL},
};

const struct ingle_tpl_builtin *ingle_tpl_function_find(struct ingle_tv name)
{
    size_t i;

    for (i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        if (ingle_tv_is_str(name, functions[i].name)) {
            return &functions[i];
        }
    }
    return NULL;
}
