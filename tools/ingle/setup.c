/* Owns nothing. `ingle setup`: folders, a first configuration file and, where a systemd user
 * manager runs, the socket unit. Says each step; what is there already stays as it is. Thread:
 * main. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/ingle/conf.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/proc.h"
#include "tools/ingle/verbs.h"

static const char first_config[] =
    "; Ingle's configuration: man ingle.conf lists every key; `ingle config check` looks for "
    "errors.\n"
    "; A running ingled reads it again on SIGHUP.\n"
    "\n"
    "[daemon]\n"
    ";memory = 60%            ; ceiling for weights and KV together\n"
    ";default_model =          ; what serves requests that name no model\n"
    "\n"
    "[hub]\n"
    ";base = https://huggingface.co\n";

static enum cli_exit make_folder(enum path_base base, const char *tail)
{
    char folder[PATH_MAX];
    int r;

    path_in(base, folder, "%s", tail);
    if (access(folder, F_OK) == 0) {
        cli_note("folder %s: there", folder);
        return CLI_OK;
    }
    r = path_make(folder);
    if (r < 0) {
        return cli_fail(CLI_FAIL, "cannot make folder %s: %s", folder, strerrordesc_np(-r));
    }
    cli_note("folder %s: made", folder);
    return CLI_OK;
}

static enum cli_exit write_config(void)
{
    char path[PATH_MAX];
    int fd, r;

    conf_path(path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        if (errno == EEXIST) {
            cli_note("configuration %s: there", path);
            return CLI_OK;
        }
        return cli_fail(CLI_FAIL, "cannot write %s: %m", path);
    }
    r = file_write_all(fd, first_config, sizeof first_config - 1);
    (void)close(fd);
    if (r < 0) {
        return cli_fail(CLI_FAIL, "cannot write %s: %s", path, strerrordesc_np(-r));
    }
    cli_note("configuration %s: written (every key has its default)", path);
    return CLI_OK;
}

/* The unit file of this installation: PREFIX/share/systemd/user beside PREFIX/bin/ingle. */
static bool unit_path(const char *unit, char ret[PATH_MAX])
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = NULL;

    for (int up = 0; n > 0 && up < 2; up++) { /* bin/ingle -> PREFIX */
        self[n] = 0;
        slash = strrchr(self, '/');
        n = slash != NULL ? slash - self : 0;
    }
    if (slash == NULL) {
        return false;
    }
    *slash = 0;
    path_format(ret, "%s/share/systemd/user/%s", self, unit);
    return access(ret, R_OK) == 0;
}

static int systemctl(const char *verb, const char *option, const char *operand)
{
    const char *argv[] = {"systemctl",
                          "--user",
                          "--quiet",
                          verb,
                          option != NULL ? option : operand,
                          option != NULL ? operand : NULL,
                          NULL};
    pid_t pid = proc_start(argv, -1, -1);

    return pid < 0 ? pid : proc_wait(pid, NULL, NULL);
}

static enum cli_exit install_units(void)
{
    const char *probe[] = {"systemctl", "--user", "show-environment", NULL};
    char socket_unit[PATH_MAX], service_unit[PATH_MAX];
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    pid_t pid = null < 0 ? -1 : proc_start(probe, null, null);
    bool manager = pid > 0 && proc_wait(pid, NULL, NULL) == 0;

    (void)close(null);
    if (!manager) {
        cli_note("systemd: no user manager here; ingle run starts the runtime when it is needed");
        return CLI_OK;
    }
    if (!unit_path("ingled.socket", socket_unit) || !unit_path("ingled.service", service_unit)) {
        cli_note("systemd: this ingle is not installed (no unit files beside it); skipped");
        return CLI_OK;
    }
    if (systemctl("is-active", NULL, "ingled.socket") == 0) {
        cli_note("systemd: ingled.socket is active");
        return CLI_OK;
    }
    /* `link` and `enable` take paths, so an installation anywhere works. */
    if (systemctl("link", NULL, service_unit) != 0 ||
        systemctl("enable", "--now", socket_unit) != 0) {
        return cli_fail(CLI_FAIL,
                        "systemctl --user enable --now %s failed. Is another ingled "
                        "running? Stop it: ingle shutdown",
                        socket_unit);
    }
    cli_note("systemd: ingled.socket enabled; the runtime starts with the first request");
    return CLI_OK;
}

enum cli_exit verb_setup(const struct cli_call *call)
{
    enum cli_exit e = make_folder(PATH_DATA, "models");

    (void)call;
    if (e == CLI_OK) {
        e = make_folder(PATH_CONFIG, "");
    }
    if (e == CLI_OK) {
        e = make_folder(PATH_STATE, "");
    }
    if (e == CLI_OK) {
        e = write_config();
    }
    if (e == CLI_OK) {
        e = install_units();
    }
    if (e == CLI_OK) {
        cli_note("next: ingle doctor, ingle pull smollm2-135m, ingle run \"Say hello\"");
    }
    return e;
}
