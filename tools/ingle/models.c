/* Owns nothing. Walks the model folders; formats of foreign stores are read, never written.
 * Invariant: what is found is a regular file with the GGUF magic. Thread: main. */
#include "tools/ingle/models.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/ingle/catalogue.h"
#include "tools/ingle/json.h"
#include "tools/ingle/paths.h"

const char *const model_store_names[] = {"ingle", "huggingface", "lmstudio", "ollama"};

struct scan {
    bool (*visit)(const struct model_entry *entry, void *arg);
    void *arg;
    bool stop;
};

bool model_is_gguf(int fd)
{
    char magic[4];

    return pread(fd, magic, sizeof magic, 0) == (ssize_t)sizeof magic &&
           memcmp(magic, "GGUF", sizeof magic) == 0;
}

static void found(struct scan *s, struct model_entry *entry)
{
    struct stat st;
    int fd = open(entry->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return;
    }
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && model_is_gguf(fd)) {
        entry->bytes = (uint64_t)st.st_size;
        s->stop = !s->visit(entry, s->arg);
    }
    (void)close(fd);
}

static bool has_suffix(const char *name, const char *suffix)
{
    size_t n = strlen(name), m = strlen(suffix);

    return n > m && strcmp(name + n - m, suffix) == 0;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* Every file below root, in order of names; each gets the path below root as well. */
static void walk(struct scan *s, const char *root, int depth_max,
                 void (*file)(struct scan *s, const char *path, const char *below))
{
    char path[PATH_MAX];
    char *roots[] = {path, NULL};
    FTS *fts;

    if (s->stop || root[0] != '/') {
        return;
    }
    path_format(path, "%s", root);
    fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    if (fts == NULL) {
        return;
    }
    for (FTSENT *e = fts_read(fts); e != NULL && !s->stop; e = fts_read(fts)) {
        if (e->fts_level >= depth_max && e->fts_info == FTS_D) {
            (void)fts_set(fts, e, FTS_SKIP);
        } else if (e->fts_info == FTS_F || e->fts_info == FTS_SL) {
            file(s, e->fts_path, e->fts_path + strlen(root) + 1);
        }
    }
    (void)fts_close(fts);
}

static void own_file(struct scan *s, const char *path, const char *below)
{
    struct model_entry entry = {.store = STORE_INGLE};

    if (has_suffix(below, ".gguf")) {
        path_format(entry.path, "%s", path);
        (void)snprintf(entry.name, sizeof entry.name, "%.*s", (int)(strlen(below) - 5), below);
        found(s, &entry);
    }
}

/* hub/models--OWNER--REPO/snapshots/REVISION/FILE -> hf:OWNER/REPO/FILE */
static void hugging_face_file(struct scan *s, const char *path, const char *below)
{
    struct model_entry entry = {.store = STORE_HUGGING_FACE};
    const char *repo_end = strchr(below, '/');
    const char *owner, *dashes, *file;

    if (!has_suffix(below, ".gguf") || repo_end == NULL || strncmp(below, "models--", 8) != 0 ||
        strncmp(repo_end, "/snapshots/", 11) != 0) {
        return;
    }
    owner = below + 8;
    dashes = strstr(owner, "--");
    file = strchr(repo_end + 11, '/');
    if (dashes == NULL || dashes > repo_end || file == NULL) {
        return;
    }
    path_format(entry.path, "%s", path);
    (void)snprintf(entry.name, sizeof entry.name, "hf:%.*s/%.*s%s", (int)(dashes - owner), owner,
                   (int)(repo_end - dashes - 2), dashes + 2, file);
    found(s, &entry);
}

static void lm_studio_file(struct scan *s, const char *path, const char *below)
{
    struct model_entry entry = {.store = STORE_LM_STUDIO};

    if (has_suffix(below, ".gguf")) {
        path_format(entry.path, "%s", path);
        (void)snprintf(entry.name, sizeof entry.name, "lmstudio:%s", below);
        found(s, &entry);
    }
}

/* manifests/HOST/NAMESPACE/MODEL/TAG names its layers by digest; one of them is the model. */
static void ollama_manifest(struct scan *s, const char *path, const char *below)
{
    struct model_entry entry = {.store = STORE_OLLAMA};
    struct json_object *manifest, *layers;
    const char *name = strchr(below, '/');
    const char *tag = strrchr(below, '/');
    char *text;
    size_t bytes;

    if (name == NULL || tag == name || file_read(path, 1 << 20, &text, &bytes) < 0) {
        return;
    }
    name += strncmp(name, "/library/", 9) == 0 ? 9 : 1;
    manifest = json_parse(text, bytes);
    free(text);
    layers = json_get(manifest, "layers");
    for (size_t i = 0; i < json_count(layers) && !s->stop; i++) {
        struct json_object *layer = json_object_array_get_idx(layers, i);
        const char *digest = json_get_str(layer, "digest", "");

        if (strcmp(json_get_str(layer, "mediaType", ""), "application/vnd.ollama.image.model") ==
                0 &&
            strncmp(digest, "sha256:", 7) == 0 && strchr(digest, '/') == NULL) {
            path_format(entry.path, "%.*s/blobs/sha256-%s",
                        (int)(below - path - (ptrdiff_t)sizeof "/manifests"), path, digest + 7);
            (void)snprintf(entry.name, sizeof entry.name, "ollama:%.*s:%s", (int)(tag - name), name,
                           tag + 1);
            found(s, &entry);
        }
    }
    json_object_put(manifest);
}

void models_scan(bool (*visit)(const struct model_entry *entry, void *arg), void *arg)
{
    struct scan s = {.visit = visit, .arg = arg};
    const char *hub_cache = env_get("HF_HUB_CACHE");
    const char *hf_home = env_get("HF_HOME");
    const char *ollama = env_get("OLLAMA_MODELS");
    char root[PATH_MAX];

    path_in(PATH_DATA, root, "models");
    walk(&s, root, 1, own_file);

    if (hub_cache != NULL) {
        path_format(root, "%s", hub_cache);
    } else if (hf_home != NULL) {
        path_format(root, "%s/hub", hf_home);
    } else if (env_get("XDG_CACHE_HOME") != NULL) {
        path_format(root, "%s/huggingface/hub", env_get("XDG_CACHE_HOME"));
    } else {
        path_format(root, "%s/.cache/huggingface/hub", path_home());
    }
    walk(&s, root, 8, hugging_face_file);

    path_format(root, "%s/.lmstudio/models", path_home());
    walk(&s, root, 4, lm_studio_file);
    path_format(root, "%s/.cache/lm-studio/models", path_home());
    walk(&s, root, 4, lm_studio_file);

    if (ollama != NULL) {
        path_format(root, "%s/manifests", ollama);
    } else {
        path_format(root, "%s/.ollama/models/manifests", path_home());
    }
    walk(&s, root, 6, ollama_manifest);
    if (ollama == NULL) { /* the service of the distribution packages */
        walk(&s, "/usr/share/ollama/.ollama/models/manifests", 6, ollama_manifest);
    }
}

bool model_name_ok(const char *name)
{
    size_t n = strlen(name);

    if (n == 0 || n > 200 || name[0] == '.' || name[0] == '-') {
        return false;
    }
    for (; *name != 0; name++) {
        if (!isalnum((unsigned char)*name) && strchr("._-+", *name) == NULL) {
            return false;
        }
    }
    return true;
}

void model_own_path(const char *name, char ret_path[PATH_MAX])
{
    path_in(PATH_DATA, ret_path, "models/%s.gguf", name);
}

struct wanted {
    const char *name;
    char *path;
    bool found;
};

static bool match(const struct model_entry *entry, void *arg)
{
    struct wanted *w = arg;

    if (strcmp(entry->name, w->name) == 0) {
        path_format(w->path, "%s", entry->path);
        w->found = true;
    }
    return !w->found;
}

struct names {
    char text[512];
};

static bool add_name(const struct model_entry *entry, void *arg)
{
    struct names *n = arg;
    size_t used = strlen(n->text);

    (void)snprintf(n->text + used, sizeof n->text - used, "%s%s", used == 0 ? "" : ", ",
                   entry->name);
    return strlen(n->text) < sizeof n->text - 1;
}

static enum cli_exit not_here(const char *name)
{
    const char *names[16];
    const char *near;
    struct names have = {""};
    size_t n = 0;

    if (catalogue_find(name) != NULL) {
        return cli_fail(CLI_NOT_FOUND, "model \"%s\" is not on this machine. Get it: ingle pull %s",
                        name, name);
    }
    for (const struct catalogue_model *m = catalogue; m->name != NULL && n < 15; m++) {
        names[n++] = m->name;
    }
    names[n] = NULL;
    near = cli_nearest(name, names);
    if (near != NULL) {
        return cli_fail(CLI_NOT_FOUND, "no model \"%s\", did you mean \"%s\"?", name, near);
    }
    models_scan(add_name, &have);
    if (have.text[0] == 0) {
        return cli_fail(CLI_NOT_FOUND,
                        "no model \"%s\", and none on this machine yet. Get one: ingle pull %s",
                        name, catalogue[0].name);
    }
    return cli_fail(CLI_NOT_FOUND, "no model \"%s\". On this machine: %s (see: ingle ls)", name,
                    have.text);
}

enum cli_exit model_resolve(const char *name, char ret_path[PATH_MAX])
{
    struct wanted w = {.name = name, .path = ret_path};
    bool is_path = strchr(name, '/') != NULL || has_suffix(name, ".gguf");
    char *absolute = is_path ? realpath(name, NULL) : NULL;
    int why = errno;

    if (absolute != NULL) {
        path_format(ret_path, "%s", absolute);
        free(absolute);
        return CLI_OK;
    }
    if (model_name_ok(name)) { /* the usual case needs no walk */
        model_own_path(name, ret_path);
        if (access(ret_path, R_OK) == 0) {
            return CLI_OK;
        }
    }
    models_scan(match, &w);
    if (w.found) {
        return CLI_OK;
    }
    return is_path ? cli_fail(CLI_NOT_FOUND, "cannot open model file %s: %s", name,
                              strerrordesc_np(why))
                   : not_here(name);
}
