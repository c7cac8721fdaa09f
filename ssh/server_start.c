/* How leatd comes up: what needs root first (host keys, ports, the PidFile), then what needs none; and how it is taken
 * down, in the opposite order. */
#include "engine/limits.h"
#include "engine/offload.h"
#include "ssh/audit.h"
#include "ssh/confine.h"
#include "ssh/program.h"
#include "ssh/server_internal.h"
#include "ssh/server_keys.h"
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <syslog.h>
#include <unistd.h>

/* ---- generations ---- */

struct server_generation *server_generation_ref(struct server_generation *generation) {
    atomic_fetch_add_explicit(&generation->references, 1, memory_order_relaxed);
    return generation;
}

void server_generation_unref(struct server_generation *generation) {
    if (generation == NULL || atomic_fetch_sub_explicit(&generation->references, 1, memory_order_acq_rel) != 1)
        return;
    server_keys_unref(generation->keys);
    server_options_unref(generation->options);
    server_config_unref(generation->config);
    free(generation);
}

int server_generation_create(struct server_config *config, const struct server_keys *keys_before,
                             struct server_generation **result) {
    struct server_bind *bind;
    struct server_generation *generation = calloc(1, sizeof(*generation));
    if (generation == NULL)
        return ERR_NOMEM;
    generation->references = 1;
    generation->config = server_config_ref(config);
    generation->options = server_config_resolve(config, NULL);
    int err = generation->options == NULL ? ERR_NOMEM : 0;
    if (err == 0)
        err = server_keys_read(generation->options, keys_before, &generation->keys);
    /* Once here, so that what libssh refuses is found out before any shard depends on it. */
    if (err == 0)
        err = server_keys_bind(generation->keys, generation->options, &bind);
    if (err != 0) {
        server_generation_unref(generation);
        return err;
    }
    server_bind_unref(bind);
    *result = generation;
    return 0;
}

int server_check(struct server_config *config) {
    struct server_generation *generation;
    if (server_generation_create(config, NULL, &generation) != 0)
        return EXIT_FAILED;
    server_generation_unref(generation);
    return 0;
}

/* ---- the log ---- */

void server_apply_log(const struct server_main *main, const struct server_options *options) {
    const struct server_command_line *line = main->line;
    enum log_level level = options->log_level;
    if (line->debug > 0)
        level = line->debug < 3 ? (enum log_level)(LOG_LEVEL_DEBUG1 + (int)line->debug - 1) : LOG_LEVEL_DEBUG3;
    else if (line->quiet)
        level = LOG_LEVEL_QUIET;
    log_set_level(level);
    audit_set_format(options->log_format);
}

/* What goes wrong before is told to whoever starts leatd. */
static void switch_log(const struct server_main *main) {
    const struct server_command_line *line = main->line;
    if (!line->to_stderr && line->debug == 0 && line->log_file == NULL)
        log_to_syslog("leatd", main->generation->options->syslog_facility);
}

/* ---- coming up ---- */

static int block_signals(struct server_main *main) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    main->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (main->signal_fd >= 0)
        return 0;
    log_error("cannot start: %s", strerror(errno));
    return ERR_SYSTEM;
}

/* The processors this process may run on. */
static uint32_t cores(void) {
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    if (count < 1)
        return 1;
    return count < (int)LIMIT_SHARDS ? (uint32_t)count : LIMIT_SHARDS;
}

/* Besides connections that are logged in, of which each has one. */
static void check_descriptors(const struct server_options *options, uint32_t shards) {
    char what[160];
    snprintf(what, sizeof(what), "%" PRIu32 " shards, %" PRIu32 " addresses and MaxStartups %" PRIu32, shards,
             options->listen_count + options->relays_count, options->max_startups_full);
    program_check_descriptors(16 + 3 * (uint64_t)shards + options->listen_count + options->relays_count +
                                  2 * (uint64_t)options->max_startups_full,
                              what);
}

static int allocate(struct server_main *main) {
    const struct server_options *options = main->generation->options;
    uint32_t count = main->inetd ? 1 : options->shards != 0 ? options->shards : cores();
    if (!main->inetd)
        check_descriptors(options, count);
    window_budget_init(&main->server.budget, options->memory_limit);
    main->server.shards = calloc(count, sizeof(*main->server.shards));
    if (main->server.shards == NULL)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < count; i++) {
        main->server.shards[i].server = &main->server;
        list_init(&main->server.shards[i].connections);
        list_init(&main->server.shards[i].relays);
        list_init(&main->server.shards[i].stripes);
    }
    main->server.shards_count = count;
    int err = startups_create(&main->server.startups);
    return err == 0 ? mailbox_create(LIMIT_MAILBOX_MESSAGES, &main->news) : err;
}

/* The default one is in a directory of root's: others have one where they name it. */
static const char *pid_file(const struct server_options *options) {
    bool is_default = options->pid_file != NULL && strcmp(options->pid_file, SERVER_PID_FILE) == 0;
    return is_default && geteuid() != 0 ? NULL : options->pid_file;
}

/* Binds, writes the PidFile, and is root no longer. */
static int use_privileges(struct server_main *main) {
    const struct server_options *options = main->generation->options;
    struct account account;
    int err = account_find(options->run_user, options->run_group, &account);
    if (err != 0)
        return err;
    if (main->inetd) {
        err = block_signals(main);
    } else {
        err = server_listen_plan(main, options, true);
        /* Not before: a name server that does not answer keeps nobody from ending the start. */
        if (err == 0)
            err = block_signals(main);
        if (err == 0)
            server_pid_write(&main->pid, pid_file(options), account.root ? geteuid() : account.uid,
                             account.root ? getegid() : account.gid);
    }
    if (err == 0)
        err = account_become(&account);
    account_deinit(&account);
    main->server.runs_as_root = geteuid() == 0;
    return err;
}

static int start_shards(struct server_main *main) {
    uint32_t wanted = main->server.shards_count;
    main->server.shards_count = 0;
    for (uint32_t i = 0; i < wanted; i++) {
        struct shard_options options = {.backend = main->generation->options->io_backend, .index = i, .cpu = -1};
        int err = shard_start(&options, &main->server.shards[i].shard);
        if (err != 0) {
            log_error("cannot start shard %u: %s", i, err_text(err));
            return err;
        }
        main->server.shards_count++;
    }
    log_verbose("%u shard(s) on %s", wanted, io_name(main->server.shards[0].shard->io));
    return server_shards_renew(main, main->generation);
}

static int start_threads(struct server_main *main) {
    int err = log_start_thread();
    if (err == 0)
        err = confine_system_calls();
    if (err == ERR_UNSUPPORTED)
        err = 0;
    if (err == 0)
        err = offload_start();
    if (err != 0) {
        main->server.shards_count = 0;
        log_error("cannot start: %s", err_text(err));
        return err;
    }
    err = start_shards(main);
    main->state = SERVER_RUNNING;
    return err;
}

int server_start(struct server_main *main, struct server_config *config) {
    list_init(&main->listens);
    main->signal_fd = main->pid.fd = main->pid.directory = -1;
    int err = server_generation_create(config, NULL, &main->generation);
    if (err != 0)
        return err;
    server_apply_log(main, main->generation->options);
    err = allocate(main);
    if (err != 0)
        log_error("cannot start: %s", err_text(err));
    else
        err = use_privileges(main);
    if (err != 0) {
        main->server.shards_count = 0;
        return err;
    }
    switch_log(main);
    server_keys_log(main->generation->keys);
    return start_threads(main);
}

/* ---- going down ---- */

void server_stop(struct server_main *main, int status) {
    server_pid_remove(&main->pid);
    if (main->state != SERVER_STARTING) {
        if (offload_busy()) { /* everything is closed; a name server that does not answer holds nobody up */
            log_stop_thread();
            _exit(status);
        }
        if (main->server.shards_count > 0)
            server_shards_clear(main);
        offload_stop();
    }
    for (uint32_t i = 0; i < main->server.shards_count; i++) {
        shard_stop(main->server.shards[i].shard);
        shard_join(main->server.shards[i].shard);
    }
    server_listen_free_all(main);
    server_generation_unref(main->generation);
    if (main->server.startups != NULL)
        startups_destroy(main->server.startups);
    if (main->news != NULL)
        mailbox_destroy(main->news);
    if (main->signal_fd >= 0)
        close(main->signal_fd);
    free(main->server.shards);
    log_stop_thread();
}
