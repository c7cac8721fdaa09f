/* Public key authentication (RFC 4252 §7): one key after the other, offered before it is unlocked. */
#include "engine/log.h"
#include "ssh/auth_internal.h"
#include "ssh/provider.h"
#include <string.h>

static int call_agent(ssh_session ssh, void *arg) {
    (void)arg;
    return ssh_userauth_agent(ssh, NULL);
}

static int call_offer(ssh_session ssh, void *arg) {
    return ssh_userauth_try_publickey(ssh, NULL, arg);
}

static int call_sign(ssh_session ssh, void *arg) {
    return ssh_userauth_publickey(ssh, NULL, arg);
}

static void log_offer(const struct identity *identity) {
    unsigned char *hash = NULL;
    size_t len = 0;
    char *fingerprint = NULL;
    if (!log_wants(LOG_LEVEL_VERBOSE))
        return;
    provider_enter(NULL);
    if (identity->public && ssh_get_publickey_hash(identity->public, SSH_PUBLICKEY_HASH_SHA256, &hash, &len) == SSH_OK)
        fingerprint = ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, len);
    (void)!provider_leave();
    log_verbose("Offering public key: %s %s %s%s", identity->label,
                identity->public ? ssh_key_type_to_char(ssh_key_type(identity->public)) : "",
                fingerprint ? fingerprint : "", identity->agent_index >= 0 ? " agent" : "");
    ssh_clean_pubkey_hash(&hash);
    ssh_string_free_char(fingerprint);
}

static int attach(struct auth *auth) {
    struct libssh_speaker *speaker = &auth->link->made->speaker;
    if (auth->agent_attached)
        return 0;
    speaker_enter(speaker);
    int err = agent_attach(&auth->agent, speaker->ssh);
    int left = speaker_leave(speaker);
    auth->agent_attached = !err;
    return err ? err : left;
}

static bool open_agent_key(const struct identity *identity) {
    return identity->agent_index >= 0 && !identity->tried && !identity->skipped;
}

/* All keys of the agent that are left, in one call: libssh 0.10 leaks its list of keys whenever it asks for another.
 * Only if the agent does not sign are there keys after that one which have not been offered. */
static int offer_agent_keys(struct auth *auth, enum auth_answer *answer) {
    unsigned indexes[AGENT_KEYS_MAX], count = 0;
    for (unsigned i = 0; i < auth->identities_count; i++) {
        if (!open_agent_key(&auth->identities[i]))
            continue;
        log_offer(&auth->identities[i]);
        indexes[count++] = (unsigned)auth->identities[i].agent_index;
    }
    agent_show(&auth->agent, indexes, count);
    return auth_call(auth, call_agent, NULL, answer);
}

/* *used is the key that was accepted, when one was. */
static int try_agent(struct auth *auth, struct identity **used, enum auth_answer *answer) {
    int err = attach(auth);
    if (!err)
        err = offer_agent_keys(auth, answer);
    if (err)
        return err;
    int asked = agent_asked(&auth->agent);
    bool up_to_asked = *answer != AUTH_DENIED || agent_refused(&auth->agent);
    for (unsigned i = 0; i < auth->identities_count; i++) {
        struct identity *identity = &auth->identities[i];
        if (!open_agent_key(identity))
            continue;
        identity->tried = true;
        if (identity->agent_index != asked)
            continue;
        *used = identity;
        if (up_to_asked)
            break;
    }
    if (agent_refused(&auth->agent) && *used)
        log_info("the agent refused to sign with %s", (*used)->label);
    return 0;
}

static int try_file(struct auth *auth, const struct identity *identity, enum auth_answer *answer) {
    if (identity->public) {
        int err = auth_call(auth, call_offer, identity->public, answer);
        if (err || *answer != AUTH_DONE)
            return err;
        log_verbose("Server accepts key: %s", identity->label);
    }
    ssh_key key;
    bool owned;
    *answer = AUTH_DENIED;
    int err = identity_unlock(auth, identity, &key, &owned);
    if (err)
        return err == ERR_ACCESS ? 0 : err;
    err = auth_call(auth, call_sign, key, answer);
    if (owned) {
        provider_enter(NULL);
        ssh_key_free(key);
        (void)!provider_leave();
    }
    return err;
}

/* A key that signs when a person touches it. */
static bool wants_touch(const struct identity *identity) {
    const char *type = identity->public ? ssh_key_type_to_char(ssh_key_type(identity->public)) : NULL;
    return type && strncmp(type, "sk-", 3) == 0;
}

/* A server that wants two keys one after the other may want one now that it refused before. */
static void reopen(struct auth *auth) {
    for (unsigned i = 0; i < auth->identities_count; i++)
        if (!auth->identities[i].accepted && !auth->identities[i].skipped)
            auth->identities[i].tried = false;
}

int auth_publickey(struct auth *auth, enum auth_answer *answer) {
    int err = auth->identities_read ? 0 : identities_read(auth);
    auth->identities_read = true;
    *answer = AUTH_DENIED;
    for (unsigned i = 0; !err && i < auth->identities_count; i++) {
        struct identity *identity = &auth->identities[i];
        if (identity->tried || identity->skipped)
            continue;
        if (identity->agent_index >= 0) {
            err = try_agent(auth, &identity, answer);
        } else {
            identity->tried = true;
            log_offer(identity);
            err = try_file(auth, identity, answer);
        }
        if (err || *answer == AUTH_DENIED)
            continue;
        identity->accepted = true;
        if (identity->base64)
            secrets_note(&auth->secrets->key_won, identity->base64);
        auth->secrets->touch_won |= wants_touch(identity);
        if (*answer == AUTH_PARTLY)
            reopen(auth);
        return 0;
    }
    return err;
}
