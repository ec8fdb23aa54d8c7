/* A compact JSON writer: no document in memory, no space after a colon, no line breaks. */
#ifndef INGLE_TOOLS_JSON_H
#define INGLE_TOOLS_JSON_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json_object; /* json-c */

struct json {
    FILE *out;
    bool comma; /* the next value needs one before it */
};

/* Writes to out, which the caller keeps. */
void json_init(struct json *j, FILE *out);
void json_open(struct json *j, char bracket);  /* '{' or '[' */
void json_close(struct json *j, char bracket); /* '}' or ']' */
void json_key(struct json *j, const char *key);
/* Offset of the first byte that is not UTF-8, or -1. */
int64_t json_utf8_check(const char *text, size_t bytes);
/* Bytes that are not UTF-8 become U+FFFD. */
void json_text(struct json *j, const char *text, size_t bytes);
void json_str(struct json *j, const char *text);
void json_int(struct json *j, int64_t value);
void json_u64(struct json *j, uint64_t value);
void json_num(struct json *j, double value); /* not finite: null */
void json_boolean(struct json *j, bool value);
/* A value that is JSON already. */
void json_raw(struct json *j, const char *value);
/* {"role":role,"content":text}, as chat templates take it. */
void json_message(struct json *j, const char *role, const char *text, size_t bytes);
/* A parsed value again, compact. */
void json_copy(struct json *j, struct json_object *value);

/* A whole text as one JSON value (json-c, strict, at most 64 deep), or NULL. The caller puts it. */
struct json_object *json_parse(const char *text, size_t bytes);
/* Members of an object; a missing one or one of another type gives the default. */
const char *json_get_str(struct json_object *object, const char *key, const char *absent);
int64_t json_get_int(struct json_object *object, const char *key, int64_t absent);
bool json_get_bool(struct json_object *object, const char *key, bool absent);
struct json_object *json_get(struct json_object *object, const char *key);
/* Elements of an array; 0 for anything else. */
size_t json_count(struct json_object *array);

#endif
