/* SIGHUP: the configuration and the keys are read again. Either all of it becomes what new connections get, or what is
 * wrong is reported and nothing changes. Connections that stand keep what they were given. */
#include "ssh/server_internal.h"
#include "ssh/server_keys.h"
#include <string.h>

static bool differs(const char *a, const char *b) {
    return (a == NULL) != (b == NULL) || (a != NULL && strcmp(a, b) != 0);
}

static void tell_unchanged(const struct server_options *old, const struct server_options *new) {
    const struct {
        const char *name;
        bool differs;
    } fixed[] = {
        {"Shards", old->shards != new->shards},
        {"IoBackend", old->io_backend != new->io_backend},
        {"MemoryLimit", old->memory_limit != new->memory_limit},
        {"PidFile", differs(old->pid_file, new->pid_file)},
        {"SyslogFacility", old->syslog_facility != new->syslog_facility},
        {"User", differs(old->run_user, new->run_user)},
        {"Group", differs(old->run_group, new->run_group)},
    };
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        if (fixed[i].differs)
            log_info("%s has changed: that takes a restart", fixed[i].name);
}

/* A log that was moved away, as logrotate(8) does it. */
static void reopen_log(const struct server_main *main) {
    if (main->line->log_file != NULL && program_log_to_file(main->line->log_file) != 0)
        log_error("the log goes on in the file that is open");
}

static int take(struct server_main *main, struct server_generation *generation) {
    int err = server_listen_plan(main, generation->options, false);
    if (err == 0)
        err = server_shards_renew(main, generation);
    if (err != 0) {
        server_listen_rollback(main);
        return err;
    }
    tell_unchanged(main->generation->options, generation->options);
    server_apply_log(main, generation->options);
    server_listen_commit(main);
    server_generation_unref(main->generation);
    main->generation = server_generation_ref(generation);
    return 0;
}

void server_reload(struct server_main *main) {
    struct server_config *config;
    struct server_generation *generation = NULL;
    reopen_log(main);
    int err = server_config_read(main->line, &config);
    if (err == 0) {
        err = server_generation_create(config, main->generation->keys, &generation);
        server_config_unref(config);
    }
    if (err == 0)
        err = take(main, generation);
    server_generation_unref(generation);
    if (err != 0)
        return log_error("reload failed: %s; the configuration in use stays", err_text(err));
    log_info("configuration reloaded");
    server_keys_log(main->generation->keys);
}
