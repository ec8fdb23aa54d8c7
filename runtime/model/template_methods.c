/* Owns attribute and item access with the rules of Jinja2's immutable sandbox, and the methods of
 * str, dict, list, tuple, loop and namespace values. Thread: the caller's. */
#include "runtime/model/template_builtin.h"
#include "runtime/model/template_text.h"

/* ---- str ---- */

static struct ingle_tv want_str(struct ingle_tpl_run *run, struct ingle_tv v)
{
    if (v.kind != TV_STR) {
        ingle_tpl_fail(run, "a method of str needs a str, not %s", ingle_tv_type_name(v));
    }
    return v;
}

static int64_t want_whole(struct ingle_tpl_run *run, struct ingle_tv v, int64_t otherwise)
{
    if (v.kind == TV_ABSENT) {
        return otherwise;
    }
    if (!ingle_tv_is_whole(v)) {
        ingle_tpl_fail(run, "an integer is required, not %s", ingle_tv_type_name(v));
    }
    return ingle_tv_whole(v);
}

static struct ingle_tv strip_by(struct ingle_tpl_run *run, const struct ingle_tv *a, bool left,
                                bool right)
{
    if (a[1].kind != TV_ABSENT && a[1].kind != TV_NONE) {
        (void)want_str(run, a[1]);
    }
    return ingle_tpl_strip(run, a[0], a[1], left, right);
}

static struct ingle_tv str_strip(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return strip_by(run, a, true, true);
}

static struct ingle_tv str_lstrip(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return strip_by(run, a, true, false);
}

static struct ingle_tv str_rstrip(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return strip_by(run, a, false, true);
}

static struct ingle_tv str_upper(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tpl_recase(run, a[0], TPL_UPPER);
}

static struct ingle_tv str_lower(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tpl_recase(run, a[0], TPL_LOWER);
}

static struct ingle_tv str_title(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tpl_recase(run, a[0], TPL_TITLE);
}

static struct ingle_tv str_capitalize(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tpl_recase(run, a[0], TPL_CAPITALIZE);
}

static struct ingle_tv str_swapcase(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tpl_recase(run, a[0], TPL_SWAP);
}

static void add_part(struct ingle_tpl_run *run, struct ingle_tv list, struct ingle_tv s,
                     uint64_t from, uint64_t to)
{
    ingle_tpl_charge(run, 1);
    ingle_tv_list_add(run, list.u.list, ingle_tpl_part(s, from, to));
}

static void reverse_list(struct ingle_tv_list *list)
{
    uint32_t i;

    for (i = 0; i < list->n / 2; i++) {
        struct ingle_tv tmp = list->item[i];

        list->item[i] = list->item[list->n - 1 - i];
        list->item[list->n - 1 - i] = tmp;
    }
}

/* Split at runs of white space, from the left. */
static struct ingle_tv split_space(struct ingle_tpl_run *run, struct ingle_tv s, int64_t max)
{
    struct ingle_tv list = ingle_tv_list_new(run, TV_LIST, 0), rest;
    uint64_t at = 0, from, before;

    ingle_tpl_charge_bytes(run, s.bytes);
    for (;;) {
        rest = ingle_tpl_strip(run, ingle_tpl_part(s, at, s.bytes), ingle_tv_none(), true, false);
        at = from = s.bytes - rest.bytes;
        if (at == s.bytes) {
            return list;
        }
        if (max-- == 0) {
            add_part(run, list, s, from, s.bytes);
            return list;
        }
        for (before = at; at < s.bytes; before = at) {
            if (ingle_tpl_is_space(ingle_tpl_cp(s.u.text, &at))) {
                at = before;
                break;
            }
        }
        add_part(run, list, s, from, at);
    }
}

static struct ingle_tv rsplit_space(struct ingle_tpl_run *run, struct ingle_tv s, int64_t max)
{
    struct ingle_tv list = ingle_tv_list_new(run, TV_LIST, 0);
    uint64_t to = s.bytes, from, at;

    ingle_tpl_charge_bytes(run, s.bytes);
    for (;;) {
        to = ingle_tpl_strip(run, ingle_tpl_part(s, 0, to), ingle_tv_none(), false, true).bytes;
        if (to == 0) {
            break;
        }
        if (max-- == 0) {
            add_part(run, list, s, 0, to);
            break;
        }
        for (from = to; from > 0; from = at) {
            uint64_t next = at = ingle_tpl_cp_before(s.u.text, from);

            if (ingle_tpl_is_space(ingle_tpl_cp(s.u.text, &next))) {
                break;
            }
        }
        add_part(run, list, s, from, to);
        to = from;
    }
    reverse_list(list.u.list);
    return list;
}

static struct ingle_tv split_by(struct ingle_tpl_run *run, const struct ingle_tv *a, bool right)
{
    struct ingle_tv list, s = a[0], sep = a[1];
    int64_t max = want_whole(run, a[2], -1);
    uint64_t at = 0, to = s.bytes, found;

    if (sep.kind == TV_ABSENT || sep.kind == TV_NONE) {
        return right ? rsplit_space(run, s, max) : split_space(run, s, max);
    }
    if (want_str(run, sep).bytes == 0) {
        ingle_tpl_fail(run, "empty separator");
    }
    list = ingle_tv_list_new(run, TV_LIST, 0);
    for (; max != 0; max--) {
        found = right ? ingle_tpl_rfind(run, ingle_tpl_part(s, 0, to), sep)
                      : ingle_tpl_find(run, s, sep, at);
        if (found == INGLE_TPL_NOT_FOUND) {
            break;
        }
        if (right) {
            add_part(run, list, s, found + sep.bytes, to);
            to = found;
        } else {
            add_part(run, list, s, at, found);
            at = found + sep.bytes;
        }
    }
    add_part(run, list, s, at, to);
    if (right) {
        reverse_list(list.u.list);
    }
    return list;
}

static struct ingle_tv str_split(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return split_by(run, a, false);
}

static struct ingle_tv str_rsplit(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return split_by(run, a, true);
}

static struct ingle_tv str_splitlines(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return ingle_tpl_splitlines(run, a[0], ingle_tv_truth(run, a[1]));
}

static struct ingle_tv partition_by(struct ingle_tpl_run *run, const struct ingle_tv *a, bool right)
{
    struct ingle_tv tuple = ingle_tv_list_new(run, TV_TUPLE, 3), s = a[0];
    uint64_t found, end;

    if (want_str(run, a[1]).bytes == 0) {
        ingle_tpl_fail(run, "empty separator");
    }
    found = right ? ingle_tpl_rfind(run, s, a[1]) : ingle_tpl_find(run, s, a[1], 0);
    end = found + a[1].bytes;
    if (found == INGLE_TPL_NOT_FOUND) {
        found = end = right ? 0 : s.bytes;
    }
    add_part(run, tuple, s, 0, found);
    add_part(run, tuple, s, found, end);
    add_part(run, tuple, s, end, s.bytes);
    return tuple;
}

static struct ingle_tv str_partition(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return partition_by(run, a, false);
}

static struct ingle_tv str_rpartition(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return partition_by(run, a, true);
}

/* s[start:end] of the methods that search; *ret_at: where it begins, in bytes. False: start lies
 * beyond the end, where not even an empty text is found. */
static bool window(struct ingle_tpl_run *run, const struct ingle_tv *a, struct ingle_tv *ret,
                   uint64_t *ret_at)
{
    int64_t n = (int64_t)ingle_tv_length(run, a[0]), start = 0, end = n;

    if (a[2].kind != TV_ABSENT && a[2].kind != TV_NONE) {
        start = want_whole(run, a[2], 0);
        start = start < 0 ? start + n : start;
        start = start < 0 ? 0 : start;
    }
    if (a[3].kind != TV_ABSENT && a[3].kind != TV_NONE) {
        end = want_whole(run, a[3], 0);
        end = end < 0 ? end + n : end;
        end = end < 0 ? 0 : end > n ? n : end;
    }
    if (start > end) {
        return false;
    }
    *ret_at = ingle_tpl_char_at(a[0].u.text, a[0].bytes, (uint64_t)start);
    *ret = ingle_tpl_part(a[0], *ret_at, ingle_tpl_char_at(a[0].u.text, a[0].bytes, (uint64_t)end));
    return true;
}

static bool affix(struct ingle_tpl_run *run, struct ingle_tv s, struct ingle_tv part, bool end)
{
    (void)want_str(run, part);
    return part.bytes <= s.bytes &&
           memcmp(end ? s.u.text + (s.bytes - part.bytes) : s.u.text, part.u.text, part.bytes) == 0;
}

static struct ingle_tv affix_of(struct ingle_tpl_run *run, const struct ingle_tv *a, bool end)
{
    struct ingle_tv part;
    uint64_t at;
    uint32_t i;

    if (!window(run, a, &part, &at)) {
        return ingle_tv_bool(false);
    }
    if (a[1].kind != TV_TUPLE) {
        return ingle_tv_bool(affix(run, part, a[1], end));
    }
    for (i = 0; i < a[1].u.list->n; i++) {
        if (affix(run, part, a[1].u.list->item[i], end)) {
            return ingle_tv_bool(true);
        }
    }
    return ingle_tv_bool(false);
}

static struct ingle_tv str_startswith(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return affix_of(run, a, false);
}

static struct ingle_tv str_endswith(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return affix_of(run, a, true);
}

static struct ingle_tv search(struct ingle_tpl_run *run, const struct ingle_tv *a, bool right)
{
    struct ingle_tv part;
    uint64_t at, found;

    (void)want_str(run, a[1]);
    if (!window(run, a, &part, &at)) {
        return ingle_tv_int(-1);
    }
    found = right ? ingle_tpl_rfind(run, part, a[1]) : ingle_tpl_find(run, part, a[1], 0);
    if (found == INGLE_TPL_NOT_FOUND) {
        return ingle_tv_int(-1);
    }
    ingle_tpl_charge_bytes(run, at + found);
    return ingle_tv_int((int64_t)ingle_tpl_chars(a[0].u.text, at + found));
}

static struct ingle_tv str_find(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return search(run, a, false);
}

static struct ingle_tv str_rfind(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return search(run, a, true);
}

static struct ingle_tv found_or_fail(struct ingle_tpl_run *run, struct ingle_tv at)
{
    if (at.u.i < 0) {
        ingle_tpl_fail(run, "substring not found");
    }
    return at;
}

static struct ingle_tv str_index(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return found_or_fail(run, search(run, a, false));
}

static struct ingle_tv str_rindex(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return found_or_fail(run, search(run, a, true));
}

static struct ingle_tv str_count(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv part;
    uint64_t at, n = 0;

    (void)want_str(run, a[1]);
    if (!window(run, a, &part, &at)) {
        return ingle_tv_int(0);
    }
    if (a[1].bytes == 0) {
        return ingle_tv_int((int64_t)ingle_tv_length(run, part) + 1);
    }
    for (at = 0; (at = ingle_tpl_find(run, part, a[1], at)) != INGLE_TPL_NOT_FOUND;
         at += a[1].bytes) {
        n++;
    }
    return ingle_tv_int((int64_t)n);
}

static struct ingle_tv str_replace(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tv new_text = want_str(run, a[2]);

    if (a[0].tag) {
        new_text = ingle_tv_escape(run, new_text);
    }
    return ingle_tpl_replace(run, a[0], want_str(run, a[1]), new_text, want_whole(run, a[3], -1));
}

static struct ingle_tv str_join(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    struct ingle_tpl_text text = {NULL, 0, 0};
    struct ingle_tv_iter *it = ingle_tv_iterate(run, a[1]);
    struct ingle_tv item, joined;
    uint64_t n = 0;

    while (ingle_tv_next(run, it, &item)) {
        if (n++ > 0) {
            ingle_tpl_put(run, &text, a[0].u.text, a[0].bytes);
        }
        if (a[0].tag) {
            item = ingle_tv_escape(run, item);
        } else if (item.kind != TV_STR) {
            ingle_tpl_fail(run, "sequence item %llu: expected str instance, %s found",
                           (unsigned long long)n - 1, ingle_tv_type_name(item));
        }
        ingle_tpl_charge_bytes(run, item.bytes);
        ingle_tpl_put(run, &text, item.u.text, item.bytes);
    }
    joined = ingle_tv_text(&text);
    joined.tag = a[0].tag;
    return joined;
}

static struct ingle_tv remove_affix(struct ingle_tpl_run *run, const struct ingle_tv *a, bool end)
{
    if (!affix(run, a[0], a[1], end)) {
        return a[0];
    }
    return end ? ingle_tpl_part(a[0], 0, a[0].bytes - a[1].bytes)
               : ingle_tpl_part(a[0], a[1].bytes, a[0].bytes);
}

static struct ingle_tv str_removeprefix(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return remove_affix(run, a, false);
}

static struct ingle_tv str_removesuffix(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return remove_affix(run, a, true);
}

/* Pad to a width in characters: `left` of every two parts of padding go to the left. */
static struct ingle_tv pad(struct ingle_tpl_run *run, const struct ingle_tv *a, int where)
{
    struct ingle_tv fill = a[2].kind == TV_ABSENT ? ingle_tv_str(" ", 1) : want_str(run, a[2]);
    int64_t n = (int64_t)ingle_tv_length(run, a[0]), width = want_whole(run, a[1], 0), left, i;
    struct ingle_tpl_text text = {NULL, 0, 0};
    struct ingle_tv done;
    uint64_t one = 0;

    if (fill.bytes > 0) {
        (void)ingle_tpl_cp(fill.u.text, &one);
    }
    if (one != fill.bytes || one == 0) {
        ingle_tpl_fail(run, "the fill character must be exactly one character long");
    }
    if (width <= n) {
        return a[0];
    }
    width -= n; /* of padding; str.center puts the odd one where CPython does */
    left = where < 0 ? 0 : where > 0 ? width : width / 2 + (width & (width + n) & 1);
    if (a[0].tag) {
        fill = ingle_tv_escape(run, fill);
    }
    for (i = 0; i <= width; i++) {
        if (i == left) {
            ingle_tpl_put(run, &text, a[0].u.text, a[0].bytes);
        }
        if (i < width) {
            ingle_tpl_charge(run, i % 64 == 0);
            ingle_tpl_put(run, &text, fill.u.text, fill.bytes);
        }
    }
    done = ingle_tv_text(&text);
    done.tag = a[0].tag;
    return done;
}

static struct ingle_tv str_ljust(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return pad(run, a, -1);
}

static struct ingle_tv str_rjust(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return pad(run, a, 1);
}

static struct ingle_tv str_center(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return pad(run, a, 0);
}

static struct ingle_tv str_isspace(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    uint64_t at = 0;

    ingle_tpl_charge_bytes(run, a[0].bytes);
    while (at < a[0].bytes) {
        if (!ingle_tpl_is_space(ingle_tpl_cp(a[0].u.text, &at))) {
            return ingle_tv_bool(false);
        }
    }
    return ingle_tv_bool(a[0].bytes > 0);
}

/* isdigit, isalpha, isalnum and the like, for ASCII; what lies beyond needs tables that no chat
 * template has asked for. */
static struct ingle_tv all_ascii(struct ingle_tpl_run *run, struct ingle_tv s, bool digits,
                                 bool letters)
{
    uint32_t i;

    ingle_tpl_charge_bytes(run, s.bytes);
    for (i = 0; i < s.bytes; i++) {
        char c = s.u.text[i], l = (char)(c | 32);

        if ((unsigned char)c >= 0x80) {
            ingle_tpl_fail(run, "isdigit, isalpha and isalnum of non-ASCII text are not supported");
        }
        if (!(digits && c >= '0' && c <= '9') && !(letters && l >= 'a' && l <= 'z')) {
            return ingle_tv_bool(false);
        }
    }
    return ingle_tv_bool(s.bytes > 0);
}

static struct ingle_tv str_isdigit(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return all_ascii(run, a[0], true, false);
}

static struct ingle_tv str_isalpha(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return all_ascii(run, a[0], false, true);
}

static struct ingle_tv str_isalnum(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return all_ascii(run, a[0], true, true);
}

static struct ingle_tv all_cased(struct ingle_tpl_run *run, struct ingle_tv s, bool upper)
{
    bool any = false;
    uint64_t at = 0;
    uint32_t cp;

    ingle_tpl_charge(run, s.bytes / 4);
    while (at < s.bytes) {
        cp = ingle_tpl_cp(s.u.text, &at);
        if (ingle_tpl_is_titlecase(cp) ||
            (upper ? ingle_tpl_is_lower(cp) : ingle_tpl_is_upper(cp))) {
            return ingle_tv_bool(false);
        }
        any = any || (upper ? ingle_tpl_is_upper(cp) : ingle_tpl_is_lower(cp));
    }
    return ingle_tv_bool(any);
}

static struct ingle_tv str_isupper(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return all_cased(run, a[0], true);
}

static struct ingle_tv str_islower(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    return all_cased(run, a[0], false);
}

static const struct ingle_tpl_builtin str_methods[] = {
    {"capitalize", "", 0, str_capitalize, NULL},
    {"casefold", "", 0, NULL, NULL},
    {"center", "width fillchar", 1, str_center, NULL},
    {"count", "sub start end", 1, str_count, NULL},
    {"encode", "", 0, NULL, NULL},
    {"endswith", "suffix start end", 1, str_endswith, NULL},
    {"expandtabs", "", 0, NULL, NULL},
    {"find", "sub start end", 1, str_find, NULL},
    {"format", "", 0, NULL, NULL},
    {"format_map", "", 0, NULL, NULL},
    {"index", "sub start end", 1, str_index, NULL},
    {"isalnum", "", 0, str_isalnum, NULL},
    {"isalpha", "", 0, str_isalpha, NULL},
    {"isascii", "", 0, NULL, NULL},
    {"isdecimal", "", 0, str_isdigit, NULL},
    {"isdigit", "", 0, str_isdigit, NULL},
    {"isidentifier", "", 0, NULL, NULL},
    {"islower", "", 0, str_islower, NULL},
    {"isnumeric", "", 0, str_isdigit, NULL},
    {"isprintable", "", 0, NULL, NULL},
    {"isspace", "", 0, str_isspace, NULL},
    {"istitle", "", 0, NULL, NULL},
    {"isupper", "", 0, str_isupper, NULL},
    {"join", "iterable", 1, str_join, NULL},
    {"ljust", "width fillchar", 1, str_ljust, NULL},
    {"lower", "", 0, str_lower, NULL},
    {"lstrip", "chars", 0, str_lstrip, NULL},
    {"maketrans", "", 0, NULL, NULL},
    {"partition", "sep", 1, str_partition, NULL},
    {"removeprefix", "prefix", 1, str_removeprefix, NULL},
    {"removesuffix", "suffix", 1, str_removesuffix, NULL},
    {"replace", "old new count", 2, str_replace, NULL},
    {"rfind", "sub start end", 1, str_rfind, NULL},
    {"rindex", "sub start end", 1, str_rindex, NULL},
    {"rjust", "width fillchar", 1, str_rjust, NULL},
    {"rpartition", "sep", 1, str_rpartition, NULL},
    {"rsplit", "sep maxsplit", 0, str_rsplit, NULL},
    {"rstrip", "chars", 0, str_rstrip, NULL},
    {"split", "sep maxsplit", 0, str_split, NULL},
    {"splitlines", "keepends", 0, str_splitlines, NULL},
    {"startswith", "prefix start end", 1, str_startswith, NULL},
    {"strip", "chars", 0, str_strip, NULL},
    {"swapcase", "", 0, str_swapcase, NULL},
    {"title", "", 0, str_title, NULL},
    {"translate", "", 0, NULL, NULL},
    {"upper", "", 0, str_upper, NULL},
    {"zfill", "", 0, NULL, NULL},
};

/* ---- dict, list, loop ---- */

static struct ingle_tv view(struct ingle_tv dict, enum ingle_tv_view what)
{
    return (struct ingle_tv){.kind = TV_VIEW, .tag = (uint8_t)what, .u.dict = dict.u.dict};
}

static struct ingle_tv dict_items(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return view(a[0], TV_VIEW_ITEMS);
}

static struct ingle_tv dict_keys(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return view(a[0], TV_VIEW_KEYS);
}

static struct ingle_tv dict_values(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return view(a[0], TV_VIEW_VALUES);
}

static struct ingle_tv dict_get(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    const struct ingle_tv *found = ingle_tv_dict_get(run, a[0].u.dict, a[1]);

    return found != NULL ? *found : a[2].kind == TV_ABSENT ? ingle_tv_none() : a[2];
}

static struct ingle_tv same(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    (void)run;
    return a[0]; /* copy(): nothing can be changed, so nothing need be copied */
}

static struct ingle_tv list_index(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    uint32_t i;

    for (i = 0; i < a[0].u.list->n; i++) {
        if (ingle_tv_equal(run, a[0].u.list->item[i], a[1])) {
            return ingle_tv_int(i);
        }
    }
    ingle_tpl_fail(run, "value is not in list");
}

static struct ingle_tv list_count(struct ingle_tpl_run *run, const struct ingle_tv *a)
{
    int64_t n = 0;
    uint32_t i;

    for (i = 0; i < a[0].u.list->n; i++) {
        n += ingle_tv_equal(run, a[0].u.list->item[i], a[1]);
    }
    return ingle_tv_int(n);
}

static struct ingle_tv loop_cycle(struct ingle_tpl_run *run, struct ingle_tv self,
                                  const struct ingle_tpl_args *args)
{
    if (args->pos->n == 0 || args->named->n > 0) {
        ingle_tpl_fail(run, "loop.cycle: no items for cycling given");
    }
    return args->pos->item[self.u.loop->at % args->pos->n];
}

static struct ingle_tv loop_changed(struct ingle_tpl_run *run, struct ingle_tv self,
                                    const struct ingle_tpl_args *args)
{
    struct ingle_tv now = {.kind = TV_TUPLE, .u.list = args->pos};
    bool changed =
        self.u.loop->changed.kind == TV_ABSENT || !ingle_tv_equal(run, self.u.loop->changed, now);

    if (args->named->n > 0) {
        ingle_tpl_fail(run, "loop.changed takes no keyword arguments");
    }
    if (changed) {
        self.u.loop->changed = now;
    }
    return ingle_tv_bool(changed);
}

static const struct ingle_tpl_builtin dict_methods[] = {
    {"items", "", 0, dict_items, NULL},   {"keys", "", 0, dict_keys, NULL},
    {"values", "", 0, dict_values, NULL}, {"get", "key default", 1, dict_get, NULL},
    {"copy", "", 0, same, NULL},          {"fromkeys", "", 0, NULL, NULL},
};
static const struct ingle_tpl_builtin list_methods[] = {
    {"index", "value", 1, list_index, NULL},
    {"count", "value", 1, list_count, NULL},
    {"copy", "", 0, same, NULL},
};
static const struct ingle_tpl_builtin tuple_methods[] = {
    {"index", "value", 1, list_index, NULL},
    {"count", "value", 1, list_count, NULL},
};
static const struct ingle_tpl_builtin loop_methods[] = {
    {"cycle", "", 0, NULL, loop_cycle},
    {"changed", "", 0, NULL, loop_changed},
};
/* Attributes that exist in Python and are reached by no template we know: refused by name. */
static const struct ingle_tpl_builtin number_methods[] = {
    {"real", "", 0, NULL, NULL},
    {"imag", "", 0, NULL, NULL},
    {"numerator", "", 0, NULL, NULL},
    {"denominator", "", 0, NULL, NULL},
    {"conjugate", "", 0, NULL, NULL},
    {"bit_length", "", 0, NULL, NULL},
    {"bit_count", "", 0, NULL, NULL},
    {"to_bytes", "", 0, NULL, NULL},
    {"from_bytes", "", 0, NULL, NULL},
    {"hex", "", 0, NULL, NULL},
    {"fromhex", "", 0, NULL, NULL},
    {"is_integer", "", 0, NULL, NULL},
    {"as_integer_ratio", "", 0, NULL, NULL},
};
static const struct ingle_tpl_builtin view_methods[] = {
    {"isdisjoint", "", 0, NULL, NULL},
    {"mapping", "", 0, NULL, NULL},
};
static const struct ingle_tpl_builtin range_methods[] = {
    {"start", "", 0, NULL, NULL}, {"stop", "", 0, NULL, NULL},  {"step", "", 0, NULL, NULL},
    {"index", "", 0, NULL, NULL}, {"count", "", 0, NULL, NULL},
};

static const struct ingle_tpl_builtin *find_in(const struct ingle_tpl_builtin *table, size_t n,
                                               struct ingle_tv name)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (ingle_tv_is_str(name, table[i].name)) {
            return &table[i];
        }
    }
    return NULL;
}
#define FIND_IN(table, name) find_in(table, sizeof(table) / sizeof((table)[0]), name)

static const struct ingle_tpl_builtin *method_of(struct ingle_tv v, struct ingle_tv name)
{
    switch ((enum ingle_tv_kind)v.kind) {
    case TV_STR:
        return FIND_IN(str_methods, name);
    case TV_DICT:
        return FIND_IN(dict_methods, name);
    case TV_LIST:
        return FIND_IN(list_methods, name);
    case TV_TUPLE:
        return FIND_IN(tuple_methods, name);
    case TV_LOOP:
        return FIND_IN(loop_methods, name);
    case TV_BOOL:
    case TV_INT:
    case TV_FLOAT:
        return FIND_IN(number_methods, name);
    case TV_VIEW:
        return FIND_IN(view_methods, name);
    case TV_RANGE:
        return FIND_IN(range_methods, name);
    case TV_ABSENT:
    case TV_UNDEFINED:
    case TV_NONE:
    case TV_ITER:
    case TV_NAMESPACE:
    case TV_MACRO:
    case TV_METHOD:
    case TV_FUNCTION:
        break;
    }
    return NULL;
}

/* Methods that would change a value: the sandbox makes them undefined. */
static bool modifies(struct ingle_tv v, struct ingle_tv name)
{
    static const char *const of_dict[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    static const char *const of_list[] = {"append", "clear",  "pop",    "reverse", "insert",
                                          "sort",   "extend", "remove", NULL};
    const char *const *names = v.kind == TV_DICT   ? of_dict
                               : v.kind == TV_LIST ? of_list
                                                   : of_dict + 5;

    for (; *names != NULL; names++) {
        if (ingle_tv_is_str(name, *names)) {
            return true;
        }
    }
    return false;
}

static bool loop_attr(struct ingle_tv v, struct ingle_tv name, struct ingle_tv *ret)
{
    const struct ingle_tv_loop *loop = v.u.loop;
    uint32_t n = loop->items->n, at = loop->at;

    if (ingle_tv_is_str(name, "index0")) {
        *ret = ingle_tv_int(at);
    } else if (ingle_tv_is_str(name, "index")) {
        *ret = ingle_tv_int((int64_t)at + 1);
    } else if (ingle_tv_is_str(name, "first")) {
        *ret = ingle_tv_bool(at == 0);
    } else if (ingle_tv_is_str(name, "last")) {
        *ret = ingle_tv_bool(at + 1 == n);
    } else if (ingle_tv_is_str(name, "length")) {
        *ret = ingle_tv_int(n);
    } else if (ingle_tv_is_str(name, "revindex")) {
        *ret = ingle_tv_int((int64_t)n - at);
    } else if (ingle_tv_is_str(name, "revindex0")) {
        *ret = ingle_tv_int((int64_t)n - at - 1);
    } else if (ingle_tv_is_str(name, "previtem")) {
        *ret = at > 0 ? loop->items->item[at - 1]
                      : ingle_tv_undefined_hint("there is no previous item");
    } else if (ingle_tv_is_str(name, "nextitem")) {
        *ret = at + 1 < n ? loop->items->item[at + 1]
                          : ingle_tv_undefined_hint("there is no next item");
    } else if (ingle_tv_is_str(name, "depth")) {
        *ret = ingle_tv_int(1);
    } else if (ingle_tv_is_str(name, "depth0")) {
        *ret = ingle_tv_int(0);
    } else {
        return false;
    }
    return true;
}

/* Python's getattr(v, name), as far as the sandbox lets it through. */
static bool attribute(struct ingle_tpl_run *run, struct ingle_tv v, struct ingle_tv name,
                      struct ingle_tv *ret)
{
    const struct ingle_tpl_builtin *method;
    const struct ingle_tv *member;
    struct ingle_tv_bound *bound;

    if (v.kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(run, v);
    }
    if (v.kind == TV_NAMESPACE) {
        member = ingle_tv_dict_get(run, v.u.dict, name);
        if (member != NULL) {
            *ret = *member;
        }
        return member != NULL;
    }
    if (name.bytes >= 2 && memcmp(name.u.text, "__", 2) == 0) {
        ingle_tpl_fail(run, "access to attribute '%.*s' is not supported",
                       name.bytes > 80 ? 80 : (int)name.bytes, name.u.text);
    }
    if (v.kind == TV_LOOP && loop_attr(v, name, ret)) {
        return true;
    }
    if (modifies(v, name)) {
        *ret = ingle_tv_undefined_hint("a method that would modify a value is not allowed");
        return true;
    }
    method = method_of(v, name);
    if (method == NULL) {
        if (v.kind == TV_MACRO || v.kind == TV_ITER || v.kind == TV_METHOD ||
            v.kind == TV_FUNCTION) {
            ingle_tpl_fail(run, "attribute '%.*s' of a %s is not supported",
                           name.bytes > 80 ? 80 : (int)name.bytes, name.u.text,
                           ingle_tv_type_name(v));
        }
        return false;
    }
    if (method->call == NULL && method->call_any == NULL) {
        ingle_tpl_fail(run, "attribute '%s' of a %s is not supported", method->name,
                       ingle_tv_type_name(v));
    }
    bound = ingle_tpl_alloc(run, sizeof(*bound));
    bound->self = v;
    bound->method = method;
    *ret = (struct ingle_tv){.kind = TV_METHOD, .u.bound = bound};
    return true;
}

struct ingle_tv ingle_tpl_getattr(struct ingle_tpl_run *run, struct ingle_tv v,
                                  struct ingle_tv name)
{
    struct ingle_tv found;

    if (attribute(run, v, name, &found) || ingle_tv_item(run, v, name, &found)) {
        return found;
    }
    return ingle_tv_no_attr(run, v, name);
}

struct ingle_tv ingle_tpl_getitem(struct ingle_tpl_run *run, struct ingle_tv v, struct ingle_tv key)
{
    struct ingle_tv found;

    if (ingle_tv_item(run, v, key, &found) ||
        (key.kind == TV_STR && attribute(run, v, key, &found))) {
        return found;
    }
    return ingle_tv_no_attr(run, v, key);
}
