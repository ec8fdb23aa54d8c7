/* The process: reads its arguments and configuration, takes the socket, starts the threads, runs io
 * on this one, and takes everything down in the opposite order. Owns every part of the runtime for
 * as long as it lives. The main thread is io; it keeps the process's name. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/mem.h"
#include "runtime/daemon/config.h"
#include "runtime/daemon/notify.h"
#include "runtime/daemon/rendezvous.h"
#include "runtime/sched/sched.h"
#include "runtime/session/io.h"

struct arguments {
    const char *socket, *config, *log_level;
    long spin_us; /* -1: as configured */
    bool null, print_config;
};

struct daemon {
    struct arguments args;
    struct ingle_config config;
    struct ingle_paths paths;
    struct ingle_rendezvous rendezvous;
    struct ingle_board board;
    struct ingle_sched *sched;
    struct ingle_io io;
    pthread_t step;
    struct ingle_source signals;
    struct ingle_timer watchdog;
    int log_fd; /* -1: standard error */
};

/* ---- arguments ------------------------------------------------------------------------------- */

static const char usage_text[] =
    "Usage: ingled [OPTION]...\n"
    "Serve language models to the clients of this machine over shared memory.\n"
    "\n"
    "  --socket PATH      listen here (default: $XDG_RUNTIME_DIR/ingle/ingle.sock)\n"
    "  --config FILE      read this file alone (default: $XDG_CONFIG_HOME/ingle/ingle.conf,\n"
    "                     then conf.d/*.conf there)\n"
    "  --print-config     check the configuration and print it, every key explained\n"
    "  --foreground       stay in the foreground; ingled always does\n"
    "  --null             serve the null engine: fixed answers, no model; for tests\n"
    "  --log-level LEVEL  error, warn, info or debug\n"
    "  --spin-us N        let io poll that long after activity before it sleeps, 0..1000\n"
    "  --version, --help\n"
    "\n"
    "SIGTERM and SIGINT end it in order; SIGHUP reads the configuration again.\n";

enum {
    OPT_SOCKET = 256,
    OPT_CONFIG,
    OPT_PRINT,
    OPT_FOREGROUND,
    OPT_NULL,
    OPT_LOG,
    OPT_SPIN
};

static int parse_level(const char *text, enum ingle_log_level *ret)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};

    for (int i = 0; i < 4; i++) {
        if (strcmp(text, names[i]) == 0) {
            *ret = (enum ingle_log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}

/* -1: go on; otherwise the exit status. */
static int parse_arguments(int argc, char **argv, struct arguments *args)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, OPT_SOCKET},
        {"config", required_argument, NULL, OPT_CONFIG},
        {"print-config", no_argument, NULL, OPT_PRINT},
        {"foreground", no_argument, NULL, OPT_FOREGROUND},
        {"null", no_argument, NULL, OPT_NULL},
        {"log-level", required_argument, NULL, OPT_LOG},
        {"spin-us", required_argument, NULL, OPT_SPIN},
        {"version", no_argument, NULL, 'V'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    enum ingle_log_level level;
    char *end;
    int c;

    while ((c = getopt_long(argc, argv, "hV", options, NULL)) != -1) {
        switch (c) {
        case OPT_SOCKET:
            args->socket = optarg;
            break;
        case OPT_CONFIG:
            args->config = optarg;
            break;
        case OPT_PRINT:
            args->print_config = true;
            break;
        case OPT_FOREGROUND:
            break;
        case OPT_NULL:
            args->null = true;
            break;
        case OPT_LOG:
            if (parse_level(optarg, &level) != 0) {
                (void)fprintf(stderr, "ingled: --log-level %s: error, warn, info or debug\n",
                              optarg);
                return INGLE_ERR_USAGE;
            }
            args->log_level = optarg;
            break;
        case OPT_SPIN:
            args->spin_us = strtol(optarg, &end, 10);
            if (end == optarg || *end != '\0' || args->spin_us < 0 || args->spin_us > 1000) {
                (void)fprintf(stderr, "ingled: --spin-us %s: a number from 0 to 1000\n", optarg);
                return INGLE_ERR_USAGE;
            }
            break;
        case 'V':
            (void)printf("ingled %s\nkernels %s\n", INGLE_VERSION, ingle_kernels_best()->isa);
            return 0;
        case 'h':
            (void)fputs(usage_text, stdout);
            return 0;
        default:
            (void)fputs("Try: ingled --help\n", stderr);
            return INGLE_ERR_USAGE;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "ingled: unexpected argument \"%s\". Try: ingled --help\n",
                      argv[optind]);
        return INGLE_ERR_USAGE;
    }
    return -1;
}

/* ---- what the configuration says ------------------------------------------------------------- */

static int open_log(struct daemon *d, struct ingle_error *err)
{
    const char *name = d->config.daemon.log_file;
    char path[sizeof d->paths.state + INGLE_CONFIG_TEXT_BYTES];
    int fd;

    if (name[0] == '\0') {
        ingle_log_init(STDERR_FILENO);
        fd = -1;
    } else {
        if (name[0] == '/') {
            (void)snprintf(path, sizeof path, "%s", name);
        } else {
            (void)snprintf(path, sizeof path, "%s/%s", d->paths.state, name);
            (void)ingle_config_make_dirs(d->paths.state); /* open says what is wrong */
        }
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd < 0) {
            int code = -errno;

            return ingle_fail(err, code, "cannot write the log %s: %s", path,
                              strerrordesc_np(-code));
        }
        ingle_log_init(fd);
    }
    if (d->log_fd >= 0) {
        (void)close(d->log_fd);
    }
    d->log_fd = fd;
    return 0;
}

static void set_level(const struct daemon *d)
{
    enum ingle_log_level level = (enum ingle_log_level)d->config.daemon.log_level;

    if (d->args.log_level != NULL) {
        (void)parse_level(d->args.log_level, &level); /* checked when it was read */
    }
    ingle_log_set_level(level);
}

/* [model] sections as what `open` knows by name. */
static const enum ingle_act_mode act_modes[] = {
    [INGLE_CONFIG_ACTIVATIONS_8] = INGLE_ACT_INT8,
    [INGLE_CONFIG_ACTIVATIONS_16] = INGLE_ACT_INT16,
    [INGLE_CONFIG_ACTIVATIONS_32] = INGLE_ACT_F32,
    [INGLE_CONFIG_ACTIVATIONS_BF16] = INGLE_ACT_BF16,
};

static void set_models(struct daemon *d)
{
    struct ingle_models *models = &d->io.models;

    models->images = d->config.cache.image_cache == INGLE_CONFIG_YES;
    if (models->images) {
        (void)ingle_config_make_dirs(d->paths.images); /* who writes there says what is wrong */
    }
    models->n_specs = 0;
    for (uint32_t i = 0; i < d->config.n_models; i++) {
        const struct ingle_config_model *m = &d->config.models[i];
        struct ingle_model_spec *spec = &models->specs[models->n_specs++];
        const char *file = m->file;

        *spec = (struct ingle_model_spec){
            .want = {.kv_bits = (uint8_t)m->kv_bits,
                     .ref_kernels = m->kernels == INGLE_CONFIG_KERNELS_REF,
                     .activations = act_modes[m->activations],
                     .context_tokens = (uint32_t)m->context},
            .keep = m->keep == INGLE_CONFIG_KEEP_ALWAYS,
        };
        (void)snprintf(spec->want.name, sizeof spec->want.name, "%s", m->name);
        if (file[0] == '/') {
            (void)snprintf(spec->want.path, sizeof spec->want.path, "%s", file);
        } else {
            (void)snprintf(spec->want.path, sizeof spec->want.path, "%.300s/%s%s", models->dir,
                           file[0] != '\0' ? file : m->name, file[0] != '\0' ? "" : ".gguf");
        }
    }
    (void)snprintf(models->default_name, sizeof models->default_name, "%s",
                   d->config.daemon.default_model);
    if (d->args.null) {
        struct ingle_model_spec *spec = &models->specs[models->n_specs++];

        *spec = (struct ingle_model_spec){.want = {.name = "null", .kv_bits = 8}, .keep = true};
        (void)snprintf(models->default_name, sizeof models->default_name, "null");
    }
}

static int reload(void *arg, struct ingle_error *err)
{
    struct daemon *d = arg;
    int res;

    ingle_notify_reloading();
    res = ingle_config_load(d->args.config, &d->config, err);
    if (res == 0) {
        res = open_log(d, err);
    }
    if (res == 0) {
        set_level(d);
        set_models(d);
        ingle_models_open_kept(&d->io);
        ingle_log(INGLE_LOG_INFO, "reload models=%u", d->config.n_models);
    } else {
        ingle_log(INGLE_LOG_ERROR, "reload-failed why=\"%s\"", err->text);
    }
    ingle_notify_ready();
    return res;
}

/* ---- signals and the watchdog ---------------------------------------------------------------- */

static void signal_ready(struct ingle_source *source, uint32_t events)
{
    struct daemon *d = ingle_container(source, struct daemon, signals);
    struct signalfd_siginfo info;
    struct ingle_error err;

    (void)events;
    while (read(source->fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP) {
            (void)reload(d, &err); /* logged there; the old configuration stays */
        } else if (d->io.draining) {
            ingle_log(INGLE_LOG_WARN, "exit why=\"second signal\"");
            ingle_log_drain();
            ingle_rendezvous_close(&d->rendezvous);
            _exit(128 + (int)info.ssi_signo);
        } else {
            ingle_log(INGLE_LOG_INFO, "shutdown by=signal signal=%u pid=%u", info.ssi_signo,
                      info.ssi_pid);
            ingle_notify_stopping();
            ingle_io_shutdown(&d->io);
        }
    }
}

static void watchdog_fired(struct ingle_timer *timer)
{
    struct daemon *d = ingle_container(timer, struct daemon, watchdog);

    ingle_notify_alive();
    if (ingle_reactor_arm(&d->io.reactor, timer, ingle_clock_ns() + ingle_notify_watchdog_ns()) !=
        0) {
        ingle_log(INGLE_LOG_ERROR, "timer why=\"no memory\"");
    }
}

/* Before the first thread, so that all of them inherit the mask. */
static void block_signals(sigset_t *ret)
{
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is an error of the write */
    (void)sigemptyset(ret);
    (void)sigaddset(ret, SIGTERM);
    (void)sigaddset(ret, SIGINT);
    (void)sigaddset(ret, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, ret, NULL);
}

/* Prompts of all clients are in this process: no core file of it, and no ptrace by a sibling. */
static void close_the_curtains(void)
{
    struct rlimit none = {0, 0};

    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)setrlimit(RLIMIT_CORE, &none);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void *step_main(void *sched)
{
    ingle_sched_run(sched);
    return NULL;
}

static int start_io(struct daemon *d, const sigset_t *signals, struct ingle_error *err)
{
    struct ingle_sched_options limits = {0}; /* sched's own defaults, for it and the engines */
    struct ingle_io_options options = {
        .board = &d->board,
        .listen_fd = d->rendezvous.listen_fd,
        .socket_path = d->rendezvous.path,
        .budget_bytes = d->config.daemon.memory,
        .kv_bytes = d->config.cache.kv_bytes,
        .spin_us = (uint32_t)(d->args.spin_us >= 0 ? d->args.spin_us : d->config.daemon.spin_us),
        .n_threads = (uint32_t)d->config.daemon.threads,
        .limits = &limits,
        .models_dir = d->paths.models,
        .images_dir = d->paths.images,
        .reload = reload,
        .reload_arg = d,
    };
    int res = ingle_sched_create(&limits, &d->board, &d->sched, err);

    if (res != 0) {
        return res;
    }
    options.sched = d->sched;
    res = ingle_io_init(&d->io, &options, err);
    if (res != 0) {
        return res;
    }
    set_models(d);
    d->signals = (struct ingle_source){.fd = signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK),
                                       .ready = signal_ready};
    if (d->signals.fd < 0 || ingle_reactor_watch(&d->io.reactor, &d->signals, EPOLLIN) != 0) {
        return ingle_fail(err, -errno, "cannot watch signals: %s", strerrordesc_np(errno));
    }
    d->watchdog.fire = watchdog_fired;
    if (ingle_notify_watchdog_ns() != 0) {
        watchdog_fired(&d->watchdog);
    }
    res = pthread_create(&d->step, NULL, step_main, d->sched);
    return res == 0
               ? 0
               : ingle_fail(err, -res, "cannot start the step thread: %s", strerrordesc_np(res));
}

static int serve(struct daemon *d, struct ingle_error *err)
{
    sigset_t signals;
    int res;

    close_the_curtains();
    block_signals(&signals);
    res = ingle_paths_find(&d->paths, err);
    if (res == 0) {
        res = open_log(d, err);
    }
    if (res == 0) {
        set_level(d);
        res = ingle_rendezvous_open(&d->rendezvous, d->args.socket, err);
    }
    if (res == 0) {
        res = start_io(d, &signals, err);
    }
    if (res != 0) {
        ingle_rendezvous_close(&d->rendezvous);
        return res;
    }
    ingle_log(INGLE_LOG_INFO, "start version=%s pid=%d socket=%s budget_bytes=%llu kernels=%s",
              INGLE_VERSION, (int)getpid(), d->rendezvous.path,
              (unsigned long long)d->config.daemon.memory, ingle_kernels_best()->isa);
    if (ingle_kernels_best() == ingle_kernels_ref()) {
        ingle_log(INGLE_LOG_WARN, "slow why=\"this CPU has no AVX2: the plain C kernels serve\"");
    }
    ingle_log_drain();
    ingle_notify_ready();
    ingle_io_run(&d->io);
    (void)pthread_join(d->step, NULL);
    ingle_rendezvous_close(&d->rendezvous); /* a client that comes now may start the next one */
    ingle_log(INGLE_LOG_INFO, "stop uptime_s=%llu requests=%llu",
              (unsigned long long)((ingle_clock_ns() - d->io.started_ns) / INGLE_NS_PER_S),
              (unsigned long long)d->io.counters.n_requests);
    ingle_io_fini(&d->io);
    ingle_sched_free(d->sched);
    (void)close(d->signals.fd);
    return 0;
}

int main(int argc, char **argv)
{
    struct ingle_error err = {0};
    struct daemon *d;
    int status;

    d = ingle_mem_map(sizeof *d);
    if (d == NULL) {
        (void)fputs("ingled: not enough memory to start\n", stderr);
        return INGLE_ERR_OTHER;
    }
    d->args.spin_us = -1;
    d->log_fd = d->rendezvous.listen_fd = d->rendezvous.lock_fd = -1;
    status = parse_arguments(argc, argv, &d->args);
    if (status < 0) {
        status = 0;
        if (ingle_config_load(d->args.config, &d->config, &err) == 0) {
            if (d->args.print_config) {
                ingle_config_print(&d->config, stdout);
            } else {
                (void)serve(d, &err);
            }
        }
        if (err.code != 0) {
            (void)fprintf(stderr, "ingled: %s\n", err.text);
            status = err.kind == INGLE_ERR_NONE ? INGLE_ERR_OTHER : (int)err.kind;
        }
    }
    ingle_mem_unmap(d, sizeof *d);
    return status;
}
