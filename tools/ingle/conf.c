/* Owns nothing. `ingle config` and the few keys that the command itself reads. The schema belongs
 * to the runtime: `check` asks it. Thread: main. */
#include "tools/ingle/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/ingle/cli.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/proc.h"
#include "tools/ingle/runtime.h"
#include "tools/ingle/verbs.h"

#define CONFIG_BYTES_MAX   (1u << 18)
#define INIH_SECTION_BYTES 49 /* what inih keeps of a section's name */

void conf_path(char ret[PATH_MAX])
{
    path_in(PATH_CONFIG, ret, "ingle.conf");
}

struct wanted {
    const char *section, *key;
    char *value;
    size_t value_bytes;
    bool found;
};

static int take_key(void *arg, const char *section, const char *key, const char *value)
{
    struct wanted *w = arg;

    if (strcmp(section, w->section) == 0 && strcmp(key, w->key) == 0) {
        (void)snprintf(w->value, w->value_bytes, "%s", value);
        w->found = true;
    }
    return 1;
}

static int take_section(void *arg, const char *section, const char *key, const char *value)
{
    struct wanted *w = arg;

    (void)key;
    (void)value;
    w->found |= strncmp(section, w->section, INIH_SECTION_BYTES) == 0;
    return 1;
}

bool conf_get(const char *section, const char *key, char *ret_value, size_t value_bytes)
{
    struct wanted w = {section, key, NULL, value_bytes, false};
    char path[PATH_MAX];

    w.value = ret_value;
    conf_path(path);
    (void)ini_parse(path, take_key, &w);
    return w.found;
}

bool conf_has_model(const char *name)
{
    char section[256], path[PATH_MAX];
    struct wanted w = {.section = section};

    (void)snprintf(section, sizeof section, "model \"%s\"", name);
    conf_path(path);
    (void)ini_parse(path, take_section, &w);
    return w.found;
}

/* "section.key" or "model.NAME.key" (the section [model "NAME"]); the first and the last dot
 * divide. */
static enum cli_exit split(const char *word, char section[256], char key[64])
{
    const char *first = strchr(word, '.');
    const char *last = strrchr(word, '.');

    if (first == NULL || first == word || last[1] == 0 || strlen(word) > 200 ||
        strlen(last + 1) > 63 || strpbrk(word, "\n\r[]\"") != NULL) {
        return cli_fail(CLI_USAGE, "config: \"%s\" is no key; write SECTION.KEY, such as hub.base",
                        word);
    }
    if (first != last) {
        (void)snprintf(section, 256, "%.*s \"%.*s\"", (int)(first - word), word,
                       (int)(last - first - 1), first + 1);
    } else {
        (void)snprintf(section, 256, "%.*s", (int)(first - word), word);
    }
    (void)snprintf(key, 64, "%s", last + 1);
    return CLI_OK;
}

/* What `ingled --print-config` says: every key with the value that holds, and errors on stderr.
 * file: NULL for the usual one and its conf.d. */
static enum cli_exit effective(const char *file, char *ret_text, size_t text_bytes)
{
    const char *argv[] = {NULL, "--print-config", file != NULL ? "--config" : NULL, file, NULL};
    char ingled[PATH_MAX];
    int status;

    if (!runtime_program(ingled)) {
        return cli_fail(CLI_UNREACHABLE, "ingled is neither beside ingle nor in PATH");
    }
    argv[0] = ingled;
    status = proc_capture(argv, ret_text, text_bytes);
    return status == 0 ? CLI_OK : status > 0 && status < 126 ? (enum cli_exit)status : CLI_FAIL;
}

static enum cli_exit get(const char *word)
{
    char section[256], key[64], value[1024];
    struct wanted w = {section, key, value, sizeof value, false};
    enum cli_exit e = split(word, section, key);
    char *text = e == CLI_OK ? malloc(CONFIG_BYTES_MAX) : NULL;

    if (e == CLI_OK && text == NULL) {
        e = cli_fail(CLI_FAIL, "out of memory");
    }
    if (e == CLI_OK) {
        e = effective(NULL, text, CONFIG_BYTES_MAX);
    }
    if (e == CLI_OK) {
        (void)ini_parse_string(text, take_key, &w);
        e = w.found ? CLI_OK : cli_fail(CLI_NOT_FOUND, "the configuration has no key %s", word);
    }
    if (e == CLI_OK) {
        (void)printf("%s\n", value);
    }
    free(text);
    return e;
}

/* A line's trimmed part before '=' equals key? */
static bool line_has_key(const char *line, size_t n, const char *key)
{
    size_t start = strspn(line, " \t");
    size_t key_bytes = strlen(key);
    size_t after;

    if (start + key_bytes > n || strncmp(line + start, key, key_bytes) != 0) {
        return false;
    }
    after = start + key_bytes;
    after += strspn(line + after, " \t");
    return after < n && line[after] == '=';
}

static bool line_is_section(const char *line, size_t n, const char *section)
{
    size_t start = strspn(line, " \t");
    size_t bytes = strlen(section);

    return start + bytes + 2 <= n && line[start] == '[' &&
           strncmp(line + start + 1, section, bytes) == 0 && line[start + 1 + bytes] == ']';
}

/* Copy text to out with [section] key = value in it: in place, at the end of its section, or in a
 * new section at the end. Comments and order stay. */
static void rewrite(FILE *out, const char *text, const char *section, const char *key,
                    const char *value)
{
    bool inside = false, done = false;

    while (*text != 0) {
        size_t n = strcspn(text, "\n");
        size_t with_end = n + (text[n] == '\n');

        if (text[strspn(text, " \t")] == '[') {
            if (inside && !done) {
                (void)fprintf(out, "%s = %s\n", key, value);
                done = true;
            }
            inside = line_is_section(text, n, section);
        }
        if (inside && !done && line_has_key(text, n, key)) {
            (void)fprintf(out, "%s = %s\n", key, value);
            done = true;
        } else {
            (void)fwrite(text, 1, with_end, out);
            if (text[n] != '\n') {
                (void)fputc('\n', out);
            }
        }
        text += with_end;
    }
    if (!done) {
        if (!inside) {
            (void)fprintf(out, "[%s]\n", section);
        }
        (void)fprintf(out, "%s = %s\n", key, value);
    }
}

/* file: NULL for the usual one and its conf.d. */
static enum cli_exit check_file(const char *file)
{
    char unused[16];

    return effective(file, unused, sizeof unused);
}

static enum cli_exit set(const char *word, const char *value)
{
    char section[256], key[64], path[PATH_MAX], fresh[PATH_MAX], folder[PATH_MAX];
    char *text = NULL;
    size_t bytes = 0;
    FILE *out;
    enum cli_exit e = split(word, section, key);
    int r;

    if (e != CLI_OK) {
        return e;
    }
    if (strpbrk(value, "\n\r") != NULL) {
        return cli_fail(CLI_USAGE, "config: a value is one line");
    }
    path_in(PATH_CONFIG, folder, "%s", "");
    conf_path(path);
    path_format(fresh, "%s.new", path);
    r = path_make(folder);
    if (r == 0) {
        r = file_read(path, 1 << 20, &text, &bytes);
        r = r == -ENOENT ? 0 : r;
    }
    out = r == 0 ? fopen(fresh, "we") : NULL;
    if (out == NULL) {
        free(text);
        return cli_fail(CLI_FAIL, "cannot write %s: %s", fresh,
                        strerrordesc_np(r < 0 ? -r : errno));
    }
    rewrite(out, text != NULL ? text : "", section, key, value);
    free(text);
    if (fclose(out) != 0) {
        return cli_fail(CLI_FAIL, "cannot write %s: %m", fresh);
    }
    e = check_file(fresh); /* a wrong value never reaches the real file */
    if (e != CLI_OK) {
        (void)unlink(fresh);
        return e;
    }
    if (rename(fresh, path) < 0) {
        return cli_fail(CLI_FAIL, "cannot write %s: %m", path);
    }
    cli_note("%s: %s = %s (a running ingled reads it on SIGHUP)", path, word, value);
    return CLI_OK;
}

enum cli_exit verb_config(const struct cli_call *call)
{
    const char *what = call->operands[0];

    if (strcmp(what, "get") == 0 && call->n_operands == 2) {
        return get(call->operands[1]);
    }
    if (strcmp(what, "set") == 0 && call->n_operands == 3) {
        return set(call->operands[1], call->operands[2]);
    }
    if (strcmp(what, "check") == 0 && call->n_operands <= 2) {
        return check_file(call->n_operands == 2 ? call->operands[1] : NULL);
    }
    return cli_fail(CLI_USAGE, "usage: ingle config get SECTION.KEY | set SECTION.KEY VALUE | "
                               "check [FILE]");
}
