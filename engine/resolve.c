#include "engine/resolve.h"
#include "engine/limits.h"
#include "engine/offload.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct resolve {
    struct offload_job job;
    struct task task; /* of an answer that needed no thread */
    bool local;
    struct shard *shard;
    void (*done)(void *arg, const struct resolve_result *result);
    void *arg;
    struct resolve_result result;
    int family;
    uint16_t port;
    char host[];
};

/* ---- the look-up itself ---- */

static void result_fill(struct resolve_result *result, const struct addrinfo *list) {
    unsigned count = 0;
    for (const struct addrinfo *at = list; at && count < LIMIT_ADDRESSES_PER_NAME; at = at->ai_next)
        count++;
    result->addresses = calloc(count, sizeof *result->addresses);
    if (!result->addresses) {
        result->err = ERR_NOMEM;
        result->reason = gai_strerror(EAI_MEMORY);
        return;
    }
    for (unsigned i = 0; i < count; i++, list = list->ai_next) {
        memcpy(&result->addresses[i].addr, list->ai_addr, list->ai_addrlen);
        result->addresses[i].len = list->ai_addrlen;
    }
    result->count = count;
}

/* Returns getaddrinfo's code. */
static int look_up(const char *host, uint16_t port, int family, int flags, struct resolve_result *result) {
    struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    *result = (struct resolve_result){0};
    int code = getaddrinfo(host && *host ? host : NULL, service, &hints, &list);
    if (code != 0) {
        result->err = code == EAI_MEMORY ? ERR_NOMEM : ERR_RESOLVE;
        result->reason = gai_strerror(code);
        return code;
    }
    result_fill(result, list);
    freeaddrinfo(list);
    return 0;
}

void resolve_now(const char *host, uint16_t port, int family, bool passive, struct resolve_result *result) {
    bool any = passive && host && strcmp(host, "*") == 0;
    (void)look_up(any ? NULL : host, port, family, passive ? AI_PASSIVE : 0, result);
}

/* ---- requests ---- */

static struct resolve *resolve_of(struct offload_job *job) {
    return list_entry(job, struct resolve, job);
}

static void resolve_free(struct resolve *resolve) {
    free(resolve->result.addresses);
    free(resolve);
}

static void resolve_answer(struct resolve *resolve) {
    resolve->done(resolve->arg, &resolve->result);
    resolve_free(resolve);
}

static void job_work(struct offload_job *job) {
    struct resolve *resolve = resolve_of(job);
    (void)look_up(resolve->host, resolve->port, resolve->family, 0, &resolve->result);
}

static void job_done(struct offload_job *job) {
    resolve_answer(resolve_of(job));
}

static void job_release(struct offload_job *job) {
    resolve_free(resolve_of(job));
}

static void on_local_answer(struct task *task) {
    resolve_answer(list_entry(task, struct resolve, task));
}

static void resolve_locally(struct resolve *resolve) {
    resolve->local = true;
    shard_defer(resolve->shard, &resolve->task);
}

static void resolve_remotely(struct resolve *resolve) {
    resolve->job = (struct offload_job){.work = job_work, .done = job_done, .release = job_release, .remote = true};
    int err = offload_submit(&resolve->job, resolve->shard);
    if (err == 0)
        return;
    resolve->result = (struct resolve_result){.err = err, .reason = err_text(err)};
    resolve_locally(resolve);
}

struct resolve *resolve_start(struct shard *shard, const char *host, uint16_t port, int family,
                              void (*done)(void *arg, const struct resolve_result *result), void *arg) {
    size_t host_bytes = strlen(host) + 1;
    struct resolve *resolve = malloc(sizeof *resolve + host_bytes);
    if (!resolve)
        return NULL;
    *resolve = (struct resolve){.shard = shard, .done = done, .arg = arg, .family = family, .port = port};
    memcpy(resolve->host, host, host_bytes);
    task_init(&resolve->task, on_local_answer);
    if (look_up(host, port, family, AI_NUMERICHOST, &resolve->result) != EAI_NONAME)
        resolve_locally(resolve);
    else
        resolve_remotely(resolve);
    return resolve;
}

void resolve_cancel(struct resolve *resolve) {
    if (!resolve->local) {
        offload_abandon(&resolve->job);
        return;
    }
    shard_undefer(&resolve->task);
    resolve_free(resolve);
}

/* ---- addresses ---- */

const char *address_host(const struct sockaddr *addr, char *out, size_t cap) {
    bool v6 = addr->sa_family == AF_INET6, known = v6 || addr->sa_family == AF_INET;
    socklen_t len = v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (!known || getnameinfo(addr, len, out, (socklen_t)cap, NULL, 0, NI_NUMERICHOST) != 0)
        snprintf(out, cap, "?");
    return out;
}

uint16_t address_port(const struct sockaddr *addr) {
    if (addr->sa_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)addr)->sin_port);
    if (addr->sa_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)addr)->sin6_port);
    return 0;
}
