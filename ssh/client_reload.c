/* SIGHUP: the configuration is read again. Either it is good and what can change in a running tunnel changes, or what
 * is wrong has been reported and nothing does. Connections that stand are never touched.
 *
 *   wanted ─ running, nothing unanswered ─► read, compared ─► what is gone is closed ─ all closed ─► what is new begins
 *
 * A forward is known by where it listens: one whose target alone has changed keeps its listeners. */
#include "engine/log.h"
#include "ssh/client_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_BYTES 2048u /* holds every keyword there is */

/* ---- what cannot change ---- */

/* The words of options_print for what a reload does change, or what counts at the start alone. */
static bool takes_effect(const char *line, size_t len) {
    static const char *const words[] = {"localforward",       "remoteforward",        "loglevel",
                                        "draintimeout",       "exitonforwardfailure", "serveraliveinterval",
                                        "serveralivecountmax"};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (len == strlen(words[i]) && strncmp(line, words[i], len) == 0)
            return true;
    return false;
}

static bool has_line(const char *text, const char *line, size_t len) {
    for (const char *at = text; (at = memmem(at, strlen(at), line, len)) != NULL; at++)
        if ((at == text || at[-1] == '\n') && at[len] == '\n')
            return true;
    return false;
}

static bool has_word(const char *words, const char *word, size_t len) {
    for (const char *at = words; (at = memmem(at, strlen(at), word, len)) != NULL; at++)
        if ((at == words || at[-1] == ' ') && (at[len] == ',' || at[len] == '\0'))
            return true;
    return false;
}

/* Adds the keywords of lines that the other text does not have, each once. */
static void add_differing(char named[WORDS_BYTES], const char *text, const char *other) {
    for (const char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        size_t word = strcspn(line, " \n"), used = strlen(named);
        if (takes_effect(line, word) || has_line(other, line, (size_t)(end - line)) || has_word(named, line, word))
            continue;
        snprintf(named + used, WORDS_BYTES - used, "%s%.*s", used > 0 ? ", " : "", (int)word, line);
    }
}

static char *printed(const struct options *options) {
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL)
        return NULL;
    options_print(options, out);
    fclose(out);
    return text;
}

static void tell_unchanged(const struct options *old, const struct options *new) {
    char *before = printed(old), *after = printed(new), named[WORDS_BYTES] = "";
    if (before != NULL && after != NULL) {
        add_differing(named, before, after);
        add_differing(named, after, before);
    }
    if (named[0] != '\0')
        log_info("changed, and needs a restart: %s", named);
    free(before);
    free(after);
}

/* ---- settings ---- */

struct alive_message {
    struct client_session *session;
    uint64_t interval_ns;
    uint32_t count_max;
};

static void run_set_alive(void *arg, int64_t value) {
    struct alive_message *message = arg;
    (void)value;
    session_set_alive(&message->session->session, message->interval_ns, message->count_max);
    free(message);
}

static void apply_settings(struct client *client, const struct options *next) {
    log_set_level(next->log_level);
    client->drain_timeout_given = next->drain_timeout_given;
    client->drain_timeout_s = next->drain_timeout_s;
    client->alive_interval_s = next->server_alive_interval_s;
    client->alive_count_max = next->server_alive_count_max;
    for (unsigned i = 0; i < client->sessions_count; i++) {
        if (!client->sessions[i].open)
            continue;
        struct alive_message *message = malloc(sizeof(*message));
        if (message == NULL)
            return log_error("the keepalive stays as it is: %s", err_text(ERR_NOMEM));
        *message = (struct alive_message){.session = &client->sessions[i],
                                          .interval_ns = next->server_alive_interval_s * SECOND_NS,
                                          .count_max = next->server_alive_count_max};
        client_post(client->sessions[i].shard, run_set_alive, message);
    }
}

/* ---- forwards ---- */

static bool same_text(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_target(const struct forward_spec *a, const struct forward_spec *b) {
    return strcmp(a->host, b->host) == 0 && a->host_port == b->host_port;
}

/* Those whose port the server chooses are told apart by their targets. */
static bool same_listener(const struct forward_spec *a, const struct forward_spec *b) {
    return a->kind == b->kind && a->port == b->port && same_text(a->bind, b->bind) &&
           (a->port != 0 || same_target(a, b));
}

static struct forward *find_active(const struct client *client, const struct forward_spec *spec) {
    for (unsigned i = 0; i < client->forwards_count; i++) {
        struct forward *forward = client->forwards[i];
        if (forward->active && !forward->kept && same_listener(forward->spec, spec))
            return forward;
    }
    return NULL;
}

static void keep(struct client *client, struct forward *forward, const struct forward_spec *spec) {
    forward->kept = true;
    if (same_target(forward->spec, spec))
        return;
    log_verbose("%s: now to %s port %u", spec->text, spec->host, spec->host_port);
    forward->spec = spec;
    client->reload.adopted = true;
    client->reload.changed++;
}

static void run_cancel(void *arg, int64_t value) {
    struct forward *forward = arg;
    (void)value;
    forward_cancel(forward, &client_session_at(forward->client, 0)->session);
}

static void remove_forward(struct forward *forward) {
    struct client *client = forward->client;
    forward->removing = true;
    client->reload.removed++;
    if (forward->spec->kind == FORWARD_LOCAL) {
        client->reload.waiting += forward->listeners_count;
        return client_close_forward(forward);
    }
    forward->active = false;
    client->reload.waiting++;
    client_post(client_session_at(client, 0)->shard, run_cancel, forward);
}

static void settle_old(struct client *client, const struct options *next) {
    for (unsigned i = 0; i < client->forwards_count; i++)
        client->forwards[i]->kept = false;
    for (unsigned i = 0; i < next->forwards_count; i++) {
        struct forward *forward = find_active(client, &next->forwards[i]);
        client->reload.settled[i] = forward != NULL;
        if (forward != NULL)
            keep(client, forward, &next->forwards[i]);
    }
    for (unsigned i = 0; i < client->forwards_count; i++)
        if (client->forwards[i]->active && !client->forwards[i]->kept)
            remove_forward(client->forwards[i]);
}

/* One that cannot listen was reported; the next reload tries again. */
static void add_local(struct client *client, struct forward *forward) {
    if (forward_resolve(forward) == 0 && forward_bind(forward) == 0) {
        client->reload.adopted = true;
        client->reload.added++;
        return client_listen(forward);
    }
    forward_deinit(forward);
    free(forward);
    client->forwards_count--;
}

static void add_forward(struct client *client, const struct forward_spec *spec) {
    if (spec->kind == FORWARD_REMOTE && atomic_load(&client_session_at(client, 0)->state) != SESSION_SERVING)
        return log_error("-R %s: the connection for remote forwards is lost; reload again when it stands", spec->text);
    struct forward *forward = client_add_forward(client, spec);
    if (forward == NULL)
        return log_error("%s: too many forwards have come and gone: that takes a restart", spec->text);
    if (spec->kind == FORWARD_LOCAL)
        return add_local(client, forward);
    client->reload.adopted = true;
    client->reload.added++;
    client_request(forward);
}

/* ---- one reload ---- */

/* What nothing points into is freed at once. */
static void reload_finish(struct client *client) {
    struct reload *reload = &client->reload;
    if (reload->adopted) {
        reload->kept[reload->kept_count++] = reload->next;
    } else {
        options_deinit(reload->next);
        free(reload->next);
    }
    free(reload->settled);
    reload->settled = NULL;
    reload->next = NULL;
}

static void reload_begin(struct client *client) {
    struct reload *reload = &client->reload;
    struct options *next = calloc(1, sizeof(*next));
    reload->wanted = false;
    int err = next == NULL                               ? ERR_NOMEM
              : reload->kept_count == LIMIT_RELOADS_KEPT ? ERR_LIMIT
                                                         : client->program->reread(next);
    bool read = err == 0;
    bool *settled = read ? calloc(next->forwards_count + 1, sizeof(bool)) : NULL;
    if (settled == NULL) {
        log_error("reload failed: %s; the configuration in use stays", err_text(read ? ERR_NOMEM : err));
        if (read)
            options_deinit(next);
        free(next);
        return;
    }
    reload->next = next;
    reload->settled = settled;
    reload->adopted = false;
    reload->added = reload->removed = reload->changed = 0;
    tell_unchanged(client->options, next);
    apply_settings(client, next);
    settle_old(client, next);
}

static void reload_end(struct client *client) {
    struct reload *reload = &client->reload;
    for (unsigned i = 0; i < reload->next->forwards_count; i++)
        if (!reload->settled[i])
            add_forward(client, &reload->next->forwards[i]);
    reload_finish(client);
    log_info("configuration reloaded: %u forwards added, %u removed, %u changed", reload->added, reload->removed,
             reload->changed);
}

void client_reload_go_on(struct client *client) {
    struct reload *reload = &client->reload;
    if (client->state != CLIENT_RUNNING)
        return;
    if (reload->wanted && reload->next == NULL && client->forwards_unanswered == 0)
        reload_begin(client);
    if (reload->next != NULL && reload->waiting == 0)
        reload_end(client);
}

void client_reload_release(struct client *client) {
    struct reload *reload = &client->reload;
    if (reload->next != NULL)
        reload_finish(client);
    while (reload->kept_count > 0) {
        struct options *kept = reload->kept[--reload->kept_count];
        options_deinit(kept);
        free(kept);
    }
}
