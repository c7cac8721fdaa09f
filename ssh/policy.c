#include "ssh/policy.h"
#include <netinet/in.h>
#include <string.h>

static bool refuse(const char **why, const char *reason) {
    *why = reason;
    return false;
}

/* What stands above all lists. */
static bool forwarding_allowed(const struct policy *policy, uint8_t direction, const char **why) {
    if (policy->options->disable_forwarding)
        return refuse(why, "DisableForwarding");
    if (policy->key && !policy->key->forwarding)
        return refuse(why, "restrict or no-port-forwarding of the key");
    if (!(policy->options->allow_tcp_forwarding & direction))
        return refuse(why, "AllowTcpForwarding");
    return true;
}

bool policy_may_open(const struct policy *policy, const char *host, uint16_t port, const char **why) {
    if (!forwarding_allowed(policy, FORWARDING_LOCAL, why))
        return false;
    if (!permission_open_matches(&policy->options->permit_open, host, port))
        return refuse(why, "not in PermitOpen");
    if (policy->key && !permission_open_matches(&policy->key->permit_open, host, port))
        return refuse(why, "not in permitopen= of the key");
    return true;
}

/* sshd listens with the rights of the user, to whom the system refuses such a port. */
static bool port_is_roots(const struct policy *policy, uint16_t port) {
    return policy->runs_as_root && port > 0 && port < IPPORT_RESERVED && !policy->options->permit_listen.restricted;
}

bool policy_may_listen(const struct policy *policy, const char *host, uint16_t port, const char **why) {
    if (!forwarding_allowed(policy, FORWARDING_REMOTE, why))
        return false;
    if (!permission_listen_matches(&policy->options->permit_listen, host, port))
        return refuse(why, "not in PermitListen");
    if (policy->key && !permission_listen_matches(&policy->key->permit_listen, host, port))
        return refuse(why, "not in permitlisten= of the key");
    if (port_is_roots(policy, port))
        return refuse(why, "a port below 1024 as root, and no PermitListen");
    return true;
}

/* AllowTcpForwarding counts for Unix sockets too: sshd's lists of permissions, which both go through, are empty without
 * it. */
static bool paths_allowed(const struct policy *policy, uint8_t direction, const char **why) {
    if (!forwarding_allowed(policy, direction, why))
        return false;
    if (!(policy->options->allow_streamlocal_forwarding & direction))
        return refuse(why, "AllowStreamLocalForwarding");
    if (policy->runs_as_root && !policy->options->allow_streamlocal_given)
        return refuse(why, "Unix sockets as root, and AllowStreamLocalForwarding is not given");
    return true;
}

/* To sshd a path is a host whose port is none: of what lists can have, "*:*" alone fits it. */
static bool lists_any_path(const struct permission_list *list) {
    for (uint32_t i = 0; i < list->count; i++)
        if (list->items[i].any_port && strcmp(list->items[i].host, "*") == 0)
            return true;
    return !list->restricted;
}

bool policy_may_open_path(const struct policy *policy, const char **why) {
    if (!paths_allowed(policy, FORWARDING_LOCAL, why))
        return false;
    if (!lists_any_path(&policy->options->permit_open))
        return refuse(why, "PermitOpen permits no Unix sockets");
    if (policy->key && !lists_any_path(&policy->key->permit_open))
        return refuse(why, "permitopen= of the key permits no Unix sockets");
    return true;
}

/* PermitListen and permitlisten= say nothing on paths. */
bool policy_may_listen_path(const struct policy *policy, const char **why) {
    return paths_allowed(policy, FORWARDING_REMOTE, why);
}

enum listen_where policy_listen_where(const struct policy *policy, const char *host) {
    switch (policy->options->gateway_ports) {
    case SERVER_GATEWAY_YES:
        return LISTEN_ALL;
    case SERVER_GATEWAY_CLIENT_SPECIFIED:
        if (*host == 0 || strcmp(host, "*") == 0)
            return LISTEN_ALL;
        return strcmp(host, "localhost") == 0 ? LISTEN_LOOPBACK : LISTEN_HOST;
    case SERVER_GATEWAY_NO:
        break;
    }
    /* Numbers say which of the two families is wanted. */
    return strcmp(host, "127.0.0.1") == 0 || strcmp(host, "::1") == 0 ? LISTEN_HOST : LISTEN_LOOPBACK;
}
