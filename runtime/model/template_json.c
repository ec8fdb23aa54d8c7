/* Owns the way from JSON text to template values, through json-c: strict, valid UTF-8, bounded
 * depth, no NaN or Infinity, order of keys kept. Thread: the caller's. */
#include <ctype.h>
#include <json-c/json.h>
#include <math.h>

#include "runtime/model/template_value.h"

#define JSON_DEPTH_MAX 64

static struct ingle_tv build(struct ingle_tpl_run *run, struct json_object *object)
{
    struct ingle_tv v = ingle_tv_none(), key;
    size_t i, n;
    char *copy;

    switch (json_object_get_type(object)) {
    case json_type_null:
        break;
    case json_type_boolean:
        return ingle_tv_bool(json_object_get_boolean(object) != 0);
    case json_type_double:
        if (!isfinite(json_object_get_double(object))) {
            ingle_tpl_fail(run, "JSON number that is not finite");
        }
        return ingle_tv_float(json_object_get_double(object));
    case json_type_int:
        if (json_object_get_int64(object) == INT64_MAX &&
            json_object_get_uint64(object) > (uint64_t)INT64_MAX) {
            ingle_tpl_fail(run, "JSON integer %llu is beyond 63 bits",
                           (unsigned long long)json_object_get_uint64(object));
        }
        return ingle_tv_int(json_object_get_int64(object));
    case json_type_string:
        n = (size_t)json_object_get_string_len(object);
        copy = ingle_tpl_alloc(run, n);
        memcpy(copy, json_object_get_string(object), n);
        return ingle_tv_str(copy, n);
    case json_type_array:
        n = json_object_array_length(object);
        v = ingle_tv_list_new(run, TV_LIST, (uint32_t)n);
        for (i = 0; i < n; i++) {
            ingle_tv_list_add(run, v.u.list, build(run, json_object_array_get_idx(object, i)));
        }
        break;
    case json_type_object:
        v = ingle_tv_dict_new(run, TV_DICT);
        json_object_object_foreach(object, name, member)
        {
            n = strlen(name);
            copy = ingle_tpl_alloc(run, n);
            memcpy(copy, name, n);
            key = ingle_tv_str(copy, n);
            ingle_tv_dict_put(run, v.u.dict, key, build(run, member));
        }
        break;
    }
    return v;
}

/* The value of \uXXXX at p, or -1. */
static int32_t escaped_unit(const char *p, const char *end)
{
    int32_t unit = 0;
    int i;

    if (end - p < 6 || p[0] != '\\' || p[1] != 'u') {
        return -1;
    }
    for (i = 2; i < 6; i++) {
        if (!isxdigit((unsigned char)p[i])) {
            return -1;
        }
        unit = unit * 16 + (isdigit((unsigned char)p[i]) ? p[i] - '0' : (p[i] | 32) - 'a' + 10);
    }
    return unit;
}

/* Escaped surrogate pairs become the character they mean: json-c 0.16 loses those whose low half
 * looks like a surrogate again (U+1D800, U+2D800, ... 32 KiB of code points in all). */
static struct ingle_tv join_pairs(struct ingle_tpl_run *run, const char *json, uint64_t bytes)
{
    struct ingle_tpl_text text = {NULL, 0, 0};
    const char *p = json, *end = json + bytes, *from = json;
    int32_t high, low;

    while (p < end && (p = memchr(p, '\\', (size_t)(end - p))) != NULL) {
        high = escaped_unit(p, end);
        low = high >= 0xd800 && high < 0xdc00 ? escaped_unit(p + 6, end) : -1;
        if (low >= 0xdc00 && low < 0xe000) {
            ingle_tpl_put(run, &text, from, (uint64_t)(p - from));
            ingle_tpl_put_cp(
                run, &text, 0x10000 + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00));
            from = p += 12;
        } else {
            p += 2; /* whatever is escaped is no backslash of its own */
        }
    }
    if (text.bytes == 0) {
        return ingle_tv_str(json, bytes);
    }
    ingle_tpl_put(run, &text, from, (uint64_t)(end - from));
    return ingle_tv_text(&text);
}

static void put_root(void *root)
{
    (void)json_object_put(root);
}

struct ingle_tv ingle_tv_from_json(struct ingle_tpl_run *run, const char *json, uint64_t bytes)
{
    struct json_tokener *tokener;
    struct json_object *root;
    enum json_tokener_error problem;
    struct ingle_tv v, text;
    uint64_t end;

    if (bytes > INGLE_TPL_JSON_BYTES_MAX) {
        ingle_tpl_fail(run, "JSON of more than %u MiB", INGLE_TPL_JSON_BYTES_MAX >> 20);
    }
    text = join_pairs(run, json, bytes);
    tokener = json_tokener_new_ex(JSON_DEPTH_MAX);
    if (tokener == NULL) {
        ingle_tpl_fail(run, "out of memory");
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    root = json_tokener_parse_ex(tokener, text.u.text, (int)text.bytes);
    problem = json_tokener_get_error(tokener);
    end = json_tokener_get_parse_end(tokener);
    if (problem == json_tokener_continue) {
        end = text.bytes;
    }
    json_tokener_free(tokener);
    if (problem != json_tokener_success) {
        ingle_tpl_fail(run, "JSON at byte %llu: %s", (unsigned long long)end,
                       problem == json_tokener_continue ? "unexpected end"
                                                        : json_tokener_error_desc(problem));
    }
    /* json-c keeps its tree on its own heap: a jump out of build() must free it. */
    run->foreign = root;
    run->foreign_free = put_root;
    v = build(run, root);
    run->foreign = NULL;
    put_root(root);
    return v;
}
