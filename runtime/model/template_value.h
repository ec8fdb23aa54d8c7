/* The values that a template computes with, and Python's rules for them: truth, equality, order,
 * length, iteration, access, arithmetic, text forms. Values are immutable (but for namespaces and
 * half-read iterators), so they are passed by value and share what they point to. */
#ifndef INGLE_RUNTIME_MODEL_TEMPLATE_VALUE_H
#define INGLE_RUNTIME_MODEL_TEMPLATE_VALUE_H
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "runtime/model/template_run.h"

enum ingle_tv_kind {
    TV_ABSENT, /* an argument that was not given; no template ever sees it */
    TV_UNDEFINED,
    TV_NONE,
    TV_BOOL,
    TV_INT,
    TV_FLOAT,
    TV_STR,
    TV_LIST,
    TV_TUPLE,
    TV_DICT,
    TV_VIEW, /* what dict.items(), .keys() and .values() return */
    TV_RANGE,
    TV_ITER,
    TV_NAMESPACE,
    TV_LOOP,
    TV_MACRO,
    TV_METHOD,
    TV_FUNCTION
};

enum ingle_tv_undef { /* tag of TV_UNDEFINED: how to read its text; from ATTR on, plus a kind */
    TV_UNDEF_NAME,    /* text is the name of a variable */
    TV_UNDEF_HINT,    /* text says it all */
    TV_UNDEF_ATTR
};
enum ingle_tv_view {
    TV_VIEW_ITEMS,
    TV_VIEW_KEYS,
    TV_VIEW_VALUES
}; /* tag of TV_VIEW */

struct ingle_tv {
    uint8_t kind;
    uint8_t tag;    /* TV_STR: 1 = Markup; TV_UNDEFINED, TV_VIEW: see above */
    uint32_t bytes; /* TV_STR, TV_UNDEFINED: of text */
    union {
        bool b;
        int64_t i;
        double f;
        const char *text; /* valid UTF-8, not NUL-terminated */
        struct ingle_tv_list *list;
        struct ingle_tv_dict *dict; /* also TV_VIEW, TV_NAMESPACE */
        const struct ingle_tv_range *range;
        struct ingle_tv_iter *iter;
        struct ingle_tv_loop *loop;
        const struct ingle_tv_macro *macro;
        const struct ingle_tv_bound *bound;
        const struct ingle_tpl_builtin *function;
    } u;
};

struct ingle_tv_list {
    uint32_t n, room;
    struct ingle_tv *item;
};

struct ingle_tv_pair {
    struct ingle_tv key, value;
    uint64_t hash;
};
struct ingle_tv_dict { /* insertion order in pair[]; slot[] is an open-addressed index from 9 on */
    uint32_t n, room, n_slots;
    struct ingle_tv_pair *pair;
    uint32_t *slot; /* 1 + index into pair, 0 = free */
};

struct ingle_tv_range {
    int64_t start, stop, step;
    uint32_t n;
};

/* A position in something iterable. Shared when a template stores it: it is read once. */
struct ingle_tv_iter {
    bool (*next)(struct ingle_tpl_run *run, struct ingle_tv_iter *it, struct ingle_tv *ret);
    const char *type_name;
    struct ingle_tv source;
    uint64_t at;
    void *state;
};

struct ingle_tv_loop {
    const struct ingle_tv_list *items;
    uint32_t at;
    struct ingle_tv changed; /* the arguments of the last loop.changed() */
};

struct ingle_tv_macro {
    struct ingle_tv name;
    const struct ingle_tpl_node *node;
    struct scope *scope; /* where it was defined (template_eval.c) */
};

struct ingle_tv_bound { /* a method and its object */
    struct ingle_tv self;
    const struct ingle_tpl_builtin *method;
};

static inline struct ingle_tv ingle_tv_none(void)
{
    return (struct ingle_tv){.kind = TV_NONE};
}
static inline struct ingle_tv ingle_tv_absent(void)
{
    return (struct ingle_tv){.kind = TV_ABSENT};
}
static inline struct ingle_tv ingle_tv_bool(bool b)
{
    return (struct ingle_tv){.kind = TV_BOOL, .u.b = b};
}
static inline struct ingle_tv ingle_tv_int(int64_t i)
{
    return (struct ingle_tv){.kind = TV_INT, .u.i = i};
}
static inline struct ingle_tv ingle_tv_float(double f)
{
    return (struct ingle_tv){.kind = TV_FLOAT, .u.f = f};
}
/* Borrows text, which must live as long as the arena. */
static inline struct ingle_tv ingle_tv_str(const char *text, uint64_t bytes)
{
    return (struct ingle_tv){.kind = TV_STR, .bytes = (uint32_t)bytes, .u.text = text};
}
static inline struct ingle_tv ingle_tv_strz(const char *z)
{
    return ingle_tv_str(z, strlen(z));
}
static inline struct ingle_tv ingle_tv_text(const struct ingle_tpl_text *text)
{
    return ingle_tv_str(text->p == NULL ? "" : text->p, text->bytes);
}
static inline struct ingle_tv ingle_tv_undefined(const char *name, uint64_t bytes)
{
    return (struct ingle_tv){
        .kind = TV_UNDEFINED, .tag = TV_UNDEF_NAME, .bytes = (uint32_t)bytes, .u.text = name};
}
static inline struct ingle_tv ingle_tv_undefined_hint(const char *hint)
{
    return (struct ingle_tv){.kind = TV_UNDEFINED,
                             .tag = TV_UNDEF_HINT,
                             .bytes = (uint32_t)strlen(hint),
                             .u.text = hint};
}
static inline bool ingle_tv_is_str(struct ingle_tv v, const char *z)
{
    return v.kind == TV_STR && v.bytes == strlen(z) && memcmp(v.u.text, z, v.bytes) == 0;
}
static inline bool ingle_tv_is_number(struct ingle_tv v)
{
    return v.kind == TV_BOOL || v.kind == TV_INT || v.kind == TV_FLOAT;
}
static inline bool ingle_tv_is_whole(struct ingle_tv v) /* Python's int, of which bool is one */
{
    return v.kind == TV_BOOL || v.kind == TV_INT;
}
static inline int64_t ingle_tv_whole(struct ingle_tv v)
{
    return v.kind == TV_BOOL ? v.u.b : v.u.i;
}
static inline double ingle_tv_real(struct ingle_tv v)
{
    return v.kind == TV_FLOAT ? v.u.f : (double)ingle_tv_whole(v);
}

/* Containers (template_value.c). */
struct ingle_tv ingle_tv_list_new(struct ingle_tpl_run *run, enum ingle_tv_kind kind,
                                  uint32_t room);
void ingle_tv_list_add(struct ingle_tpl_run *run, struct ingle_tv_list *list, struct ingle_tv v);
struct ingle_tv ingle_tv_pair(struct ingle_tpl_run *run, struct ingle_tv a, struct ingle_tv b);
struct ingle_tv ingle_tv_dict_new(struct ingle_tpl_run *run, enum ingle_tv_kind kind);
void ingle_tv_dict_put(struct ingle_tpl_run *run, struct ingle_tv_dict *dict, struct ingle_tv key,
                       struct ingle_tv value);
/* NULL: no such key. An unhashable key fails. */
const struct ingle_tv *ingle_tv_dict_get(struct ingle_tpl_run *run,
                                         const struct ingle_tv_dict *dict, struct ingle_tv key);
const struct ingle_tv *ingle_tv_dict_getz(struct ingle_tpl_run *run,
                                          const struct ingle_tv_dict *dict, const char *key);
bool ingle_tv_hashable(struct ingle_tpl_run *run, struct ingle_tv v);

/* Sort keys (Python's <, stable, or reversed and stable) and move items along. */
void ingle_tv_sort(struct ingle_tpl_run *run, struct ingle_tv_list *items,
                   struct ingle_tv_list *keys, bool reverse);

/* Python's names for kinds, for messages. */
const char *ingle_tv_type_name(struct ingle_tv v);
/* What reading from this undefined value should say; does not return. */
_Noreturn void ingle_tv_fail_undefined(struct ingle_tpl_run *run, struct ingle_tv v);
/* The undefined value of a missing attribute or item of `of`. */
struct ingle_tv ingle_tv_no_attr(struct ingle_tpl_run *run, struct ingle_tv of,
                                 struct ingle_tv name);

bool ingle_tv_truth(struct ingle_tpl_run *run, struct ingle_tv v);
bool ingle_tv_equal(struct ingle_tpl_run *run, struct ingle_tv a, struct ingle_tv b);
bool ingle_tv_same(struct ingle_tv a, struct ingle_tv b); /* Python's `is` */
/* a < b by `op`, one of "<", "<=", ">", ">="; fails where Python has no order. */
bool ingle_tv_ordered(struct ingle_tpl_run *run, const char *op, struct ingle_tv a,
                      struct ingle_tv b);
bool ingle_tv_contains(struct ingle_tpl_run *run, struct ingle_tv seq, struct ingle_tv v);
bool ingle_tv_has_length(struct ingle_tv v);
uint64_t ingle_tv_length(struct ingle_tpl_run *run, struct ingle_tv v);

bool ingle_tv_iterable(struct ingle_tv v);
struct ingle_tv_iter *ingle_tv_iterate(struct ingle_tpl_run *run, struct ingle_tv v);
static inline bool ingle_tv_next(struct ingle_tpl_run *run, struct ingle_tv_iter *it,
                                 struct ingle_tv *ret)
{
    ingle_tpl_charge(run, 1);
    return it->next(run, it, ret);
}
/* A new list with everything that iterating v yields. */
struct ingle_tv ingle_tv_collect(struct ingle_tpl_run *run, struct ingle_tv v);
/* Python's reversed(); false where it raises TypeError. */
bool ingle_tv_reversed(struct ingle_tpl_run *run, struct ingle_tv v, struct ingle_tv *ret);

/* v[key] without the fallbacks of Jinja2: false = TypeError or LookupError. */
bool ingle_tv_item(struct ingle_tpl_run *run, struct ingle_tv v, struct ingle_tv key,
                   struct ingle_tv *ret);
/* v[start:stop:step]; TV_NONE or TV_ABSENT = left out. */
struct ingle_tv ingle_tv_slice(struct ingle_tpl_run *run, struct ingle_tv v, struct ingle_tv start,
                               struct ingle_tv stop, struct ingle_tv step);

/* Arithmetic (template_ops.c): op is one of + - * / % and F (//), P (**). */
struct ingle_tv ingle_tv_binary(struct ingle_tpl_run *run, char op, struct ingle_tv a,
                                struct ingle_tv b);
struct ingle_tv ingle_tv_negate(struct ingle_tpl_run *run, struct ingle_tv v, bool minus);
struct ingle_tv ingle_tv_round(struct ingle_tpl_run *run, struct ingle_tv v, int64_t digits);
/* printf-style formatting of Python (template_format.c). */
struct ingle_tv ingle_tv_percent(struct ingle_tpl_run *run, struct ingle_tv fmt,
                                 struct ingle_tv args);
/* datetime.now().strftime(format) */
struct ingle_tv ingle_tv_strftime(struct ingle_tpl_run *run, struct ingle_tv fmt, int64_t now_s);

/* Text forms (template_show.c). */
void ingle_tv_put_str(struct ingle_tpl_run *run, struct ingle_tpl_text *text, struct ingle_tv v);
void ingle_tv_put_repr(struct ingle_tpl_run *run, struct ingle_tpl_text *text, struct ingle_tv v);
void ingle_tv_put_float(struct ingle_tpl_run *run, struct ingle_tpl_text *text, double f);
struct ingle_tv ingle_tv_to_str(struct ingle_tpl_run *run, struct ingle_tv v);   /* drops Markup */
struct ingle_tv ingle_tv_soft_str(struct ingle_tpl_run *run, struct ingle_tv v); /* keeps it */
struct ingle_tv ingle_tv_escape(struct ingle_tpl_run *run, struct ingle_tv v);
struct ingle_tpl_json_style {
    bool ascii, sort_keys, indented;
    struct ingle_tv indent; /* a string */
    struct ingle_tv item_sep, key_sep;
};
void ingle_tv_put_json(struct ingle_tpl_run *run, struct ingle_tpl_text *text, struct ingle_tv v,
                       const struct ingle_tpl_json_style *style);
/* int(text, base) and float(text); false = ValueError. Overflow of 64 bits fails. */
bool ingle_tv_parse_int(struct ingle_tpl_run *run, struct ingle_tv text, uint32_t base,
                        int64_t *ret);
bool ingle_tv_parse_float(struct ingle_tpl_run *run, struct ingle_tv text, double *ret);

/* JSON text to a value (template_json.c). */
struct ingle_tv ingle_tv_from_json(struct ingle_tpl_run *run, const char *json, uint64_t bytes);

#endif
