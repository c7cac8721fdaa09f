/* The lanes of a striped connection: sockets whose other ends are relayed. */
#include "engine/limits.h"
#include "ssh/striped_internal.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#define COPY_BYTES 12288u
/* What is read ahead of a lane: all that comes is taken, within the window that the stripe grants. */
#define LANE_CREDIT_BYTES (4 * (uint64_t)LIMIT_STRIPE_LANE_BYTES)

/* One that was refused had bytes in it that wait until that is known: it is not tried all the time. Several of them at
 * once count as one. */
static void retry_later(const struct striped_lane *lane) {
    struct striped *striped = lane->striped;
    uint64_t now_ns = shard_now(striped->shard);
    bool again = !lane->heard && now_ns >= striped->want_ns && striped->retry_ns < LIMIT_STRIPE_RETRY_MAX_NS;
    if (lane->heard)
        striped->retry_ns = LIMIT_STRIPE_RETRY_NS;
    striped->want_ns = now_ns + striped->retry_ns;
    if (again)
        striped->retry_ns *= 2;
}

static void lane_gone(struct striped_lane *lane, bool in_order) {
    struct striped *striped = lane->striped;
    if (lane->gone)
        return;
    lane->gone = true;
    retry_later(lane);
    stripe_lane_gone(striped->stripe, lane->number, in_order);
    if (stripe_state(striped->stripe) == STRIPE_BROKEN)
        striped_set_what(striped, "all its lanes were lost");
    striped_look(striped);
}

static void lane_abort(struct striped_lane *lane) {
    lane_gone(lane, false);
    conn_abort(&lane->conn);
}

static void lane_on_slot(struct conn *conn, struct slot *slot) {
    struct striped_lane *lane = conn->owner;
    struct striped *striped = lane->striped;
    int err = 0;
    lane->heard = true;
    if (!lane->gone && striped_is_open(striped))
        err = stripe_input(striped->stripe, lane->number, slot->data, slot->len, shard_now(striped->shard));
    slot_put(&striped->shard->slots, slot);
    conn_set_credit(conn, LANE_CREDIT_BYTES);
    if (err != 0)
        striped_set_what(striped,
                         err == ERR_NOMEM ? "out of memory" : "the far side broke the rules of striped connections");
    else if (stripe_state(striped->stripe) == STRIPE_BROKEN)
        striped_set_what(striped, "reset by the far side");
    striped_look(striped);
}

static void lane_on_eof(struct conn *conn) {
    struct striped_lane *lane = conn->owner;
    struct striped *striped = lane->striped;
    lane->eof = true;
    striped->over_there |= !striped_is_open(striped);
    lane_gone(lane, true);
    striped_look(striped);
}

static void lane_on_written(struct conn *conn, uint64_t bytes) {
    const struct striped_lane *lane = conn->owner;
    (void)bytes;
    striped_look(lane->striped);
}

static void lane_on_finished(struct conn *conn) {
    const struct striped_lane *lane = conn->owner;
    striped_look(lane->striped);
}

static void lane_on_reset(struct conn *conn, int err) {
    (void)err;
    lane_abort(conn->owner);
}

static void lane_on_closed(struct conn *conn) {
    struct striped_lane *lane = conn->owner;
    struct striped *striped = lane->striped;
    striped->lanes[lane->number] = NULL;
    striped_entry_lane_gone(striped->entry);
    free(lane);
    striped_look(striped);
}

static const struct conn_ops lane_ops = {.on_slot = lane_on_slot,
                                         .on_eof = lane_on_eof,
                                         .on_written = lane_on_written,
                                         .on_finished = lane_on_finished,
                                         .on_reset = lane_on_reset,
                                         .on_closed = lane_on_closed};

/* The buffers are set because what the system has for all sockets may be very large: what waits in them is lost with
 * the lane, and has to be sent again. */
int striped_lane_make(int fds[2]) {
    const int bytes = LIMIT_STRIPE_SOCKET_BYTES;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        return err_from_errno(errno);
    (void)setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    (void)setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    return 0;
}

int striped_lane_add(struct striped *striped, int fd, uint32_t identity, bool waits) {
    unsigned number = 0;
    while (number < STRIPE_LANES_MAX && striped->lanes[number] != NULL)
        number++;
    if (number == STRIPE_LANES_MAX || stripe_lanes(striped->stripe) >= striped->lanes_max)
        return ERR_LIMIT;
    struct striped_lane *lane = calloc(1, sizeof *lane);
    if (lane == NULL)
        return ERR_NOMEM;
    int err = stripe_lane_add(striped->stripe, number, identity, waits);
    if (err != 0) {
        free(lane);
        return err;
    }
    lane->striped = striped;
    lane->number = number;
    striped->lanes[number] = lane;
    if (stripe_lanes(striped->stripe) > striped->lanes_most)
        striped->lanes_most = stripe_lanes(striped->stripe);
    conn_init(&lane->conn, striped->shard, &lane_ops, lane, fd, LIMIT_CHANNEL_PACKET_BYTES);
    conn_set_credit(&lane->conn, LANE_CREDIT_BYTES);
    striped_look(striped);
    return 0;
}

void striped_lane_take(struct striped *striped, int fd, uint32_t identity) {
    if (striped_is_open(striped) && striped_lane_add(striped, fd, identity, false) == 0)
        return;
    io_close(striped->shard->io, fd, IO_CLOSE);
    striped_entry_lane_gone(striped->entry);
}

/* Small pieces come from the heap and go back to it; a large one would be a mapping of its own (sendq.c), which is made
 * for what stays for long. */
int striped_write(struct conn *conn, const uint8_t *data, size_t len) {
    int err = 0;
    while (len > 0 && err == 0) {
        uint32_t piece = len < COPY_BYTES ? (uint32_t)len : COPY_BYTES;
        err = conn_write_copy(conn, data, piece);
        data += piece;
        len -= piece;
    }
    return err;
}

/* One record, if it has room and there is one for it. */
static bool lane_feed(struct striped_lane *lane) {
    struct striped *striped = lane->striped;
    uint8_t header[STRIPE_HEADER_BYTES];
    const uint8_t *data;
    size_t len;
    if (lane->gone || lane->conn.finishing || conn_queued(&lane->conn) >= LIMIT_STRIPE_LANE_BYTES)
        return false;
    if (!stripe_next(striped->stripe, lane->number, shard_now(striped->shard), header, &data, &len))
        return false;
    if (striped_write(&lane->conn, header, sizeof header) != 0 || striped_write(&lane->conn, data, len) != 0)
        lane_abort(lane); /* a record that is not whole is the end of it */
    return true;
}

/* In turns, so that what little there is to say does not all go the same way. */
void striped_lanes_feed(struct striped *striped) {
    bool said = true;
    while (said) {
        said = false;
        for (unsigned i = 0; i < STRIPE_LANES_MAX; i++)
            if (striped->lanes[i] != NULL)
                said |= lane_feed(striped->lanes[i]);
    }
}

/* A closed socket with something unread in it would look to its other end like one that broke: our end of a lane is
 * said first, and what still comes is read until its other end is there too. Where the far side has never said anything
 * that may not be for as long as a silent connection counts as alive: once the far side ends others nothing depends on
 * what we have said there, and the relay lets go of it with us (relay.h). */
static void lane_check_end(struct striped_lane *lane) {
    struct striped *striped = lane->striped;
    struct conn *conn = &lane->conn;
    if (striped_is_open(striped)) {
        if (lane->gone)
            conn_close(conn);
        return;
    }
    if (!conn->finishing && (lane->gone || stripe_lane_finished(striped->stripe, lane->number)))
        conn_finish(conn);
    if (conn->finished && (lane->eof || (striped->over_there && !lane->heard)))
        conn_close(conn);
}

void striped_lanes_check_end(struct striped *striped) {
    for (unsigned i = 0; i < STRIPE_LANES_MAX; i++)
        if (striped->lanes[i] != NULL)
            lane_check_end(striped->lanes[i]);
}

/* Cut, so that their channels end here: nobody there would answer an orderly end. */
void striped_lanes_drop_lost(struct striped *striped) {
    for (unsigned i = 0; i < STRIPE_LANES_MAX; i++)
        if (striped->lanes[i] != NULL && stripe_lane_lost_there(striped->stripe, i))
            lane_abort(striped->lanes[i]);
}

void striped_lanes_abort(struct striped *striped) {
    for (unsigned i = 0; i < STRIPE_LANES_MAX; i++)
        if (striped->lanes[i] != NULL)
            lane_abort(striped->lanes[i]);
}
