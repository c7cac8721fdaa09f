#include "engine/log.h"
#include "ssh/auth_internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct method {
    const char *name;
    enum auth_method bit;
    unsigned libssh_bit;
    int (*run)(struct auth *auth, enum auth_answer *answer);
};
static const struct method methods[] = {
    {"publickey", AUTH_PUBLICKEY, SSH_AUTH_METHOD_PUBLICKEY, auth_publickey},
    {"keyboard-interactive", AUTH_KBDINT, SSH_AUTH_METHOD_INTERACTIVE, auth_kbdint},
    {"password", AUTH_PASSWORD, SSH_AUTH_METHOD_PASSWORD, auth_password},
};
#define METHODS_COUNT (sizeof methods / sizeof methods[0])
static const char preferred_default[] = "publickey,keyboard-interactive,password";

static void show_banner(struct auth *auth) {
    struct libssh_speaker *speaker = &auth->link->made->speaker;
    speaker_enter(speaker);
    char *banner = ssh_get_issue_banner(speaker->ssh);
    (void)!speaker_leave(speaker);
    const char *shown_last = auth->secrets->banner;
    if (!banner || (shown_last && strcmp(banner, shown_last) == 0)) {
        ssh_string_free_char(banner);
        return;
    }
    for (const char *line = banner; *line;) {
        char safe[2048];
        size_t len = strcspn(line, "\n");
        size_t shown = len > 0 && line[len - 1] == '\r' ? len - 1 : len;
        log_info("%s", log_safe(safe, sizeof safe, line, shown));
        line += len;
        line += *line == '\n';
    }
    secrets_note(&auth->secrets->banner, banner);
    ssh_string_free_char(banner);
}

static void log_libssh_error(const struct auth *auth) {
    char safe[512];
    const char *text = ssh_get_error(auth->link->made->speaker.ssh);
    log_verbose("libssh: %s", log_safe(safe, sizeof safe, text, strlen(text)));
}

int auth_call(struct auth *auth, link_fn *fn, void *arg, enum auth_answer *answer) {
    int result;
    int err = link_call(auth->link, fn, arg, SSH_AUTH_AGAIN, &result);
    show_banner(auth);
    if (err)
        return err;
    auth->allowed = (unsigned)ssh_userauth_list(auth->link->made->speaker.ssh, NULL);
    switch (result) {
    case SSH_AUTH_SUCCESS:
        *answer = AUTH_DONE;
        break;
    case SSH_AUTH_PARTIAL:
        *answer = AUTH_PARTLY;
        break;
    case SSH_AUTH_INFO:
        *answer = AUTH_INFO;
        break;
    default: /* denied; or an error that left the connection alive, such as an agent that does not sign */
        if (result == SSH_AUTH_ERROR)
            log_libssh_error(auth);
        *answer = AUTH_DENIED;
    }
    return 0;
}

static int call_none(ssh_session ssh, void *arg) {
    (void)arg;
    return ssh_userauth_none(ssh, NULL);
}

static bool enabled(const struct auth *auth, const struct method *method) {
    const struct options *options = auth->options;
    switch (method->bit) {
    case AUTH_PUBLICKEY:
        return options->pubkey_authentication;
    case AUTH_KBDINT:
        return options->kbd_interactive_authentication && !options->batch_mode;
    case AUTH_PASSWORD:
        return options->password_authentication && !options->batch_mode;
    }
    return false;
}

static const struct method *find_method(const char *name, size_t len) {
    for (size_t i = 0; i < METHODS_COUNT; i++)
        if (strlen(methods[i].name) == len && memcmp(methods[i].name, name, len) == 0)
            return &methods[i];
    return NULL;
}

/* The first method of the person's preference that the server allows and that is not used up. With `won`, only what has
 * let another connection of the program in. */
static const struct method *next_method(const struct auth *auth, bool won) {
    const char *preferred = auth->options->preferred_authentications;
    for (const char *p = preferred ? preferred : preferred_default; *p;) {
        size_t len = strcspn(p, ",");
        const struct method *method = find_method(p, len);
        if (method && enabled(auth, method) && (auth->allowed & method->libssh_bit) && !(auth->spent & method->bit) &&
            (!won || (auth->secrets->methods_won & method->bit)))
            return method;
        p += len;
        p += *p == ',';
    }
    return NULL;
}

static int denied(const struct auth *auth) {
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {{SSH_AUTH_METHOD_PUBLICKEY, "publickey"},
                 {SSH_AUTH_METHOD_PASSWORD, "password"},
                 {SSH_AUTH_METHOD_INTERACTIVE, "keyboard-interactive"},
                 {SSH_AUTH_METHOD_HOSTBASED, "hostbased"},
                 {SSH_AUTH_METHOD_GSSAPI_MIC, "gssapi-with-mic"}};
    char list[128] = "";
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t at = strlen(list);
        if (auth->allowed & names[i].bit)
            (void)snprintf(list + at, sizeof list - at, "%s%s", at ? "," : "", names[i].name);
    }
    log_error("%s@%s: Permission denied (%s).", auth->options->user, auth->options->hostname, list);
    return ERR_AUTH;
}

/* The connection ended in the middle: mostly a server that has counted too many failures. */
static int lost(const struct auth *auth, int err) {
    const char *said = auth->link->made->transport.disconnect_reason;
    if (err == ERR_CANCELED) {
        log_error("interrupted");
        return err;
    }
    if (!said[0]) {
        log_error("%s@%s: %s", auth->options->user, auth->options->hostname,
                  auth->link->reason[0] ? auth->link->reason : err_text(err));
        return err;
    }
    log_error("%s@%s: Permission denied: the server disconnected: %s", auth->options->user, auth->options->hostname,
              said);
    return ERR_AUTH;
}

static int run_methods(struct auth *auth) {
    enum auth_answer answer;
    int err = auth_call(auth, call_none, NULL, &answer);
    auth->done_with = "none";
    while (!err && answer != AUTH_DONE) {
        const struct method *method = next_method(auth, true);
        method = method ? method : next_method(auth, false);
        if (!method)
            return denied(auth);
        err = method->run(auth, &answer);
        if (err)
            break;
        if (answer == AUTH_DENIED) {
            auth->spent |= method->bit;
            continue;
        }
        auth->secrets->methods_won |= method->bit;
        auth->done_with = method->name;
        if (answer == AUTH_PARTLY)
            log_verbose("Authenticated using \"%s\" with partial success.", method->name);
    }
    return err ? lost(auth, err) : 0;
}

int auth_run(struct client_link *link, struct secrets *secrets) {
    struct auth auth = {.link = link, .options = link->options, .secrets = secrets, .agent = {.fd = -1, .pair = -1}};
    int err = run_methods(&auth);
    if (!err)
        log_verbose("Authenticated to %s (%s%s%s) using \"%s\".", link->options->hostname,
                    link->address[0] ? "[" : "via proxy", link->address, link->address[0] ? "]" : "", auth.done_with);
    identities_free(&auth);
    agent_close(&auth.agent);
    return err;
}
