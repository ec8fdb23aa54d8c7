/* Owns the containers of template values and Python's rules for truth, equality, order, iteration
 * and access. Does not own arithmetic (template_ops.c) or text forms (template_show.c). Invariant:
 * lists, tuples and dicts are not changed once a template can see them. Thread: the caller's. */
#include "runtime/model/template_value.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/model/template_text.h"

#define DICT_LINEAR_MAX 8u

struct ingle_tv ingle_tv_list_new(struct ingle_tpl_run *run, enum ingle_tv_kind kind, uint32_t room)
{
    struct ingle_tv_list *list = ingle_tpl_alloc(run, sizeof(*list));

    if (room > 0) {
        list->item = ingle_tpl_alloc(run, (uint64_t)room * sizeof(list->item[0]));
        list->room = room;
    }
    return (struct ingle_tv){.kind = (uint8_t)kind, .u.list = list};
}

void ingle_tv_list_add(struct ingle_tpl_run *run, struct ingle_tv_list *list, struct ingle_tv v)
{
    struct ingle_tv *bigger;

    if (list->n == list->room) {
        list->room = list->room == 0 ? 4 : list->room * 2;
        bigger = ingle_tpl_alloc(run, (uint64_t)list->room * sizeof(bigger[0]));
        if (list->n > 0) {
            memcpy(bigger, list->item, (uint64_t)list->n * sizeof(bigger[0]));
        }
        list->item = bigger;
    }
    list->item[list->n++] = v;
}

struct ingle_tv ingle_tv_pair(struct ingle_tpl_run *run, struct ingle_tv a, struct ingle_tv b)
{
    struct ingle_tv pair = ingle_tv_list_new(run, TV_TUPLE, 2);

    ingle_tv_list_add(run, pair.u.list, a);
    ingle_tv_list_add(run, pair.u.list, b);
    return pair;
}

const char *ingle_tv_type_name(struct ingle_tv v)
{
    static const char *const names[] = {
        [TV_ABSENT] = "absent",    [TV_UNDEFINED] = "Undefined",
        [TV_NONE] = "NoneType",    [TV_BOOL] = "bool",
        [TV_INT] = "int",          [TV_FLOAT] = "float",
        [TV_STR] = "str",          [TV_LIST] = "list",
        [TV_TUPLE] = "tuple",      [TV_DICT] = "dict",
        [TV_VIEW] = "dict view",   [TV_RANGE] = "range",
        [TV_ITER] = "generator",   [TV_NAMESPACE] = "Namespace",
        [TV_LOOP] = "LoopContext", [TV_MACRO] = "Macro",
        [TV_METHOD] = "method",    [TV_FUNCTION] = "function",
    };
    static const char *const views[] = {"dict_items", "dict_keys", "dict_values"};

    return v.kind == TV_VIEW ? views[v.tag] : names[v.kind];
}

void ingle_tv_fail_undefined(struct ingle_tpl_run *run, struct ingle_tv v)
{
    int n = v.bytes > 200 ? 200 : (int)v.bytes;

    if (v.tag == TV_UNDEF_HINT) {
        ingle_tpl_fail(run, "%.*s", n, v.u.text);
    }
    if (v.tag == TV_UNDEF_NAME) {
        ingle_tpl_fail(run, "'%.*s' is undefined", n, v.u.text);
    }
    ingle_tpl_fail(run, "'%s object' has no attribute '%.*s'",
                   ingle_tv_type_name((struct ingle_tv){.kind = (uint8_t)(v.tag - TV_UNDEF_ATTR)}),
                   n, v.u.text);
}

struct ingle_tv ingle_tv_no_attr(struct ingle_tpl_run *run, struct ingle_tv of,
                                 struct ingle_tv name)
{
    struct ingle_tv v = ingle_tv_to_str(run, name);

    v.kind = TV_UNDEFINED;
    v.tag = (uint8_t)(TV_UNDEF_ATTR + of.kind);
    return v;
}

/* ---- dict ---- */

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

/* Equal values have equal hashes, across int, bool and float too. False: unhashable. */
static bool hash_of(struct ingle_tpl_run *run, struct ingle_tv v, uint64_t *ret)
{
    uint64_t h, part;
    uint32_t i;
    bool ok = true;

    switch ((enum ingle_tv_kind)v.kind) {
    case TV_STR:
        ingle_tpl_charge_bytes(run, v.bytes);
        h = 0xcbf29ce484222325u;
        for (i = 0; i < v.bytes; i++) {
            h = (h ^ (unsigned char)v.u.text[i]) * 0x100000001b3u;
        }
        *ret = mix(h);
        return true;
    case TV_BOOL:
    case TV_INT:
        *ret = mix((uint64_t)ingle_tv_whole(v));
        return true;
    case TV_FLOAT:
        /* cppcheck-suppress incorrectLogicOperator; it misreads hexadecimal floats */
        if (v.u.f >= -0x1p63 && v.u.f < 0x1p63 && v.u.f == floor(v.u.f)) {
            *ret = mix((uint64_t)(int64_t)v.u.f);
        } else {
            memcpy(&h, &v.u.f, sizeof(h));
            *ret = mix(h);
        }
        return true;
    case TV_TUPLE:
        h = v.u.list->n;
        ingle_tpl_enter(run);
        for (i = 0; i < v.u.list->n && ok; i++) {
            ok = hash_of(run, v.u.list->item[i], &part);
            h = ok ? mix(h + part) : h;
        }
        ingle_tpl_leave(run);
        *ret = h;
        return ok;
    case TV_LIST:
    case TV_DICT:
    case TV_VIEW:
        return false;
    case TV_RANGE: /* by value in Python; rare enough to share one bucket */
    case TV_ABSENT:
    case TV_UNDEFINED:
    case TV_NONE:
    case TV_METHOD:
        *ret = mix(v.kind);
        return true;
    case TV_ITER:
    case TV_NAMESPACE:
    case TV_LOOP:
    case TV_MACRO:
    case TV_FUNCTION:
        break;
    }
    *ret = mix((uint64_t)(uintptr_t)v.u.iter);
    return true;
}

bool ingle_tv_hashable(struct ingle_tpl_run *run, struct ingle_tv v)
{
    uint64_t h;

    return hash_of(run, v, &h);
}

static uint64_t hash_or_fail(struct ingle_tpl_run *run, struct ingle_tv v)
{
    uint64_t h = 0;

    if (!hash_of(run, v, &h)) {
        ingle_tpl_fail(run, "unhashable type: '%s'", ingle_tv_type_name(v));
    }
    return h;
}

struct ingle_tv ingle_tv_dict_new(struct ingle_tpl_run *run, enum ingle_tv_kind kind)
{
    struct ingle_tv_dict *dict = ingle_tpl_alloc(run, sizeof(*dict));

    return (struct ingle_tv){.kind = (uint8_t)kind, .u.dict = dict};
}

static struct ingle_tv_pair *dict_find(struct ingle_tpl_run *run, const struct ingle_tv_dict *dict,
                                       struct ingle_tv key, uint64_t hash)
{
    uint32_t i, at;

    if (dict->n_slots == 0) {
        for (i = 0; i < dict->n; i++) {
            if (dict->pair[i].hash == hash && ingle_tv_equal(run, dict->pair[i].key, key)) {
                return &dict->pair[i];
            }
        }
        return NULL;
    }
    for (at = (uint32_t)hash & (dict->n_slots - 1); dict->slot[at] != 0;
         at = (at + 1) & (dict->n_slots - 1)) {
        struct ingle_tv_pair *pair = &dict->pair[dict->slot[at] - 1];

        ingle_tpl_charge(run, 1);
        if (pair->hash == hash && ingle_tv_equal(run, pair->key, key)) {
            return pair;
        }
    }
    return NULL;
}

static void dict_index(struct ingle_tv_dict *dict, uint32_t i)
{
    uint32_t at = (uint32_t)dict->pair[i].hash & (dict->n_slots - 1);

    while (dict->slot[at] != 0) {
        at = (at + 1) & (dict->n_slots - 1);
    }
    dict->slot[at] = i + 1;
}

void ingle_tv_dict_put(struct ingle_tpl_run *run, struct ingle_tv_dict *dict, struct ingle_tv key,
                       struct ingle_tv value)
{
    uint64_t hash = hash_or_fail(run, key);
    struct ingle_tv_pair *pair = dict_find(run, dict, key, hash);
    uint32_t i;

    if (pair != NULL) {
        pair->value = value;
        return;
    }
    if (dict->n == dict->room) {
        dict->room = dict->room == 0 ? 4 : dict->room * 2;
        pair = ingle_tpl_alloc(run, (uint64_t)dict->room * sizeof(*pair));
        if (dict->n > 0) {
            memcpy(pair, dict->pair, (uint64_t)dict->n * sizeof(*pair));
        }
        dict->pair = pair;
    }
    dict->pair[dict->n++] = (struct ingle_tv_pair){key, value, hash};
    if (dict->n > DICT_LINEAR_MAX) {
        if (dict->n * 2 > dict->n_slots) {
            dict->n_slots = dict->n_slots == 0 ? 32 : dict->n_slots * 2;
            dict->slot = ingle_tpl_alloc(run, (uint64_t)dict->n_slots * sizeof(dict->slot[0]));
            for (i = 0; i < dict->n; i++) {
                dict_index(dict, i);
            }
        } else {
            dict_index(dict, dict->n - 1);
        }
    }
}

const struct ingle_tv *ingle_tv_dict_get(struct ingle_tpl_run *run,
                                         const struct ingle_tv_dict *dict, struct ingle_tv key)
{
    struct ingle_tv_pair *pair = dict_find(run, dict, key, hash_or_fail(run, key));

    return pair == NULL ? NULL : &pair->value;
}

const struct ingle_tv *ingle_tv_dict_getz(struct ingle_tpl_run *run,
                                          const struct ingle_tv_dict *dict, const char *key)
{
    return ingle_tv_dict_get(run, dict, ingle_tv_strz(key));
}

/* ---- truth, equality, order ---- */

bool ingle_tv_has_length(struct ingle_tv v)
{
    return v.kind == TV_STR || v.kind == TV_LIST || v.kind == TV_TUPLE || v.kind == TV_DICT ||
           v.kind == TV_VIEW || v.kind == TV_RANGE || v.kind == TV_UNDEFINED || v.kind == TV_LOOP;
}

uint64_t ingle_tv_length(struct ingle_tpl_run *run, struct ingle_tv v)
{
    switch ((enum ingle_tv_kind)v.kind) {
    case TV_STR:
        ingle_tpl_charge_bytes(run, v.bytes);
        return ingle_tpl_chars(v.u.text, v.bytes);
    case TV_LIST:
    case TV_TUPLE:
        return v.u.list->n;
    case TV_DICT:
    case TV_VIEW:
        return v.u.dict->n;
    case TV_RANGE:
        return v.u.range->n;
    case TV_UNDEFINED:
        return 0;
    case TV_LOOP:
        return v.u.loop->items->n;
    case TV_ABSENT:
    case TV_NONE:
    case TV_BOOL:
    case TV_INT:
    case TV_FLOAT:
    case TV_ITER:
    case TV_NAMESPACE:
    case TV_MACRO:
    case TV_METHOD:
    case TV_FUNCTION:
        break;
    }
    ingle_tpl_fail(run, "object of type '%s' has no len()", ingle_tv_type_name(v));
}

bool ingle_tv_truth(struct ingle_tpl_run *run, struct ingle_tv v)
{
    switch ((enum ingle_tv_kind)v.kind) {
    case TV_ABSENT:
    case TV_UNDEFINED:
    case TV_NONE:
        return false;
    case TV_BOOL:
        return v.u.b;
    case TV_INT:
        return v.u.i != 0;
    case TV_FLOAT:
        return v.u.f != 0.0;
    case TV_STR:
        return v.bytes != 0;
    case TV_LIST:
    case TV_TUPLE:
    case TV_DICT:
    case TV_VIEW:
    case TV_RANGE:
    case TV_LOOP:
        return ingle_tv_length(run, v) != 0;
    case TV_ITER:
    case TV_NAMESPACE:
    case TV_MACRO:
    case TV_METHOD:
    case TV_FUNCTION:
        break;
    }
    return true;
}

bool ingle_tv_same(struct ingle_tv a, struct ingle_tv b)
{
    if (a.kind != b.kind) {
        return false;
    }
    switch ((enum ingle_tv_kind)a.kind) {
    case TV_ABSENT:
    case TV_NONE:
        return true;
    case TV_BOOL:
        return a.u.b == b.u.b;
    case TV_INT:
    case TV_FLOAT: /* by its bits: nan is itself, 0.0 is not -0.0 */
        return a.u.i == b.u.i;
    case TV_STR:
        return a.bytes == b.bytes && a.tag == b.tag && memcmp(a.u.text, b.u.text, a.bytes) == 0;
    case TV_UNDEFINED:
        return a.tag == b.tag && a.u.text == b.u.text;
    case TV_LIST:
    case TV_TUPLE:
    case TV_DICT:
    case TV_VIEW:
    case TV_RANGE:
    case TV_ITER:
    case TV_NAMESPACE:
    case TV_LOOP:
    case TV_MACRO:
    case TV_METHOD:
    case TV_FUNCTION:
        break;
    }
    return a.u.list == b.u.list && a.tag == b.tag;
}

/* -1, 0, 1, or 2 where f is not a number. Exact: a 64-bit integer is not rounded to a double. */
static int compare_int_float(int64_t i, double f)
{
    double whole;

    if (isnan(f)) {
        return 2;
    }
    if (f >= 0x1p63) {
        return -1;
    }
    if (f < -0x1p63) {
        return 1;
    }
    whole = floor(f);
    if (i != (int64_t)whole) {
        return i < (int64_t)whole ? -1 : 1;
    }
    return f > whole ? -1 : 0;
}

static int compare_numbers(struct ingle_tv a, struct ingle_tv b)
{
    int r;

    if (a.kind == TV_FLOAT && b.kind == TV_FLOAT) {
        if (isnan(a.u.f) || isnan(b.u.f)) {
            return 2;
        }
        return a.u.f < b.u.f ? -1 : a.u.f > b.u.f;
    }
    if (a.kind == TV_FLOAT) {
        r = compare_int_float(ingle_tv_whole(b), a.u.f);
        return r == 2 ? 2 : -r;
    }
    if (b.kind == TV_FLOAT) {
        return compare_int_float(ingle_tv_whole(a), b.u.f);
    }
    return ingle_tv_whole(a) < ingle_tv_whole(b) ? -1 : ingle_tv_whole(a) > ingle_tv_whole(b);
}

/* Python compares items by identity first: a list that holds nan equals itself. */
static bool same_or_equal(struct ingle_tpl_run *run, struct ingle_tv a, struct ingle_tv b)
{
    return ingle_tv_same(a, b) || ingle_tv_equal(run, a, b);
}

static bool equal_dicts(struct ingle_tpl_run *run, const struct ingle_tv_dict *a,
                        const struct ingle_tv_dict *b)
{
    const struct ingle_tv_pair *other;
    uint32_t i;

    if (a->n != b->n) {
        return false;
    }
    for (i = 0; i < a->n; i++) {
        other = dict_find(run, b, a->pair[i].key, a->pair[i].hash);
        if (other == NULL || !same_or_equal(run, a->pair[i].value, other->value)) {
            return false;
        }
    }
    return true;
}

static bool equal_ranges(const struct ingle_tv_range *a, const struct ingle_tv_range *b)
{
    return a->n == b->n &&
           (a->n == 0 || (a->start == b->start && (a->n == 1 || a->step == b->step)));
}

bool ingle_tv_equal(struct ingle_tpl_run *run, struct ingle_tv a, struct ingle_tv b)
{
    bool equal = false;
    uint32_t i;

    ingle_tpl_charge(run, 1);
    if (ingle_tv_is_number(a) && ingle_tv_is_number(b)) {
        return compare_numbers(a, b) == 0;
    }
    if (a.kind != b.kind) {
        return false;
    }
    switch ((enum ingle_tv_kind)a.kind) {
    case TV_STR:
        ingle_tpl_charge_bytes(run, a.bytes);
        return a.bytes == b.bytes && memcmp(a.u.text, b.u.text, a.bytes) == 0;
    case TV_LIST:
    case TV_TUPLE:
        equal = a.u.list->n == b.u.list->n;
        ingle_tpl_enter(run);
        for (i = 0; i < a.u.list->n && equal; i++) {
            equal = same_or_equal(run, a.u.list->item[i], b.u.list->item[i]);
        }
        ingle_tpl_leave(run);
        return equal;
    case TV_DICT:
        ingle_tpl_enter(run);
        equal = equal_dicts(run, a.u.dict, b.u.dict);
        ingle_tpl_leave(run);
        return equal;
    case TV_RANGE:
        return equal_ranges(a.u.range, b.u.range);
    case TV_UNDEFINED:
        return true;
    case TV_VIEW:
        if (a.u.dict != b.u.dict) {
            ingle_tpl_fail(run, "comparing two dict views is not supported");
        }
        return a.tag == b.tag;
    case TV_METHOD:
        return a.u.bound->method == b.u.bound->method &&
               ingle_tv_same(a.u.bound->self, b.u.bound->self);
    case TV_ABSENT:
    case TV_NONE:
    case TV_BOOL:
    case TV_INT:
    case TV_FLOAT:
    case TV_ITER:
    case TV_NAMESPACE:
    case TV_LOOP:
    case TV_MACRO:
    case TV_FUNCTION:
        break;
    }
    return ingle_tv_same(a, b);
}

static bool order_holds(const char *op, int order)
{
    if (order == 2) {
        return false;
    }
    if (order == 0) {
        return op[1] == '=';
    }
    return op[0] == '<' ? order < 0 : order > 0;
}

bool ingle_tv_ordered(struct ingle_tpl_run *run, const char *op, struct ingle_tv a,
                      struct ingle_tv b)
{
    uint32_t n, i;
    bool holds;
    int r;

    ingle_tpl_charge(run, 1);
    if (ingle_tv_is_number(a) && ingle_tv_is_number(b)) {
        return order_holds(op, compare_numbers(a, b));
    }
    if (a.kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(run, a);
    }
    if (b.kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(run, b);
    }
    if (a.kind == TV_STR && b.kind == TV_STR) { /* UTF-8 sorts as its code points do */
        n = a.bytes < b.bytes ? a.bytes : b.bytes;
        ingle_tpl_charge_bytes(run, n);
        r = memcmp(a.u.text, b.u.text, n);
        if (r == 0) {
            r = a.bytes < b.bytes ? -1 : a.bytes > b.bytes;
        }
        return order_holds(op, r < 0 ? -1 : r > 0);
    }
    if (a.kind == b.kind && (a.kind == TV_LIST || a.kind == TV_TUPLE)) {
        n = a.u.list->n < b.u.list->n ? a.u.list->n : b.u.list->n;
        ingle_tpl_enter(run);
        for (i = 0; i < n && same_or_equal(run, a.u.list->item[i], b.u.list->item[i]); i++) {
        }
        if (i < n) {
            holds = ingle_tv_ordered(run, op, a.u.list->item[i], b.u.list->item[i]);
        } else {
            holds = order_holds(op, a.u.list->n < b.u.list->n ? -1 : a.u.list->n > b.u.list->n);
        }
        ingle_tpl_leave(run);
        return holds;
    }
    ingle_tpl_fail(run, "'%s' not supported between instances of '%s' and '%s'", op,
                   ingle_tv_type_name(a), ingle_tv_type_name(b));
}

/* Merge sort: the C library's may allocate, which a jump out would leak. */
static void sort_span(struct ingle_tpl_run *run, struct ingle_tv *item, struct ingle_tv *key,
                      struct ingle_tv *tmp, uint32_t n, bool reverse)
{
    uint32_t half = n / 2, a = 0, b = half, at = 0;

    if (n < 2) {
        return;
    }
    sort_span(run, item, key, tmp, half, reverse);
    sort_span(run, item + half, key + half, tmp, n - half, reverse);
    while (a < half && b < n) {
        bool second = reverse ? ingle_tv_ordered(run, "<", key[a], key[b])
                              : ingle_tv_ordered(run, "<", key[b], key[a]);
        uint32_t from = second ? b++ : a++;

        tmp[at++] = key[from];
        tmp[at++] = item[from];
    }
    for (; a < half; a++) {
        tmp[at++] = key[a];
        tmp[at++] = item[a];
    }
    for (a = 0; a < at / 2; a++) {
        key[a] = *tmp++;
        item[a] = *tmp++;
    }
}

void ingle_tv_sort(struct ingle_tpl_run *run, struct ingle_tv_list *items,
                   struct ingle_tv_list *keys, bool reverse)
{
    struct ingle_tv *tmp = ingle_tpl_alloc(run, (uint64_t)items->n * 2 * sizeof(tmp[0]));

    sort_span(run, items->item, keys->item, tmp, items->n, reverse);
}

static bool range_holds(const struct ingle_tv_range *range, struct ingle_tv v)
{
    uint32_t i;

    for (i = 0; i < range->n; i++) { /* at most INGLE_TPL_RANGE_MAX */
        if (compare_numbers(ingle_tv_int(range->start + (int64_t)i * range->step), v) == 0) {
            return true;
        }
    }
    return false;
}

bool ingle_tv_contains(struct ingle_tpl_run *run, struct ingle_tv seq, struct ingle_tv v)
{
    struct ingle_tv_iter *it;
    struct ingle_tv item;

    if (seq.kind == TV_STR) {
        if (v.kind != TV_STR) {
            ingle_tpl_fail(run, "'in <string>' requires string as left operand, not %s",
                           ingle_tv_type_name(v));
        }
        return ingle_tpl_find(run, seq, v, 0) != INGLE_TPL_NOT_FOUND;
    }
    if (seq.kind == TV_DICT || (seq.kind == TV_VIEW && seq.tag == TV_VIEW_KEYS)) {
        return ingle_tv_dict_get(run, seq.u.dict, v) != NULL;
    }
    if (seq.kind == TV_RANGE && ingle_tv_is_number(v)) {
        ingle_tpl_charge(run, seq.u.range->n / 16);
        return range_holds(seq.u.range, v);
    }
    if (!ingle_tv_iterable(seq)) {
        ingle_tpl_fail(run, "argument of type '%s' is not iterable", ingle_tv_type_name(seq));
    }
    it = ingle_tv_iterate(run, seq);
    while (ingle_tv_next(run, it, &item)) {
        if (same_or_equal(run, item, v)) {
            return true;
        }
    }
    return false;
}

/* ---- iteration ---- */

static bool next_none(struct ingle_tpl_run *run, struct ingle_tv_iter *it, struct ingle_tv *ret)
{
    (void)run;
    (void)it;
    (void)ret;
    return false;
}

static bool next_char(struct ingle_tpl_run *run, struct ingle_tv_iter *it, struct ingle_tv *ret)
{
    uint64_t from = it->at;

    (void)run;
    if (from >= it->source.bytes) {
        return false;
    }
    (void)ingle_tpl_cp(it->source.u.text, &it->at);
    *ret = ingle_tpl_part(it->source, from, it->at);
    ret->tag = 0; /* iterating a Markup yields plain characters */
    return true;
}

static bool next_item(struct ingle_tpl_run *run, struct ingle_tv_iter *it, struct ingle_tv *ret)
{
    (void)run;
    if (it->at >= it->source.u.list->n) {
        return false;
    }
    *ret = it->source.u.list->item[it->at++];
    return true;
}

static struct ingle_tv pair_part(struct ingle_tpl_run *run, const struct ingle_tv_pair *pair,
                                 enum ingle_tv_view view)
{
    if (view == TV_VIEW_ITEMS) {
        return ingle_tv_pair(run, pair->key, pair->value);
    }
    return view == TV_VIEW_KEYS ? pair->key : pair->value;
}

static bool next_pair(struct ingle_tpl_run *run, struct ingle_tv_iter *it, struct ingle_tv *ret)
{
    const struct ingle_tv_dict *dict = it->source.u.dict;

    if (it->at >= dict->n) {
        return false;
    }
    *ret = pair_part(run, &dict->pair[it->at++],
                     it->source.kind == TV_DICT ? TV_VIEW_KEYS : it->source.tag);
    return true;
}

static bool next_number(struct ingle_tpl_run *run, struct ingle_tv_iter *it, struct ingle_tv *ret)
{
    const struct ingle_tv_range *range = it->source.u.range;

    (void)run;
    if (it->at >= range->n) {
        return false;
    }
    *ret = ingle_tv_int(range->start + (int64_t)it->at++ * range->step);
    return true;
}

bool ingle_tv_iterable(struct ingle_tv v)
{
    return v.kind == TV_STR || v.kind == TV_LIST || v.kind == TV_TUPLE || v.kind == TV_DICT ||
           v.kind == TV_VIEW || v.kind == TV_RANGE || v.kind == TV_UNDEFINED || v.kind == TV_ITER;
}

struct ingle_tv_iter *ingle_tv_iterate(struct ingle_tpl_run *run, struct ingle_tv v)
{
    struct ingle_tv_iter *it;

    if (!ingle_tv_iterable(v)) {
        ingle_tpl_fail(run, "'%s' object is not iterable", ingle_tv_type_name(v));
    }
    if (v.kind == TV_ITER) {
        return v.u.iter;
    }
    it = ingle_tpl_alloc(run, sizeof(*it));
    it->source = v;
    it->type_name = "iterator";
    it->next = v.kind == TV_STR                          ? next_char
               : v.kind == TV_LIST || v.kind == TV_TUPLE ? next_item
               : v.kind == TV_DICT || v.kind == TV_VIEW  ? next_pair
               : v.kind == TV_RANGE                      ? next_number
                                                         : next_none;
    return it;
}

struct ingle_tv ingle_tv_collect(struct ingle_tpl_run *run, struct ingle_tv v)
{
    struct ingle_tv_iter *it = ingle_tv_iterate(run, v);
    struct ingle_tv list, item;

    list = ingle_tv_list_new(run, TV_LIST,
                             ingle_tv_has_length(v) && v.kind != TV_STR
                                 ? (uint32_t)ingle_tv_length(run, v)
                                 : 0);
    while (ingle_tv_next(run, it, &item)) {
        ingle_tv_list_add(run, list.u.list, item);
    }
    return list;
}

static bool next_backward(struct ingle_tpl_run *run, struct ingle_tv_iter *it, struct ingle_tv *ret)
{
    const struct ingle_tv_list *list = it->state;

    (void)run;
    if (it->at >= list->n) {
        return false;
    }
    *ret = list->item[list->n - 1 - it->at++];
    return true;
}

bool ingle_tv_reversed(struct ingle_tpl_run *run, struct ingle_tv v, struct ingle_tv *ret)
{
    struct ingle_tv_iter *it;

    if (!ingle_tv_iterable(v) || v.kind == TV_ITER) {
        return false;
    }
    it = ingle_tpl_alloc(run, sizeof(*it));
    it->next = next_backward;
    it->type_name = "reversed";
    it->state = ingle_tv_collect(run, v).u.list;
    *ret = (struct ingle_tv){.kind = TV_ITER, .u.iter = it};
    return true;
}

/* ---- items and slices ---- */

/* Python's index into n items: false = out of range. */
static bool index_in(int64_t i, uint64_t n, uint64_t *ret)
{
    if (i < 0) {
        i += (int64_t)n;
    }
    if (i < 0 || (uint64_t)i >= n) {
        return false;
    }
    *ret = (uint64_t)i;
    return true;
}

bool ingle_tv_item(struct ingle_tpl_run *run, struct ingle_tv v, struct ingle_tv key,
                   struct ingle_tv *ret)
{
    const struct ingle_tv *found;
    uint64_t at, from;

    if (v.kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(run, v);
    }
    if (v.kind == TV_DICT) {
        found = ingle_tv_hashable(run, key) ? ingle_tv_dict_get(run, v.u.dict, key) : NULL;
        if (found == NULL) {
            return false;
        }
        *ret = *found;
        return true;
    }
    if (!ingle_tv_is_whole(key) ||
        (v.kind != TV_LIST && v.kind != TV_TUPLE && v.kind != TV_STR && v.kind != TV_RANGE)) {
        return false;
    }
    if (!index_in(ingle_tv_whole(key), ingle_tv_length(run, v), &at)) {
        return false;
    }
    if (v.kind == TV_RANGE) {
        *ret = ingle_tv_int(v.u.range->start + (int64_t)at * v.u.range->step);
    } else if (v.kind == TV_STR) {
        from = ingle_tpl_char_at(v.u.text, v.bytes, at);
        at = from;
        (void)ingle_tpl_cp(v.u.text, &at);
        *ret = ingle_tpl_part(v, from, at);
    } else {
        *ret = v.u.list->item[at];
    }
    return true;
}

static bool slice_number(struct ingle_tpl_run *run, struct ingle_tv v, int64_t *ret)
{
    if (v.kind == TV_NONE || v.kind == TV_ABSENT) {
        return false;
    }
    if (!ingle_tv_is_whole(v)) {
        ingle_tpl_fail(run, "slice indices must be integers or None");
    }
    *ret = ingle_tv_whole(v);
    return true;
}

/* A bound of a slice over n items, clipped as Python clips it. */
static int64_t slice_bound(int64_t i, int64_t n, int64_t step)
{
    if (i < 0) {
        i = i < -n ? -1 : i + n;
        return i < 0 ? (step < 0 ? -1 : 0) : i;
    }
    if (i >= n) {
        return step < 0 ? n - 1 : n;
    }
    return i;
}

static struct ingle_tv slice_str(struct ingle_tpl_run *run, struct ingle_tv v, int64_t from,
                                 int64_t step, int64_t n)
{
    struct ingle_tpl_text text = {NULL, 0, 0};
    struct ingle_tv part;
    uint64_t at, end;
    int64_t i;

    at = ingle_tpl_char_at(v.u.text, v.bytes, (uint64_t)from);
    if (step == 1 || n == 0) {
        end = at + ingle_tpl_char_at(v.u.text + at, v.bytes - at, (uint64_t)n);
        return ingle_tpl_part(v, at, end);
    }
    for (i = 0; i < n; i++) {
        int64_t k;

        ingle_tpl_charge(run, 1 + (uint64_t)(step < 0 ? -(step + 1) : step) / 64);
        end = at;
        (void)ingle_tpl_cp(v.u.text, &end);
        ingle_tpl_put(run, &text, v.u.text + at, end - at);
        if (i + 1 == n) {
            break;
        }
        for (k = 0; k < step; k++) {
            (void)ingle_tpl_cp(v.u.text, &at);
        }
        for (k = 0; k > step; k--) {
            at = ingle_tpl_cp_before(v.u.text, at);
        }
    }
    part = ingle_tv_text(&text);
    part.tag = v.tag;
    return part;
}

struct ingle_tv ingle_tv_slice(struct ingle_tpl_run *run, struct ingle_tv v, struct ingle_tv start,
                               struct ingle_tv stop, struct ingle_tv step_value)
{
    int64_t n, from, to, step = 1, count = 0, i;
    struct ingle_tv list;

    if (v.kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(run, v);
    }
    if (v.kind != TV_STR && v.kind != TV_LIST && v.kind != TV_TUPLE && v.kind != TV_RANGE) {
        ingle_tpl_fail(run, "slicing a %s is not supported", ingle_tv_type_name(v));
    }
    if (slice_number(run, step_value, &step) && step == 0) {
        ingle_tpl_fail(run, "slice step cannot be zero");
    }
    if (step > INT32_MAX || step < -INT32_MAX || (v.kind == TV_RANGE && labs(step) > INT16_MAX)) {
        ingle_tpl_fail(run, "a slice step of %lld is not supported", (long long)step);
    }
    n = (int64_t)ingle_tv_length(run, v);
    from = slice_number(run, start, &from) ? slice_bound(from, n, step) : (step < 0 ? n - 1 : 0);
    to = slice_number(run, stop, &to) ? slice_bound(to, n, step) : (step < 0 ? -1 : n);
    if (step > 0 && from < to) {
        count = (to - from - 1) / step + 1;
    } else if (step < 0 && to < from) {
        count = (from - to - 1) / -step + 1;
    }
    if (v.kind == TV_STR) {
        ingle_tpl_charge_bytes(run, v.bytes);
        return slice_str(run, v, count == 0 ? 0 : from, step, count);
    }
    if (v.kind == TV_RANGE) {
        struct ingle_tv_range *range = ingle_tpl_alloc(run, sizeof(*range));

        range->start = v.u.range->start + from * v.u.range->step;
        range->stop = v.u.range->start + to * v.u.range->step;
        range->step = v.u.range->step * step;
        range->n = (uint32_t)count;
        return (struct ingle_tv){.kind = TV_RANGE, .u.range = range};
    }
    ingle_tpl_charge(run, (uint64_t)count);
    list = ingle_tv_list_new(run, v.kind, (uint32_t)count);
    for (i = 0; i < count; i++) {
        ingle_tv_list_add(run, list.u.list, v.u.list->item[from + i * step]);
    }
    return list;
}
