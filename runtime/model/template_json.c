/* Owns the way from JSON text to template values, through json-c: strict, valid UTF-8, bounded
 * depth, no NaN or Infinity, order of keys kept. Thread: the caller's. */
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

static void put_root(void *root)
{
    (void)json_object_put(root);
}

struct ingle_tv ingle_tv_from_json(struct ingle_tpl_run *run, const char *json, uint64_t bytes)
{
    struct json_tokener *tokener;
    struct json_object *root;
    enum json_tokener_error problem;
    struct ingle_tv v;
    uint64_t end;

    if (bytes > INGLE_TPL_JSON_BYTES_MAX) {
        ingle_tpl_fail(run, "JSON of more than %u MiB", INGLE_TPL_JSON_BYTES_MAX >> 20);
    }
    tokener = json_tokener_new_ex(JSON_DEPTH_MAX);
    if (tokener == NULL) {
        ingle_tpl_fail(run, "out of memory");
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    root = json_tokener_parse_ex(tokener, json, (int)bytes);
    problem = json_tokener_get_error(tokener);
    end = json_tokener_get_parse_end(tokener);
    if (problem == json_tokener_continue) {
        end = bytes;
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
