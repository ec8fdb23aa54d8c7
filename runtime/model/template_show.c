/* Owns the text forms of values: str(), repr(), JSON, HTML escapes, and reading numbers from text,
 * each as Python does it. Thread: the caller's. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/model/template_text.h"

/* The shortest digits that read back as f, Python's repr(float). 15 digits always survive the way
 * from decimal to double and back, so only 16 and 17 need a look; at a power of two the nearest 16
 * digits may miss while their neighbour hits. */
static void shortest_digits(double f, char *digits, int *ret_exp10)
{
    char text[40], next[40];
    int precision, i, n = 0;
    char *e;

    /* Below the normal range fewer digits may do. */
    for (precision = f < 0x1p-1022 ? 0 : 14; precision <= 16; precision++) {
        (void)snprintf(text, sizeof(text), "%.*e", precision, f);
        if (strtod(text, NULL) == f) {
            break;
        }
        if (precision == 15) {
            memcpy(next, text, sizeof(next));
            e = strchr(next, 'e');
            if (e[-1] != '9') {
                e[-1]++;
                if (strtod(next, NULL) == f) {
                    memcpy(text, next, sizeof(text));
                    break;
                }
            }
        }
    }
    e = strchr(text, 'e');
    *ret_exp10 = (int)strtol(e + 1, NULL, 10);
    for (i = 0; text + i < e; i++) {
        if (isdigit((unsigned char)text[i])) {
            digits[n++] = text[i];
        }
    }
    while (n > 1 && digits[n - 1] == '0') {
        n--;
    }
    digits[n] = '\0';
}

void ingle_tv_put_float(struct ingle_tpl_run *run, struct ingle_tpl_text *text, double f)
{
    char digits[40] = "";
    int exp10, n, i;

    if (isnan(f)) {
        ingle_tpl_putz(run, text, "nan");
        return;
    }
    if (signbit(f)) {
        ingle_tpl_putc(run, text, '-');
        f = -f;
    }
    if (isinf(f)) {
        ingle_tpl_putz(run, text, "inf");
        return;
    }
    shortest_digits(f, digits, &exp10);
    n = (int)strlen(digits);
    if (exp10 < -4 || exp10 >= 16) {
        ingle_tpl_putc(run, text, digits[0]);
        if (n > 1) {
            ingle_tpl_putc(run, text, '.');
            ingle_tpl_putz(run, text, digits + 1);
        }
        ingle_tpl_putf(run, text, "e%c%02d", exp10 < 0 ? '-' : '+', abs(exp10));
        return;
    }
    if (exp10 < 0) {
        ingle_tpl_putz(run, text, "0.");
        for (i = -1; i > exp10; i--) {
            ingle_tpl_putc(run, text, '0');
        }
        ingle_tpl_putz(run, text, digits);
        return;
    }
    for (i = 0; i <= exp10; i++) {
        ingle_tpl_put(run, text, i < n ? digits + i : "0", 1);
    }
    ingle_tpl_putc(run, text, '.');
    ingle_tpl_putz(run, text, n > exp10 + 1 ? digits + exp10 + 1 : "0");
}

static void put_repr_str(struct ingle_tpl_run *run, struct ingle_tpl_text *text, struct ingle_tv v)
{
    bool single = memchr(v.u.text, '\'', v.bytes) != NULL;
    bool twofold = memchr(v.u.text, '"', v.bytes) != NULL;
    char quote = single && !twofold ? '"' : '\'';
    uint64_t at = 0, from;
    uint32_t cp;

    if (v.tag) {
        ingle_tpl_putz(run, text, "Markup(");
    }
    ingle_tpl_charge_bytes(run, v.bytes);
    ingle_tpl_putc(run, text, quote);
    while (at < v.bytes) {
        from = at;
        cp = ingle_tpl_cp(v.u.text, &at);
        if (cp == '\\' || cp == (uint32_t)quote) {
            ingle_tpl_putc(run, text, '\\');
            ingle_tpl_putc(run, text, (char)cp);
        } else if (cp == '\n' || cp == '\r' || cp == '\t') {
            ingle_tpl_putz(run, text, cp == '\n' ? "\\n" : cp == '\r' ? "\\r" : "\\t");
        } else if (ingle_tpl_is_printable(cp)) {
            ingle_tpl_put(run, text, v.u.text + from, at - from);
        } else if (cp < 0x100) {
            ingle_tpl_putf(run, text, "\\x%02x", cp);
        } else if (cp < 0x10000) {
            ingle_tpl_putf(run, text, "\\u%04x", cp);
        } else {
            ingle_tpl_putf(run, text, "\\U%08x", cp);
        }
    }
    ingle_tpl_putc(run, text, quote);
    if (v.tag) {
        ingle_tpl_putc(run, text, ')');
    }
}

static void put_repr_dict(struct ingle_tpl_run *run, struct ingle_tpl_text *text,
                          const struct ingle_tv_dict *dict)
{
    uint32_t i;

    ingle_tpl_putc(run, text, '{');
    for (i = 0; i < dict->n; i++) {
        if (i > 0) {
            ingle_tpl_putz(run, text, ", ");
        }
        ingle_tv_put_repr(run, text, dict->pair[i].key);
        ingle_tpl_putz(run, text, ": ");
        ingle_tv_put_repr(run, text, dict->pair[i].value);
    }
    ingle_tpl_putc(run, text, '}');
}

static void put_repr_items(struct ingle_tpl_run *run, struct ingle_tpl_text *text,
                           struct ingle_tv v, const char *open, const char *close)
{
    struct ingle_tv_iter *it = ingle_tv_iterate(run, v);
    struct ingle_tv item;
    bool first = true;

    ingle_tpl_putz(run, text, open);
    while (ingle_tv_next(run, it, &item)) {
        if (!first) {
            ingle_tpl_putz(run, text, ", ");
        }
        first = false;
        ingle_tv_put_repr(run, text, item);
    }
    ingle_tpl_putz(run, text, close);
}

void ingle_tv_put_repr(struct ingle_tpl_run *run, struct ingle_tpl_text *text, struct ingle_tv v)
{
    ingle_tpl_charge(run, 1);
    ingle_tpl_enter(run);
    switch ((enum ingle_tv_kind)v.kind) {
    case TV_STR:
        put_repr_str(run, text, v);
        break;
    case TV_UNDEFINED:
        ingle_tpl_putz(run, text, "Undefined");
        break;
    case TV_NONE:
        ingle_tpl_putz(run, text, "None");
        break;
    case TV_BOOL:
        ingle_tpl_putz(run, text, v.u.b ? "True" : "False");
        break;
    case TV_INT:
        ingle_tpl_putf(run, text, "%lld", (long long)v.u.i);
        break;
    case TV_FLOAT:
        ingle_tv_put_float(run, text, v.u.f);
        break;
    case TV_LIST:
        put_repr_items(run, text, v, "[", "]");
        break;
    case TV_TUPLE:
        put_repr_items(run, text, v, "(", v.u.list->n == 1 ? ",)" : ")");
        break;
    case TV_DICT:
        put_repr_dict(run, text, v.u.dict);
        break;
    case TV_VIEW:
        ingle_tpl_putz(run, text, ingle_tv_type_name(v));
        put_repr_items(run, text, v, "([", "])");
        break;
    case TV_RANGE:
        ingle_tpl_putf(run, text, "range(%lld, %lld", (long long)v.u.range->start,
                       (long long)v.u.range->stop);
        if (v.u.range->step != 1) {
            ingle_tpl_putf(run, text, ", %lld", (long long)v.u.range->step);
        }
        ingle_tpl_putc(run, text, ')');
        break;
    case TV_NAMESPACE:
        ingle_tpl_putz(run, text, "<Namespace ");
        put_repr_dict(run, text, v.u.dict);
        ingle_tpl_putc(run, text, '>');
        break;
    case TV_LOOP:
        ingle_tpl_putf(run, text, "<LoopContext %u/%u>", v.u.loop->at + 1, v.u.loop->items->n);
        break;
    case TV_MACRO:
        ingle_tpl_putz(run, text, "<Macro ");
        if (v.u.macro->name.kind == TV_STR) {
            put_repr_str(run, text, v.u.macro->name);
        } else {
            ingle_tpl_putz(run, text, "anonymous"); /* of {% call %} */
        }
        ingle_tpl_putc(run, text, '>');
        break;
    case TV_ABSENT:
    case TV_ITER:
    case TV_METHOD:
    case TV_FUNCTION:
        ingle_tpl_fail(run, "printing a %s is not supported", ingle_tv_type_name(v));
    }
    ingle_tpl_leave(run);
}

void ingle_tv_put_str(struct ingle_tpl_run *run, struct ingle_tpl_text *text, struct ingle_tv v)
{
    if (v.kind == TV_STR) {
        ingle_tpl_charge_bytes(run, v.bytes);
        ingle_tpl_put(run, text, v.u.text, v.bytes);
    } else if (v.kind != TV_UNDEFINED) {
        ingle_tv_put_repr(run, text, v);
    }
}

struct ingle_tv ingle_tv_soft_str(struct ingle_tpl_run *run, struct ingle_tv v)
{
    struct ingle_tpl_text text = {NULL, 0, 0};

    if (v.kind == TV_STR) {
        return v;
    }
    ingle_tv_put_str(run, &text, v);
    return ingle_tv_text(&text);
}

struct ingle_tv ingle_tv_to_str(struct ingle_tpl_run *run, struct ingle_tv v)
{
    v = ingle_tv_soft_str(run, v);
    v.tag = 0;
    return v;
}

struct ingle_tv ingle_tv_escape(struct ingle_tpl_run *run, struct ingle_tv v)
{
    struct ingle_tpl_text text = {NULL, 0, 0};
    struct ingle_tv done;
    uint32_t i;

    if (v.kind == TV_STR && v.tag) {
        return v;
    }
    v = ingle_tv_to_str(run, v);
    ingle_tpl_charge_bytes(run, v.bytes);
    for (i = 0; i < v.bytes; i++) {
        char c = v.u.text[i];

        switch (c) {
        case '&':
            ingle_tpl_putz(run, &text, "&amp;");
            break;
        case '<':
            ingle_tpl_putz(run, &text, "&lt;");
            break;
        case '>':
            ingle_tpl_putz(run, &text, "&gt;");
            break;
        case '\'':
            ingle_tpl_putz(run, &text, "&#39;");
            break;
        case '"':
            ingle_tpl_putz(run, &text, "&#34;");
            break;
        default:
            ingle_tpl_putc(run, &text, c);
            break;
        }
    }
    done = ingle_tv_text(&text);
    done.tag = 1;
    return done;
}

/* ---- JSON ---- */

static void put_json_str(struct ingle_tpl_run *run, struct ingle_tpl_text *text, struct ingle_tv v,
                         bool ascii)
{
    uint64_t at = 0, from;
    uint32_t cp;

    ingle_tpl_charge_bytes(run, v.bytes);
    ingle_tpl_putc(run, text, '"');
    while (at < v.bytes) {
        static const char named[] = "\b\f\n\r\t\"\\", names[] = "bfnrt\"\\";
        const char *name;

        from = at;
        cp = ingle_tpl_cp(v.u.text, &at);
        name = cp != 0 && cp < 0x80 ? strchr(named, (int)cp) : NULL;
        if (name != NULL) {
            ingle_tpl_putc(run, text, '\\');
            ingle_tpl_putc(run, text, names[name - named]);
        } else if (cp < 0x20 || (ascii && cp >= 0x7f && cp < 0x10000)) {
            ingle_tpl_putf(run, text, "\\u%04x", cp);
        } else if (ascii && cp >= 0x10000) {
            ingle_tpl_putf(run, text, "\\u%04x\\u%04x", 0xd800 + ((cp - 0x10000) >> 10),
                           0xdc00 + ((cp - 0x10000) & 0x3ff));
        } else {
            ingle_tpl_put(run, text, v.u.text + from, at - from);
        }
    }
    ingle_tpl_putc(run, text, '"');
}

static void put_json_float(struct ingle_tpl_run *run, struct ingle_tpl_text *text, double f)
{
    if (isnan(f)) {
        ingle_tpl_putz(run, text, "NaN");
    } else if (isinf(f)) {
        ingle_tpl_putz(run, text, f < 0 ? "-Infinity" : "Infinity");
    } else {
        ingle_tv_put_float(run, text, f);
    }
}

static void put_json_at(struct ingle_tpl_run *run, struct ingle_tpl_text *text, struct ingle_tv v,
                        const struct ingle_tpl_json_style *style, uint32_t level);

static void json_newline(struct ingle_tpl_run *run, struct ingle_tpl_text *text,
                         const struct ingle_tpl_json_style *style, uint32_t level)
{
    if (style->indented) {
        ingle_tpl_putc(run, text, '\n');
        while (level-- > 0) {
            ingle_tpl_put(run, text, style->indent.u.text, style->indent.bytes);
        }
    }
}

static void put_json_key(struct ingle_tpl_run *run, struct ingle_tpl_text *text,
                         struct ingle_tv key, bool ascii)
{
    struct ingle_tpl_text plain = {NULL, 0, 0};

    if (key.kind == TV_STR) {
        put_json_str(run, text, key, ascii);
        return;
    }
    if (key.kind == TV_FLOAT) {
        put_json_float(run, &plain, key.u.f);
    } else if (key.kind == TV_BOOL) {
        ingle_tpl_putz(run, &plain, key.u.b ? "true" : "false");
    } else if (key.kind == TV_NONE) {
        ingle_tpl_putz(run, &plain, "null");
    } else if (key.kind == TV_INT) {
        ingle_tv_put_repr(run, &plain, key);
    } else {
        ingle_tpl_fail(run, "keys must be str, int, float, bool or None, not %s",
                       ingle_tv_type_name(key));
    }
    put_json_str(run, text, ingle_tv_text(&plain), ascii);
}

static void put_json_dict(struct ingle_tpl_run *run, struct ingle_tpl_text *text,
                          const struct ingle_tv_dict *dict,
                          const struct ingle_tpl_json_style *style, uint32_t level)
{
    struct ingle_tv keys, values;
    uint32_t i;

    if (dict->n == 0) {
        ingle_tpl_putz(run, text, "{}");
        return;
    }
    keys = ingle_tv_list_new(run, TV_LIST, dict->n);
    values = ingle_tv_list_new(run, TV_LIST, dict->n);
    for (i = 0; i < dict->n; i++) {
        ingle_tv_list_add(run, keys.u.list, dict->pair[i].key);
        ingle_tv_list_add(run, values.u.list, dict->pair[i].value);
    }
    if (style->sort_keys) {
        ingle_tv_sort(run, values.u.list, keys.u.list, false);
    }
    ingle_tpl_putc(run, text, '{');
    for (i = 0; i < dict->n; i++) {
        if (i > 0) {
            ingle_tpl_put(run, text, style->item_sep.u.text, style->item_sep.bytes);
        }
        json_newline(run, text, style, level + 1);
        put_json_key(run, text, keys.u.list->item[i], style->ascii);
        ingle_tpl_put(run, text, style->key_sep.u.text, style->key_sep.bytes);
        put_json_at(run, text, values.u.list->item[i], style, level + 1);
    }
    json_newline(run, text, style, level);
    ingle_tpl_putc(run, text, '}');
}

static void put_json_at(struct ingle_tpl_run *run, struct ingle_tpl_text *text, struct ingle_tv v,
                        const struct ingle_tpl_json_style *style, uint32_t level)
{
    uint32_t i;

    ingle_tpl_charge(run, 1);
    ingle_tpl_enter(run);
    if (v.kind == TV_STR) {
        put_json_str(run, text, v, style->ascii);
    } else if (v.kind == TV_NONE) {
        ingle_tpl_putz(run, text, "null");
    } else if (v.kind == TV_BOOL) {
        ingle_tpl_putz(run, text, v.u.b ? "true" : "false");
    } else if (v.kind == TV_INT) {
        ingle_tv_put_repr(run, text, v);
    } else if (v.kind == TV_FLOAT) {
        put_json_float(run, text, v.u.f);
    } else if (v.kind == TV_DICT) {
        put_json_dict(run, text, v.u.dict, style, level);
    } else if (v.kind != TV_LIST && v.kind != TV_TUPLE) {
        ingle_tpl_fail(run, "Object of type %s is not JSON serializable", ingle_tv_type_name(v));
    } else if (v.u.list->n == 0) {
        ingle_tpl_putz(run, text, "[]");
    } else {
        ingle_tpl_putc(run, text, '[');
        for (i = 0; i < v.u.list->n; i++) {
            if (i > 0) {
                ingle_tpl_put(run, text, style->item_sep.u.text, style->item_sep.bytes);
            }
            json_newline(run, text, style, level + 1);
            put_json_at(run, text, v.u.list->item[i], style, level + 1);
        }
        json_newline(run, text, style, level);
        ingle_tpl_putc(run, text, ']');
    }
    ingle_tpl_leave(run);
}

void ingle_tv_put_json(struct ingle_tpl_run *run, struct ingle_tpl_text *text, struct ingle_tv v,
                       const struct ingle_tpl_json_style *style)
{
    put_json_at(run, text, v, style, 0);
}

/* ---- numbers from text ---- */

/* The digits of a Python number literal without white space and single underscores between digits;
 * false where Python would not read it. Only ASCII digits. */
static bool clean_number(struct ingle_tpl_run *run, struct ingle_tv text, int (*is_digit)(int),
                         char *out, size_t room)
{
    size_t n = 0;
    uint32_t i;

    text = ingle_tpl_strip(run, text, ingle_tv_none(), true, true);
    for (i = 0; i < text.bytes; i++) {
        char c = text.u.text[i];

        if (c == '_') {
            if (i == 0 || i + 1 == text.bytes || !is_digit((unsigned char)text.u.text[i - 1]) ||
                !is_digit((unsigned char)text.u.text[i + 1])) {
                return false;
            }
            continue;
        }
        if ((unsigned char)c >= 0x80) {
            ingle_tpl_fail(run, "reading a number with non-ASCII characters is not supported");
        }
        if (c == '\0') {
            return false;
        }
        if (n + 1 >= room) {
            ingle_tpl_fail(run, "reading a number of more than %zu digits is not supported", room);
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return n > 0;
}

bool ingle_tv_parse_int(struct ingle_tpl_run *run, struct ingle_tv text, uint32_t base,
                        int64_t *ret)
{
    char number[400], *p = number, *end;
    bool minus = false;
    uint64_t u = 0;

    if (!clean_number(run, text, isalnum, number, sizeof(number))) {
        return false;
    }
    if (*p == '+' || *p == '-') {
        minus = *p++ == '-';
    }
    if (*p == '0' && p[1] != '\0') {
        char x = (char)(p[1] | 32);
        uint32_t named = x == 'x' ? 16 : x == 'o' ? 8 : x == 'b' ? 2 : 0;

        if (named != 0 && (base == named || base == 0)) {
            p += 2;
            base = named;
        } else if (base == 0) {
            for (end = p; *end == '0'; end++) {
            }
            if (*end != '\0') {
                return false; /* 0123: not a number in Python 3 */
            }
        }
    }
    if (!isalnum((unsigned char)*p)) {
        return false;
    }
    errno = 0;
    u = strtoull(p, &end, (int)(base == 0 ? 10 : base));
    if (*end != '\0') {
        return false;
    }
    if (errno == ERANGE || u > (uint64_t)INT64_MAX + minus) {
        ingle_tpl_fail(run, "an integer beyond 64 bits is not supported");
    }
    *ret = minus ? (int64_t)(0 - u) : (int64_t)u;
    return true;
}

bool ingle_tv_parse_float(struct ingle_tpl_run *run, struct ingle_tv text, double *ret)
{
    char number[400], *p = number, *end;
    const char *word;

    if (!clean_number(run, text, isdigit, number, sizeof(number))) {
        return false;
    }
    p += *p == '+' || *p == '-';
    word = strcasecmp(p, "inf") == 0 || strcasecmp(p, "infinity") == 0 || strcasecmp(p, "nan") == 0
               ? p
               : NULL;
    if (word == NULL &&
        (strspn(p, "0123456789.eE+-") != strlen(p) || strpbrk(p, "0123456789") == NULL)) {
        return false; /* strtod would also take 0x1p3 and nan(...) */
    }
    *ret = strtod(number, &end);
    return *end == '\0';
}
