#include "ssh/startups.h"
#include "engine/check.h"
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BUCKETS_FIRST 64u
#define NO_SOURCE UINT32_MAX

/* A network that connections come from: its address with the host part cleared. */
struct source_key {
    uint64_t words[2];
    uint32_t family;
};

/* buckets → sources by index, so that both can grow. Free sources are chained by next too. */
struct source {
    struct source_key key;
    uint32_t count, next;
};

struct startups {
    pthread_mutex_t lock;
    uint64_t secret[2]; /* so that nobody can choose addresses that share a bucket */
    uint32_t inside;
    struct source *sources;
    uint32_t *buckets;      /* first source of each */
    uint32_t size, free_at; /* of both: there are as many buckets as sources, a power of two */
};

/* ---- keys ---- */

static void bytes_mask(uint8_t *bytes, unsigned len, uint32_t bits) {
    for (unsigned i = 0; i < len; i++) {
        uint32_t kept = bits > i * 8 ? bits - i * 8 : 0;
        if (kept < 8)
            bytes[i] &= (uint8_t) ~(0xffu >> kept);
    }
}

/* False: no address, so no limit per source, as in sshd. */
static bool key_of(const struct server_options *options, const struct sockaddr *address, struct source_key *key) {
    uint8_t bytes[16] = {0};
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)address;
    if (!address || (address->sa_family != AF_INET && address->sa_family != AF_INET6))
        return false;
    *key = (struct source_key){.family = AF_INET};
    if (address->sa_family == AF_INET) {
        memcpy(bytes, &v4->sin_addr, 4);
    } else if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
        memcpy(bytes, &v6->sin6_addr.s6_addr[12], 4);
    } else {
        key->family = AF_INET6;
        memcpy(bytes, &v6->sin6_addr, 16);
    }
    bytes_mask(bytes, 16, key->family == AF_INET ? options->per_source_bits4 : options->per_source_bits6);
    memcpy(key->words, bytes, sizeof bytes);
    return true;
}

static bool key_same(const struct source_key *a, const struct source_key *b) {
    return a->family == b->family && a->words[0] == b->words[0] && a->words[1] == b->words[1];
}

static uint64_t fold(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* ---- sources; all with the lock held ---- */

static uint32_t *bucket_of(const struct startups *startups, const struct source_key *key) {
    uint64_t first = fold(key->words[0] ^ startups->secret[0], UINT64_C(0x9E3779B97F4A7C15) ^ key->family);
    uint64_t hash = fold(key->words[1] ^ startups->secret[1], first | 1);
    return &startups->buckets[(hash ^ hash >> 32) & (startups->size - 1)];
}

static struct source *source_find(struct startups *startups, const struct source_key *key) {
    if (startups->size == 0)
        return NULL;
    for (uint32_t at = *bucket_of(startups, key); at != NO_SOURCE; at = startups->sources[at].next)
        if (key_same(&startups->sources[at].key, key))
            return &startups->sources[at];
    return NULL;
}

static void source_link(struct startups *startups, uint32_t at) {
    uint32_t *bucket = bucket_of(startups, &startups->sources[at].key);
    startups->sources[at].next = *bucket;
    *bucket = at;
}

/* All sources are taken: twice as many. Bounded by MaxStartups, since a source has somebody inside. */
static int sources_grow(struct startups *startups) {
    uint32_t before = startups->size, size = before ? 2 * before : BUCKETS_FIRST;
    uint32_t *buckets = malloc(size * sizeof *buckets);
    struct source *sources = buckets ? realloc(startups->sources, size * sizeof *sources) : NULL;
    if (!sources) {
        free(buckets);
        return ERR_NOMEM;
    }
    free(startups->buckets);
    startups->sources = sources;
    startups->buckets = buckets;
    startups->size = size;
    for (uint32_t i = 0; i < size; i++)
        buckets[i] = NO_SOURCE;
    for (uint32_t i = 0; i < before; i++)
        source_link(startups, i);
    for (uint32_t i = before; i < size; i++)
        sources[i] = (struct source){.next = i + 1 < size ? i + 1 : NO_SOURCE};
    startups->free_at = before;
    return 0;
}

static int source_add(struct startups *startups, const struct source_key *key, struct source **source) {
    if (startups->free_at == NO_SOURCE) {
        int err = sources_grow(startups);
        if (err < 0)
            return err;
    }
    uint32_t at = startups->free_at;
    *source = &startups->sources[at];
    startups->free_at = (*source)->next;
    **source = (struct source){.key = *key};
    source_link(startups, at);
    return 0;
}

static void source_drop(struct startups *startups, uint32_t index) {
    uint32_t *at = bucket_of(startups, &startups->sources[index].key);
    while (*at != index)
        at = &startups->sources[*at].next;
    *at = startups->sources[index].next;
    startups->sources[index].next = startups->free_at;
    startups->free_at = index;
}

/* ---- in and out ---- */

int startups_create(struct startups **result) {
    struct startups *startups = calloc(1, sizeof *startups);
    if (!startups)
        return ERR_NOMEM;
    if (getrandom(startups->secret, sizeof startups->secret, 0) != (ssize_t)sizeof startups->secret) {
        free(startups);
        return ERR_SYSTEM;
    }
    pthread_mutex_init(&startups->lock, NULL);
    startups->free_at = NO_SOURCE;
    *result = startups;
    return 0;
}

void startups_destroy(struct startups *startups) {
    CHECK(startups->inside == 0);
    pthread_mutex_destroy(&startups->lock);
    free(startups->sources);
    free(startups->buckets);
    free(startups);
}

/* sshd_config(5), MaxStartups: from `begin` on refused with `rate` percent, which grows to all at `full`. */
static bool drops(const struct server_options *options, uint32_t inside, uint32_t dice) {
    uint64_t begin = options->max_startups_begin, full = options->max_startups_full, rate = options->max_startups_rate;
    if (inside >= full)
        return true;
    if (inside < begin)
        return false;
    return dice < rate + (100 - rate) * (inside - begin) / (full - begin);
}

/* Lock held. */
static int enter(struct startups *startups, const struct server_options *options, const struct source_key *key,
                 uint32_t dice, struct startup *startup, const char **why) {
    if (drops(options, startups->inside, dice)) {
        *why = "past MaxStartups";
        return ERR_LIMIT;
    }
    struct source *source = key ? source_find(startups, key) : NULL;
    if (key && (source ? source->count : 0) >= options->per_source_max_startups) {
        *why = "past PerSourceMaxStartups";
        return ERR_LIMIT;
    }
    if (key && !source && source_add(startups, key, &source) < 0) {
        *why = err_text(ERR_NOMEM);
        return ERR_NOMEM;
    }
    if (source)
        source->count++;
    startups->inside++;
    *startup =
        (struct startup){.startups = startups, .source = source ? (uint64_t)(source - startups->sources) : NO_SOURCE};
    return 0;
}

int startups_enter(struct startups *startups, const struct server_options *options, const struct sockaddr *address,
                   uint32_t dice, struct startup *startup, const char **why) {
    struct source_key key;
    bool known = key_of(options, address, &key);
    CHECK(dice < 100);
    *startup = (struct startup){0};
    pthread_mutex_lock(&startups->lock);
    int err = enter(startups, options, known ? &key : NULL, dice, startup, why);
    pthread_mutex_unlock(&startups->lock);
    return err;
}

void startups_leave(struct startup *startup) {
    struct startups *startups = startup->startups;
    if (!startups)
        return;
    pthread_mutex_lock(&startups->lock);
    CHECK(startups->inside > 0);
    startups->inside--;
    if (startup->source != NO_SOURCE && --startups->sources[startup->source].count == 0)
        source_drop(startups, (uint32_t)startup->source);
    pthread_mutex_unlock(&startups->lock);
    startup->startups = NULL;
}

uint32_t startups_count(struct startups *startups) {
    pthread_mutex_lock(&startups->lock);
    uint32_t inside = startups->inside;
    pthread_mutex_unlock(&startups->lock);
    return inside;
}
