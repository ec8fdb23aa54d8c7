/* Renders templates for the differential test. Without arguments it reads frames from stdin until
 * the end: a line "TEMPLATE_BYTES JSON_BYTES NOW", then the two texts; and answers each with
 * "ok BYTES" and the text, or "error BYTES" and the message. With TEMPLATE.jinja VARIABLES.json it
 * prints one text. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/mem.h"
#include "runtime/model/template.h"

static int render(const char *source, uint64_t source_bytes, const char *json, uint64_t json_bytes,
                  int64_t now_s, char **ret_text, uint64_t *ret_bytes, struct ingle_error *err)
{
    struct ingle_template *tpl;
    int r;

    r = ingle_template_create(source, source_bytes, "<s>", "</s>", &tpl, err);
    if (r == 0) {
        r = ingle_template_render(tpl, json, json_bytes, now_s, ret_text, ret_bytes, err);
        ingle_template_free(tpl);
    }
    return r;
}

static int serve(void)
{
    uint64_t source_bytes, json_bytes, bytes;
    struct ingle_error err;
    int64_t now_s;
    char *both, *text;

    while (scanf("%" SCNu64 " %" SCNu64 " %" SCNd64, &source_bytes, &json_bytes, &now_s) == 3) {
        if (getchar() != '\n') {
            return 2;
        }
        both = malloc(source_bytes + json_bytes + 1);
        if (both == NULL ||
            fread(both, 1, source_bytes + json_bytes, stdin) != source_bytes + json_bytes) {
            free(both);
            return 2;
        }
        memset(&err, 0, sizeof(err));
        if (render(both, source_bytes, both + source_bytes, json_bytes, now_s, &text, &bytes,
                   &err) == 0) {
            printf("ok %" PRIu64 "\n", bytes);
            (void)fwrite(text, 1, bytes, stdout);
            ingle_mem_free(text);
        } else {
            printf("error %zu\n%s", strlen(err.text), err.text);
        }
        (void)fflush(stdout);
        free(both);
    }
    return 0;
}

static char *read_file(const char *path, uint64_t *ret_bytes)
{
    FILE *file = fopen(path, "rb");
    char *text = malloc(1 << 20);

    if (file == NULL || text == NULL) {
        perror(path);
        exit(2);
    }
    *ret_bytes = fread(text, 1, 1 << 20, file);
    (void)fclose(file);
    return text;
}

int main(int argc, char **argv)
{
    uint64_t source_bytes, json_bytes, bytes;
    struct ingle_error err;
    char *source, *json, *text;
    int r;

    if (argc != 3) {
        return serve();
    }
    source = read_file(argv[1], &source_bytes);
    json = read_file(argv[2], &json_bytes);
    r = render(source, source_bytes, json, json_bytes, (int64_t)time(NULL), &text, &bytes, &err);
    if (r == 0) {
        (void)fwrite(text, 1, bytes, stdout);
        ingle_mem_free(text);
    } else {
        fprintf(stderr, "%s\n", err.text);
    }
    free(source);
    free(json);
    return r == 0 ? 0 : 1;
}
