#pragma once
/* Who may open or listen where: the options of the connection and the restrictions of its key, decided as sshd does
 * (serverloop.c's and channels.c's rules): both must permit. Names are compared as the client wrote them. Pure. */
#include "ssh/authorized_keys.h"
#include "ssh/server_options.h"

struct policy {
    const struct server_options *options; /* borrowed */
    const struct key_options *key;        /* borrowed; NULL: no restrictions of a key */
    bool runs_as_root; /* Unix sockets would be opened as root: only where the configuration says so itself */
};
/* false: *why is the reason, static, for the log and the client. */
bool policy_may_open(const struct policy *policy, const char *host, uint16_t port, const char **why);
bool policy_may_listen(const struct policy *policy, const char *host, uint16_t port, const char **why);
bool policy_may_open_path(const struct policy *policy, const char **why);
bool policy_may_listen_path(const struct policy *policy, const char **why);

/* Where a "tcpip-forward" to `host` listens under GatewayPorts. */
enum listen_where { LISTEN_LOOPBACK, LISTEN_ALL, LISTEN_HOST };
enum listen_where policy_listen_where(const struct policy *policy, const char *host);
