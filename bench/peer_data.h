/* A peer as it was read: between peers.c, which reads and checks it, and tunnel.c, which starts it. */
#ifndef BENCH_PEER_DATA_H
#define BENCH_PEER_DATA_H

#include "bench/peers.h"
#include "bench/words.h"
#include <jansson.h>

/* bench/peers.json, compiled in. */
extern const char peers_builtin[];

struct peer_data {
    struct peer peer; /* first: a peer is its data */
    json_t *json;     /* with what it has from the peer that it is like */
    struct words_program *programs;
    size_t program_count;
    bool uses_keys;
};

struct peers {
    struct peer_data **at;
    size_t count;
};

/* Where in a file an error is. */
struct peer_place {
    const char *file, *peer, *key; /* key "": none */
    char *why;
    size_t why_bytes;
};

/* Says in `why` what is wrong there; false. */
bool peer_wrong(const struct peer_place *at, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Keys, types and words of data->json; programs are known. False: `why`. */
bool peer_check(struct peer_data *data, const struct peer_place *at);

static inline const struct peer_data *peer_data_of(const struct peer *peer) {
    return (const struct peer_data *)peer;
}

/* The array of strings with words replaced, NULL-terminated, as exec takes it. NULL: `why`. */
char **peer_strings(const json_t *array, const struct words *words, char *why, size_t why_bytes);
void peer_strings_free(char **strings);

/* tunnel_start; `tells`: with the arguments that make the client tell what it negotiates. */
bool tunnel_launch(struct world *world, const struct peer *peer, const struct tunnel_options *options, bool tells,
                   struct tunnel *tunnel, char *why, size_t why_bytes);

#endif
