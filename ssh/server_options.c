#include "ssh/server_options.h"
#include "engine/check.h"
#include "ssh/server_keywords.h"
#include "ssh/text.h"
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#define PORT_DEFAULT 22

void *server_need(void *memory) {
    if (!memory) {
        log_fatal("out of memory");
        exit(255);
    }
    return memory;
}

void *server_array_append(void *items, size_t count, size_t size) {
    bool full = (count & (count - 1)) == 0;
    return full ? reallocarray(items, count ? 2 * count : 1, size) : items;
}

struct server_options *server_options_create(void) {
    struct server_options *options = malloc(sizeof *options);
    if (!options)
        return NULL;
    *options = (struct server_options){
        .strict_modes = true,
        .pubkey_authentication = true,
        .permit_root_login = true,
        .max_auth_tries = 6,
        .max_sessions = 10,
        .required_rsa_bits = 1024,
        .allow_tcp_forwarding = FORWARDING_ALL,
        .allow_streamlocal_forwarding = FORWARDING_ALL,
        .streamlocal_bind_mask = 0177,
        .login_grace_s = 120,
        .client_alive_count_max = 3,
        .tcp_keepalive = true,
        .log_level = LOG_LEVEL_INFO,
        .family = AF_UNSPEC,
        .max_startups_begin = 10,
        .max_startups_rate = 30,
        .max_startups_full = 100,
        .per_source_max_startups = UINT32_MAX,
        .per_source_bits4 = 32,
        .per_source_bits6 = 128,
        .syslog_facility = LOG_AUTH,
        .pid_file = strdup(SERVER_PID_FILE),
        .io_backend = IO_BACKEND_AUTO,
        .memory_limit = LIMIT_WINDOW_BUDGET_BYTES,
        .drain_timeout_s = 10,
    };
    atomic_init(&options->references, 1);
    if (options->pid_file)
        return options;
    free(options);
    return NULL;
}

struct server_options *server_options_ref(const struct server_options *options) {
    struct server_options *mine = (struct server_options *)(uintptr_t)options;
    uint32_t before = atomic_fetch_add_explicit(&mine->references, 1, memory_order_relaxed);
    CHECK(before > 0 && before < UINT32_MAX);
    return mine;
}

static void listen_free(struct listen_address *listen, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        free(listen[i].host);
    free(listen);
}

static void access_free(struct server_options *options) {
    strings_clear(&options->authorized_keys_files);
    strings_clear(&options->allow_users);
    strings_clear(&options->deny_users);
    strings_clear(&options->allow_groups);
    strings_clear(&options->deny_groups);
    free(options->banner);
    permission_clear(&options->permit_open);
    permission_clear(&options->permit_listen);
    for (uint32_t i = 0; i < options->channel_timeouts_count; i++)
        free(options->channel_timeouts[i].type);
    free(options->channel_timeouts);
}

static void listeners_free(struct server_options *options) {
    listen_free(options->listen, options->listen_count);
    free(options->ports);
    for (uint32_t i = 0; i < options->relays_count; i++) {
        free(options->relays[i].listen.host);
        free(options->relays[i].host);
        free(options->relays[i].text);
    }
    free(options->relays);
}

void server_options_unref(struct server_options *options) {
    if (!options)
        return;
    uint32_t before = atomic_fetch_sub_explicit(&options->references, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before > 1)
        return;
    access_free(options);
    listeners_free(options);
    strings_clear(&options->host_keys);
    free(options->ciphers);
    free(options->kex_algorithms);
    free(options->host_key_algorithms);
    free(options->pubkey_accepted_algorithms);
    free(options->version_addendum);
    free(options->pid_file);
    free(options->run_user);
    free(options->run_group);
    free(options);
}

/* "global" is no channel type that patterns are compared with: it stands for all channels together, as in sshd. */
uint32_t server_options_channel_timeout(const struct server_options *options, const char *type) {
    bool global = !strcmp(type, "global");
    for (uint32_t i = 0; i < options->channel_timeouts_count; i++) {
        const struct channel_timeout *timeout = &options->channel_timeouts[i];
        bool of_global = !strcmp(timeout->type, "global");
        if (global ? of_global : !of_global && pattern_match(type, timeout->type, false))
            return timeout->seconds;
    }
    return 0;
}

/* Only numbers can be told apart before names are resolved. */
static bool family_fits(const struct server_options *options, const char *host) {
    uint8_t address[16];
    if (!host || options->family == AF_UNSPEC)
        return true;
    int other = options->family == AF_INET ? AF_INET6 : AF_INET;
    return inet_pton(other, host, address) != 1;
}

/* Adds `from`, with each of the ports where it has none of its own. */
static int listen_add(const struct server_options *options, const struct listen_address *from,
                      struct listen_address *all, uint32_t *count) {
    uint32_t times = from->port ? 1 : options->ports_count;
    for (uint32_t i = 0; i < times; i++) {
        char *host = from->host ? strdup(from->host) : NULL;
        if (from->host && !host)
            return ERR_NOMEM;
        all[(*count)++] = (struct listen_address){.host = host, .port = from->port ? from->port : options->ports[i]};
    }
    return 0;
}

/* Every address given without a port takes each of Port's. */
static int listen_expand(struct server_options *options) {
    const struct listen_address everywhere = {0}, *from = options->listen_count ? options->listen : &everywhere;
    uint32_t given = options->listen_count ? options->listen_count : 1, count = 0, filled = 0;
    for (uint32_t i = 0; i < given; i++)
        count += from[i].port ? 1 : options->ports_count;
    if (count > LIMIT_LISTEN_ADDRESSES) {
        log_error("ListenAddress: %u addresses and ports, and %u are the most", count, LIMIT_LISTEN_ADDRESSES);
        return ERR_CONFIG;
    }
    struct listen_address *all = reallocarray(NULL, count, sizeof *all);
    int error = all ? 0 : ERR_NOMEM;
    for (uint32_t i = 0; !error && i < given; i++)
        error = listen_add(options, &from[i], all, &filled);
    if (error) {
        listen_free(all, filled);
        return error;
    }
    listen_free(options->listen, options->listen_count);
    options->listen = all;
    options->listen_count = count;
    return 0;
}

static int listen_finish(struct server_options *options) {
    if (!options->ports_count) {
        options->ports = malloc(sizeof *options->ports);
        if (!options->ports)
            return ERR_NOMEM;
        options->ports[options->ports_count++] = PORT_DEFAULT;
    }
    for (uint32_t i = 0; i < options->listen_count; i++) {
        if (!family_fits(options, options->listen[i].host)) {
            log_error("ListenAddress %s: not an address of AddressFamily %s", options->listen[i].host,
                      options->family == AF_INET ? "inet" : "inet6");
            return ERR_CONFIG;
        }
    }
    return listen_expand(options);
}

static int files_finish(struct server_draft *draft) {
    static const char *const keys_files[] = {".ssh/authorized_keys", ".ssh/authorized_keys2"};
    struct server_options *options = draft->options;
    int error = 0;
    for (uint32_t i = 0; !error && !draft->keys_files_given && i < 2; i++)
        error = strings_add_copy(&options->authorized_keys_files, keys_files[i]);
    for (uint32_t i = 0; !error && !options->host_keys_given && i < draft->default_host_keys->count; i++)
        error = strings_add_copy(&options->host_keys, draft->default_host_keys->items[i]);
    return error;
}

int server_draft_finish(struct server_draft *draft) {
    if (draft->chroot)
        draft->options->allow_streamlocal_forwarding = 0;
    int error = files_finish(draft);
    return error ? error : listen_finish(draft->options);
}
