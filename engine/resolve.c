#include "engine/resolve.h"
#include "engine/check.h"
#include "engine/limits.h"
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Who may touch a request:  LOCAL (answer known, shard's task) and POSTED (answer in the mailbox): its shard.
 * QUEUED, WORKING: whoever holds the lock. A request cancelled while WORKING loses its shard and is freed by the
 * thread; one cancelled while POSTED loses its callback and is freed when the message runs. */
enum resolve_state { RESOLVE_LOCAL, RESOLVE_QUEUED, RESOLVE_WORKING, RESOLVE_POSTED };

struct resolve {
    struct list node; /* in the queue */
    struct task task; /* LOCAL */
    enum resolve_state state;
    struct shard *shard;
    void (*done)(void *arg, const struct resolve_result *result);
    void *arg;
    struct resolve_result result;
    int family;
    uint16_t port;
    char host[];
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct list queue;
    uint32_t queued, idle, threads_count;
    pthread_t threads[LIMIT_RESOLVER_THREADS];
    bool started, stopping;
} resolver = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};

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

/* ---- threads ---- */

static void resolve_free(struct resolve *resolve) {
    free(resolve->result.addresses);
    free(resolve);
}

static void resolve_answer(struct resolve *resolve) {
    if (resolve->done)
        resolve->done(resolve->arg, &resolve->result);
    resolve_free(resolve);
}

static void on_answer_posted(void *arg, int64_t value) {
    (void)value;
    resolve_answer(arg);
}

/* Lock held; dropped while the shard's mailbox is full. The lock is held over the post, so that a shard whose requests
 * were all cancelled is never touched again. */
static void resolver_post(struct resolve *resolve) {
    const struct timespec pause = {.tv_nsec = 1000000};
    while (resolve->shard) {
        resolve->state = RESOLVE_POSTED;
        int err = shard_post(resolve->shard, on_answer_posted, resolve, 0);
        if (err == 0)
            return;
        resolve->state = RESOLVE_WORKING;
        if (err != ERR_FULL)
            break;
        pthread_mutex_unlock(&resolver.lock);
        nanosleep(&pause, NULL);
        pthread_mutex_lock(&resolver.lock);
    }
    resolve_free(resolve);
}

static void resolver_serve(struct resolve *resolve) {
    resolve->state = RESOLVE_WORKING;
    pthread_mutex_unlock(&resolver.lock);
    (void)look_up(resolve->host, resolve->port, resolve->family, 0, &resolve->result);
    pthread_mutex_lock(&resolver.lock);
    resolver_post(resolve);
}

static void *resolver_thread(void *arg) {
    (void)arg;
    pthread_mutex_lock(&resolver.lock);
    while (!resolver.stopping) {
        struct list *node = list_first(&resolver.queue);
        if (!node) {
            resolver.idle++;
            pthread_cond_wait(&resolver.work, &resolver.lock);
            resolver.idle--;
            continue;
        }
        list_remove(node);
        resolver.queued--;
        resolver_serve(list_entry(node, struct resolve, node));
    }
    pthread_mutex_unlock(&resolver.lock);
    return NULL;
}

/* Lock held. Signals are for the main thread alone. */
static void resolver_add_thread(void) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&resolver.threads[resolver.threads_count], NULL, resolver_thread, NULL) == 0)
        resolver.threads_count++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

int resolver_start(void) {
    pthread_mutex_lock(&resolver.lock);
    CHECK(!resolver.started);
    list_init(&resolver.queue);
    resolver.queued = resolver.idle = resolver.threads_count = 0;
    resolver.started = true;
    resolver.stopping = false;
    pthread_mutex_unlock(&resolver.lock);
    return 0;
}

bool resolver_busy(void) {
    pthread_mutex_lock(&resolver.lock);
    bool busy = resolver.idle < resolver.threads_count;
    pthread_mutex_unlock(&resolver.lock);
    return busy;
}

void resolver_stop(void) {
    pthread_mutex_lock(&resolver.lock);
    CHECK(resolver.started && list_empty(&resolver.queue));
    resolver.stopping = true;
    pthread_cond_broadcast(&resolver.work);
    pthread_mutex_unlock(&resolver.lock);
    for (uint32_t i = 0; i < resolver.threads_count; i++)
        pthread_join(resolver.threads[i], NULL);
    resolver.started = false;
}

/* ---- requests ---- */

static void on_local_answer(struct task *task) {
    resolve_answer(list_entry(task, struct resolve, task));
}

static void resolve_locally(struct resolve *resolve) {
    resolve->state = RESOLVE_LOCAL;
    shard_defer(resolve->shard, &resolve->task);
}

static void resolve_refuse(struct resolve *resolve, int err) {
    resolve->result = (struct resolve_result){.err = err, .reason = err_text(err)};
    resolve_locally(resolve);
}

static void resolve_enqueue(struct resolve *resolve) {
    pthread_mutex_lock(&resolver.lock);
    CHECK(resolver.started && !resolver.stopping);
    bool full = resolver.queued == LIMIT_RESOLVER_QUEUE;
    if (!full && resolver.idle <= resolver.queued && resolver.threads_count < LIMIT_RESOLVER_THREADS)
        resolver_add_thread();
    bool served = resolver.threads_count > 0;
    if (!full && served) {
        resolve->state = RESOLVE_QUEUED;
        list_push_back(&resolver.queue, &resolve->node);
        resolver.queued++;
        pthread_cond_signal(&resolver.work);
    }
    pthread_mutex_unlock(&resolver.lock);
    if (full || !served)
        resolve_refuse(resolve, full ? ERR_LIMIT : ERR_NOMEM);
}

struct resolve *resolve_start(struct shard *shard, const char *host, uint16_t port, int family,
                              void (*done)(void *arg, const struct resolve_result *result), void *arg) {
    size_t host_bytes = strlen(host) + 1;
    struct resolve *resolve = malloc(sizeof *resolve + host_bytes);
    if (!resolve)
        return NULL;
    *resolve = (struct resolve){.shard = shard, .done = done, .arg = arg, .family = family, .port = port};
    memcpy(resolve->host, host, host_bytes);
    list_init(&resolve->node);
    task_init(&resolve->task, on_local_answer);
    if (look_up(host, port, family, AI_NUMERICHOST, &resolve->result) != EAI_NONAME)
        resolve_locally(resolve);
    else
        resolve_enqueue(resolve);
    return resolve;
}

void resolve_cancel(struct resolve *resolve) {
    bool ours;
    pthread_mutex_lock(&resolver.lock);
    ours = resolve->state == RESOLVE_LOCAL || resolve->state == RESOLVE_QUEUED;
    if (resolve->state == RESOLVE_QUEUED) {
        list_remove(&resolve->node);
        resolver.queued--;
    }
    resolve->done = NULL;
    if (resolve->state == RESOLVE_WORKING)
        resolve->shard = NULL;
    pthread_mutex_unlock(&resolver.lock);
    if (!ours)
        return;
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
