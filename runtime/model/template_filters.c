/* Owns the filters, and the calling of built-ins with Python's argument rules. Lazy where Jinja2
 * is: map, select, reject, items, unique, batch and slice yield as they are read. Thread: the
 * caller's.
 */
#include <math.h>

#include "runtime/model/template_builtin.h"
#include "runtime/model/template_text.h"

/* ---- calling ---- */

/* Which parameter is called `name`? 0 = none; 1 = the first of `params`. */
static uint32_t param_index(const char *params, struct ingle_tv name)
{
    uint32_t i = 1;
    size_t n;

    for (; *params != '\0'; i++) {
        n = strcspn(params, " ");
        if (name.bytes == n && memcmp(name.u.text, params, n) == 0) {
            return i;
        }
        params += n + (params[n] == ' ');
    }
    return 0;
}

static uint32_t param_count(const char *params)
{
    uint32_t n = *params != '\0';

    for (; *params != '\0'; params++) {
        n += *params == ' ';
    }
    return n;
}

struct ingle_tv ingle_tpl_builtin_call(struct ingle_tpl_run *run,
                                       const struct ingle_tpl_builtin *builtin,
                                       struct ingle_tv self, const struct ingle_tpl_args *args)
{
    struct ingle_tv a[1 + INGLE_TPL_PARAMS_MAX] = {{.kind = TV_ABSENT}};
    uint32_t n, i, at;

    if (builtin->call_any != NULL) {
        return builtin->call_any(run, self, args);
    }
    n = param_count(builtin->params);
    if (args->pos->n > n) {
        ingle_tpl_fail(run, "%s takes at most %u arguments, got %u", builtin->name, n,
                       args->pos->n);
    }
    a[0] = self;
    for (i = 0; i < args->pos->n; i++) {
        a[i + 1] = args->pos->item[i];
    }
    for (i = 0; i < args->named->n; i++) {
        struct ingle_tv name = args->named->pair[i].key;

        at = param_index(builtin->params, name);
        if (at == 0 || a[at].kind != TV_ABSENT) {
            ingle_tpl_fail(run, "%s: unexpected keyword argument '%.*s'", builtin->name,
                           name.bytes > 80 ? 80 : (int)name.bytes, name.u.text);
        }
        a[at] = args->named->pair[i].value;
    }
    for (i = 1; i <= builtin->n_required; i++) {
        if (a[i].kind == TV_ABSENT) {
            ingle_tpl_fail(run, "%s: argument %u is missing", builtin->name, i);
        }
    }
    return builtin->call(run, a);
}

/* ---- arguments ---- */

static int64_t whole_or(struct ingle_tpl_run *run, struct ingle_tv v, int64_t otherwise)
{
    if (v.kind == TV_ABSENT) {
        return otherwise;
    }
    if (!ingle_tv_is_whole(v)) {
        ingle_tpl_fail(run, "an integer is required, not %s", ingle_tv_type_name(v));
    }
    return ingle_tv_whole(v);
}

static bool flag(struct ingle_tpl_run *run, struct ingle_tv v)
{
    return v.kind != TV_ABSENT && ingle_tv_truth(run, v);
}

/* An attribute argument: "a.b.0" is a path of lookups, whose digits are integers. */
static struct ingle_tv get_path(struct ingle_tpl_run *run, struct ingle_tv v, struct ingle_tv path,
                                struct ingle_tv otherwise)
{
    struct ingle_tv part;
    uint32_t from = 0, to, i;
    int64_t number;
    bool digits;

    if (path.kind == TV_ABSENT || path.kind == TV_NONE) {
        return v;
    }
    if (path.kind != TV_STR) {
        v = ingle_tpl_getitem(run, v, path);
        return v.kind == TV_UNDEFINED && otherwise.kind > TV_NONE ? otherwise : v;
    }
    for (;; from = to + 1) {
        digits = true;
        number = 0;
        for (to = from; to < path.bytes && path.u.text[to] != '.'; to++) {
        }
        for (i = from; i < to && digits; i++) {
            digits = path.u.text[i] >= '0' && path.u.text[i] <= '9' && i - from < 18;
            number = digits ? number * 10 + (path.u.text[i] - '0') : 0;
        }
        part = digits && to > from ? ingle_tv_int(number) : ingle_tpl_part(path, from, to);
        part.tag = 0;
        v = ingle_tpl_getitem(run, v, part);
        if (v.kind == TV_UNDEFINED && otherwise.kind > TV_NONE) {
            v = otherwise;
        }
        if (to == path.bytes) {
            return v;
        }
    }
}

static struct ingle_tv ignore_case(struct ingle_tpl_run *run, struct ingle_tv v, bool sensitive)
{
    return v.kind == TV_STR && !sensitive ? ingle_tpl_recase(run, v, TPL_LOWER) : v;
}

static struct ingle_tv lazy(struct ingle_tpl_run *run,
                            bool (*next)(struct ingle_tpl_run *, struct ingle_tv_iter *,
                                         struct ingle_tv *),
                            struct ingle_tv source, void *state)
{
    struct ingle_tv_iter *it = ingle_tpl_alloc(run, sizeof(*it));

    it->next = next;
    it->type_name = "generator";
    it->source = source;
    it->state = state;
    return (struct ingle_tv){.kind = TV_ITER, .u.iter = it};
}

/* The iterator under a lazy filter, made on the first read: only then does Jinja2 look at it. */
static struct ingle_tv_iter *source_of(struct ingle_tpl_run *run, struct ingle_tv_iter *it)
{
    struct ingle_tv_iter *source;

    if (it->source.kind != TV_ITER) {
        source = ingle_tv_iterate(run, it->source);
        it->source = (struct ingle_tv){.kind = TV_ITER, .u.iter = source};
    }
    return it->source.u.iter;
}

/* ---- text ---- */

static struct ingle_tv f_upper(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tpl_recase(run, ingle_tv_soft_str(run, a[0]), TPL_UPPER);
}

static struct ingle_tv f_lower(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tpl_recase(run, ingle_tv_soft_str(run, a[0]), TPL_LOWER);
}

static struct ingle_tv f_capitalize(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tpl_recase(run, ingle_tv_soft_str(run, a[0]), TPL_CAPITALIZE);
}

static bool begins_word(uint32_t cp)
{
    return cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<' || ingle_tpl_is_space(cp);
}

/* Jinja2's own title: the first character of every word upper, the rest lower. */
static struct ingle_tv f_title(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv s = ingle_tv_soft_str(run, a[0]), piece;
    struct ingle_tpl_text text = {NULL, 0, 0};
    uint64_t at = 0, from, first;
    bool border;

    while (at < s.bytes) { /* runs of border characters and of others, alternating */
        from = at;
        border = begins_word(ingle_tpl_cp(s.u.text, &at));
        first = at;
        while (at < s.bytes) {
            uint64_t next = at;

            if (begins_word(ingle_tpl_cp(s.u.text, &next)) != border) {
                break;
            }
            at = next;
        }
        piece = ingle_tpl_recase(run, ingle_tpl_part(s, from, first), TPL_UPPER);
        ingle_tpl_put(run, &text, piece.u.text, piece.bytes);
        piece = ingle_tpl_recase(run, ingle_tpl_part(s, first, at), TPL_LOWER);
        ingle_tpl_put(run, &text, piece.u.text, piece.bytes);
    }
    return ingle_tv_text(&text);
}

static struct ingle_tv f_trim(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    if (a[1].kind != TV_ABSENT && a[1].kind != TV_NONE && a[1].kind != TV_STR) {
        ingle_tpl_fail(run, "trim: strip arg must be None or str");
    }
    return ingle_tpl_strip(run, ingle_tv_soft_str(run, a[0]), a[1], true, true);
}

static struct ingle_tv f_replace(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    int64_t count = a[3].kind == TV_NONE ? -1 : whole_or(run, a[3], -1);

    return ingle_tpl_replace(run, ingle_tv_to_str(run, a[0]), ingle_tv_to_str(run, a[1]),
                             ingle_tv_to_str(run, a[2]), count);
}

static struct ingle_tv f_string(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_soft_str(run, a[0]);
}

static struct ingle_tv f_escape(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_escape(run, a[0]);
}

static struct ingle_tv f_forceescape(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_escape(run, ingle_tv_to_str(run, a[0]));
}

static struct ingle_tv f_safe(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv v = ingle_tv_to_str(run, a[0]);

    v.tag = 1;
    return v;
}

static struct ingle_tv f_indent(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tpl_text text = {NULL, 0, 0};
    struct ingle_tv s = a[0], width = a[1], lines, done;
    uint32_t i;

    if (s.kind != TV_STR) {
        if (s.kind == TV_UNDEFINED) {
            ingle_tv_fail_undefined(run, s);
        }
        ingle_tpl_fail(run, "indent needs a str, not %s", ingle_tv_type_name(s));
    }
    if (width.kind != TV_STR) {
        width =
            ingle_tv_binary(run, '*', ingle_tv_str(" ", 1), ingle_tv_int(whole_or(run, width, 4)));
    }
    /* The lines of s + "\n": a last empty one counts where s ends with a line break. */
    lines = ingle_tpl_splitlines(
        run, ingle_tv_binary(run, '+', ingle_tv_to_str(run, s), ingle_tv_str("\n", 1)), false);
    for (i = 0; i < lines.u.list->n; i++) {
        struct ingle_tv line = lines.u.list->item[i];

        if (i > 0) {
            ingle_tpl_putc(run, &text, '\n');
        }
        if (i == 0 ? flag(run, a[2]) : line.bytes > 0 || flag(run, a[3])) {
            ingle_tpl_put(run, &text, width.u.text, width.bytes);
        }
        ingle_tpl_charge_bytes(run, line.bytes);
        ingle_tpl_put(run, &text, line.u.text, line.bytes);
    }
    done = ingle_tv_text(&text);
    done.tag = s.tag;
    return done;
}

static struct ingle_tv f_wordcount(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv s = ingle_tv_soft_str(run, a[0]);
    bool inside = false;
    int64_t n = 0;
    uint32_t i;

    ingle_tpl_charge_bytes(run, s.bytes);
    for (i = 0; i < s.bytes; i++) {
        char c = s.u.text[i], l = (char)(c | 32);
        bool word = (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '_';

        if ((unsigned char)c >= 0x80) {
            ingle_tpl_fail(run, "wordcount of non-ASCII text is not supported");
        }
        n += word && !inside;
        inside = word;
    }
    return ingle_tv_int(n);
}

static struct ingle_tv f_center(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv s = ingle_tv_soft_str(run, a[0]);
    struct ingle_tv method = ingle_tpl_getattr(run, s, ingle_tv_str("center", 6)), pos;
    struct ingle_tpl_args args = {NULL, ingle_tv_dict_new(run, TV_DICT).u.dict};

    pos = ingle_tv_list_new(run, TV_LIST, 1);
    ingle_tv_list_add(run, pos.u.list, ingle_tv_int(whole_or(run, a[1], 80)));
    args.pos = pos.u.list;
    return ingle_tpl_builtin_call(run, method.u.bound->method, s, &args);
}

static struct ingle_tv f_format(struct ingle_tpl_run *run, struct ingle_tv self,
                                const struct ingle_tpl_args *args)
{
    struct ingle_tv v = {.kind = TV_TUPLE, .u.list = args->pos};

    if (args->pos->n > 0 && args->named->n > 0) {
        ingle_tpl_fail(run, "format: cannot handle positional and keyword arguments together");
    }
    if (args->named->n > 0) {
        v = (struct ingle_tv){.kind = TV_DICT, .u.dict = args->named};
    }
    return ingle_tv_percent(run, ingle_tv_soft_str(run, self), v);
}

static struct ingle_tv f_truncate(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv s = a[0], end = a[3].kind == TV_ABSENT ? ingle_tv_str("...", 3) : a[3];
    int64_t length = whole_or(run, a[1], 255);
    int64_t leeway = a[4].kind == TV_NONE ? 5 : whole_or(run, a[4], 5);
    struct ingle_tv cut;
    int64_t keep;
    uint64_t at;

    keep = length - (int64_t)ingle_tv_length(run, end);
    if (keep < 0 || leeway < 0) {
        ingle_tpl_fail(run, "truncate: length or leeway is too small");
    }
    if ((int64_t)ingle_tv_length(run, s) <= length + leeway) {
        return s;
    }
    if (s.kind != TV_STR || end.kind != TV_STR) {
        ingle_tpl_fail(run, "truncate needs a str, not %s",
                       ingle_tv_type_name(s.kind != TV_STR ? s : end));
    }
    cut = ingle_tpl_part(s, 0, ingle_tpl_char_at(s.u.text, s.bytes, (uint64_t)keep));
    if (!flag(run, a[2])) {
        at = ingle_tpl_rfind(run, cut, ingle_tv_str(" ", 1));
        cut = at == INGLE_TPL_NOT_FOUND ? cut : ingle_tpl_part(cut, 0, at);
    }
    return ingle_tv_binary(run, '+', cut, end);
}

static struct ingle_tv f_tojson(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tpl_json_style style = {.ascii = flag(run, a[1]), .sort_keys = flag(run, a[4])};
    struct ingle_tpl_text text = {NULL, 0, 0};
    struct ingle_tv separators;

    style.indented = a[2].kind != TV_ABSENT && a[2].kind != TV_NONE;
    style.item_sep = style.indented ? ingle_tv_str(",", 1) : ingle_tv_str(", ", 2);
    style.key_sep = ingle_tv_str(": ", 2);
    if (style.indented) {
        style.indent = a[2].kind == TV_STR ? a[2]
                                           : ingle_tv_binary(run, '*', ingle_tv_str(" ", 1),
                                                             ingle_tv_int(whole_or(run, a[2], 0)));
    }
    if (a[3].kind != TV_ABSENT && a[3].kind != TV_NONE) {
        separators = ingle_tv_collect(run, a[3]);
        if (separators.u.list->n != 2 || separators.u.list->item[0].kind != TV_STR ||
            separators.u.list->item[1].kind != TV_STR) {
            ingle_tpl_fail(run, "tojson: separators must be two strings");
        }
        style.item_sep = separators.u.list->item[0];
        style.key_sep = separators.u.list->item[1];
    }
    ingle_tv_put_json(run, &text, a[0], &style);
    return ingle_tv_text(&text);
}

/* ---- numbers ---- */

static struct ingle_tv f_abs(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    if (a[0].kind == TV_FLOAT) {
        return ingle_tv_float(fabs(a[0].u.f));
    }
    if (!ingle_tv_is_whole(a[0])) {
        ingle_tpl_fail(run, "bad operand type for abs(): '%s'", ingle_tv_type_name(a[0]));
    }
    return ingle_tv_negate(run, a[0], ingle_tv_whole(a[0]) < 0);
}

static bool float_to_whole(struct ingle_tpl_run *run, double f, struct ingle_tv *ret)
{
    if (!isfinite(f)) {
        return false;
    }
    f = trunc(f);
    if (f >= 9223372036854775808.0 || f < -9223372036854775808.0) {
        ingle_tpl_fail(run, "an integer beyond 64 bits is not supported");
    }
    *ret = ingle_tv_int((int64_t)f);
    return true;
}

static struct ingle_tv f_int(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv otherwise = a[1].kind == TV_ABSENT ? ingle_tv_int(0) : a[1], v;
    int64_t base = whole_or(run, a[2], 10), i;
    double f;

    if (base != 0 && (base < 2 || base > 36)) {
        ingle_tpl_fail(run, "int: base must be 0 or between 2 and 36");
    }
    if (a[0].kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(run, a[0]);
    }
    if (ingle_tv_is_whole(a[0])) {
        return ingle_tv_int(ingle_tv_whole(a[0]));
    }
    if (a[0].kind == TV_STR) {
        if (ingle_tv_parse_int(run, a[0], (uint32_t)base, &i)) {
            return ingle_tv_int(i);
        }
        if (ingle_tv_parse_float(run, a[0], &f) && float_to_whole(run, f, &v)) {
            return v;
        }
    } else if (a[0].kind == TV_FLOAT) {
        if (isinf(a[0].u.f)) {
            ingle_tpl_fail(run, "cannot convert float infinity to integer");
        }
        if (float_to_whole(run, a[0].u.f, &v)) {
            return v;
        }
    }
    return otherwise;
}

static struct ingle_tv f_float(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    double f;

    if (a[0].kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(run, a[0]);
    }
    if (ingle_tv_is_number(a[0])) {
        return ingle_tv_float(ingle_tv_real(a[0]));
    }
    if (a[0].kind == TV_STR && ingle_tv_parse_float(run, a[0], &f)) {
        return ingle_tv_float(f);
    }
    return a[1].kind == TV_ABSENT ? ingle_tv_float(0.0) : a[1];
}

static struct ingle_tv f_round(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    int64_t digits = whole_or(run, a[1], 0);
    struct ingle_tv method = a[2], scale, v = ingle_tv_none();
    bool up;

    if (method.kind == TV_ABSENT || ingle_tv_is_str(method, "common")) {
        return ingle_tv_round(run, a[0], digits);
    }
    up = ingle_tv_is_str(method, "ceil");
    if (!up && !ingle_tv_is_str(method, "floor")) {
        ingle_tpl_fail(run, "round: method must be common, ceil or floor");
    }
    scale = ingle_tv_binary(run, 'P', ingle_tv_int(10), ingle_tv_int(digits));
    v = ingle_tv_binary(run, '*', a[0], scale);
    if (v.kind == TV_FLOAT && !float_to_whole(run, up ? ceil(v.u.f) : floor(v.u.f), &v)) {
        ingle_tpl_fail(run, "round: cannot convert infinity or nan to integer");
    }
    return ingle_tv_binary(run, '/', v, scale);
}

static struct ingle_tv f_sum(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv sum = a[2].kind == TV_ABSENT ? ingle_tv_int(0) : a[2], item;
    struct ingle_tv_iter *it = ingle_tv_iterate(run, a[0]);

    if (sum.kind == TV_STR) {
        ingle_tpl_fail(run, "sum() can't sum strings");
    }
    while (ingle_tv_next(run, it, &item)) {
        sum = ingle_tv_binary(run, '+', sum, get_path(run, item, a[1], ingle_tv_absent()));
    }
    return sum;
}

/* ---- collections ---- */

static struct ingle_tv f_length(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_int((int64_t)ingle_tv_length(run, a[0]));
}

static struct ingle_tv f_default(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    if (a[0].kind == TV_UNDEFINED || (flag(run, a[2]) && !ingle_tv_truth(run, a[0]))) {
        return a[1].kind == TV_ABSENT ? ingle_tv_str("", 0) : a[1];
    }
    return a[0];
}

static struct ingle_tv f_list(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tv_collect(run, a[0]);
}

static struct ingle_tv f_join(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv separator =
        a[1].kind == TV_ABSENT ? ingle_tv_str("", 0) : ingle_tv_to_str(run, a[1]);
    struct ingle_tv_iter *it = ingle_tv_iterate(run, a[0]);
    struct ingle_tpl_text text = {NULL, 0, 0};
    struct ingle_tv item;
    bool first = true;

    while (ingle_tv_next(run, it, &item)) {
        if (!first) {
            ingle_tpl_put(run, &text, separator.u.text, separator.bytes);
        }
        first = false;
        ingle_tv_put_str(run, &text, get_path(run, item, a[2], ingle_tv_absent()));
    }
    return ingle_tv_text(&text);
}

static struct ingle_tv f_first(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv item;

    if (!ingle_tv_next(run, ingle_tv_iterate(run, a[0]), &item)) {
        return ingle_tv_undefined_hint("No first item, sequence was empty.");
    }
    return item;
}

static struct ingle_tv f_last(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv backward, item;

    if (!ingle_tv_reversed(run, a[0], &backward)) {
        ingle_tpl_fail(run, "'%s' object is not reversible", ingle_tv_type_name(a[0]));
    }
    if (!ingle_tv_next(run, backward.u.iter, &item)) {
        return ingle_tv_undefined_hint("No last item, sequence was empty.");
    }
    return item;
}

static struct ingle_tv f_reverse(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv v, list;
    uint32_t i;

    if (a[0].kind == TV_STR) {
        return ingle_tv_slice(run, a[0], ingle_tv_none(), ingle_tv_none(), ingle_tv_int(-1));
    }
    if (ingle_tv_reversed(run, a[0], &v)) {
        return v;
    }
    list = ingle_tv_collect(run, a[0]);
    v = ingle_tv_list_new(run, TV_LIST, list.u.list->n);
    for (i = list.u.list->n; i-- > 0;) {
        ingle_tv_list_add(run, v.u.list, list.u.list->item[i]);
    }
    return v;
}

static bool next_pair_of(struct ingle_tpl_run *run, struct ingle_tv_iter *it, struct ingle_tv *ret)
{
    if (it->source.kind == TV_UNDEFINED) {
        return false;
    }
    if (it->source.kind == TV_DICT) {
        it->source.kind = TV_VIEW;
        it->source.tag = TV_VIEW_ITEMS;
    } else if (it->source.kind != TV_ITER) {
        ingle_tpl_fail(run, "Can only get item pairs from a mapping.");
    }
    return ingle_tv_next(run, source_of(run, it), ret);
}

static struct ingle_tv f_items(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    if (a[0].kind == TV_ITER) {
        ingle_tpl_fail(run, "Can only get item pairs from a mapping.");
    }
    return lazy(run, next_pair_of, a[0], NULL);
}

static struct ingle_tv f_dictsort(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    bool by_value = a[2].kind != TV_ABSENT && ingle_tv_is_str(a[2], "value");
    struct ingle_tv items, keys, key;
    uint32_t i;

    if (a[2].kind != TV_ABSENT && !by_value && !ingle_tv_is_str(a[2], "key")) {
        ingle_tpl_fail(run, "dictsort: can only sort by 'key' or 'value'");
    }
    if (a[0].kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(run, a[0]);
    }
    if (a[0].kind != TV_DICT) {
        ingle_tpl_fail(run, "dictsort needs a dict, not %s", ingle_tv_type_name(a[0]));
    }
    items = ingle_tv_list_new(run, TV_LIST, a[0].u.dict->n);
    keys = ingle_tv_list_new(run, TV_LIST, a[0].u.dict->n);
    for (i = 0; i < a[0].u.dict->n; i++) {
        const struct ingle_tv_pair *pair = &a[0].u.dict->pair[i];

        key = by_value ? pair->value : pair->key;
        ingle_tv_list_add(run, keys.u.list, ignore_case(run, key, flag(run, a[1])));
        ingle_tv_list_add(run, items.u.list, ingle_tv_pair(run, pair->key, pair->value));
    }
    ingle_tv_sort(run, items.u.list, keys.u.list, flag(run, a[3]));
    return items;
}

/* The key of sort: one value per comma-separated path, compared in order. */
static struct ingle_tv sort_key(struct ingle_tpl_run *run, struct ingle_tv item,
                                struct ingle_tv attribute, bool sensitive)
{
    struct ingle_tv key = ingle_tv_list_new(run, TV_LIST, 1), part;
    uint32_t from = 0, to;

    for (;; from = to + 1) {
        to = from;
        while (attribute.kind == TV_STR && to < attribute.bytes && attribute.u.text[to] != ',') {
            to++;
        }
        part = attribute.kind == TV_STR ? ingle_tpl_part(attribute, from, to) : attribute;
        part = get_path(run, item, part, ingle_tv_absent());
        ingle_tv_list_add(run, key.u.list, ignore_case(run, part, sensitive));
        if (attribute.kind != TV_STR || to == attribute.bytes) {
            return key;
        }
    }
}

static struct ingle_tv f_sort(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv items = ingle_tv_collect(run, a[0]), keys;
    uint32_t i;

    keys = ingle_tv_list_new(run, TV_LIST, items.u.list->n);
    for (i = 0; i < items.u.list->n; i++) {
        ingle_tv_list_add(run, keys.u.list,
                          sort_key(run, items.u.list->item[i], a[3], flag(run, a[2])));
    }
    ingle_tv_sort(run, items.u.list, keys.u.list, flag(run, a[1]));
    return items;
}

static struct ingle_tv extreme(struct ingle_tpl_run *run, const struct ingle_tv *a, const char *op)
{
    struct ingle_tv_iter *it = ingle_tv_iterate(run, a[0]);
    struct ingle_tv best = ingle_tv_absent(), best_key = best, item, key;

    while (ingle_tv_next(run, it, &item)) {
        key = ignore_case(run, get_path(run, item, a[2], ingle_tv_absent()), flag(run, a[1]));
        if (best.kind == TV_ABSENT || ingle_tv_ordered(run, op, key, best_key)) {
            best = item;
            best_key = key;
        }
    }
    return best.kind == TV_ABSENT
               ? ingle_tv_undefined_hint("No aggregated item, sequence was empty.")
               : best;
}

static struct ingle_tv f_min(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return extreme(run, a, "<");
}

static struct ingle_tv f_max(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return extreme(run, a, ">");
}

struct unique {
    struct ingle_tv_dict *seen;
    struct ingle_tv attribute;
    bool sensitive;
};

static bool next_unique(struct ingle_tpl_run *run, struct ingle_tv_iter *it, struct ingle_tv *ret)
{
    struct ingle_tv_iter *source = source_of(run, it);
    struct unique *unique = it->state;
    struct ingle_tv key;

    while (ingle_tv_next(run, source, ret)) {
        key = ignore_case(run, get_path(run, *ret, unique->attribute, ingle_tv_absent()),
                          unique->sensitive);
        if (ingle_tv_dict_get(run, unique->seen, key) == NULL) {
            ingle_tv_dict_put(run, unique->seen, key, ingle_tv_none());
            return true;
        }
    }
    return false;
}

static struct ingle_tv f_unique(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct unique *unique = ingle_tpl_alloc(run, sizeof(*unique));

    unique->seen = ingle_tv_dict_new(run, TV_DICT).u.dict;
    unique->sensitive = flag(run, a[1]);
    unique->attribute = a[2];
    return lazy(run, next_unique, a[0], unique);
}

struct batch {
    int64_t n;
    struct ingle_tv fill;
    struct ingle_tv_list *all; /* slice only */
};

static bool next_batch(struct ingle_tpl_run *run, struct ingle_tv_iter *it, struct ingle_tv *ret)
{
    struct ingle_tv list = ingle_tv_list_new(run, TV_LIST, 0), item;
    struct ingle_tv_iter *source = source_of(run, it);
    struct batch *batch = it->state;

    while (list.u.list->n != batch->n && ingle_tv_next(run, source, &item)) {
        ingle_tv_list_add(run, list.u.list, item);
    }
    if (list.u.list->n == 0) {
        return false;
    }
    while (batch->fill.kind > TV_NONE && list.u.list->n < batch->n) {
        ingle_tpl_charge(run, 1);
        ingle_tv_list_add(run, list.u.list, batch->fill);
    }
    *ret = list;
    return true;
}

static struct batch *batch_of(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct batch *batch = ingle_tpl_alloc(run, sizeof(*batch));

    batch->n = whole_or(run, a[1], 0);
    batch->fill = a[2];
    if (batch->n < 1) {
        ingle_tpl_fail(run, "batch and slice with a number below 1 are not supported");
    }
    return batch;
}

static struct ingle_tv f_batch(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return lazy(run, next_batch, a[0], batch_of(run, a));
}

static bool next_slice(struct ingle_tpl_run *run, struct ingle_tv_iter *it, struct ingle_tv *ret)
{
    struct batch *batch = it->state;
    int64_t each, extra, from, n;
    struct ingle_tv list;

    if (batch->all == NULL) {
        batch->all = ingle_tv_collect(run, it->source).u.list;
    }
    if ((int64_t)it->at >= batch->n) {
        return false;
    }
    each = batch->all->n / batch->n;
    extra = batch->all->n % batch->n;
    n = (int64_t)it->at++;
    from = n * each + (n < extra ? n : extra);
    list = ingle_tv_list_new(run, TV_LIST, 0);
    for (; list.u.list->n < each + (n < extra); from++) {
        ingle_tpl_charge(run, 1);
        ingle_tv_list_add(run, list.u.list, batch->all->item[from]);
    }
    if (batch->fill.kind > TV_NONE && n >= extra) {
        ingle_tv_list_add(run, list.u.list, batch->fill);
    }
    *ret = list;
    return true;
}

static struct ingle_tv f_slice(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return lazy(run, next_slice, a[0], batch_of(run, a));
}

static struct ingle_tv f_attr(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    ingle_tpl_fail(run, "filter attr on a %s is not supported", ingle_tv_type_name(a[0]));
}

/* ---- map, select and their kin ---- */

struct apply {
    const struct ingle_tpl_builtin *builtin; /* NULL: an attribute alone, or the item's truth */
    struct ingle_tpl_args args;
    struct ingle_tv attribute, otherwise;
    bool keep_when, started;
};

static struct ingle_tv rest_of(struct ingle_tpl_run *run, const struct ingle_tv_list *pos,
                               uint32_t from)
{
    struct ingle_tv rest = ingle_tv_list_new(run, TV_LIST, 0);

    for (; from < pos->n; from++) {
        ingle_tv_list_add(run, rest.u.list, pos->item[from]);
    }
    return rest;
}

static const struct ingle_tpl_builtin *named_builtin(struct ingle_tpl_run *run,
                                                     struct ingle_tv name, bool is_filter)
{
    const struct ingle_tpl_builtin *found = name.kind != TV_STR ? NULL
                                            : is_filter         ? ingle_tpl_filter_find(name)
                                                                : ingle_tpl_test_find(name);

    if (found == NULL || (found->call == NULL && found->call_any == NULL)) {
        ingle_tpl_fail(run, "%s '%.*s' %s", is_filter ? "filter" : "test",
                       name.kind != TV_STR ? 0
                       : name.bytes > 80   ? 80
                                           : (int)name.bytes,
                       name.kind != TV_STR ? "" : name.u.text,
                       found == NULL ? "is unknown" : "is not supported");
    }
    return found;
}

/* The source is looked at on the first read; an empty one asks for nothing. */
static bool apply_next(struct ingle_tpl_run *run, struct ingle_tv_iter *it, struct ingle_tv *ret)
{
    struct apply *apply = it->state;

    if (!apply->started) {
        apply->started = true;
        if (!ingle_tv_truth(run, it->source)) {
            it->source = ingle_tv_list_new(run, TV_LIST, 0);
        }
    }
    return ingle_tv_next(run, source_of(run, it), ret);
}

static bool next_mapped(struct ingle_tpl_run *run, struct ingle_tv_iter *it, struct ingle_tv *ret)
{
    struct apply *apply = it->state;

    if (!apply_next(run, it, ret)) {
        return false;
    }
    *ret = apply->builtin == NULL ? get_path(run, *ret, apply->attribute, apply->otherwise)
                                  : ingle_tpl_builtin_call(run, apply->builtin, *ret, &apply->args);
    return true;
}

static bool next_selected(struct ingle_tpl_run *run, struct ingle_tv_iter *it, struct ingle_tv *ret)
{
    struct apply *apply = it->state;
    struct ingle_tv v;

    while (apply_next(run, it, ret)) {
        v = get_path(run, *ret, apply->attribute, ingle_tv_absent());
        if (apply->builtin != NULL) {
            v = ingle_tpl_builtin_call(run, apply->builtin, v, &apply->args);
        }
        if (ingle_tv_truth(run, v) == apply->keep_when) {
            return true;
        }
    }
    return false;
}

static struct ingle_tv f_map(struct ingle_tpl_run *run, struct ingle_tv self,
                             const struct ingle_tpl_args *args)
{
    const struct ingle_tv *attribute = ingle_tv_dict_getz(run, args->named, "attribute");
    const struct ingle_tv *otherwise = ingle_tv_dict_getz(run, args->named, "default");
    struct apply *apply = ingle_tpl_alloc(run, sizeof(*apply));

    if (args->pos->n == 0) {
        if (attribute == NULL || args->named->n != 1u + (otherwise != NULL)) {
            ingle_tpl_fail(run, "map requires a filter, or attribute= and at most default=");
        }
        apply->attribute = *attribute;
        apply->otherwise = otherwise == NULL ? ingle_tv_absent() : *otherwise;
    } else {
        apply->builtin = named_builtin(run, args->pos->item[0], true);
        apply->args.pos = rest_of(run, args->pos, 1).u.list;
        apply->args.named = args->named;
    }
    return lazy(run, next_mapped, self, apply);
}

static struct ingle_tv select_by(struct ingle_tpl_run *run, struct ingle_tv self,
                                 const struct ingle_tpl_args *args, bool keep_when, bool by_attr)
{
    struct apply *apply = ingle_tpl_alloc(run, sizeof(*apply));
    uint32_t at = by_attr;

    if (by_attr) {
        if (args->pos->n == 0) {
            ingle_tpl_fail(run, "selectattr and rejectattr require an attribute");
        }
        apply->attribute = args->pos->item[0];
    }
    if (args->pos->n > at) {
        apply->builtin = named_builtin(run, args->pos->item[at], false);
        apply->args.pos = rest_of(run, args->pos, at + 1).u.list;
        apply->args.named = args->named;
    }
    apply->keep_when = keep_when;
    return lazy(run, next_selected, self, apply);
}

static struct ingle_tv f_select(struct ingle_tpl_run *run, struct ingle_tv self,
                                const struct ingle_tpl_args *args)
{
    return select_by(run, self, args, true, false);
}

static struct ingle_tv f_reject(struct ingle_tpl_run *run, struct ingle_tv self,
                                const struct ingle_tpl_args *args)
{
    return select_by(run, self, args, false, false);
}

static struct ingle_tv f_selectattr(struct ingle_tpl_run *run, struct ingle_tv self,
                                    const struct ingle_tpl_args *args)
{
    return select_by(run, self, args, true, true);
}

static struct ingle_tv f_rejectattr(struct ingle_tpl_run *run, struct ingle_tv self,
                                    const struct ingle_tpl_args *args)
{
    return select_by(run, self, args, false, true);
}

static const struct ingle_tpl_builtin filters[] = {
    {"abs", "", 0, f_abs, NULL},
    {"attr", "name", 1, f_attr, NULL},
    {"batch", "linecount fill_with", 1, f_batch, NULL},
    {"capitalize", "", 0, f_capitalize, NULL},
    {"center", "width", 0, f_center, NULL},
    {"count", "", 0, f_length, NULL},
    {"d", "default_value boolean", 0, f_default, NULL},
    {"default", "default_value boolean", 0, f_default, NULL},
    {"dictsort", "case_sensitive by reverse", 0, f_dictsort, NULL},
    {"e", "", 0, f_escape, NULL},
    {"escape", "", 0, f_escape, NULL},
    {"filesizeformat", "", 0, NULL, NULL},
    {"first", "", 0, f_first, NULL},
    {"float", "default", 0, f_float, NULL},
    {"forceescape", "", 0, f_forceescape, NULL},
    {"format", "", 0, NULL, f_format},
    {"groupby", "", 0, NULL, NULL},
    {"indent", "width first blank", 0, f_indent, NULL},
    {"int", "default base", 0, f_int, NULL},
    {"items", "", 0, f_items, NULL},
    {"join", "d attribute", 0, f_join, NULL},
    {"last", "", 0, f_last, NULL},
    {"length", "", 0, f_length, NULL},
    {"list", "", 0, f_list, NULL},
    {"lower", "", 0, f_lower, NULL},
    {"map", "", 0, NULL, f_map},
    {"max", "case_sensitive attribute", 0, f_max, NULL},
    {"min", "case_sensitive attribute", 0, f_min, NULL},
    {"pprint", "", 0, NULL, NULL},
    {"random", "", 0, NULL, NULL},
    {"reject", "", 0, NULL, f_reject},
    {"rejectattr", "", 0, NULL, f_rejectattr},
    {"replace", "old new count", 2, f_replace, NULL},
    {"reverse", "", 0, f_reverse, NULL},
    {"round", "precision method", 0, f_round, NULL},
    {"safe", "", 0, f_safe, NULL},
    {"select", "", 0, NULL, f_select},
    {"selectattr", "", 0, NULL, f_selectattr},
    {"slice", "slices fill_with", 1, f_slice, NULL},
    {"sort", "reverse case_sensitive attribute", 0, f_sort, NULL},
    {"string", "", 0, f_string, NULL},
    {"striptags", "", 0, NULL, NULL},
    {"sum", "attribute start", 0, f_sum, NULL},
    {"title", "", 0, f_title, NULL},
    {"tojson", "ensure_ascii indent separators sort_keys", 0, f_tojson, NULL},
    {"trim", "chars", 0, f_trim, NULL},
    {"truncate", "length killwords end leeway", 0, f_truncate, NULL},
    {"unique", "case_sensitive attribute", 0, f_unique, NULL},
    {"upper", "", 0, f_upper, NULL},
    {"urlencode", "", 0, NULL, NULL},
    {"urlize", "", 0, NULL, NULL},
    {"wordcount", "", 0, f_wordcount, NULL},
    {"wordwrap", "", 0, NULL, NULL},
    {"xmlattr", "", 0, NULL, NULL},
};

const struct ingle_tpl_builtin *ingle_tpl_filter_find(struct ingle_tv name)
{
    size_t i;

    for (i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
        if (ingle_tv_is_str(name, filters[i].name)) {
            return &filters[i];
        }
    }
    return NULL;
}
