#pragma once
/* ProxyCommand: a shell command whose standard input and output are the connection (ssh_config(5)). It is nobody's
 * child to wait for (the init process reaps it); what is kept is a pidfd, so that it can be told to end. */
#include "engine/error.h"

struct proxy {
    int fd;    /* our end of its socket pair: non-blocking, the caller's */
    int pidfd; /* -1: none (an old kernel): the end of its input must do */
};
/* Starts `command` with the user's shell. ERR_FILES, ERR_NOMEM, ERR_SYSTEM (logged). */
MUST_USE int proxy_start(const char *command, struct proxy *proxy);
/* SIGHUP, as ssh(1) sends; closes the pidfd. Does not wait. */
void proxy_end(int pidfd);
