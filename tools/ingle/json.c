/* Owns nothing. JSON out is written as it is produced; JSON in goes through json-c. Invariant: what
 * is written is valid UTF-8 on one line. Thread: main. */
#include "tools/ingle/json.h"

#include <json-c/json.h>
#include <math.h>
#include <string.h>

void json_init(struct json *j, FILE *out)
{
    *j = (struct json){.out = out};
}

static void separate(struct json *j)
{
    if (j->comma) {
        (void)fputc(',', j->out);
    }
    j->comma = true;
}

void json_open(struct json *j, char bracket)
{
    separate(j);
    (void)fputc(bracket, j->out);
    j->comma = false;
}

void json_close(struct json *j, char bracket)
{
    (void)fputc(bracket, j->out);
    j->comma = true;
}

/* Bytes of the UTF-8 character at p (1 to 4), or 0 when it is none. */
static size_t utf8_bytes(const unsigned char *p, size_t left)
{
    size_t n = p[0] < 0x80   ? 1
               : p[0] < 0xc2 ? 0
               : p[0] < 0xe0 ? 2
               : p[0] < 0xf0 ? 3
               : p[0] < 0xf5 ? 4
                             : 0;

    if (n == 0 || n > left) {
        return 0;
    }
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
        (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) {
        return 0;
    }
    return n;
}

int64_t json_utf8_check(const char *text, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)text;

    for (size_t i = 0; i < bytes;) {
        size_t n = utf8_bytes(p + i, bytes - i);

        if (n == 0) {
            return (int64_t)i;
        }
        i += n;
    }
    return -1;
}

static void quote(struct json *j, const char *text, size_t bytes)
{
    const unsigned char *p = (const unsigned char *)text;

    (void)fputc('"', j->out);
    for (size_t i = 0; i < bytes;) {
        size_t n = utf8_bytes(p + i, bytes - i);

        if (n == 0) {
            (void)fputs("\xef\xbf\xbd", j->out);
            n = 1;
        } else if (p[i] == '"' || p[i] == '\\') {
            (void)fprintf(j->out, "\\%c", p[i]);
        } else if (p[i] == '\n') {
            (void)fputs("\\n", j->out);
        } else if (p[i] < 0x20) {
            (void)fprintf(j->out, "\\u%04x", p[i]);
        } else {
            (void)fwrite(p + i, 1, n, j->out);
        }
        i += n;
    }
    (void)fputc('"', j->out);
}

void json_key(struct json *j, const char *key)
{
    separate(j);
    quote(j, key, strlen(key));
    (void)fputc(':', j->out);
    j->comma = false;
}

void json_text(struct json *j, const char *text, size_t bytes)
{
    separate(j);
    quote(j, text, bytes);
}

void json_str(struct json *j, const char *text)
{
    json_text(j, text, strlen(text));
}

void json_int(struct json *j, int64_t value)
{
    separate(j);
    (void)fprintf(j->out, "%lld", (long long)value);
}

void json_u64(struct json *j, uint64_t value)
{
    separate(j);
    (void)fprintf(j->out, "%llu", (unsigned long long)value);
}

void json_num(struct json *j, double value)
{
    separate(j);
    if (isfinite(value)) {
        (void)fprintf(j->out, "%.9g", value);
    } else {
        (void)fputs("null", j->out);
    }
}

void json_boolean(struct json *j, bool value)
{
    separate(j);
    (void)fputs(value ? "true" : "false", j->out);
}

void json_raw(struct json *j, const char *value)
{
    separate(j);
    (void)fputs(value, j->out);
}

void json_message(struct json *j, const char *role, const char *text, size_t bytes)
{
    json_open(j, '{');
    json_key(j, "role");
    json_str(j, role);
    json_key(j, "content");
    json_text(j, text, bytes);
    json_close(j, '}');
}

void json_copy(struct json *j, struct json_object *value)
{
    json_raw(j, json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN |
                                                          JSON_C_TO_STRING_NOSLASHESCAPE));
}

struct json_object *json_parse(const char *text, size_t bytes)
{
    struct json_tokener *tokener;
    struct json_object *value;

    if (bytes > INT32_MAX) {
        return NULL;
    }
    tokener = json_tokener_new_ex(64);
    if (tokener == NULL) {
        return NULL;
    }
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    value = json_tokener_parse_ex(tokener, text, (int)bytes);
    if (json_tokener_get_error(tokener) != json_tokener_success ||
        strspn(text + json_tokener_get_parse_end(tokener), " \t\r\n") !=
            bytes - json_tokener_get_parse_end(tokener)) {
        json_object_put(value);
        value = NULL;
    }
    json_tokener_free(tokener);
    return value;
}

struct json_object *json_get(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;

    if (!json_object_is_type(object, json_type_object) ||
        !json_object_object_get_ex(object, key, &value)) {
        return NULL;
    }
    return value;
}

const char *json_get_str(struct json_object *object, const char *key, const char *absent)
{
    struct json_object *value = json_get(object, key);

    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : absent;
}

int64_t json_get_int(struct json_object *object, const char *key, int64_t absent)
{
    struct json_object *value = json_get(object, key);

    return json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : absent;
}

bool json_get_bool(struct json_object *object, const char *key, bool absent)
{
    struct json_object *value = json_get(object, key);

    return json_object_is_type(value, json_type_boolean) ? json_object_get_boolean(value) != 0
                                                         : absent;
}

size_t json_count(struct json_object *array)
{
    return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}
