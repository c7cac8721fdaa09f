#pragma once
/* One direction of a lane in virtual time: bytes leave at its rate, arrive after its delay, and can be cut anywhere. */
#include "seed.h"
#include <string.h>

#define MS UINT64_C(1000000)

struct segment {
    struct segment *next;
    uint64_t at_ns;
    uint32_t len, used;
    uint8_t bytes[];
};
struct pipe {
    struct segment *first, **last;
    uint64_t delay_ns, busy_ns; /* what was written has left by then */
    uint32_t bytes_per_ms;
    bool ended, dead;
};

static inline void pipe_init(struct pipe *pipe, uint64_t delay_ns, uint32_t bytes_per_ms) {
    *pipe = (struct pipe){.last = &pipe->first, .delay_ns = delay_ns, .bytes_per_ms = bytes_per_ms};
}

static inline void pipe_clear(struct pipe *pipe) {
    while (pipe->first) {
        struct segment *segment = pipe->first;
        pipe->first = segment->next;
        free(segment);
    }
    pipe->last = &pipe->first;
}

static inline void pipe_write(struct pipe *pipe, uint64_t *rng, uint64_t now_ns, const uint8_t *data, size_t len) {
    if (pipe->busy_ns < now_ns)
        pipe->busy_ns = now_ns;
    while (len > 0) {
        uint32_t part = 1 + random_below(rng, 16000);
        part = part < len ? part : (uint32_t)len;
        pipe->busy_ns += part * MS / pipe->bytes_per_ms;
        if (!pipe->dead) {
            struct segment *segment = malloc(sizeof *segment + part);
            *segment = (struct segment){.at_ns = pipe->busy_ns + pipe->delay_ns, .len = part};
            memcpy(segment->bytes, data, part);
            *pipe->last = segment;
            pipe->last = &segment->next;
        }
        data += part;
        len -= part;
    }
}

/* Bytes of the first segment have been delivered. */
static inline void pipe_used(struct pipe *pipe, uint32_t len) {
    struct segment *segment = pipe->first;
    segment->used += len;
    if (segment->used < segment->len)
        return;
    pipe->first = segment->next;
    if (!pipe->first)
        pipe->last = &pipe->first;
    free(segment);
}

/* What is under way from a random byte on does not arrive, nor does what is written from now on. */
static inline void pipe_cut(struct pipe *pipe, uint64_t *rng) {
    struct segment **at = &pipe->first;
    while (*at && !random_chance(rng, 3))
        at = &(*at)->next;
    struct pipe rest = {.first = *at};
    *at = NULL;
    pipe->last = at;
    if (rest.first && random_chance(rng, 2) && rest.first->used + 1 < rest.first->len) {
        struct segment *part = rest.first;
        rest.first = part->next;
        part->next = NULL;
        part->len = part->used + 1 + random_below(rng, part->len - part->used - 1);
        *at = part;
        pipe->last = &part->next;
    }
    pipe_clear(&rest);
    pipe->dead = true;
    pipe->ended = false;
}
