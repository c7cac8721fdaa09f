#pragma once
/* Two striped connections on one shard with an application each, and the lanes between them: what is written into one
 * end's lane is carried to the other's by the test itself, which may be slow, or cut it. */
#include "engine/limits.h"
#include "ssh/striped_internal.h"
#include "tests/unit/engine_rig.h"
#include <dirent.h>
#include <inttypes.h>

#define WIRES 8u
#define WIRE_BYTES 65536u
static const uint8_t rig_key[STRIPED_KEY_BYTES] = "0123456789abcde";

struct side {
    struct striped *striped;
    int app; /* the test's end */
    uint64_t to_send, sent, received, offered;
    bool shut_when_sent, shut, stalled, eof, reset, ended;
    unsigned wants, lanes_seen;
    struct striped_state state;
    char what[80];
};
struct wire {
    int fd[2]; /* -1: gone */
    uint8_t bytes[2][WIRE_BYTES];
    size_t len[2], at[2];
    bool over[2]; /* towards fd[i]: nothing more comes */
    bool frozen;  /* it is not carried, and who is not told does not see that */
    uint64_t carried;
};
struct stripes {
    struct shard shard;
    struct window_budget budget;
    struct side sides[2];
    struct wire wires[WIRES];
    unsigned wires_count;
    bool no_joining, refusing;
    bool unanswered; /* lanes that join never arrive there */
    uint64_t memory; /* the budget; 0: the usual */
};
static struct stripes rig;

static unsigned rig_descriptors(void) {
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    cr_assert_not_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static void rig_cut(struct wire *wire) {
    for (unsigned i = 0; i < 2; i++)
        if (wire->fd[i] >= 0)
            close(wire->fd[i]);
    wire->fd[0] = wire->fd[1] = -1;
}

static struct wire *rig_wire(int fd0, int fd1) {
    cr_assert(rig.wires_count < WIRES);
    struct wire *wire = &rig.wires[rig.wires_count++];
    wire->fd[0] = fd0;
    wire->fd[1] = fd1;
    return wire;
}

static bool anybody(void *arg, const char *host, uint16_t port) {
    (void)arg;
    return strcmp(host, "host") == 0 && port == 80;
}

static void rig_on_want(void *owner, struct striped *striped) {
    struct side *side = owner;
    int near, far;
    uint32_t identity;
    side->wants++;
    cr_assert(side == &rig.sides[0] && striped == side->striped);
    if (rig.no_joining || rig.wires_count == WIRES)
        return;
    cr_assert_eq(striped_join(striped, &near, &identity), 0);
    if (rig.refusing) {
        close(near);
        return;
    }
    if (rig.unanswered) {
        rig_wire(near, -1)->frozen = true;
        return;
    }
    cr_assert_eq(striped_find_join("user", rig_key, identity, anybody, NULL, &far), 0);
    rig_wire(near, far);
}

static void rig_on_end(void *owner, const struct striped_state *state, const char *what) {
    struct side *side = owner;
    cr_assert_not(side->ended);
    side->ended = true;
    side->striped = NULL;
    side->state = *state;
    snprintf(side->what, sizeof side->what, "%s", what != NULL ? what : "");
}

static const struct striped_watcher client_watcher = {.on_want = rig_on_want, .on_end = rig_on_end};
static const struct striped_watcher server_watcher = {.on_end = rig_on_end};
static const struct striped_name rig_name = {.user = "user", .host = "host", .port = 80};

static void rig_begin(enum io_backend backend, unsigned lanes) {
    int fds[2], near, far;
    rig_init(&rig.shard, backend, 0);
    window_budget_init(&rig.budget, rig.memory != 0 ? rig.memory : LIMIT_WINDOW_BUDGET_BYTES);
    for (unsigned i = 0; i < 2; i++) {
        rig_tcp_pair(fds);
        rig.sides[i].app = fds[1];
        cr_assert_eq(striped_start(&rig.shard, fds[0], &rig.budget, LIMIT_STRIPE_WINDOW_BYTES, lanes,
                                   i == 0 ? NULL : &rig_name, rig_key, i == 0 ? &client_watcher : &server_watcher,
                                   &rig.sides[i], &rig.sides[i].striped, i == 0 ? &near : &far),
                     0);
    }
    rig_wire(near, far);
}

/* ---- what the applications do ---- */

static void side_write(struct side *side) {
    uint8_t data[32768];
    while (side->sent < side->to_send) {
        size_t len = side->to_send - side->sent < sizeof data ? (size_t)(side->to_send - side->sent) : sizeof data;
        rig_fill(data, len, side->sent);
        ssize_t sent = send(side->app, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent <= 0) {
            side->reset |= errno != EAGAIN;
            return;
        }
        side->sent += (uint64_t)sent;
    }
    if (side->shut_when_sent && !side->shut) {
        side->shut = true;
        shutdown(side->app, SHUT_WR);
    }
}

static void side_read(struct side *side) {
    uint8_t data[65536];
    ssize_t got;
    if (side->stalled || side->eof || side->reset)
        return;
    while ((got = recv(side->app, data, sizeof data, MSG_DONTWAIT)) > 0) {
        cr_assert(rig_matches(data, (size_t)got, side->received), "at %" PRIu64, side->received);
        side->received += (uint64_t)got;
    }
    side->eof = got == 0;
    side->reset |= got < 0 && errno != EAGAIN;
}

static void side_drive(struct side *side) {
    if (side->striped != NULL) {
        unsigned lanes = striped_state(side->striped).lanes;
        side->lanes_seen = lanes > side->lanes_seen ? lanes : side->lanes_seen;
    }
    if (side->app < 0)
        return;
    side_write(side);
    side_read(side);
}

/* ---- what the lanes do ---- */

static void wire_carry(struct wire *wire, unsigned to) {
    for (unsigned i = 0; i < 4 && wire->fd[to] >= 0; i++) {
        if (wire->len[to] == 0 && !wire->over[to]) {
            ssize_t got = recv(wire->fd[!to], wire->bytes[to], WIRE_BYTES, MSG_DONTWAIT);
            if (got < 0 && errno == EAGAIN)
                return;
            if (got <= 0) {
                wire->over[to] = true;
                shutdown(wire->fd[to], SHUT_WR);
                return;
            }
            wire->len[to] = (size_t)got;
            wire->at[to] = 0;
        }
        if (wire->len[to] == 0)
            return;
        ssize_t sent = send(wire->fd[to], wire->bytes[to] + wire->at[to], wire->len[to], MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EAGAIN)
            return;
        if (sent < 0)
            return rig_cut(wire);
        wire->at[to] += (size_t)sent;
        wire->len[to] -= (size_t)sent;
        wire->carried += (uint64_t)sent;
    }
}

static void rig_drive(void) {
    for (unsigned i = 0; i < rig.wires_count; i++) {
        if (rig.wires[i].frozen)
            continue;
        wire_carry(&rig.wires[i], 0);
        wire_carry(&rig.wires[i], 1);
        if (rig.wires[i].over[0] && rig.wires[i].over[1])
            rig_cut(&rig.wires[i]);
    }
    side_drive(&rig.sides[0]);
    side_drive(&rig.sides[1]);
    rig_turn(&rig.shard, 0);
}

#define DRIVE_UNTIL(condition)                                                                                         \
    do {                                                                                                               \
        uint64_t end_ns = io_clock_ns() + RIG_TIMEOUT_NS;                                                              \
        while (!(condition)) {                                                                                         \
            cr_assert(io_clock_ns() < end_ns, "never became true: %s", #condition);                                    \
            rig_drive();                                                                                               \
        }                                                                                                              \
    } while (0)

/* The last of it may still be on its way to the application when the striped has ended. */
static bool side_over(const struct side *side) {
    return side->ended && (side->app < 0 || side->stalled || side->eof || side->reset);
}

/* Both are over, and all is back. */
static void rig_finish(void) {
    DRIVE_UNTIL(side_over(&rig.sides[0]) && side_over(&rig.sides[1]));
    for (unsigned i = 0; i < 2; i++)
        if (rig.sides[i].app >= 0)
            close(rig.sides[i].app);
    for (unsigned i = 0; i < rig.wires_count; i++)
        rig_cut(&rig.wires[i]);
    cr_expect_eq(atomic_load(&rig.budget.used), 0);
    shard_deinit(&rig.shard);
}

/* ---- what they say and get ---- */

#define MIB (UINT64_C(1) << 20)

static void both_send(uint64_t first, uint64_t second) {
    rig.sides[0].to_send = first;
    rig.sides[1].to_send = second;
    rig.sides[0].shut_when_sent = rig.sides[1].shut_when_sent = true;
}

static void expect_whole(void) {
    for (unsigned i = 0; i < 2; i++) {
        const struct side *side = &rig.sides[i];
        cr_expect(side->eof && !side->reset, "side %u", i);
        cr_expect_eq(side->received, rig.sides[!i].to_send);
        cr_expect_eq(side->state.bytes_to_peer, side->to_send);
        cr_expect_eq(side->state.bytes_from_peer, rig.sides[!i].to_send);
        cr_expect_str_eq(side->what, "");
    }
}
