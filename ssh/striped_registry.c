/* Which striped connections of this process can be joined, and by whom. The only thing of them that is shared between
 * threads: a table under a lock that is taken when one begins, ends, or gains or loses a lane. */
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/stripe_identity.h"
#include "ssh/striped_internal.h"
#include <limits.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* Outlives its striped while lanes for it are in a mailbox. All but `striped` is the lock's. */
struct striped_entry {
    struct list node; /* in its key's chain */
    struct shard *shard;
    struct striped *striped; /* its shard's; NULL: it is over */
    unsigned references, lanes, lanes_max;
    struct stripe_identities identities;
    uint8_t key[STRIPED_KEY_BYTES];
    uint16_t port;
    char *host;   /* within texts */
    char texts[]; /* the user, then the host */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct list chains[LIMIT_STRIPES]; /* as many as there are entries at most; zeroed before the first */
static unsigned entries_count;
_Static_assert((LIMIT_STRIPES & (LIMIT_STRIPES - 1)) == 0, "a chain is chosen by some bits of a hash");
#define KEY_WORDS (STRIPED_KEY_BYTES / sizeof(uint32_t))
static uint64_t secret[KEY_WORDS]; /* so that nobody can choose keys that share a chain */

static void entry_unref(struct striped_entry *entry) {
    if (--entry->references > 0)
        return;
    OPENSSL_cleanse(entry->key, sizeof entry->key);
    free(entry);
}

/* Multiply-shift: two keys share a chain as rarely as if it were drawn for each. */
static struct list *chain_of(const uint8_t *key) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < KEY_WORDS; i++) {
        uint32_t word;
        memcpy(&word, key + i * sizeof word, sizeof word);
        sum += secret[i] * word;
    }
    return &chains[(sum >> 32) & (LIMIT_STRIPES - 1)];
}

/* The secret is drawn before anything is hashed. ERR_SYSTEM: there is none to be had. */
static int chains_make(void) {
    if (chains[0].next != NULL)
        return 0;
    if (getrandom(secret, sizeof secret, 0) != (ssize_t)sizeof secret)
        return ERR_SYSTEM;
    for (unsigned i = 0; i < LIMIT_STRIPES; i++)
        list_init(&chains[i]);
    return 0;
}

/* All of a chain are looked at, each key to its end: how long it takes says how many they are, and nothing about their
 * keys. */
static struct striped_entry *find(const char *user, const uint8_t *key) {
    struct striped_entry *found = NULL;
    list_for_each (node, chain_of(key)) {
        struct striped_entry *entry = list_entry(node, struct striped_entry, node);
        bool same_key = CRYPTO_memcmp(entry->key, key, STRIPED_KEY_BYTES) == 0;
        if (same_key && strcmp(entry->texts, user) == 0)
            found = entry;
    }
    return found;
}

static struct striped_entry *entry_new(const struct striped_name *name, const uint8_t *key) {
    size_t user_bytes = strlen(name->user) + 1, host_bytes = strlen(name->host) + 1;
    struct striped_entry *entry = malloc(sizeof *entry + user_bytes + host_bytes);
    if (entry == NULL)
        return NULL;
    *entry = (struct striped_entry){.references = 1, .lanes = 1, .port = name->port, .host = entry->texts + user_bytes};
    (void)stripe_identity_use(&entry->identities, 0); /* its first lane's */
    memcpy(entry->key, key, STRIPED_KEY_BYTES);
    memcpy(entry->texts, name->user, user_bytes);
    memcpy(entry->host, name->host, host_bytes);
    return entry;
}

static int entry_add(struct striped_entry *entry) {
    int err = chains_make();
    if (err != 0)
        return err;
    if (find(entry->texts, entry->key) != NULL)
        return ERR_LIMIT;
    if (entries_count == LIMIT_STRIPES)
        return ERR_FULL;
    list_push_back(chain_of(entry->key), &entry->node);
    entries_count++;
    return 0;
}

int striped_entry_create(struct striped *striped, const struct striped_name *name, struct striped_entry **entry) {
    struct striped_entry *made = entry_new(name, striped->key);
    if (made == NULL)
        return ERR_NOMEM;
    made->shard = striped->shard;
    made->striped = striped;
    made->lanes_max = striped->lanes_max;
    pthread_mutex_lock(&lock);
    int err = entry_add(made);
    if (err != 0)
        entry_unref(made);
    pthread_mutex_unlock(&lock);
    if (err == 0)
        *entry = made;
    return err;
}

void striped_entry_leave(struct striped_entry *entry) {
    if (entry == NULL)
        return;
    pthread_mutex_lock(&lock);
    CHECK(entry->striped != NULL && entries_count > 0);
    entry->striped = NULL;
    list_remove(&entry->node);
    entries_count--;
    entry_unref(entry);
    pthread_mutex_unlock(&lock);
}

void striped_entry_lane_gone(struct striped_entry *entry) {
    if (entry == NULL)
        return;
    pthread_mutex_lock(&lock);
    CHECK(entry->lanes > 0);
    entry->lanes--;
    pthread_mutex_unlock(&lock);
}

/* On its shard, which alone ends it: no lock is needed for `striped`. */
static void lane_arrived(void *arg, int64_t value) {
    struct striped_entry *entry = arg;
    int fd = (int)(value & INT_MAX);
    if (entry->striped != NULL)
        striped_lane_take(entry->striped, fd, (uint32_t)((uint64_t)value >> 32));
    else
        io_close(shard_current()->io, fd, IO_CLOSE);
    pthread_mutex_lock(&lock);
    entry_unref(entry);
    pthread_mutex_unlock(&lock);
}

static int send_lane(struct striped_entry *entry, uint32_t identity, int *lane_fd) {
    int fds[2], err = striped_lane_make(fds);
    if (err != 0)
        return err;
    err = shard_post(entry->shard, lane_arrived, entry, (int64_t)((uint64_t)identity << 32 | (uint32_t)fds[0]));
    if (err != 0) {
        close(fds[0]);
        close(fds[1]);
        return err;
    }
    entry->references++;
    entry->lanes++;
    *lane_fd = fds[1];
    return 0;
}

/* An identity counts as used even when there is no place: whoever asks again asks with another. */
static int entry_join(struct striped_entry *entry, uint32_t identity, int *lane_fd) {
    if (!stripe_identity_use(&entry->identities, identity))
        return ERR_INUSE;
    return entry->lanes < entry->lanes_max ? send_lane(entry, identity, lane_fd) : ERR_LIMIT;
}

int striped_find_join(const char *user, const uint8_t *key, uint32_t identity,
                      bool (*may)(void *arg, const char *host, uint16_t port), void *arg, int *lane_fd) {
    int err = ERR_REFUSED;
    pthread_mutex_lock(&lock);
    struct striped_entry *entry = entries_count > 0 ? find(user, key) : NULL;
    if (entry != NULL && may(arg, entry->host, entry->port))
        err = entry_join(entry, identity, lane_fd);
    pthread_mutex_unlock(&lock);
    return err;
}
