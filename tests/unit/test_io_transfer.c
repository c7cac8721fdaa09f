/* The I/O seam on both backends: receiving and sending. */
#include "tests/unit/io_rig.h"
#include <poll.h>
#include <stdlib.h>

/* ---- receiving ---- */

static void check_recv_vectored(const int fds[2]) {
    uint8_t parts[3][100], data[250];
    struct iovec iov[3] = {{parts[0], 100}, {parts[1], 100}, {parts[2], 100}};
    struct probe receiving;
    probe_init(&receiving);
    io_recv(io, &receiving.op, fds[0], iov, 3);
    settle();
    cr_assert(!receiving.ended);
    fill_pattern(data, sizeof data, 0);
    peer_write(fds[1], data, sizeof data);
    cr_assert_eq(result(&receiving), (int32_t)sizeof data);
    cr_assert_eq(memcmp(parts[0], data, 100), 0);
    cr_assert_eq(memcmp(parts[1], data + 100, 100), 0);
    cr_assert_eq(memcmp(parts[2], data + 200, 50), 0);
    /* More than was asked for stays for the next one, which finds it there. */
    peer_write(fds[1], data, sizeof data);
    for (unsigned left = sizeof data; left > 0; left -= (unsigned)receiving.res) {
        probe_again(&receiving);
        recv_into(&receiving, fds[0], &iov[0], parts[0], 100);
        cr_assert_eq(result(&receiving), left < 100 ? (int32_t)left : 100);
        cr_assert_eq(memcmp(parts[0], data + sizeof data - left, (size_t)receiving.res), 0);
    }
    shutdown(fds[1], SHUT_WR);
    for (int i = 0; i < 2; i++) { /* the end is found as often as it is asked for */
        probe_again(&receiving);
        recv_into(&receiving, fds[0], &iov[0], parts[0], 100);
        cr_assert_eq(result(&receiving), 0);
    }
}

IO_TEST(recv_vectored_unix) {
    int fds[2];
    unix_pair(fds);
    check_recv_vectored(fds);
    close_both(fds);
}

IO_TEST(recv_vectored_tcp) {
    int fds[2];
    tcp_pair(fds);
    check_recv_vectored(fds);
    close_both(fds);
}

/* Urgent data cuts a read short although more is there. */
IO_TEST(recv_goes_on_after_urgent_data) {
    int fds[2];
    uint8_t data[100];
    struct iovec iov;
    struct probe receiving;
    probe_init(&receiving);
    tcp_pair(fds);
    recv_into(&receiving, fds[0], &iov, data, sizeof data);
    turn(0);
    peer_write(fds[1], "before", 6);
    cr_assert_eq(send(fds[1], "!", 1, MSG_OOB), 1);
    peer_write(fds[1], "after", 5);
    cr_assert_eq(result(&receiving), 6);
    probe_again(&receiving);
    recv_into(&receiving, fds[0], &iov, data, sizeof data);
    cr_assert_eq(result(&receiving), 5);
    cr_assert_eq(memcmp(data, "after", 5), 0);
    close_both(fds);
}

IO_TEST(recv_slot_takes_none_until_data_is_there_and_keeps_to_its_cap) {
    int fds[2];
    uint8_t data[300];
    struct probe receiving;
    probe_init(&receiving);
    tcp_pair(fds);
    fill_pattern(data, sizeof data, 7);
    io_recv_slot(io, &receiving.op, fds[0], 100);
    settle();
    cr_assert(!receiving.ended);
    cr_assert_geq(pool.free_count, SLOTS - 1, "at most the one that is lent to the kernel");
    peer_write(fds[1], data, sizeof data);
    for (uint32_t at = 0; at < sizeof data; at += 100) {
        cr_assert_eq(result(&receiving), 100);
        cr_assert_not_null(receiving.op.slot);
        cr_assert_eq(receiving.op.slot->len, 100);
        cr_assert_eq(memcmp(receiving.op.slot->data, data + at, 100), 0);
        slot_put(&pool, receiving.op.slot);
        probe_again(&receiving);
        io_recv_slot(io, &receiving.op, fds[0], 100);
    }
    settle();
    cr_assert(!receiving.ended);
    shutdown(fds[1], SHUT_WR);
    cr_assert_eq(result(&receiving), 0);
    cr_assert_null(receiving.op.slot);
    close_both(fds);
}

IO_TEST(recv_slot_of_the_whole_payload) {
    int fds[2];
    static uint8_t data[PAYLOAD + 1];
    struct probe receiving;
    probe_init(&receiving);
    unix_pair(fds);
    fill_pattern(data, sizeof data, 0);
    peer_write(fds[1], data, sizeof data);
    io_recv_slot(io, &receiving.op, fds[0], PAYLOAD);
    cr_assert_eq(result(&receiving), (int32_t)PAYLOAD);
    cr_assert_eq(memcmp(receiving.op.slot->data, data, PAYLOAD), 0);
    slot_put(&pool, receiving.op.slot);
    probe_again(&receiving);
    io_recv_slot(io, &receiving.op, fds[0], PAYLOAD);
    cr_assert_eq(result(&receiving), 1);
    cr_assert_eq(receiving.op.slot->data[0], data[PAYLOAD]);
    slot_put(&pool, receiving.op.slot);
    close_both(fds);
}

IO_TEST(recv_slot_reset_gives_the_slot_back) {
    int fds[2];
    struct probe receiving;
    probe_init(&receiving);
    tcp_pair(fds);
    io_recv_slot(io, &receiving.op, fds[0], 100);
    turn(0);
    io_close(io, fds[1], IO_CLOSE_RESET);
    cr_assert_eq(result(&receiving), -ECONNRESET);
    cr_assert_null(receiving.op.slot);
    io_close(io, fds[0], IO_CLOSE);
}

/* More connections with data than the kernel was lent slots: each gets one all the same. */
IO_TEST(recv_slot_many_at_once_use_the_whole_pool) {
    int fds[SLOTS][2];
    static struct probe receiving[SLOTS];
    for (unsigned i = 0; i < SLOTS; i++) {
        probe_init(&receiving[i]);
        unix_pair(fds[i]);
        io_recv_slot(io, &receiving[i].op, fds[i][0], 8);
    }
    turn(0);
    for (unsigned i = 0; i < SLOTS; i++)
        peer_write(fds[i][1], &(uint64_t){i}, 8);
    for (unsigned i = 0; i < SLOTS; i++) {
        cr_assert_eq(result(&receiving[i]), 8);
        cr_assert_eq(*(const uint64_t *)(const void *)receiving[i].op.slot->data, i);
    }
    cr_assert_eq(pool.free_count, 0);
    for (unsigned i = 0; i < SLOTS; i++) {
        slot_put(&pool, receiving[i].op.slot);
        close_both(fds[i]);
    }
}

IO_TEST_SLOTS(recv_slot_of_an_empty_pool_fails_when_data_comes_and_works_again_later, 2) {
    int fds[2];
    struct probe receiving;
    probe_init(&receiving);
    unix_pair(fds);
    struct slot *held[2] = {slot_take(&pool), slot_take(&pool)};
    io_recv_slot(io, &receiving.op, fds[0], 10);
    settle();
    cr_assert(!receiving.ended, "an idle connection needs no slot");
    peer_write(fds[1], "hello", 5);
    cr_assert_eq(result(&receiving), -ENOBUFS);
    cr_assert_null(receiving.op.slot);
    slot_put(&pool, held[0]);
    probe_again(&receiving);
    io_recv_slot(io, &receiving.op, fds[0], 10);
    cr_assert_eq(result(&receiving), 5);
    slot_put(&pool, receiving.op.slot);
    slot_put(&pool, held[1]);
    close_both(fds);
}

/* Vectored receivers take from the same pool: idle cold connections must not have lent it all away. */
IO_TEST(recv_slot_lends_only_a_part_of_the_pool) {
    int fds[SLOTS][2];
    static struct probe receiving[SLOTS];
    for (unsigned i = 0; i < SLOTS; i++) {
        probe_init(&receiving[i]);
        unix_pair(fds[i]);
        io_recv_slot(io, &receiving[i].op, fds[i][0], 8);
    }
    settle();
    cr_assert_geq(pool.free_count, SLOTS - SLOTS / 4);
    for (unsigned i = 0; i < SLOTS; i++)
        io_cancel(io, &receiving[i].op);
    for (unsigned i = 0; i < SLOTS; i++) {
        cr_assert_eq(result(&receiving[i]), -ECANCELED);
        close_both(fds[i]);
    }
}

/* ---- sending ---- */

static void check_send_all(const int fds[2]) {
    enum { PARTS = 64, PART = 99991 };
    uint8_t *data = malloc((size_t)PARTS * PART), *got = malloc(65536);
    struct iovec iov[PARTS];
    fill_pattern(data, (size_t)PARTS * PART, 0);
    for (int i = 0; i < PARTS; i++)
        iov[i] = (struct iovec){data + (size_t)i * PART, PART};
    struct probe sending;
    probe_init(&sending);
    io_send(io, &sending.op, fds[0], iov, PARTS, IO_SEND_ALL);
    uint64_t position = 0;
    const uint64_t end = io_clock_ns() + PATIENCE;
    /* The reader takes odd amounts, and nothing for some turns in between. */
    for (unsigned round = 0; position < (uint64_t)PARTS * PART && io_clock_ns() < end; round++) {
        turn(0);
        if (round % 5 == 0)
            continue;
        const ssize_t len = recv(fds[1], got, 1 + round * 7919 % 65536, MSG_DONTWAIT);
        cr_assert(len > 0 || errno == EAGAIN);
        if (len <= 0)
            continue;
        cr_assert(pattern_matches(got, (size_t)len, position));
        position += (uint64_t)len;
    }
    cr_assert_eq(position, (uint64_t)PARTS * PART);
    cr_assert_eq(result(&sending), PARTS * PART);
    cr_assert_eq(sending.calls, 1);
    free(data);
    free(got);
}

IO_TEST(send_all_to_a_slow_reader_unix) {
    int fds[2];
    unix_pair(fds);
    check_send_all(fds);
    close_both(fds);
}

IO_TEST(send_all_to_a_slow_reader_tcp) {
    int fds[2];
    tcp_pair(fds);
    check_send_all(fds);
    close_both(fds);
}

/* Room is to be waited for although the peer's half-close stays up as an event all the while. */
IO_TEST(send_all_to_a_peer_that_has_half_closed) {
    for (int tcp = 0; tcp < 2; tcp++) {
        int fds[2];
        static uint8_t data[1 << 20], got[4096];
        struct iovec iov[2] = {{data, 1000}, {data + 1000, sizeof data - 1000}};
        struct probe sending;
        probe_init(&sending);
        if (tcp)
            tcp_pair(fds);
        else
            unix_pair(fds);
        shutdown(fds[1], SHUT_WR);
        const size_t before = stuff(fds[0]);
        fill_pattern(data, sizeof data, 0);
        io_send(io, &sending.op, fds[0], iov, 2, IO_SEND_ALL);
        settle();
        cr_assert(!sending.ended);
        cr_assert_eq(drain(fds[1], before), before);
        uint64_t position = 0;
        for (const uint64_t end = io_clock_ns() + PATIENCE; position < sizeof data && io_clock_ns() < end; turn(0)) {
            const ssize_t len = recv(fds[1], got, sizeof got, MSG_DONTWAIT);
            cr_assert(len > 0 || errno == EAGAIN);
            cr_assert(len <= 0 || pattern_matches(got, (size_t)len, position));
            position += len > 0 ? (uint64_t)len : 0;
        }
        cr_assert_eq(position, sizeof data);
        cr_assert_eq(result(&sending), (int32_t)sizeof data);
        close_both(fds);
    }
}

IO_TEST(send_all_to_a_half_closed_peer_is_cancelled_or_reset) {
    for (int reset = 0; reset < 2; reset++) {
        int fds[2];
        static uint8_t data[1 << 20];
        struct iovec iov;
        struct probe sending;
        probe_init(&sending);
        tcp_pair(fds);
        shutdown(fds[1], SHUT_WR);
        stuff(fds[0]);
        send_from(&sending, fds[0], &iov, data, sizeof data, IO_SEND_ALL);
        for (int i = 0; i < 20; i++) /* io_uring tries 128 times in vain before it gives up */
            settle();
        check_quiet();
        cr_assert(!sending.ended);
        if (reset)
            io_close(io, fds[1], IO_CLOSE_RESET);
        else
            io_cancel(io, &sending.op);
        const int32_t res = result(&sending);
        cr_assert(reset ? res == -ECONNRESET || res == -EPIPE : res == -ECANCELED, "%d", res);
        if (!reset)
            io_close(io, fds[1], IO_CLOSE);
        io_close(io, fds[0], IO_CLOSE);
    }
}

IO_TEST(send_now_sends_a_part_then_nothing_then_again) {
    enum { BYTES = 16 << 20 };
    int fds[2];
    uint8_t *data = calloc(1, BYTES);
    struct iovec iov;
    struct probe sending;
    probe_init(&sending);
    tcp_pair(fds);
    send_from(&sending, fds[0], &iov, data, BYTES, IO_SEND_NOW);
    cr_assert_eq(sending.calls, 0, "done from within submit");
    const int32_t sent = result(&sending);
    cr_assert(sent > 0 && sent < BYTES);
    stuff(fds[0]);
    probe_again(&sending);
    send_from(&sending, fds[0], &iov, data, 1, IO_SEND_NOW);
    cr_assert_eq(result(&sending), -EAGAIN);
    /* Room is announced to a poll, and then used. */
    probe_again(&sending);
    io_poll(io, &sending.op, fds[0], POLLOUT);
    settle();
    cr_assert(!sending.ended);
    for (const uint64_t end = io_clock_ns() + PATIENCE; !sending.ended && io_clock_ns() < end; turn(0))
        drain(fds[1], 65536);
    cr_assert_eq(result(&sending), POLLOUT);
    probe_again(&sending);
    send_from(&sending, fds[0], &iov, data, 1, IO_SEND_NOW);
    cr_assert_eq(result(&sending), 1);
    close_both(fds);
    free(data);
}

/* Backends may remember that a socket was full; they must not believe it for ever. */
IO_TEST(send_now_finds_room_that_came_meanwhile) {
    int fds[2];
    char byte = 0;
    struct iovec iov;
    struct probe sending;
    probe_init(&sending);
    unix_pair(fds);
    stuff(fds[0]);
    send_from(&sending, fds[0], &iov, &byte, 1, IO_SEND_NOW);
    cr_assert_eq(result(&sending), -EAGAIN);
    drain(fds[1], SIZE_MAX);
    probe_again(&sending);
    send_from(&sending, fds[0], &iov, &byte, 1, IO_SEND_NOW);
    cr_assert_eq(result(&sending), 1);
    close_both(fds);
}

IO_TEST(send_to_a_closed_peer_is_an_error_and_no_signal) {
    int fds[2];
    char byte = 0;
    struct iovec iov;
    struct probe sending;
    probe_init(&sending);
    unix_pair(fds);
    close(fds[1]);
    send_from(&sending, fds[0], &iov, &byte, 1, IO_SEND_ALL);
    cr_assert_eq(result(&sending), -EPIPE);
    io_close(io, fds[0], IO_CLOSE);
}

IO_TEST(send_all_that_waits_ends_with_a_reset) {
    int fds[2];
    static uint8_t data[1 << 20];
    struct iovec iov;
    struct probe sending;
    probe_init(&sending);
    tcp_pair(fds);
    stuff(fds[0]);
    send_from(&sending, fds[0], &iov, data, sizeof data, IO_SEND_ALL);
    settle();
    cr_assert(!sending.ended);
    io_close(io, fds[1], IO_CLOSE_RESET);
    cr_assert(result(&sending) == -ECONNRESET || sending.res == -EPIPE);
    io_close(io, fds[0], IO_CLOSE);
}
