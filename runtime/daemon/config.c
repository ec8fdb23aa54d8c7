/* Owns the table of keys. Reads files and the environment (nobody else in runtime/ does); keeps
 * nothing open. Invariant: a struct ingle_config holds only values that passed the table's ranges.
 * Thread: main before the others start, io on reload. */
#include "runtime/daemon/config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <ini.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/mem.h"
#include "runtime/base/units.h"

enum value_kind {
    VALUE_INT,    /* int32_t in min..max */
    VALUE_CHOICE, /* int32_t: the position in choices */
    VALUE_BYTES,  /* uint64_t in min..max */
    VALUE_MEMORY, /* uint64_t: bytes, or "60%" of the machine's */
    VALUE_TEXT,   /* char[INGLE_CONFIG_TEXT_BYTES] */
};

struct key {
    const char *section, *name;
    enum value_kind kind;
    uint32_t offset; /* in ingle_config, or in ingle_config_model for section "model" */
    int64_t min, max;
    const char *choices; /* separated by blanks */
    const char *initial;
    const char *help;
};

#define AT(field)       offsetof(struct ingle_config, field)
#define MODEL_AT(field) offsetof(struct ingle_config_model, field)
#define RANGE(a, b)     .min = (a), .max = (b)

static const struct key keys[] = {
    {"daemon", "memory", VALUE_MEMORY, AT(daemon.memory), RANGE(64 << 20, INT64_MAX), NULL, "60%",
     "Ceiling for weights, KV and scratch together: bytes (12GiB) or a share of the machine's RAM"},
    {"daemon", "threads", VALUE_INT, AT(daemon.threads), RANGE(0, 256), NULL, "0",
     "Worker threads; 0 = one per physical core"},
    {"daemon", "spin_us", VALUE_INT, AT(daemon.spin_us), RANGE(0, 1000), NULL, "0",
     "How long io polls the rings after the last activity before it sleeps; for clients that poll"},
    {"daemon", "log_level", VALUE_CHOICE, AT(daemon.log_level), RANGE(0, 0),
     "error warn info debug", "info", "What is logged"},
    {"daemon", "log_file", VALUE_TEXT, AT(daemon.log_file), RANGE(0, 0), NULL, "",
     "Where: empty = standard error; a bare name lies in $XDG_STATE_HOME/ingle"},
    {"daemon", "default_model", VALUE_TEXT, AT(daemon.default_model), RANGE(0, 0), NULL, "",
     "Name or .gguf path of the model that serves requests which name none; loaded at start"},
    {"cache", "kv_bytes", VALUE_BYTES, AT(cache.kv_bytes), RANGE(1 << 20, INT64_MAX), NULL,
     "512MiB", "KV pages for each loaded model"},
    {"cache", "image_cache", VALUE_CHOICE, AT(cache.image_cache), RANGE(0, 0), "no yes", "yes",
     "Keep packed weights as a file: beside the models of `ingle pull`, those of other files in "
     "$XDG_CACHE_HOME/ingle/images"},
    {"hub", "base", VALUE_TEXT, AT(hub.base), RANGE(0, 0), NULL, "https://huggingface.co",
     "Where `ingle pull hf:OWNER/REPO` downloads from; the daemon does not use it"},
    {"model", "file", VALUE_TEXT, MODEL_AT(file), RANGE(0, 0), NULL, "",
     "GGUF file: absolute, or a name in $XDG_DATA_HOME/ingle/models; empty = NAME.gguf there"},
    {"model", "kv_bits", VALUE_CHOICE, MODEL_AT(kv_bits), RANGE(0, 0), "16 8 4", "8",
     "Bits of a stored key or value"},
    {"model", "kernels", VALUE_CHOICE, MODEL_AT(kernels), RANGE(0, 0), "auto ref", "auto",
     "auto = the fastest for this CPU; ref = the plain C reference"},
    {"model", "activations", VALUE_CHOICE, MODEL_AT(activations), RANGE(0, 0), "8 16 32 bf16", "8",
     "Bits of an activation in matrix products; 32 = float; bf16 needs a CPU with AMX"},
    {"model", "context", VALUE_INT, MODEL_AT(context), RANGE(0, 1 << 24), NULL, "0",
     "Tokens of a context at most; 0 = what the model was trained for"},
    {"model", "keep", VALUE_CHOICE, MODEL_AT(keep), RANGE(0, 0), "on-demand always", "on-demand",
     "always = loaded at start"},
};
#define KEY_N (sizeof keys / sizeof keys[0])

/* The numbers behind a list of digits ("16 8 4") are what is stored, not the positions. */
static bool choices_are_numbers(const struct key *key)
{
    return key->choices[strspn(key->choices, "0123456789 ")] == '\0';
}

static int choice_find(const struct key *key, const char *text, int32_t *ret)
{
    const char *p = key->choices;

    for (int32_t i = 0; *p != '\0'; i++) {
        size_t bytes = strcspn(p, " ");

        if (strlen(text) == bytes && memcmp(text, p, bytes) == 0) {
            *ret = choices_are_numbers(key) ? (int32_t)strtol(text, NULL, 10) : i;
            return 0;
        }
        p += bytes + (p[bytes] == ' ');
    }
    return -EINVAL;
}

static int parse_int(const char *text, int64_t *ret)
{
    char *end;
    long long value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0) {
        return -EINVAL;
    }
    *ret = value;
    return 0;
}

static int parse_memory(const char *text, uint64_t *ret)
{
    size_t bytes = strlen(text);
    char digits[8];
    int64_t percent;
    uint64_t ram;

    if (bytes == 0 || text[bytes - 1] != '%') {
        return ingle_units_parse_bytes(text, ret);
    }
    if (bytes > sizeof digits) {
        return -ERANGE;
    }
    (void)snprintf(digits, sizeof digits, "%.*s", (int)bytes - 1, text);
    if (parse_int(digits, &percent) != 0) {
        return -EINVAL;
    }
    if (percent < 1 || percent > 100) {
        return -ERANGE;
    }
    ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    *ret = ram / 100 * (uint64_t)percent;
    return 0;
}

/* Store `text` as the key's value; on failure say in words what would be right. */
static int value_set(const struct key *key, void *base, const char *text, char *ret_wanted,
                     size_t wanted_bytes)
{
    void *field = (char *)base + key->offset;
    int64_t number;
    uint64_t bytes;
    int32_t choice;
    size_t room;

    switch (key->kind) {
    case VALUE_INT:
        if (parse_int(text, &number) == 0 && number >= key->min && number <= key->max) {
            *(int32_t *)field = (int32_t)number;
            return 0;
        }
        (void)snprintf(ret_wanted, wanted_bytes, "a number from %lld to %lld", (long long)key->min,
                       (long long)key->max);
        return -EINVAL;
    case VALUE_CHOICE:
        if (choice_find(key, text, &choice) == 0) {
            *(int32_t *)field = choice;
            return 0;
        }
        (void)snprintf(ret_wanted, wanted_bytes, "one of: %s", key->choices);
        return -EINVAL;
    case VALUE_BYTES:
    case VALUE_MEMORY:
        if ((key->kind == VALUE_BYTES ? ingle_units_parse_bytes(text, &bytes)
                                      : parse_memory(text, &bytes)) == 0 &&
            bytes >= (uint64_t)key->min && bytes <= (uint64_t)key->max) {
            *(uint64_t *)field = bytes;
            return 0;
        }
        (void)snprintf(ret_wanted, wanted_bytes, "bytes, at least %s, such as 512MiB or 12GiB%s",
                       ingle_units_bytes((uint64_t)key->min).s,
                       key->kind == VALUE_MEMORY ? ", or a share such as 60%" : "");
        return -EINVAL;
    case VALUE_TEXT:
        if (text[0] == ';') { /* "key =;text": once there is a space it is a comment */
            (void)snprintf(ret_wanted, wanted_bytes, "a text that does not begin with \";\"");
            return -EINVAL;
        }
        room = INGLE_CONFIG_TEXT_BYTES - strlen(key->name) - sizeof " = "; /* as it is printed */
        if (strlen(text) > room) {
            (void)snprintf(ret_wanted, wanted_bytes, "a text of at most %zu characters", room);
            return -EINVAL;
        }
        memset(field, 0, INGLE_CONFIG_TEXT_BYTES); /* equal configurations are equal bytes */
        (void)snprintf(field, INGLE_CONFIG_TEXT_BYTES, "%s", text);
        return 0;
    }
    return -EINVAL;
}

static void defaults_set(const char *section, void *base)
{
    char wanted[8];

    for (size_t i = 0; i < KEY_N; i++) {
        if (strcmp(keys[i].section, section) == 0) {
            int res = value_set(&keys[i], base, keys[i].initial, wanted, sizeof wanted);

            ingle_assert(res == 0);
        }
    }
}

void ingle_config_init(struct ingle_config *config)
{
    memset(config, 0, sizeof *config);
    defaults_set("daemon", config);
    defaults_set("cache", config);
    defaults_set("hub", config);
}

/* ---- nearest right word ---------------------------------------------------------------------- */

/* Edits (insert, delete, replace) between two short words. */
static unsigned edit_distance(const char *a, const char *b)
{
    unsigned row[64];
    size_t n = strlen(b);

    if (n >= 63) {
        return UINT_MAX;
    }
    for (unsigned j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; *a != '\0'; a++, i++) {
        unsigned diagonal = row[0];

        row[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            unsigned best = diagonal + (*a != b[j - 1]);

            diagonal = row[j];
            best = best < row[j] + 1 ? best : row[j] + 1;
            row[j] = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
        }
    }
    return row[n];
}

struct guess {
    const char *word;
    unsigned distance;
};

static void guess_offer(struct guess *guess, const char *word, const char *wrong)
{
    unsigned distance = edit_distance(wrong, word);

    if (distance < guess->distance && distance < strlen(word)) {
        *guess = (struct guess){word, distance};
    }
}

static const char *guess_text(const struct guess *guess, char *buf, size_t bytes)
{
    buf[0] = '\0';
    if (guess->word != NULL) {
        (void)snprintf(buf, bytes, ", did you mean \"%s\"?", guess->word);
    }
    return buf;
}

#define GUESS_NEAR 4u /* a word further away than 3 edits is no help */

/* ---- reading --------------------------------------------------------------------------------- */

struct reading {
    struct ingle_config *config;
    const char *name; /* of the file, in messages */
    const char *p, *end;
    int line;
    const char *section; /* of the table; NULL before the first header */
    struct ingle_config_model *model;
    struct ingle_error *err;
    struct ingle_error first; /* the first error wins: the others may follow from it */
};

#define REFUSE(r, ...)                                                               \
    ((r)->first.code == 0                                                            \
         ? (void)ingle_fail_kind(&(r)->first, INGLE_ERR_USAGE, -EINVAL, __VA_ARGS__) \
         : (void)0)

static struct ingle_config_model *model_find_or_add(struct reading *r, const char *name)
{
    struct ingle_config *config = r->config;
    struct ingle_config_model *model;

    for (uint32_t i = 0; i < config->n_models; i++) {
        if (strcmp(config->models[i].name, name) == 0) {
            return &config->models[i];
        }
    }
    if (config->n_models == INGLE_CONFIG_MODELS_MAX) {
        REFUSE(r, "%s:%d: more than %u models", r->name, r->line, INGLE_CONFIG_MODELS_MAX);
        return NULL;
    }
    model = &config->models[config->n_models++];
    memset(model, 0, sizeof *model);
    (void)snprintf(model->name, sizeof model->name, "%s", name);
    defaults_set("model", model);
    return model;
}

/* A header, without its brackets. */
static void section_enter(struct reading *r, const char *text)
{
    struct guess guess = {NULL, GUESS_NEAR};
    char name[64], hint[64];
    int used = 0;

    r->section = NULL;
    r->model = NULL;
    if (sscanf(text, "model \"%63[^\"]\"%n", name, &used) == 1 && used != 0 && text[used] == '\0') {
        if (strlen(name) >= INGLE_CONFIG_NAME_BYTES || strpbrk(name, "/\\") != NULL) {
            REFUSE(r, "%s:%d: model name \"%s\": at most %u characters, no slash", r->name, r->line,
                   name, INGLE_CONFIG_NAME_BYTES - 1);
            return;
        }
        r->section = "model";
        r->model = model_find_or_add(r, name);
        return;
    }
    for (size_t i = 0; i < KEY_N; i++) {
        const char *section = keys[i].section;

        if (strcmp(section, "model") == 0) {
            section = "model \"NAME\"";
        } else if (strcmp(section, text) == 0) {
            r->section = keys[i].section;
            return;
        }
        guess_offer(&guess, section, text);
    }
    REFUSE(r, "%s:%d: unknown section [%s]%s", r->name, r->line, text,
           guess_text(&guess, hint, sizeof hint));
}

/* inih asks for a line. Ours are counted, freed of leading blanks (which inih would take for a
 * continuation of the value above) and refused when too long (which inih would cut in two). */
static char *next_line(char *str, int n, void *stream)
{
    struct reading *r = stream;
    const char *line = r->p, *nl;
    size_t bytes;

    if (r->p == r->end) {
        return NULL;
    }
    nl = memchr(line, '\n', (size_t)(r->end - line));
    r->p = nl == NULL ? r->end : nl + 1;
    r->line++;
    bytes = (size_t)((nl == NULL ? r->end : nl) - line);
    while (bytes > 0 && isspace((unsigned char)*line)) {
        line++;
        bytes--;
    }
    if (memchr(line, '\0', bytes) != NULL) {
        REFUSE(r, "%s:%d: the line contains a NUL byte: not a text file", r->name, r->line);
        bytes = 0;
    }
    if (bytes > (size_t)n - 2 || bytes >= INGLE_CONFIG_TEXT_BYTES) {
        REFUSE(r, "%s:%d: the line is longer than %u characters", r->name, r->line,
               INGLE_CONFIG_TEXT_BYTES - 1);
        bytes = 0;
    }
    memcpy(str, line, bytes);
    str[bytes] = '\n';
    str[bytes + 1] = '\0';
    if (str[0] == '[') {
        char header[INGLE_CONFIG_TEXT_BYTES];
        size_t inside = strcspn(str + 1, "]\n");

        if (str[1 + inside] != ']') {
            REFUSE(r, "%s:%d: the section header has no \"]\"", r->name, r->line);
        } else {
            (void)snprintf(header, sizeof header, "%.*s", (int)inside, str + 1);
            section_enter(r, header);
        }
        str[0] = '\n'; /* inih keeps 49 characters of a header; ours is the one that counts */
        str[1] = '\0';
    }
    return str;
}

static int take_value(void *user, const char *inih_section, const char *name, const char *value)
{
    struct reading *r = user;
    struct guess guess = {NULL, GUESS_NEAR};
    char hint[64], wanted[96], where[64];

    (void)inih_section;
    if (r->first.code != 0) {
        return 1;
    }
    if (r->section == NULL) {
        REFUSE(r, "%s:%d: \"%s\" stands before the first section: begin with [daemon]", r->name,
               r->line, name);
        return 1;
    }
    (void)snprintf(where, sizeof where, r->model == NULL ? "[%s]" : "[%s \"%s\"]", r->section,
                   r->model == NULL ? "" : r->model->name);
    for (size_t i = 0; i < KEY_N; i++) {
        void *base = r->model != NULL ? (void *)r->model : (void *)r->config;

        if (strcmp(keys[i].section, r->section) != 0) {
            continue;
        }
        if (strcmp(keys[i].name, name) == 0) {
            if (value_set(&keys[i], base, value, wanted, sizeof wanted) != 0) {
                REFUSE(r, "%s:%d: %s in %s is \"%s\", but must be %s", r->name, r->line, name,
                       where, value, wanted);
            }
            return 1;
        }
        guess_offer(&guess, keys[i].name, name);
    }
    REFUSE(r, "%s:%d: unknown key \"%s\" in %s%s", r->name, r->line, name, where,
           guess_text(&guess, hint, sizeof hint));
    return 1;
}

int ingle_config_parse(struct ingle_config *config, const char *text, size_t bytes,
                       const char *name, struct ingle_error *err)
{
    struct reading r = {.config = config, .name = name, .p = text, .end = text + bytes};
    int line = ini_parse_stream(next_line, &r, take_value, &r);

    if (line > 0) {
        REFUSE(&r, "%s:%d: expected `key = value`", name, line);
    } else if (line < 0) {
        REFUSE(&r, "%s: not enough memory to read it", name);
    }
    if (r.first.code != 0 && err != NULL) {
        *err = r.first;
    }
    return r.first.code;
}

/* ---- files ----------------------------------------------------------------------------------- */

#define FILE_BYTES_MAX (1 << 20)

static int read_file(struct ingle_config *config, const char *path, bool must_exist,
                     struct ingle_error *err)
{
    FILE *file = fopen(path, "re");
    char *text;
    size_t bytes;
    int res;

    if (file == NULL) {
        int code = -errno;

        if (code == -ENOENT && !must_exist) {
            return 0;
        }
        return ingle_fail_kind(err, INGLE_ERR_USAGE, code, "cannot read %s: %s", path,
                               strerrordesc_np(-code));
    }
    text = ingle_mem_alloc(FILE_BYTES_MAX);
    bytes = text == NULL ? 0 : fread(text, 1, FILE_BYTES_MAX, file);
    if (text == NULL || ferror(file)) {
        res = ingle_fail_kind(err, INGLE_ERR_USAGE, -EIO, "cannot read %s: %s", path,
                              text == NULL ? "not enough memory" : strerrordesc_np(errno));
    } else if (bytes == FILE_BYTES_MAX) {
        res = ingle_fail_kind(err, INGLE_ERR_USAGE, -EFBIG, "%s: longer than 1 MiB", path);
    } else {
        res = ingle_config_parse(config, text, bytes, path, err);
    }
    ingle_mem_free(text);
    (void)fclose(file);
    return res;
}

static int is_conf(const struct dirent *entry)
{
    size_t bytes = strlen(entry->d_name);

    return entry->d_name[0] != '.' && bytes > 5 && strcmp(entry->d_name + bytes - 5, ".conf") == 0;
}

static int read_directory(struct ingle_config *config, const char *dir, struct ingle_error *err)
{
    struct dirent **entries = NULL;
    int n = scandir(dir, &entries, is_conf, alphasort);
    int res = 0;

    for (int i = 0; i < n; i++) {
        char path[1024];

        if (res == 0) {
            (void)snprintf(path, sizeof path, "%s/%s", dir, entries[i]->d_name);
            res = read_file(config, path, true, err);
        }
        free(entries[i]);
    }
    free(entries);
    return res;
}

static int xdg_dir(const char *variable, const char *fallback, char *ret, size_t bytes,
                   struct ingle_error *err)
{
    const char *dir = secure_getenv(variable), *home = secure_getenv("HOME");
    int n;

    if (dir != NULL && dir[0] == '/') { /* the specification: a relative path is to be ignored */
        n = snprintf(ret, bytes, "%s/ingle", dir);
    } else if (home != NULL && home[0] == '/') {
        n = snprintf(ret, bytes, "%s/%s/ingle", home, fallback);
    } else {
        return ingle_fail(err, -ENOENT, "neither %s nor HOME is set to an absolute path", variable);
    }
    if (n < 0 || (size_t)n >= bytes) {
        return ingle_fail(err, -ENAMETOOLONG, "%s is longer than %zu bytes", variable, bytes - 8);
    }
    return 0;
}

int ingle_config_load(const char *path, struct ingle_config *config, struct ingle_error *err)
{
    struct ingle_config fresh;
    char dir[480], file[512];
    int res;

    ingle_config_init(&fresh);
    if (path != NULL) {
        res = read_file(&fresh, path, true, err);
    } else if (xdg_dir("XDG_CONFIG_HOME", ".config", dir, sizeof dir, NULL) != 0) {
        res = 0; /* no home, no configuration: the defaults serve */
    } else {
        (void)snprintf(file, sizeof file, "%s/ingle.conf", dir);
        res = read_file(&fresh, file, false, err);
        (void)snprintf(file, sizeof file, "%s/conf.d", dir);
        res = res != 0 ? res : read_directory(&fresh, file, err);
    }
    if (res == 0) {
        *config = fresh;
    }
    return res;
}

int ingle_paths_find(struct ingle_paths *ret, struct ingle_error *err)
{
    char data[480], cache[480];
    int res = xdg_dir("XDG_DATA_HOME", ".local/share", data, sizeof data, err);

    if (res == 0) {
        res = xdg_dir("XDG_CACHE_HOME", ".cache", cache, sizeof cache, err);
    }
    if (res == 0) {
        res = xdg_dir("XDG_STATE_HOME", ".local/state", ret->state, sizeof ret->state, err);
    }
    if (res == 0) {
        (void)snprintf(ret->models, sizeof ret->models, "%s/models", data);
        (void)snprintf(ret->images, sizeof ret->images, "%s/images", cache);
    }
    return res;
}

int ingle_config_make_dirs(const char *path)
{
    char dir[512];

    (void)snprintf(dir, sizeof dir, "%s", path);
    for (char *p = dir + 1; *p != '\0'; p++) {
        if (*p == '/') {
            *p = '\0';
            (void)mkdir(dir, 0700);
            *p = '/';
        }
    }
    return mkdir(dir, 0700) == 0 || errno == EEXIST ? 0 : -errno;
}

int ingle_config_socket_path(char ret_path[INGLE_SOCKET_PATH_BYTES], struct ingle_error *err)
{
    int res = ingle_path_socket(secure_getenv("XDG_RUNTIME_DIR"), secure_getenv("HOME"), getuid(),
                                ret_path);

    return res == 0 ? 0
                    : ingle_fail(err, res,
                                 "no place for the socket: XDG_RUNTIME_DIR and HOME are unset or "
                                 "too long. Try: ingled --socket PATH");
}

/* ---- printing -------------------------------------------------------------------------------- */

static void print_value(const struct key *key, const void *base, FILE *out)
{
    const void *field = (const char *)base + key->offset;
    const char *p = key->choices;
    int32_t n;

    switch (key->kind) {
    case VALUE_INT:
        (void)fprintf(out, "%d", *(const int32_t *)field);
        break;
    case VALUE_CHOICE:
        n = *(const int32_t *)field;
        if (choices_are_numbers(key)) {
            (void)fprintf(out, "%d", n);
            break;
        }
        while (n-- > 0) {
            p += strcspn(p, " ") + 1;
        }
        (void)fprintf(out, "%.*s", (int)strcspn(p, " "), p);
        break;
    case VALUE_BYTES:
    case VALUE_MEMORY:
        (void)fprintf(out, "%llu", (unsigned long long)*(const uint64_t *)field);
        break;
    case VALUE_TEXT:
        (void)fprintf(out, "%s", (const char *)field);
        break;
    }
}

static void print_section(const char *section, const void *base, FILE *out)
{
    for (size_t i = 0; i < KEY_N; i++) {
        const struct key *key = &keys[i];

        if (strcmp(key->section, section) != 0) {
            continue;
        }
        (void)fprintf(out, "; %s", key->help);
        if (key->kind == VALUE_INT) {
            (void)fprintf(out, " (%lld..%lld", (long long)key->min, (long long)key->max);
        } else if (key->kind == VALUE_CHOICE) {
            (void)fprintf(out, " (%s", key->choices);
        } else {
            (void)fprintf(out, " (");
        }
        (void)fprintf(out, "%sdefault %s)\n%s = ",
                      key->kind == VALUE_INT || key->kind == VALUE_CHOICE ? "; " : "",
                      key->initial[0] == '\0' ? "empty" : key->initial, key->name);
        print_value(key, base, out);
        (void)fprintf(out, "\n");
    }
}

void ingle_config_print(const struct ingle_config *config, FILE *out)
{
    static const char *const sections[] = {"daemon", "cache", "hub"};
    struct ingle_config_model example;

    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        (void)fprintf(out, "[%s]\n", sections[i]);
        print_section(sections[i], config, out);
        (void)fprintf(out, "\n");
    }
    for (uint32_t i = 0; i < config->n_models; i++) {
        (void)fprintf(out, "[model \"%s\"]\n", config->models[i].name);
        print_section("model", &config->models[i], out);
        (void)fprintf(out, "\n");
    }
    if (config->n_models == 0) {
        memset(&example, 0, sizeof example);
        defaults_set("model", &example);
        (void)fprintf(out, "; A model by name, with its own options:\n; [model \"NAME\"]\n");
        for (size_t i = 0; i < KEY_N; i++) {
            if (strcmp(keys[i].section, "model") == 0) {
                (void)fprintf(out, "; %s = %s    ; %s\n", keys[i].name, keys[i].initial,
                              keys[i].help);
            }
        }
    }
}
