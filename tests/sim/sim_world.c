#include "tests/sim/sim_world.h"
#include "engine/check.h"
#include "engine/shard.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* splitmix64 */
static uint64_t world_random(struct sim_world *world) {
    uint64_t z = world->random += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t sim_random(struct sim_world *world, uint64_t below) {
    return below == 0 ? 0 : world_random(world) % below;
}

bool world_chance(struct sim_world *world, uint8_t percent) {
    return sim_random(world, 100) < percent;
}

uint64_t world_arrival(struct sim_world *world) {
    const struct sim_options *options = &world->options;
    return world->now_ns + options->latency_min_ns +
           sim_random(world, options->latency_max_ns - options->latency_min_ns + 1);
}

uint64_t world_some(struct sim_world *world, uint8_t percent, uint64_t most) {
    return most > 1 && world_chance(world, percent) ? 1 + sim_random(world, most - 1) : most;
}

struct sim_world *sim_world_create(const struct sim_options *options) {
    struct sim_world *world = calloc(1, sizeof *world);
    CHECK(world && options->defer_percent < 100 && options->latency_max_ns >= options->latency_min_ns);
    world->options = *options;
    world->random = options->seed;
    world->now_ns = 1000000000;
    if (world->options.capacity == 0)
        world->options.capacity = 65536;
    return world;
}

void sim_world_destroy(struct sim_world *world) {
    CHECK(world->ios == 0);
    for (unsigned i = 0; i < world->ends_count; i++) {
        free(world->ends[i]->in.bytes);
        free(world->ends[i]);
    }
    free(world->ends);
    free(world);
}

uint64_t sim_world_now(const struct sim_world *world) {
    return world->now_ns;
}

void sim_world_set_now(struct sim_world *world, uint64_t now_ns) {
    CHECK(now_ns >= world->now_ns);
    world->now_ns = now_ns;
}

/* ---- ends and streams ---- */

struct sim_end *end_of(struct sim_world *world, int fd) {
    CHECK(fd >= SIM_FD_BASE && (unsigned)(fd - SIM_FD_BASE) < world->ends_count);
    struct sim_end *end = world->ends[fd - SIM_FD_BASE];
    CHECK(end->open);
    return end;
}

int end_create(struct sim_world *world, struct sim_end **result) {
    if (world->ends_count == world->ends_size) {
        world->ends_size = world->ends_size ? world->ends_size * 2 : 16;
        world->ends = realloc(world->ends, world->ends_size * sizeof(struct sim_end *));
        CHECK(world->ends);
    }
    struct sim_end *end = calloc(1, sizeof *end);
    CHECK(end);
    end->open = true;
    end->in.fin_ns = end->reset_ns = SIM_NEVER;
    world->ends[world->ends_count] = end;
    *result = end;
    return SIM_FD_BASE + (int)world->ends_count++;
}

void ends_join(struct sim_world *world, struct sim_end *a, struct sim_end *b) {
    a->peer = b;
    b->peer = a;
    a->in.bytes = malloc(world->options.capacity);
    b->in.bytes = malloc(world->options.capacity);
    CHECK(a->in.bytes && b->in.bytes);
}

/* Lets arrive what is due. */
static void end_settle(struct sim_world *world, struct sim_end *end) {
    struct sim_stream *in = &end->in;
    unsigned due = 0;
    while (due < in->arrivals_count && in->arrivals[due].at_ns <= world->now_ns)
        in->visible = in->arrivals[due++].position;
    in->arrivals_count -= due;
    memmove(in->arrivals, in->arrivals + due, in->arrivals_count * sizeof in->arrivals[0]);
    if (end->dead || end->reset_ns > world->now_ns)
        return;
    end->dead = true;
    end->error = ECONNRESET;
    in->head = in->visible;
    in->arrivals_count = 0;
}

static bool end_stalled(const struct sim_world *world, const struct sim_end *end) {
    return end->stall_ns > world->now_ns;
}

static bool end_fin_seen(const struct sim_world *world, const struct sim_end *end) {
    return end->in.fin_ns <= world->now_ns && end->in.visible == end->in.head;
}

static int32_t end_take_error(struct sim_end *end) {
    int error_number = end->error;
    end->error = 0;
    return -error_number;
}

static void stream_arrive(struct sim_world *world, struct sim_stream *in) {
    uint64_t at_ns = world_arrival(world);
    if (in->arrivals_count > 0 && in->arrivals[in->arrivals_count - 1].at_ns > at_ns)
        at_ns = in->arrivals[in->arrivals_count - 1].at_ns;
    if (in->arrivals_count < SIM_ARRIVALS)
        in->arrivals_count++;
    in->arrivals[in->arrivals_count - 1].position = in->head;
    in->arrivals[in->arrivals_count - 1].at_ns = at_ns;
}

static uint64_t stream_put(struct sim_world *world, struct sim_stream *in, const uint8_t *data, uint64_t len) {
    uint64_t at = in->head % world->options.capacity, first = world->options.capacity - at;
    if (first > len)
        first = len;
    if (len > 0) {
        memcpy(in->bytes + at, data, first);
        memcpy(in->bytes, data + first, len - first);
    }
    in->head += len;
    return len;
}

int32_t end_send(struct sim_world *world, struct sim_end *end, const struct iovec *iov, uint64_t most) {
    end_settle(world, end);
    if (end->error)
        return end_take_error(end);
    if (end->write_shut || end->dead || !end->peer)
        return -EPIPE;
    struct sim_stream *in = &end->peer->in;
    uint64_t room = world->options.capacity - (in->head - in->tail);
    if (room == 0 || end_stalled(world, end))
        return -EAGAIN;
    uint64_t left = most < room ? most : room, sent = left;
    if (!end->peer->open || end->peer->dead) {
        uint64_t at_ns = world_arrival(world);
        end->reset_ns = at_ns < end->reset_ns ? at_ns : end->reset_ns;
        return (int32_t)sent;
    }
    for (; left > 0; iov++)
        left -= stream_put(world, in, iov->iov_base, iov->iov_len < left ? iov->iov_len : left);
    stream_arrive(world, in);
    return (int32_t)sent;
}

/* SO_RCVLOWAT: what is there counts only from so many bytes on. A buffer that cannot hold them is full earlier. */
static uint64_t receive_low(const struct sim_world *world, const struct sim_end *end) {
    uint64_t most = world->options.capacity / 2;
    return end->receive_low == 0 ? 1 : end->receive_low < most ? end->receive_low : most;
}

/* No more will come: what is there counts, little as it may be. */
static bool end_over(const struct sim_end *end) {
    return end->dead || end->in.fin_ns != SIM_NEVER;
}

int32_t end_receivable(struct sim_world *world, struct sim_end *end) {
    end_settle(world, end);
    if (end_stalled(world, end))
        return -EAGAIN;
    if (end->in.visible - end->in.tail >= receive_low(world, end) || (end->in.visible > end->in.tail && end_over(end)))
        return (int32_t)(end->in.visible - end->in.tail);
    if (end->error)
        return end_take_error(end);
    return end->dead || end_fin_seen(world, end) ? 0 : -EAGAIN;
}

void end_take(struct sim_world *world, struct sim_end *end, uint8_t *data, uint64_t len) {
    uint64_t at = end->in.tail % world->options.capacity, first = world->options.capacity - at;
    if (first > len)
        first = len;
    memcpy(data, end->in.bytes + at, first);
    memcpy(data + first, end->in.bytes, len - first);
    end->in.tail += len;
}

uint32_t end_revents(struct sim_world *world, struct sim_end *end) {
    end_settle(world, end);
    if (end_stalled(world, end))
        return 0;
    uint32_t events = 0;
    bool fin = end_fin_seen(world, end), over = end->dead;
    if (end->backlog_count > 0 && end->backlog[0].at_ns <= world->now_ns)
        events |= POLLIN;
    if (end->in.visible > end->in.tail || fin || over)
        events |= POLLIN;
    if (fin || over)
        events |= POLLRDHUP;
    if (end->peer && (over || end->peer->in.head - end->peer->in.tail < world->options.capacity))
        events |= POLLOUT;
    if (over || (fin && end->write_shut))
        events |= POLLHUP;
    if (end->error)
        events |= POLLERR;
    return events;
}

void end_finish(struct sim_world *world, struct sim_end *end) {
    world->activity++;
    if (end->write_shut || !end->peer)
        return;
    end->write_shut = true;
    uint64_t at_ns = world_arrival(world);
    const struct sim_stream *in = &end->peer->in;
    if (in->arrivals_count > 0 && in->arrivals[in->arrivals_count - 1].at_ns > at_ns)
        at_ns = in->arrivals[in->arrivals_count - 1].at_ns;
    end->peer->in.fin_ns = at_ns;
}

/* As TCP does: closing with bytes unread is a reset too. */
void end_close(struct sim_world *world, struct sim_end *end, enum io_close_mode mode) {
    CHECK(end->ops == 0);
    bool reset = mode == IO_CLOSE_RESET || end->in.head > end->in.tail;
    if (!reset)
        end_finish(world, end);
    else if (end->peer && !end->dead)
        end->peer->reset_ns = world_arrival(world);
    end->open = false;
    end_drop_backlog(world, end);
    world->activity++;
}

void io_sim_pair(struct sim_world *world, int fds[2]) {
    struct sim_end *a, *b;
    fds[0] = end_create(world, &a);
    fds[1] = end_create(world, &b);
    ends_join(world, a, b);
}

void io_sim_reset(struct sim_world *world, int fd) {
    struct sim_end *end = end_of(world, fd);
    end->reset_ns = world->now_ns;
    if (end->peer)
        end->peer->reset_ns = world->now_ns;
    world->activity++;
}

void io_sim_stall(struct sim_world *world, int fd, uint64_t until_ns) {
    end_of(world, fd)->stall_ns = until_ns;
}

void io_sim_receive_low(struct sim_world *world, int fd, uint32_t bytes) {
    end_of(world, fd)->receive_low = bytes;
    world->activity++;
}

bool io_sim_corrupt(struct sim_world *world, int fd) {
    struct sim_stream *in = &end_of(world, fd)->in;
    if (in->head == in->tail)
        return false;
    uint64_t at = in->tail + sim_random(world, in->head - in->tail);
    in->bytes[at % world->options.capacity] ^= (uint8_t)(1u << sim_random(world, 8));
    return true;
}

unsigned io_sim_open_count(const struct sim_world *world) {
    unsigned count = 0;
    for (unsigned i = 0; i < world->ends_count; i++)
        count += world->ends[i]->open;
    return count;
}

int32_t io_sim_write(struct sim_world *world, int fd, const void *data, uint32_t len) {
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    int32_t res = end_send(world, end_of(world, fd), &iov, len);
    world->activity += res > 0;
    return res;
}

int32_t io_sim_read(struct sim_world *world, int fd, void *data, uint32_t cap) {
    struct sim_end *end = end_of(world, fd);
    int32_t res = end_receivable(world, end);
    if (res <= 0)
        return res;
    uint32_t len = (uint32_t)res < cap ? (uint32_t)res : cap;
    end_take(world, end, data, len);
    world->activity++;
    return (int32_t)len;
}

void io_sim_finish(struct sim_world *world, int fd) {
    end_finish(world, end_of(world, fd));
}

void io_sim_close(struct sim_world *world, int fd, enum io_close_mode mode) {
    end_close(world, end_of(world, fd), mode);
}

/* ---- time ---- */

static void earliest(const struct sim_world *world, uint64_t at_ns, uint64_t *next) {
    if (at_ns > world->now_ns && at_ns < *next)
        *next = at_ns;
}

uint64_t sim_world_next_event(struct sim_world *world) {
    uint64_t next = SIM_NEVER;
    for (unsigned i = 0; i < world->ends_count; i++) {
        struct sim_end *end = world->ends[i];
        if (!end->open)
            continue;
        end_settle(world, end);
        earliest(world, end->in.arrivals_count ? end->in.arrivals[0].at_ns : SIM_NEVER, &next);
        earliest(world, end->in.fin_ns, &next);
        earliest(world, end->reset_ns, &next);
        earliest(world, end->stall_ns, &next);
        earliest(world, end->connect_ns, &next);
        earliest(world, end->backlog_count ? end->backlog[0].at_ns : SIM_NEVER, &next);
    }
    return next;
}

bool world_quiet(struct sim_world *world) {
    world->hurry = world->deferred;
    world->deferred = false;
    return !world->hurry;
}

void sim_world_hold(struct sim_world *world) {
    world->held = true;
}

bool sim_world_step(struct sim_world *world, struct shard *const *shards, unsigned count) {
    uint64_t before = world->activity, next = SIM_NEVER;
    unsigned first = (unsigned)sim_random(world, count);
    bool busy = false;
    for (unsigned i = 0; i < count; i++) {
        struct shard *shard = shards[(first + i) % count];
        CHECK(shard_turn(shard, 0) == 0);
        busy |= !list_empty(&shard->tasks) || timers_next(&shard->timers) <= world->now_ns;
        earliest(world, timers_next(&shard->timers), &next);
    }
    busy |= world->held;
    world->held = false;
    if (busy || world->activity != before) {
        world->hurry = false;
        return true;
    }
    if (!world_quiet(world))
        return true;
    uint64_t event = sim_world_next_event(world);
    next = event < next ? event : next;
    if (next == SIM_NEVER)
        return false;
    sim_world_set_now(world, next);
    return true;
}
