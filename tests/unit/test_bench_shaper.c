/* A line in virtual time, against a model that knows every packet there ever was. */
#include "bench/link_shaper.h"
#include "seed.h"
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#define MS UINT64_C(1000000)

static struct shaper shaper_of(struct shaper_options options) {
    struct shaper shaper;
    cr_assert(shaper_init(&shaper, &options));
    return shaper;
}

static uint64_t due_of(struct shaper *shaper, uint64_t now_ns, uint32_t bytes) {
    uint64_t due_ns = 0;
    cr_assert_eq(shaper_offer(shaper, now_ns, bytes, &due_ns), SHAPER_PASSES);
    return due_ns;
}

Test(shaper, without_a_rate_it_only_delays) {
    struct shaper shaper = shaper_of((struct shaper_options){.delay_ns = 50 * MS, .queue_packets = 1});
    for (uint64_t now_ns = 0; now_ns < 10; now_ns++) {
        cr_assert_eq(due_of(&shaper, now_ns, 65535), now_ns + 50 * MS);
        cr_assert_eq(due_of(&shaper, now_ns, 1), now_ns + 50 * MS, "several at one time");
    }
    shaper_deinit(&shaper);
}

/* 12 Mbit/s: 1500 bytes take a millisecond. */
Test(shaper, packets_follow_one_another_at_the_rate) {
    struct shaper shaper = shaper_of((struct shaper_options){.delay_ns = 10 * MS, .rate = 12e6});
    cr_assert_eq(due_of(&shaper, 5, 1500), 5 + 11 * MS);
    cr_assert_eq(due_of(&shaper, 5, 1500), 5 + 12 * MS, "waits for the one before");
    cr_assert_eq(due_of(&shaper, 5 + 2 * MS, 750), 5 + 12 * MS + MS / 2, "the line is free at this moment");
    cr_assert_eq(due_of(&shaper, 100 * MS, 1500), 111 * MS, "idle time is not saved up");
    cr_assert_eq(due_of(&shaper, 100 * MS, 1500), 112 * MS);
    shaper_deinit(&shaper);
}

Test(shaper, parts_of_a_nanosecond_add_up) {
    struct shaper shaper = shaper_of((struct shaper_options){.rate = 100e9}); /* a byte: 0.08 ns */
    uint64_t due_ns = 0;
    for (unsigned i = 0; i < 100000; i++)
        due_ns = due_of(&shaper, 0, 1);
    cr_assert(due_ns >= 7990 && due_ns <= 8010, "%lu", (unsigned long)due_ns);
    shaper_deinit(&shaper);
}

Test(shaper, the_slowest_line_and_the_largest_packet) {
    struct shaper shaper = shaper_of((struct shaper_options){.rate = SHAPER_RATE_MIN});
    for (uint64_t i = 1; i <= 100; i++)
        cr_assert_eq(due_of(&shaper, 0, 65535), i * 65535 * 8 * MS);
    shaper_deinit(&shaper);
}

Test(shaper, a_full_queue_takes_nothing_until_one_departs) {
    struct shaper shaper = shaper_of((struct shaper_options){.delay_ns = 7, .rate = 12e6, .queue_packets = 3});
    uint64_t due_ns = 4711;
    for (uint64_t i = 1; i <= 3; i++)
        cr_assert_eq(due_of(&shaper, 0, 1500), i * MS + 7);
    cr_assert_eq(shaper_offer(&shaper, 0, 1, &due_ns), SHAPER_FINDS_NO_ROOM);
    cr_assert_eq(shaper_offer(&shaper, MS - 1, 1, &due_ns), SHAPER_FINDS_NO_ROOM);
    cr_assert_eq(due_ns, 4711);
    cr_assert_eq(due_of(&shaper, MS, 1500), 4 * MS + 7, "what found no room has not used the line");
    cr_assert_eq(shaper_offer(&shaper, MS, 1, &due_ns), SHAPER_FINDS_NO_ROOM);
    cr_assert_eq(due_of(&shaper, 4 * MS, 1500), 5 * MS + 7);
    shaper_deinit(&shaper);
}

Test(shaper, a_queue_of_one) {
    struct shaper shaper = shaper_of((struct shaper_options){.rate = 8e9, .queue_packets = 1});
    uint64_t due_ns;
    for (uint64_t now_ns = 0; now_ns < 1000; now_ns += 100) {
        cr_assert_eq(due_of(&shaper, now_ns, 100), now_ns + 100);
        cr_assert_eq(shaper_offer(&shaper, now_ns + 99, 100, &due_ns), SHAPER_FINDS_NO_ROOM);
    }
    shaper_deinit(&shaper);
}

Test(shaper, what_is_lost_has_used_the_line) {
    struct shaper shaper = shaper_of((struct shaper_options){.rate = 12e6, .loss = 0.5, .seed = 3});
    unsigned lost = 0;
    for (uint64_t i = 1; i <= 1000; i++) {
        uint64_t due_ns;
        if (shaper_offer(&shaper, 0, 1500, &due_ns) == SHAPER_IS_LOST)
            lost++;
        else
            cr_assert_eq(due_ns, i * MS);
    }
    cr_assert(lost > 400 && lost < 600, "%u", lost);
    shaper_deinit(&shaper);
}

static unsigned count_lost(double loss, uint64_t seed, unsigned packets, unsigned char *fates) {
    struct shaper shaper = shaper_of((struct shaper_options){.loss = loss, .seed = seed});
    unsigned lost = 0;
    for (unsigned i = 0; i < packets; i++) {
        uint64_t due_ns;
        fates[i] = shaper_offer(&shaper, i, 1500, &due_ns) == SHAPER_IS_LOST;
        lost += fates[i];
    }
    shaper_deinit(&shaper);
    return lost;
}

Test(shaper, loses_its_share) {
    enum { PACKETS = 100000 };
    static const double losses[] = {0.0001, 0.01, 0.1, 0.5, 0.99};
    static unsigned char fates[PACKETS];
    cr_assert_eq(count_lost(0, 1, PACKETS, fates), 0);
    cr_assert_eq(count_lost(1, 1, PACKETS, fates), PACKETS);
    for (size_t i = 0; i < sizeof(losses) / sizeof(*losses); i++) {
        double expected = losses[i] * PACKETS, deviation = sqrt(expected * (1 - losses[i]));
        for (uint64_t seed = 0; seed < 5; seed++) {
            unsigned lost = count_lost(losses[i], seed, PACKETS, fates);
            cr_assert(fabs(lost - expected) < 5 * deviation, "%u of %g, seed %lu", lost, expected, (unsigned long)seed);
        }
    }
}

/* Runs of losses would be another line: after a lost packet the next is lost as often as any. */
Test(shaper, losses_do_not_hang_together) {
    enum { PACKETS = 100000 };
    static unsigned char fates[PACKETS];
    unsigned lost = count_lost(0.1, 9, PACKETS, fates), pairs = 0;
    for (unsigned i = 1; i < PACKETS; i++)
        pairs += fates[i - 1] & fates[i];
    cr_assert(fabs(pairs - lost * 0.1) < 5 * sqrt(lost * 0.09), "%u pairs of %u", pairs, lost);
}

Test(shaper, the_seed_decides_and_neighbours_differ) {
    enum { PACKETS = 1000 };
    static unsigned char fates[PACKETS], same[PACKETS], others[PACKETS];
    unsigned differing = 0;
    count_lost(0.5, 42, PACKETS, fates);
    count_lost(0.5, 42, PACKETS, same);
    count_lost(0.5, 43, PACKETS, others);
    cr_assert_arr_eq(fates, same, PACKETS);
    for (unsigned i = 0; i < PACKETS; i++)
        differing += fates[i] != others[i];
    cr_assert(differing > PACKETS * 4 / 10 && differing < PACKETS * 6 / 10, "%u", differing);
}

/* The model: exact times, and a list of all departures. */
struct model {
    struct shaper_options options;
    long double free_at_ns;
    uint64_t line_bytes;
    uint64_t departures[4000];
    unsigned count;
};

static bool model_has_room(const struct model *model, uint64_t now_ns) {
    unsigned waiting = 0;
    for (unsigned i = 0; i < model->count; i++)
        waiting += model->departures[i] > now_ns;
    return model->options.rate == 0 || model->options.queue_packets == 0 || waiting < model->options.queue_packets;
}

static void model_depart(struct model *model, uint64_t now_ns, uint32_t bytes) {
    if (model->free_at_ns < (long double)now_ns)
        model->free_at_ns = (long double)now_ns;
    if (model->options.rate > 0)
        model->free_at_ns += (long double)bytes * 8e9L / (long double)model->options.rate;
    model->line_bytes += bytes;
}

static void run_against_model(uint64_t *state) {
    static const double rates[] = {0, 1e5, 3e6, 1e8, 1e9, 7.77e9};
    static struct model model;
    struct shaper_options options = {.delay_ns = random_below(state, 200) * MS,
                                     .rate = rates[random_below(state, 6)],
                                     .loss = random_chance(state, 2) ? 0 : random_below(state, 100) / 100.0,
                                     .queue_packets = random_chance(state, 4) ? 0 : 1 + random_below(state, 40),
                                     .seed = random_u32(state)};
    struct shaper shaper = shaper_of(options);
    uint64_t now_ns = random_u32(state), last_due_ns = 0;
    uint32_t spread_ns = 1 + random_below(state, options.rate > 0 ? (uint32_t)(24e12 / options.rate) : 1000);
    model = (struct model){.options = options};
    for (unsigned i = 0; i < 300; i++) {
        uint32_t bytes = 1 + random_below(state, random_chance(state, 5) ? 65535 : 1500);
        uint64_t due_ns = 0, tolerance_ns;
        enum shaper_fate fate;
        bool has_room;
        now_ns += random_chance(state, 3) ? random_below(state, spread_ns) : 0;
        has_room = model_has_room(&model, now_ns);
        fate = shaper_offer(&shaper, now_ns, bytes, &due_ns);
        cr_assert_eq(fate == SHAPER_FINDS_NO_ROOM, !has_room);
        if (fate == SHAPER_FINDS_NO_ROOM)
            continue;
        model_depart(&model, now_ns, bytes);
        model.departures[model.count++] = shaper.free_at_ns;
        tolerance_ns = 2 + (model.line_bytes >> 20); /* a byte's time is rounded */
        cr_assert(fabsl((long double)shaper.free_at_ns - model.free_at_ns) <= (long double)tolerance_ns);
        cr_assert(fate == SHAPER_PASSES || options.loss > 0);
        if (fate != SHAPER_PASSES)
            continue;
        cr_assert_eq(due_ns, shaper.free_at_ns + options.delay_ns);
        cr_assert_geq(due_ns, last_due_ns);
        last_due_ns = due_ns;
    }
    shaper_deinit(&shaper);
}

Test(shaper, random_lines_against_a_model, .fini = seed_report) {
    seed_each(300, run_against_model);
}

Test(flight, nothing_is_never_due) {
    struct shaper_flight flight;
    shaper_flight_init(&flight);
    cr_assert_eq(shaper_flight_next_ns(&flight), SHAPER_NEVER);
    cr_assert_null(shaper_flight_take(&flight, SHAPER_NEVER));
}

/* Against counters: what comes out is what went in, in that order, and never early. */
static void fly(uint64_t *state) {
    static struct shaper_packet packets[500];
    struct shaper_flight flight;
    uint64_t now_ns = 0, due_ns = 0, bytes = 0;
    unsigned added = 0, taken = 0;
    shaper_flight_init(&flight);
    while (taken < 500) {
        struct shaper_packet *packet;
        if (added < 500 && random_chance(state, 2)) {
            due_ns += random_below(state, 3);
            packets[added] = (struct shaper_packet){.due_ns = due_ns, .bytes = random_below(state, 1500)};
            bytes += packets[added].bytes;
            shaper_flight_add(&flight, &packets[added++]);
        }
        now_ns += random_below(state, 2);
        cr_assert_eq(shaper_flight_next_ns(&flight), taken < added ? packets[taken].due_ns : SHAPER_NEVER);
        packet = shaper_flight_take(&flight, now_ns);
        cr_assert_eq(packet, taken < added && packets[taken].due_ns <= now_ns ? &packets[taken] : NULL);
        if (packet != NULL)
            bytes -= packets[taken++].bytes;
        cr_assert_eq(flight.bytes, bytes);
    }
    cr_assert_eq(flight.bytes, 0);
}

Test(flight, random_packets_in_order, .fini = seed_report) {
    seed_each(100, fly);
}
