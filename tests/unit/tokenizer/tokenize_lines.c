/* Prints the token ids of each line of stdin, one JSON array a line: `tokenize_lines MODEL
 * [special] [bos]`. A line is a JSON string, so that any text fits on one. For comparisons with
 * other tokenizers. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/mem.h"
#include "runtime/model/tokenizer.h"

static int print_ids(const struct ingle_tokenizer *tok, const char *line, uint32_t flags)
{
    struct json_object *text = json_tokener_parse(line);
    struct ingle_error err = {0};
    int32_t *ids;
    uint32_t n;

    if (!json_object_is_type(text, json_type_string)) {
        fprintf(stderr, "not a JSON string: %s", line);
        return 1;
    }
    if (ingle_tokenizer_encode(tok, json_object_get_string(text),
                               (uint64_t)json_object_get_string_len(text), flags, &ids, &n,
                               &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        json_object_put(text);
        return 1;
    }
    putchar('[');
    for (uint32_t i = 0; i < n; i++) {
        printf("%s%d", i == 0 ? "" : ",", ids[i]);
    }
    puts("]");
    ingle_mem_free(ids);
    json_object_put(text);
    return 0;
}

int main(int argc, char **argv)
{
    struct ingle_gguf *gguf;
    struct ingle_tokenizer *tok;
    struct ingle_error err = {0};
    uint32_t flags = 0;
    char *line = NULL;
    size_t cap = 0;
    int rc = 0;

    if (argc < 2) {
        fprintf(stderr, "usage: tokenize_lines MODEL [special] [bos]\n");
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        flags |= strcmp(argv[i], "special") == 0 ? INGLE_TOKENIZE_SPECIAL : INGLE_TOKENIZE_BOS;
    }
    if (ingle_gguf_open(argv[1], &gguf, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    if (ingle_tokenizer_create(gguf, &tok, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        ingle_gguf_close(gguf);
        return 1;
    }
    ingle_gguf_close(gguf);
    while (rc == 0 && getline(&line, &cap, stdin) > 0) {
        rc = print_ids(tok, line, flags);
    }
    free(line);
    ingle_tokenizer_free(tok);
    return rc;
}
