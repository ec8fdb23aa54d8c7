/* Owns nothing. `ingle doctor`: what this machine has that the runtime wants, and what to do about
 * the rest. Changes nothing. Thread: main. */
#include <dirent.h>
#include <errno.h>
#include <json-c/json.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "shm/layout.h"
#include "shm/paths.h"
#include "tools/ingle/conf.h"
#include "tools/ingle/json.h"
#include "tools/ingle/models.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/proc.h"
#include "tools/ingle/runtime.h"
#include "tools/ingle/verbs.h"

enum verdict {
    VERDICT_OK,
    VERDICT_WARN,
    VERDICT_BAD
};

struct report {
    struct json json;
    bool as_json;
    int n_bad;
};

/* One line: what was looked at, what was found, what to do (fix; NULL where nothing). */
static void say(struct report *r, const char *name, enum verdict verdict, const char *found,
                const char *fix)
{
    static const char *const words[] = {"ok", "warn", "bad"};
    static const char *const marks[] = {" ", "!", "X"};

    r->n_bad += verdict == VERDICT_BAD;
    if (r->as_json) {
        json_open(&r->json, '{');
        json_key(&r->json, "name");
        json_str(&r->json, name);
        json_key(&r->json, "status");
        json_str(&r->json, words[verdict]);
        json_key(&r->json, "found");
        json_str(&r->json, found);
        if (fix != NULL) {
            json_key(&r->json, "fix");
            json_str(&r->json, fix);
        }
        json_close(&r->json, '}');
        return;
    }
    (void)printf("%s %-12s %s\n", marks[verdict], name, found);
    if (fix != NULL) {
        (void)printf("%-15s-> %s\n", "", fix);
    }
}

/* The value of a line "key : value" in a /proc text; false when there is none. */
static bool proc_value(const char *text, const char *key, char *ret, size_t bytes)
{
    for (const char *line = text; line != NULL && *line != 0;) {
        if (strncmp(line, key, strlen(key)) == 0) {
            const char *value = line + strcspn(line, ":\n");

            if (*value == ':') {
                value += 1 + strspn(value + 1, " \t");
                (void)snprintf(ret, bytes, "%.*s", (int)strcspn(value, "\n"), value);
                return true;
            }
        }
        line = strchr(line, '\n');
        line += line != NULL;
    }
    return false;
}

static bool has_word(const char *words, const char *word)
{
    size_t n = strlen(word);

    for (const char *p = strstr(words, word); p != NULL; p = strstr(p + 1, word)) {
        if ((p == words || p[-1] == ' ') && (p[n] == ' ' || p[n] == 0)) {
            return true;
        }
    }
    return false;
}

static void check_cpu(struct report *r)
{
    static const char *const wanted[] = {"avx2",    "fma",         "f16c",     "avx_vnni",
                                         "avx512f", "avx512_vnni", "amx_int8", "amx_bf16"};
    char model[128] = "unknown", flags[8192] = "", found[512];
    char *text;
    size_t bytes, used;
    bool avx2;

    if (file_read("/proc/cpuinfo", 1 << 24, &text, &bytes) == 0) {
        (void)proc_value(text, "model name", model, sizeof model);
        (void)proc_value(text, "flags", flags, sizeof flags);
        free(text);
    }
    used = (size_t)snprintf(found, sizeof found, "%s, %ld cores:", model,
                            sysconf(_SC_NPROCESSORS_ONLN));
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0] && used < sizeof found; i++) {
        if (has_word(flags, wanted[i])) {
            used += (size_t)snprintf(found + used, sizeof found - used, " %s", wanted[i]);
        }
    }
    avx2 = has_word(flags, "avx2") && has_word(flags, "fma") && has_word(flags, "f16c");
    say(r, "cpu", avx2 ? VERDICT_OK : VERDICT_WARN, found,
        avx2 ? NULL : "without AVX2 the plain C kernels serve: correct, and slow");
}

static void check_memory(struct report *r)
{
    char total[64] = "?", available[64] = "?", found[192];
    struct rlimit lock;
    char *text, amount[16];
    size_t bytes;

    if (file_read("/proc/meminfo", 1 << 20, &text, &bytes) == 0) {
        (void)proc_value(text, "MemTotal", total, sizeof total);
        (void)proc_value(text, "MemAvailable", available, sizeof available);
        free(text);
    }
    (void)snprintf(found, sizeof found, "%s for programs of %s",
                   bytes_text(strtoull(available, NULL, 10) * 1024, amount),
                   bytes_text(strtoull(total, NULL, 10) * 1024, (char[16]){""}));
    say(r, "memory", VERDICT_OK, found, NULL);
    if (getrlimit(RLIMIT_MEMLOCK, &lock) == 0) {
        bool low = lock.rlim_cur != RLIM_INFINITY && lock.rlim_cur < (64u << 20);

        say(r, "memlock", low ? VERDICT_WARN : VERDICT_OK,
            lock.rlim_cur == RLIM_INFINITY ? "unlimited" : bytes_text(lock.rlim_cur, amount),
            low ? "pages cannot be pinned; nothing needs it on the CPU. To raise it: "
                  "\"* - memlock unlimited\" in /etc/security/limits.conf"
                : NULL);
    }
}

static void check_kernel(struct report *r)
{
    struct io_uring_params params = {0};
    struct utsname name;
    char found[256];
    long fd = syscall(SYS_io_uring_setup, 2, &params);
    int why = errno;
    int memfd = memfd_create("ingle-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (uname(&name) == 0) {
        (void)snprintf(found, sizeof found, "%s %s", name.sysname, name.release);
        say(r, "kernel", VERDICT_OK, found, NULL);
    }
    (void)snprintf(found, sizeof found, "%s", fd >= 0 ? "works" : strerrordesc_np(why));
    say(r, "io_uring", fd >= 0 ? VERDICT_OK : VERDICT_BAD, found,
        fd >= 0
            ? NULL
            : "the runtime reads models with it: allow it (sysctl kernel.io_uring_disabled=0, or "
              "the container's seccomp profile)");
    if (fd >= 0) {
        (void)close((int)fd);
    }
    (void)snprintf(found, sizeof found, "%s", memfd >= 0 ? "works" : strerrordesc_np(errno));
    say(r, "memfd", memfd >= 0 ? VERDICT_OK : VERDICT_BAD, found,
        memfd >= 0 ? NULL : "clients share memory through it: allow memfd_create");
    if (memfd >= 0) {
        (void)close(memfd);
    }
}

struct count {
    int n;
    uint64_t bytes;
};

static bool count_model(const struct model_entry *entry, void *arg)
{
    struct count *c = arg;

    c->n++;
    c->bytes += entry->bytes;
    return true;
}

static void check_models(struct report *r)
{
    struct count c = {0, 0};
    char found[64], amount[16];

    models_scan(count_model, &c);
    (void)snprintf(found, sizeof found, "%d, %s", c.n, bytes_text(c.bytes, amount));
    say(r, "models", c.n > 0 ? VERDICT_OK : VERDICT_WARN, found,
        c.n > 0 ? NULL : "get one: ingle pull smollm2-135m");
}

static void count_images(const char *folder, struct count *c)
{
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, NULL, NULL);

    for (int i = 0; i < n; i++) {
        char path[PATH_MAX];
        struct stat st;

        path_format(path, "%s/%s", folder, entries[i]->d_name);
        if (ingle_path_is_image(entries[i]->d_name, NULL) && lstat(path, &st) == 0) {
            c->n++;
            c->bytes += (uint64_t)st.st_size;
        }
        free(entries[i]);
    }
    free(entries);
}

/* Packed weights that the runtime keeps: what they take is worth knowing, and never wrong. */
static void check_images(struct report *r)
{
    struct count c = {0, 0};
    char folder[PATH_MAX], found[64], amount[16];

    path_in(PATH_DATA, folder, "models");
    count_images(folder, &c);
    path_in(PATH_CACHE, folder, "images");
    count_images(folder, &c);
    (void)snprintf(found, sizeof found, "%d, %s", c.n, bytes_text(c.bytes, amount));
    say(r, "images", VERDICT_OK, found, NULL);
}

static void check_pip(struct report *r)
{
    const char *argv[] = {"python3", "-m", "pip", "--version", NULL};
    char found[256];
    bool ok = proc_capture(argv, found, sizeof found) == 0;

    found[strcspn(found, "\n(")] = 0;
    say(r, "pip", ok ? VERDICT_OK : VERDICT_WARN, ok ? found : "not there",
        ok ? NULL : "ingle pull NAME needs it: apt-get install python3-pip");
}

static void check_config(struct report *r, const char *program)
{
    const char *argv[] = {program, "--print-config", NULL};
    char path[PATH_MAX], found[PATH_MAX + 32], unused[16];
    bool ok = proc_capture(argv, unused, sizeof unused) == 0;

    conf_path(path);
    (void)snprintf(found, sizeof found, "%s%s", path,
                   !ok                       ? " has errors"
                   : access(path, F_OK) != 0 ? " (not there: the defaults hold)"
                                             : "");
    say(r, "config", ok ? VERDICT_OK : VERDICT_BAD, found, ok ? NULL : "see: ingle config check");
}

static void check_runtime(struct report *r)
{
    struct ingle_attach_options options = {.name = "ingle doctor"};
    char program[PATH_MAX], version[256] = "", kernels[64], err[512] = "";
    struct ingle_client *client;
    int status;

    if (runtime_program(program)) {
        const char *argv[] = {program, "--version", NULL};
        char found[PATH_MAX + 300];

        (void)proc_capture(argv, version, sizeof version);
        if (sscanf(version, "%*[^\n] kernels %63s", kernels) == 1) {
            say(r, "kernels", VERDICT_OK, kernels, NULL); /* its choice, not a guess of ours */
        }
        version[strcspn(version, "\n")] = 0;
        (void)snprintf(found, sizeof found, "%s (%s)", program, version);
        say(r, "ingled", VERDICT_OK, found, NULL);
        check_config(r, program);
    } else {
        say(r, "ingled", VERDICT_BAD, "neither beside ingle nor in PATH",
            "tools/quickstart installs it");
    }
    status = ingle_attach(&options, &client, err, sizeof err);
    if (status == 0) {
        ingle_detach(client);
        say(r, "runtime", VERDICT_OK, "runs and answers", NULL);
    } else if (status == -ENOENT || status == -ECONNREFUSED) {
        say(r, "runtime", VERDICT_OK, "not running; ingle run starts it", NULL);
    } else {
        say(r, "runtime", VERDICT_BAD, err[0] != 0 ? err : strerrordesc_np(-status), NULL);
    }
}

enum cli_exit verb_doctor(const struct cli_call *call)
{
    struct report r = {.as_json = cli_has(call, "json")};
    char found[128];

    json_init(&r.json, stdout);
    if (r.as_json) {
        json_open(&r.json, '[');
    }
    (void)snprintf(found, sizeof found, "%s (libingle %s, protocol %u)", INGLE_VERSION,
                   ingle_version(), INGLE_PROTO_VER);
    say(&r, "ingle", VERDICT_OK, found, NULL);
    check_cpu(&r);
    check_memory(&r);
    check_kernel(&r);
    check_runtime(&r);
    check_models(&r);
    check_images(&r);
    check_pip(&r);
    if (r.as_json) {
        json_close(&r.json, ']');
        (void)putchar('\n');
    }
    return r.n_bad == 0 ? CLI_OK : CLI_FAIL;
}
