/* Two stripes joined by up to five lanes in virtual time: each lane with a delay and a rate of its own, lost in one
 * direction or both with bytes under way cut anywhere, seen by the two sides at different times, or by one of them not
 * at all but for what the other says on what is left, and replaced; or never answered, without anybody noticing; and
 * applications that give, take, pause, end and reset as they like. What must hold:
 *   - every byte in order, once; nothing is sent again but what went on a lost lane
 *   - DONE on either side only when both applications have all; BROKEN only after a RESET or the loss of all lanes
 *   - nobody waits for ever; memory stays within the windows; and the budget is whole at the end. */
#include "engine/limits.h"
#include "seed.h"
#include "ssh/codec.h"
#include "ssh/stripe_internal.h"
#include "stripe_pipe.h"
#include <criterion/criterion.h>
#include <string.h>

#ifdef LEAT_DEBUG_CHECKS
#define SEEDS 60u
#else
#define SEEDS 300u
#endif
#define LANES 5u
#define SENT_MAX 20000u
#define NEVER UINT64_MAX
#define TIME_MAX (UINT64_C(4000000) * MS)

struct path {
    bool used, lost, here[2], joining;
    bool mute, heard; /* nothing is ever answered on it; side 0 has heard something on it */
    uint32_t id;
    uint64_t join_ns, gone_ns[2];
    uint32_t queue_ms;
    struct pipe pipes[2]; /* by who writes */
};
/* A record that went out, and on which path. */
struct sent {
    uint64_t offset;
    uint32_t len, path_id;
};
struct side {
    struct stripe *stripe;
    struct window_budget budget;
    uint64_t seed, quota, given, taken, give_ns, take_ns, pause_max_ns;
    bool ends_last, ended, got_end;
    struct sent sent[SENT_MAX];
    uint32_t sent_count;
};

static struct side sides[2];
static struct path paths[LANES];
static uint64_t *rng, now_ns, chaos_ns;
static uint32_t path_ids, loss_chance;
static bool may_break, may_reset, may_add, broke;
static unsigned blind; /* the side that notices nothing by itself; 2: neither */
static uint64_t total_mute, total_lost, total_told, total_added, total_done, total_broken, total_bytes, total_again;

static uint8_t byte_at(uint64_t seed, uint64_t position) {
    return (uint8_t)((position + seed) * UINT64_C(0x9E3779B97F4A7C15) >> 56);
}
static uint64_t soon(uint64_t most_ns) {
    return now_ns + ((uint64_t)random_u32(rng) * (most_ns + 1) >> 32);
}

static void path_add(void) {
    unsigned number = 0;
    while (number < LANES && paths[number].used)
        number++;
    if (number == LANES || stripe_state(sides[0].stripe) != STRIPE_OPEN)
        return;
    const uint32_t rates[] = {5, 100, 2000, 50000};
    struct path *path = &paths[number];
    *path = (struct path){.used = true, .joining = true, .id = ++path_ids, .here[0] = true};
    path->gone_ns[0] = path->gone_ns[1] = NEVER;
    uint64_t delay_ns = random_chance(rng, 3) ? 0 : random_below(rng, 300) * MS;
    uint32_t bytes_per_ms = rates[random_below(rng, 4)];
    bytes_per_ms += random_below(rng, 100);
    path->queue_ms = random_below(rng, 200);
    path->mute = path->id > 1 && random_chance(rng, 6);
    path->join_ns = path->mute ? NEVER : now_ns + delay_ns;
    for (unsigned i = 0; i < 2; i++)
        pipe_init(&path->pipes[i], delay_ns, bytes_per_ms);
    path->pipes[0].dead = path->mute;
    total_mute += path->mute;
    cr_assert_eq(stripe_lane_add(sides[0].stripe, number, path->id, path->id > 1), 0);
    total_added++;
}

static void path_lose(struct path *path) {
    path->lost = true;
    total_lost++;
    unsigned how = random_below(rng, 3);
    for (unsigned i = 0; i < 2; i++) {
        if (how != i)
            pipe_cut(&path->pipes[i], rng);
        bool told = i == blind && path->here[!i]; /* of what never came there the other side cannot tell */
        path->gone_ns[i] = told ? NEVER : random_chance(rng, 3) ? now_ns : soon(500 * MS);
    }
}

static void path_leave(struct path *path, unsigned side, bool in_order) {
    unsigned number = (unsigned)(path - paths);
    struct stripe *stripe = sides[side].stripe;
    bool was_open = stripe_state(stripe) == STRIPE_OPEN;
    cr_assert(!in_order || !was_open, "a lane ended in order before the last word");
    stripe_lane_gone(stripe, number, in_order);
    broke |= was_open && stripe_lanes(stripe) == 0;
    path->here[side] = false;
    path->pipes[side].ended = !path->lost;
    if (path->here[!side] || (path->joining && !path->lost && !path->mute))
        return;
    pipe_clear(&path->pipes[0]);
    pipe_clear(&path->pipes[1]);
    path->used = false;
}

static void path_join(struct path *path) {
    path->joining = false;
    if (path->lost)
        return;
    if (stripe_state(sides[1].stripe) == STRIPE_BROKEN ||
        (stripe_state(sides[1].stripe) == STRIPE_DONE && random_chance(rng, 2)))
        return path_lose(path);
    path->here[1] = true;
    cr_assert_eq(stripe_lane_add(sides[1].stripe, (unsigned)(path - paths), path->id, false), 0);
}

/* Whom the other side cannot tell any more notices at last; and what was never answered is given up with the rest. */
static void path_notice(struct path *path) {
    bool over = stripe_state(sides[0].stripe) != STRIPE_OPEN || stripe_state(sides[1].stripe) != STRIPE_OPEN;
    if (path->used && path->mute && over && path->here[0] && path->gone_ns[0] == NEVER)
        path->gone_ns[0] = soon(500 * MS);
    if (blind < 2 && path->used && path->lost && path->here[blind] && path->gone_ns[blind] == NEVER &&
        stripe_state(sides[!blind].stripe) != STRIPE_OPEN)
        path->gone_ns[blind] = soon(500 * MS);
}

/* Nothing that went on a lane which is still there goes again; and what goes again is what went. */
static void note_sent(struct side *side, uint64_t offset, uint32_t len, const struct path *path) {
    uint64_t end =
        side->sent_count ? side->sent[side->sent_count - 1].offset + side->sent[side->sent_count - 1].len : 0;
    if (offset == end) {
        cr_assert_lt(side->sent_count, SENT_MAX);
        side->sent[side->sent_count++] = (struct sent){offset, len, path->id};
        return;
    }
    uint32_t low = 0, high = side->sent_count;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        *(side->sent[middle].offset <= offset ? &low : &high) = middle;
    }
    struct sent *sent = &side->sent[low];
    cr_assert(sent->offset == offset && sent->len == len);
    for (unsigned i = 0; i < LANES; i++)
        cr_assert(!paths[i].used || !paths[i].here[side - sides] || paths[i].id != sent->path_id);
    sent->path_id = path->id;
    total_again += len;
}

static bool path_send(struct path *path, unsigned from) {
    struct side *side = &sides[from];
    struct pipe *pipe = &path->pipes[from];
    unsigned number = (unsigned)(path - paths);
    if (!path->here[from] || pipe->ended || pipe->busy_ns > now_ns + path->queue_ms * MS)
        return false;
    uint8_t header[STRIPE_HEADER_BYTES];
    const uint8_t *data;
    size_t len;
    bool waits = from == 0 && path->id > 1 && !path->heard && stripe_state(side->stripe) == STRIPE_OPEN;
    if (!stripe_next(side->stripe, number, now_ns, header, &data, &len)) {
        pipe->ended = stripe_lane_finished(side->stripe, number) && !pipe->dead;
        return false;
    }
    cr_assert_not(stripe_state(side->stripe) == STRIPE_OPEN && stripe_lane_finished(side->stripe, number));
    cr_assert(!waits || header[0] == RECORD_TAKEN || header[0] == RECORD_LOST);
    if (len > 0)
        note_sent(side, (uint64_t)codec_get_u32(header + 5) << 32 | codec_get_u32(header + 9), (uint32_t)len, path);
    pipe_write(pipe, rng, now_ns, header, sizeof header);
    pipe_write(pipe, rng, now_ns, data, len);
    return true;
}

/* As the other side has said. */
static void leave_lost(unsigned side) {
    for (unsigned i = 0; i < LANES; i++) {
        if (!paths[i].used || !paths[i].here[side] || !stripe_lane_lost_there(sides[side].stripe, i))
            continue;
        cr_assert(paths[i].lost && !paths[i].here[!side]);
        path_leave(&paths[i], side, false);
        total_told++;
    }
}

static bool path_receive(struct path *path, unsigned to) {
    struct pipe *pipe = &path->pipes[!to];
    struct segment *segment = pipe->first;
    if (!path->here[to])
        return false;
    if (!segment && pipe->ended) {
        path_leave(path, to, true);
        return true;
    }
    if (!segment || segment->at_ns > now_ns)
        return false;
    uint32_t part = segment->len - segment->used;
    if (random_chance(rng, 3))
        part = 1 + random_below(rng, part);
    int result = stripe_input(sides[to].stripe, (unsigned)(path - paths), segment->bytes + segment->used, part, now_ns);
    cr_assert_eq(result, 0);
    path->heard |= to == 0;
    pipe_used(pipe, part);
    leave_lost(to);
    return true;
}

static uint64_t next_act(const struct side *side) {
    return random_chance(rng, 50) ? soon(side->pause_max_ns) : soon(20 * MS) + 1;
}

static void app_give(struct side *side, const struct side *peer) {
    static uint8_t bytes[200000];
    const uint32_t most[] = {1, 100, 40000, sizeof bytes};
    uint64_t left = side->quota - side->given, room = stripe_room(side->stripe);
    uint32_t len = 1 + random_below(rng, most[random_below(rng, 4)]);
    len = len < left ? len : (uint32_t)left;
    len = len < room ? len : (uint32_t)room;
    for (uint32_t i = 0; i < len; i++)
        bytes[i] = byte_at(side->seed, side->given + i);
    cr_assert_eq(stripe_give(side->stripe, bytes, len), 0);
    side->given += len;
    if (side->given == side->quota && (!side->ends_last || peer->ended)) {
        stripe_end(side->stripe);
        cr_assert_eq(stripe_room(side->stripe), 0);
        side->ended = true;
    }
}

static void app_take(struct side *side, const struct side *peer) {
    const uint8_t *data;
    size_t len = stripe_peek(side->stripe, &data);
    if (len > 0) {
        if (random_chance(rng, 4))
            len = 1 + random_below(rng, (uint32_t)len);
        for (size_t i = 0; i < len; i++)
            if (data[i] != byte_at(peer->seed, side->taken + i))
                cr_assert_fail("byte %lu", side->taken + i);
        stripe_took(side->stripe, len);
        side->taken += len;
        total_bytes += len;
    } else if (stripe_ended(side->stripe)) {
        cr_assert(!side->got_end && peer->ended && side->taken == peer->quota);
        side->got_end = true;
        stripe_end_taken(side->stripe);
    }
    cr_assert_eq(stripe_bytes_in(side->stripe), side->taken);
}

static void app_act(unsigned which) {
    struct side *side = &sides[which], *peer = &sides[!which];
    if (stripe_state(side->stripe) != STRIPE_OPEN)
        side->give_ns = side->take_ns = NEVER;
    if (side->give_ns <= now_ns) {
        app_give(side, peer);
        side->give_ns = side->ended ? NEVER : next_act(side);
    }
    for (bool more = side->take_ns <= now_ns; more; more = !random_chance(rng, 4)) {
        app_take(side, peer);
        side->take_ns = side->got_end ? NEVER : next_act(side);
    }
}

static void chaos(void) {
    chaos_ns = soon(2000 * MS) + 1;
    if (may_reset && random_chance(rng, 20)) {
        unsigned which = random_below(rng, 2);
        broke |= stripe_state(sides[which].stripe) == STRIPE_OPEN;
        stripe_reset(sides[which].stripe);
    }
    unsigned alive = 0;
    for (unsigned i = 0; i < LANES; i++)
        alive += paths[i].used && !paths[i].lost && paths[i].here[0] && paths[i].here[1];
    struct path *path = &paths[random_below(rng, LANES)];
    bool is_alive = path->used && !path->lost && path->here[0] && path->here[1];
    if (path->used && !path->lost && random_below(rng, 100) < loss_chance && (may_break || alive > is_alive))
        path_lose(path);
    else if (may_add && alive > 0 && random_chance(rng, 2))
        path_add();
}

static bool path_turn(struct path *path) {
    bool done = false;
    if (path->joining && path->join_ns <= now_ns)
        path_join(path);
    for (unsigned i = 0; i < 2; i++) {
        for (uint32_t turns = 1 + random_below(rng, 4); turns > 0 && path->used && path_send(path, i); turns--)
            done = true;
        for (uint32_t turns = 1 + random_below(rng, 4); turns > 0 && path->used && path_receive(path, i); turns--)
            done = true;
    }
    return done;
}

static void earlier(uint64_t *next, uint64_t when) {
    if (when > now_ns && when < *next)
        *next = when;
}

static uint64_t next_event(void) {
    uint64_t next = chaos_ns;
    for (unsigned i = 0; i < 2; i++) {
        earlier(&next, sides[i].give_ns);
        earlier(&next, sides[i].take_ns);
    }
    for (unsigned i = 0; i < LANES * 2; i++) {
        const struct path *path = &paths[i / 2];
        const struct pipe *pipe = &path->pipes[i % 2];
        if (!path->used)
            continue;
        earlier(&next, path->gone_ns[i % 2]);
        if (path->joining)
            earlier(&next, path->join_ns);
        if (pipe->first)
            earlier(&next, pipe->first->at_ns);
        if (pipe->busy_ns > path->queue_ms * MS)
            earlier(&next, pipe->busy_ns - path->queue_ms * MS);
    }
    return next;
}

static void check(const struct side *side) {
    const struct stripe *stripe = side->stripe;
    stripe_validate(stripe);
    const uint64_t page = STRIPE_CHUNK_BYTES, ring = 4 * sizeof(struct page);
    cr_assert_leq(pages_bytes(&stripe->in.pages),
                  (stripe->in.window.target / page + 2) * (page + page / 8 + ring) + 8 * ring);
    cr_assert_leq(pages_bytes(&stripe->out.pages), (stripe->out.reserved / page + 2) * (page + ring) + 8 * ring);
}

static bool step(void) {
    bool done = false;
    app_act(random_below(rng, 2));
    for (unsigned i = 0; i < LANES * 2; i++) {
        struct path *path = &paths[i / 2];
        path_notice(path);
        if (path->used && path->here[i % 2] && path->gone_ns[i % 2] <= now_ns)
            path_leave(path, i % 2, false);
    }
    for (unsigned i = 0, first = random_below(rng, LANES); i < LANES; i++)
        if (paths[(first + i) % LANES].used)
            done |= path_turn(&paths[(first + i) % LANES]);
    check(&sides[0]);
    check(&sides[1]);
    return done || sides[0].give_ns <= now_ns || sides[1].give_ns <= now_ns || sides[0].take_ns <= now_ns ||
           sides[1].take_ns <= now_ns;
}

static void side_init(struct side *side) {
    const uint32_t windows[] = {100, 5000, 100000, 1u << 20, LIMIT_WINDOW_LEATD_BYTES};
    const uint64_t budgets[] = {70000, 200000, 2u << 20, LIMIT_WINDOW_BUDGET_BYTES};
    const uint64_t pauses_ms[] = {1, 100, 5000};
    uint32_t window = windows[random_below(rng, 5)];
    window_budget_init(&side->budget, budgets[random_below(rng, 4)]);
    side->stripe = NULL;
    side->seed = random_u32(rng);
    side->quota = random_chance(rng, 8) ? 0 : random_below(rng, 1u << (8 + random_below(rng, 14)));
    side->given = side->taken = side->give_ns = side->take_ns = 0;
    side->pause_max_ns = pauses_ms[random_below(rng, 3)] * MS;
    side->ends_last = side->ended = side->got_end = false;
    side->sent_count = 0;
    cr_assert_eq(stripe_create(&side->budget, window, &side->stripe), 0);
}

static bool any_path(void) {
    bool any = false;
    for (unsigned i = 0; i < LANES; i++)
        any |= paths[i].used;
    return any;
}

static void verdict(void) {
    bool complete = sides[0].got_end && sides[1].got_end;
    for (unsigned i = 0; i < 2; i++) {
        enum stripe_state state = stripe_state(sides[i].stripe);
        cr_assert_neq(state, STRIPE_OPEN);
        cr_assert(state != STRIPE_DONE || complete);
        cr_assert(state != STRIPE_BROKEN || broke);
        *(state == STRIPE_DONE ? &total_done : &total_broken) += 1;
        stripe_destroy(sides[i].stripe);
        cr_assert_eq(atomic_load(&sides[i].budget.used), 0);
        cr_assert_eq(atomic_load(&sides[i].budget.windows), 0);
    }
}

static void run(uint64_t *state) {
    rng = state;
    now_ns = 1;
    path_ids = 0;
    memset(paths, 0, sizeof paths);
    may_break = random_chance(rng, 6);
    may_reset = random_chance(rng, 6);
    may_add = !random_chance(rng, 3); /* a new lane's greeting would hide what was not said again */
    loss_chance = random_below(rng, 80);
    broke = false;
    blind = random_below(rng, 3);
    chaos_ns = soon(1000 * MS);
    side_init(&sides[0]);
    side_init(&sides[1]);
    for (unsigned i = 0; i < 2; i++) /* in so many round trips that it ends */
        if (sides[i].quota > UINT64_C(400) * sides[!i].stripe->in.window.max)
            sides[i].quota %= UINT64_C(400) * sides[!i].stripe->in.window.max;
    sides[random_below(rng, 2)].ends_last = random_chance(rng, 2);
    for (unsigned i = 0; i <= random_below(rng, LANES); i++)
        path_add();
    path_join(&paths[0]);
    while (any_path()) {
        if (!step())
            now_ns = next_event();
        if (chaos_ns <= now_ns)
            chaos();
        cr_assert_lt(now_ns, TIME_MAX, "no end");
    }
    verdict();
}

Test(stripe_sim, lanes_come_and_go, .fini = seed_report) {
    seed_each(SEEDS, run);
    printf("%lu done, %lu broken, %lu lanes, %lu mute, %lu lost, %lu by word, %lu bytes, %lu sent again\n", total_done,
           total_broken, total_added, total_mute, total_lost, total_told, total_bytes, total_again);
}
