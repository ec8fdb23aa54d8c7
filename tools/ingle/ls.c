/* Owns nothing. `ingle ls` and `ingle rm`. Thread: main. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/paths.h"
#include "tools/ingle/json.h"
#include "tools/ingle/models.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/verbs.h"

struct listing {
    struct json json;
    bool as_json;
    int n;
};

static bool show(const struct model_entry *entry, void *arg)
{
    struct listing *l = arg;
    char bytes[16];

    l->n++;
    if (l->as_json) {
        json_open(&l->json, '{');
        json_key(&l->json, "name");
        json_str(&l->json, entry->name);
        json_key(&l->json, "store");
        json_str(&l->json, model_store_names[entry->store]);
        json_key(&l->json, "bytes");
        json_u64(&l->json, entry->bytes);
        json_key(&l->json, "path");
        json_str(&l->json, entry->path);
        json_close(&l->json, '}');
        return true;
    }
    if (l->n == 1) {
        (void)printf("%-40s %10s  %-11s  %s\n", "NAME", "SIZE", "STORE", "PATH");
    }
    (void)printf("%-40s %10s  %-11s  %s\n", entry->name, bytes_text(entry->bytes, bytes),
                 model_store_names[entry->store], entry->path);
    return true;
}

enum cli_exit verb_ls(const struct cli_call *call)
{
    struct listing l = {.as_json = cli_has(call, "json")};

    json_init(&l.json, stdout);
    if (l.as_json) {
        json_open(&l.json, '[');
    }
    models_scan(show, &l);
    if (l.as_json) {
        json_close(&l.json, ']');
        (void)putchar('\n');
    } else if (l.n == 0) {
        cli_note("no model on this machine yet. Get one: ingle pull smollm2-135m");
    }
    return CLI_OK;
}

/* What the runtime has packed of a model, and would pack again. */
static void remove_images(const char *name)
{
    char folder[PATH_MAX], stem[PATH_MAX], path[PATH_MAX];
    struct dirent **entries = NULL;
    int n;

    path_in(PATH_DATA, folder, "models");
    path_format(stem, "%s.gguf", name);
    n = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        path_in(PATH_DATA, path, "models/%s", entries[i]->d_name);
        if (ingle_path_is_image(entries[i]->d_name, stem) && unlink(path) == 0) {
            cli_note("removed %s", path);
        }
        free(entries[i]);
    }
    free(entries);
}

enum cli_exit verb_rm(const struct cli_call *call)
{
    enum cli_exit worst = CLI_OK;

    for (int i = 0; i < call->n_operands; i++) {
        const char *name = call->operands[i];
        char path[PATH_MAX];

        model_own_path(name, path);
        if (!model_name_ok(name)) {
            worst = cli_fail(CLI_NOT_FOUND,
                             "\"%s\" is not a model of Ingle's own store; files of "
                             "others are theirs to remove",
                             name);
        } else if (unlink(path) < 0) {
            worst =
                cli_fail(errno == ENOENT ? CLI_NOT_FOUND : CLI_FAIL, "cannot remove %s: %m", path);
        } else {
            cli_note("removed %s", path);
            remove_images(name);
        }
    }
    return worst;
}
