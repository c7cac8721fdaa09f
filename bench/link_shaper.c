#include "bench/link_shaper.h"
#include <assert.h>
#include <stdlib.h>

#define FRACTION_BITS 20
#define FRACTION_MASK ((1u << FRACTION_BITS) - 1)

bool shaper_init(struct shaper *shaper, const struct shaper_options *options) {
    assert(options->loss >= 0 && options->loss <= 1 && options->queue_packets <= SHAPER_QUEUE_MAX);
    assert(options->rate == 0 || options->rate >= SHAPER_RATE_MIN);
    *shaper = (struct shaper){.options = *options, .random = options->seed};
    if (options->rate == 0)
        return true;
    shaper->byte_time = (uint64_t)(8e9 / options->rate * (1u << FRACTION_BITS) + 0.5);
    if (options->queue_packets == 0)
        return true;
    shaper->departures = malloc(options->queue_packets * sizeof(*shaper->departures));
    return shaper->departures != NULL;
}

void shaper_deinit(struct shaper *shaper) {
    free(shaper->departures);
    shaper->departures = NULL;
}

/* SplitMix64: any seed will do, also 0 and neighbours. */
static uint64_t draw(struct shaper *shaper) {
    uint64_t value = shaper->random += UINT64_C(0x9E3779B97F4A7C15);
    value = (value ^ (value >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    value = (value ^ (value >> 27)) * UINT64_C(0x94D049BB133111EB);
    return value ^ (value >> 31);
}

static bool draw_loss(struct shaper *shaper) {
    return shaper->options.loss > 0 && (double)(draw(shaper) >> 11) * 0x1p-53 < shaper->options.loss;
}

static bool has_room(struct shaper *shaper, uint64_t now_ns) {
    uint32_t size = shaper->options.queue_packets;
    if (shaper->departures == NULL)
        return true;
    while (shaper->waiting > 0 && shaper->departures[shaper->waiting_first] <= now_ns) {
        shaper->waiting_first = (shaper->waiting_first + 1) % size;
        shaper->waiting--;
    }
    return shaper->waiting < size;
}

static uint64_t depart(struct shaper *shaper, uint64_t now_ns, uint32_t bytes) {
    uint64_t time = shaper->byte_time * bytes;
    if (shaper->free_at_ns < now_ns) {
        shaper->free_at_ns = now_ns;
        shaper->free_at_fraction = 0;
    }
    time += shaper->free_at_fraction;
    shaper->free_at_ns += time >> FRACTION_BITS;
    shaper->free_at_fraction = (uint32_t)(time & FRACTION_MASK);
    if (shaper->departures != NULL)
        shaper->departures[(shaper->waiting_first + shaper->waiting++) % shaper->options.queue_packets] =
            shaper->free_at_ns;
    return shaper->free_at_ns;
}

enum shaper_fate shaper_offer(struct shaper *shaper, uint64_t now_ns, uint32_t bytes, uint64_t *due_ns) {
    uint64_t departure_ns;
    if (!has_room(shaper, now_ns))
        return SHAPER_FINDS_NO_ROOM;
    departure_ns = depart(shaper, now_ns, bytes);
    if (draw_loss(shaper))
        return SHAPER_IS_LOST;
    *due_ns = departure_ns + shaper->options.delay_ns;
    return SHAPER_PASSES;
}

void shaper_flight_init(struct shaper_flight *flight) {
    *flight = (struct shaper_flight){.last_next = &flight->first};
}

void shaper_flight_add(struct shaper_flight *flight, struct shaper_packet *packet) {
    packet->next = NULL;
    *flight->last_next = packet;
    flight->last_next = &packet->next;
    flight->bytes += packet->bytes;
}

uint64_t shaper_flight_next_ns(const struct shaper_flight *flight) {
    return flight->first == NULL ? SHAPER_NEVER : flight->first->due_ns;
}

struct shaper_packet *shaper_flight_take(struct shaper_flight *flight, uint64_t now_ns) {
    struct shaper_packet *packet = flight->first;
    if (packet == NULL || packet->due_ns > now_ns)
        return NULL;
    flight->first = packet->next;
    if (flight->first == NULL)
        flight->last_next = &flight->first;
    flight->bytes -= packet->bytes;
    return packet;
}
