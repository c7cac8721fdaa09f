#include "ssh/server_login.h"
#include "engine/limits.h"
#include "engine/log.h"
#include "ssh/base64.h"
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct server_login *login_of(struct offload_job *job) {
    return (struct server_login *)job;
}

/* ── on a thread that may block ── */

static void read_banner(struct server_login *login, const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    char *text = fd >= 0 ? malloc(LIMIT_BANNER_BYTES + 1) : NULL;
    size_t len = 0;
    ssize_t n = text ? 1 : -1;
    while (n > 0 && len <= LIMIT_BANNER_BYTES) {
        n = read(fd, text + len, LIMIT_BANNER_BYTES + 1 - len);
        if (n > 0)
            len += (size_t)n;
    }
    if (n < 0 || len > LIMIT_BANNER_BYTES) {
        log_error("Banner %s: %s", path, n < 0 ? strerror(errno) : "too long; not shown");
        free(text);
        text = NULL;
    }
    if (fd >= 0)
        (void)close(fd);
    login->banner = text;
    login->banner_len = text ? len : 0;
}

static void login_work(struct offload_job *job) {
    struct server_login *login = login_of(job);
    login->request.now = time(NULL);
    if (login_check(&login->request, &login->result))
        login->result.allowed = false;
    const struct server_options *options = login->result.options;
    if (login->wants_banner && options && options->banner)
        read_banner(login, options->banner);
}

static void login_release(struct offload_job *job) {
    server_login_destroy(login_of(job));
}

/* ── on the shard ── */

static void login_done(struct offload_job *job) {
    struct server_login *login = login_of(job);
    login->done(login);
}

static socklen_t address_len(const struct sockaddr *address) {
    return address->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static bool is_inet(const struct sockaddr *address) {
    return address && (address->sa_family == AF_INET || address->sa_family == AF_INET6);
}

static void copy_address(struct sockaddr_storage *to, const struct sockaddr *from) {
    if (is_inet(from))
        memcpy(to, from, address_len(from));
    else
        to->ss_family = AF_UNSPEC;
}

/* As sshd without UseDNS; "UNKNOWN" where there is no address, which is also its word. */
static void name_host(struct server_login *login) {
    const struct sockaddr *address = (const struct sockaddr *)&login->address;
    if (!is_inet(address) ||
        getnameinfo(address, address_len(address), login->host, sizeof login->host, NULL, 0, NI_NUMERICHOST))
        strcpy(login->host, "UNKNOWN");
}

static uint16_t local_port(const struct server_login *login) {
    if (login->local_address.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)&login->local_address)->sin_port);
    if (login->local_address.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)&login->local_address)->sin6_port);
    return 0;
}

static int copy_question(struct server_login *login, const struct server_login_question *question) {
    const struct userauth_request *key = question->key;
    login->owner = question->owner;
    login->done = question->done;
    login->wants_banner = question->wants_banner;
    login->config = server_config_ref(question->config);
    login->user = strdup(question->user);
    copy_address(&login->address, question->address);
    copy_address(&login->local_address, question->local_address);
    name_host(login);
    if (key) {
        login->key_blob = malloc(BASE64_BYTES(key->blob.len));
        if (login->key_blob)
            base64_encode(login->key_blob, key->blob.at, key->blob.len);
    }
    login->request = (struct login_request){.config = login->config,
                                            .user = login->user,
                                            .key_type = key ? key->key_type : NULL,
                                            .key_blob = login->key_blob,
                                            .key_bits = key ? key->rsa_bits : 0,
                                            .address = (const struct sockaddr *)&login->address,
                                            .local_address = (const struct sockaddr *)&login->local_address,
                                            .host = login->host,
                                            .local_port = local_port(login)};
    return login->user && (!key || login->key_blob) ? 0 : ERR_NOMEM;
}

int server_login_start(const struct server_login_question *question, struct shard *shard,
                       struct server_login **result) {
    struct server_login *login = calloc(1, sizeof *login);
    *result = NULL;
    if (!login)
        return ERR_NOMEM;
    login->job = (struct offload_job){.work = login_work, .done = login_done, .release = login_release};
    key_options_init(&login->result.key);
    int err = copy_question(login, question);
    if (!err)
        err = offload_submit(&login->job, shard);
    if (err) {
        server_login_destroy(login);
        return err;
    }
    *result = login;
    return 0;
}

void server_login_abandon(struct server_login *login) {
    offload_abandon(&login->job);
}

void server_login_destroy(struct server_login *login) {
    if (!login)
        return;
    login_result_deinit(&login->result);
    server_config_unref(login->config);
    free(login->user);
    free(login->key_blob);
    free(login->banner);
    free(login);
}
