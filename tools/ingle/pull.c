/* Owns nothing. `ingle pull`: decides which way a model comes in; imports local files. Thread:
 * main. */
#include "tools/ingle/pull.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/ingle/models.h"
#include "tools/ingle/part.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/progress.h"
#include "tools/ingle/verbs.h"

enum cli_exit pull_name(const char *path, const char *name, char ret_name[201])
{
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    size_t n = strlen(base);

    if (name != NULL) {
        (void)snprintf(ret_name, 201, "%s", name);
    } else {
        (void)snprintf(ret_name, 201, "%s", base);
        if (n > 5 && n < 201 && strcasecmp(base + n - 5, ".gguf") == 0) {
            ret_name[n - 5] = 0;
        }
    }
    if (!model_name_ok(ret_name) || (name != NULL && strlen(name) > 200)) {
        return cli_fail(CLI_USAGE,
                        "\"%s\" is no model name (letters, digits and . _ - + only); "
                        "give one with --name",
                        name != NULL ? name : base);
    }
    return CLI_OK;
}

enum cli_exit pull_done(const char *name)
{
    char path[PATH_MAX];

    model_own_path(name, path);
    (void)printf("%s\n", path);
    return CLI_OK;
}

/* Reflink (instant, on file systems that can) or copy into the part file. */
static enum cli_exit copy_into(struct part *part, int from, uint64_t bytes)
{
    struct progress progress;
    char what[256];
    enum cli_exit e = part_truncate(part);

    if (e != CLI_OK || ioctl(part->fd, FICLONE, from) == 0) {
        return e;
    }
    e = part_room(part, bytes);
    (void)snprintf(what, sizeof what, "copy %s", part->name);
    progress_start(&progress, what, bytes);
    while (e == CLI_OK) {
        char block[1 << 13];
        ssize_t n = read(from, block, sizeof block);

        if (n == 0) {
            break;
        }
        e = n < 0 ? cli_fail(CLI_FAIL, "cannot read the file: %m")
                  : part_append(part, block, (size_t)n);
        progress_at(&progress, part->bytes);
    }
    progress_end(&progress);
    return e;
}

static enum cli_exit import(int from, const struct stat *st, const char *path, const char *name)
{
    char final_path[PATH_MAX], folder[PATH_MAX], sha[SHA256_TEXT];
    struct stat have;
    struct part part;
    enum cli_exit e;
    int r;

    if (!model_is_gguf(from)) {
        return cli_fail(CLI_BAD_MODEL,
                        "%s: not a GGUF file (the first four bytes are not \"GGUF\")", path);
    }
    model_own_path(name, final_path);
    if (stat(final_path, &have) == 0) {
        if (have.st_dev == st->st_dev && have.st_ino == st->st_ino) {
            cli_note("%s is already here as \"%s\"", path, name);
            return pull_done(name);
        }
        return cli_fail(CLI_REFUSED,
                        "there is another model \"%s\" already. Remove it (ingle rm %s) or import "
                        "under another name (--name)",
                        name, name);
    }
    path_in(PATH_DATA, folder, "models");
    r = path_make(folder);
    if (r < 0) {
        return cli_fail(CLI_FAIL, "cannot make folder %s: %s", folder, strerrordesc_np(-r));
    }
    if (linkat(AT_FDCWD, path, AT_FDCWD, final_path, AT_SYMLINK_FOLLOW) == 0) {
        cli_note("imported %s as \"%s\" (hard link, no copy)", path, name);
        return pull_done(name);
    }
    e = part_open(&part, name);
    if (e != CLI_OK) {
        return e;
    }
    e = copy_into(&part, from, (uint64_t)st->st_size);
    if (e != CLI_OK) {
        (void)unlink(part.path);
        part_close(&part);
        return e;
    }
    e = part_commit(&part, NULL, sha);
    if (e == CLI_OK) {
        cli_note("imported %s as \"%s\"", path, name);
        e = pull_done(name);
    }
    return e;
}

enum cli_exit pull_file(const char *path, const char *given_name)
{
    char name[201];
    struct stat st;
    enum cli_exit e = pull_name(path, given_name, name);
    int from;

    if (e != CLI_OK) {
        return e;
    }
    from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (from < 0) {
        return cli_fail(errno == ENOENT ? CLI_NOT_FOUND : CLI_FAIL, "cannot open %s: %m", path);
    }
    if (fstat(from, &st) < 0 || !S_ISREG(st.st_mode)) {
        e = cli_fail(CLI_BAD_MODEL, "%s is not a regular file", path);
    } else {
        e = import(from, &st, path, name);
    }
    (void)close(from);
    return e;
}

static enum cli_exit unknown(const char *what)
{
    const char *names[16];
    const char *near;
    size_t n = 0;

    for (const struct catalogue_model *m = catalogue; m->name != NULL && n < 15; m++) {
        names[n++] = m->name;
    }
    names[n] = NULL;
    near = cli_nearest(what, names);
    if (near != NULL) {
        return cli_fail(CLI_NOT_FOUND, "no model \"%s\" in the catalogue, did you mean \"%s\"?",
                        what, near);
    }
    (void)cli_fail(CLI_NOT_FOUND, "no model \"%s\" in the catalogue, which has:", what);
    for (const struct catalogue_model *m = catalogue; m->name != NULL; m++) {
        cli_note("  %-20s %s", m->name, m->about);
    }
    cli_note("Others: ingle pull FILE, ingle pull hf:OWNER/REPO[/FILE], "
             "ingle pull URL --sha256 SUM");
    return CLI_NOT_FOUND;
}

enum cli_exit verb_pull(const struct cli_call *call)
{
    const char *what = call->operands[0];
    const char *name = cli_value(call, "name");
    const char *sha256 = cli_value(call, "sha256");
    const struct catalogue_model *model = catalogue_find(what);
    size_t n = strlen(what);

    if (sha256 != NULL &&
        (strlen(sha256) != 64 || strspn(sha256, "0123456789abcdefABCDEF") != 64)) {
        return cli_fail(CLI_USAGE, "pull: --sha256 wants 64 hexadecimal digits");
    }
    if (strncmp(what, "hf:", 3) == 0) {
        return pull_hub(what + 3, sha256, name);
    }
    if (strncmp(what, "http://", 7) == 0 || strncmp(what, "https://", 8) == 0) {
        return pull_url(what, sha256, name);
    }
    if (model != NULL) {
        return name == NULL ? pull_catalogue(model)
                            : cli_fail(CLI_USAGE, "pull: a model of the catalogue keeps its name");
    }
    if (strchr(what, '/') != NULL || (n > 5 && strcasecmp(what + n - 5, ".gguf") == 0)) {
        return pull_file(what, name);
    }
    return unknown(what);
}
