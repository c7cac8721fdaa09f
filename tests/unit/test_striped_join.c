/* Lanes of striped connections that are not there for both: who may join, what comes too late, and what only one side
 * knows to be lost. */
#include "tests/unit/striped_rig.h"
#include <time.h>

/* Lost for one side; the other has only its word for that. */
static void freeze(struct wire *wire, unsigned side) {
    wire->frozen = true;
    close(wire->fd[side]);
    wire->fd[side] = -1;
}

static bool nobody(void *arg, const char *host, uint16_t port) {
    (void)host;
    (void)port;
    ++*(unsigned *)arg;
    return false;
}

RIG_TEST(striped_join, who_may_join) {
    unsigned asked = 0, before = rig_descriptors();
    uint32_t identity = 3;
    int fd, fds[2];
    uint8_t other[STRIPED_KEY_BYTES];
    struct striped *twin;
    cr_assert_eq(striped_find_join("user", rig_key, 1, anybody, NULL, &fd), ERR_REFUSED, "nobody is there yet");
    rig.no_joining = true;
    rig_begin(backend, 2);
    for (unsigned i = 0; i < STRIPED_KEY_BYTES; i++) {
        memcpy(other, rig_key, sizeof other);
        other[i] ^= 0x10;
        cr_assert_eq(striped_find_join("user", other, 1, anybody, NULL, &fd), ERR_REFUSED);
    }
    cr_assert_eq(striped_find_join("user2", rig_key, 1, anybody, NULL, &fd), ERR_REFUSED);
    cr_assert_eq(striped_find_join("use", rig_key, 1, anybody, NULL, &fd), ERR_REFUSED);
    cr_assert_eq(striped_find_join("", rig_key, 1, anybody, NULL, &fd), ERR_REFUSED);
    cr_assert_eq(asked, 0);
    cr_assert_eq(striped_find_join("user", rig_key, 1, nobody, &asked, &fd), ERR_REFUSED);
    cr_assert_eq(asked, 1, "and only who has the key learns that there is one");
    rig_tcp_pair(fds);
    cr_assert_eq(striped_start(&rig.shard, fds[0], &rig.budget, LIMIT_STRIPE_WINDOW_BYTES, 2, &rig_name, rig_key,
                               &server_watcher, NULL, &twin, &fd),
                 ERR_LIMIT, "the key is there already");
    close(fds[0]);
    close(fds[1]);
    cr_assert_eq(striped_find_join("user", rig_key, 1, anybody, NULL, &fd), 0);
    int second = fd;
    cr_assert_eq(striped_find_join("user", rig_key, 2, anybody, NULL, &fd), ERR_LIMIT, "it has its two lanes");
    DRIVE_UNTIL(striped_state(rig.sides[1].striped).lanes == 2);
    close(second);
    DRIVE_UNTIL(striped_state(rig.sides[1].striped).lanes == 1);
    RIG_UNTIL(&rig.shard, striped_find_join("user", rig_key, identity++, anybody, NULL, &fd) == 0);
    close(fd);
    both_send(MIB, MIB);
    rig_finish();
    expect_whole();
    cr_assert_eq(striped_find_join("user", rig_key, 1, anybody, NULL, &fd), ERR_REFUSED, "nobody is there any more");
    cr_expect_eq(rig_descriptors(), before);
}

/* What was in the lane then waits for that. */
RIG_TEST(striped_join, refused_again_and_again) {
    rig.refusing = true;
    rig_begin(backend, 3);
    struct side *side = &rig.sides[0];
    struct striped *striped = side->striped;
    side->to_send = UINT64_MAX;
    for (uint64_t wait_ns = LIMIT_STRIPE_RETRY_NS; wait_ns <= LIMIT_STRIPE_RETRY_MAX_NS; wait_ns *= 2) {
        unsigned wants = side->wants;
        striped->want_ns = 0;
        DRIVE_UNTIL(striped->want_ns > 0 && striped->lanes[1] == NULL && striped->lanes[2] == NULL);
        cr_assert_eq(side->wants, wants + 2);
        cr_assert_geq(striped->want_ns + LIMIT_STRIPE_RETRY_NS / 2, shard_now(&rig.shard) + wait_ns);
    }
    cr_assert_eq(striped->retry_ns, LIMIT_STRIPE_RETRY_MAX_NS);
    rig.refusing = false;
    striped->want_ns = 0;
    DRIVE_UNTIL(striped->lanes[1] != NULL && striped->lanes[1]->heard);
    rig_cut(&rig.wires[1]);
    DRIVE_UNTIL(striped->retry_ns == LIMIT_STRIPE_RETRY_NS);
    both_send(side->sent, MIB);
    rig_finish();
    expect_whole();
}

/* Somebody has all the places: others' go on with one lane. */
RIG_TEST(striped_join, no_more_can_be_joined) {
    static struct striped_entry *all[LIMIT_STRIPES];
    struct striped other = {.lanes_max = 2};
    int fd;
    for (unsigned i = 0; i < LIMIT_STRIPES; i++) {
        memcpy(other.key, &i, sizeof i);
        cr_assert_eq(striped_entry_create(&other, &rig_name, &all[i]), 0);
    }
    rig.no_joining = true;
    rig_begin(backend, 2);
    cr_expect_eq(striped_find_join("user", rig_key, 1, anybody, NULL, &fd), ERR_REFUSED);
    both_send(3 * MIB, 3 * MIB);
    rig_finish();
    expect_whole();
    for (unsigned i = 0; i < LIMIT_STRIPES; i++)
        striped_entry_leave(all[i]);
}

static bool is_there(const char *user, const struct striped *of) {
    unsigned asked = 0;
    int fd;
    return striped_find_join(user, of->key, 1, nobody, &asked, &fd) == ERR_REFUSED && asked == 1;
}

static double seconds_used(void) {
    struct timespec time;
    cr_assert_eq(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time), 0);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Each is found among thousands, whoever comes and goes, and without a look at all the others: that would take many
 * seconds. Every key is two users'. */
Test(striped_join, one_of_thousands) {
    enum { KEYS = LIMIT_STRIPES / 2, ROUNDS = 128 };
    static const struct striped_name names[] = {{.user = "alice", .host = "host"}, {.user = "bob", .host = "host"}};
    static struct striped all[KEYS];
    static struct striped_entry *entries[KEYS][2];
    struct striped_entry *none;
    unsigned wrong = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        uint64_t mixed = (i + 1) * UINT64_C(0x9E3779B97F4A7C15);
        all[i].lanes_max = 2;
        memcpy(all[i].key + i % 2 * 8, &mixed, sizeof mixed);
        for (unsigned user = 0; user < 2; user++)
            cr_assert_eq(striped_entry_create(&all[i], &names[user], &entries[i][user]), 0);
    }
    double start = seconds_used();
    for (unsigned i = 0; i < ROUNDS * KEYS; i++)
        wrong +=
            !is_there("alice", &all[i % KEYS]) + !is_there("bob", &all[i % KEYS]) + is_there("carol", &all[i % KEYS]);
    cr_expect_lt(seconds_used() - start, 2.0, "%.2f s", seconds_used() - start);
    cr_expect_eq(wrong, 0);
    for (unsigned i = 0; i < KEYS; i += 2)
        striped_entry_leave(entries[i][0]);
    for (unsigned i = 0; i < KEYS; i++) {
        wrong += is_there("alice", &all[i]) != (i % 2 == 1) || !is_there("bob", &all[i]);
        cr_assert_eq(striped_entry_create(&all[i], &names[1], &none), ERR_LIMIT, "bob has it");
    }
    cr_expect_eq(wrong, 0);
    for (unsigned i = 0; i < KEYS; i += 2)
        cr_assert_eq(striped_entry_create(&all[i], &names[0], &entries[i][0]), 0);
    for (unsigned i = 0; i < KEYS; i++)
        for (unsigned user = 0; user < 2; user++) {
            wrong += !is_there(names[user].user, &all[i]);
            striped_entry_leave(entries[i][user]);
            wrong += is_there(names[user].user, &all[i]);
        }
    cr_expect_eq(wrong, 0);
}

/* Each identity is good for one lane. */
RIG_TEST(striped_join, identities_are_used_once) {
    int fd;
    rig.no_joining = true;
    rig_begin(backend, 8);
    cr_assert_eq(striped_find_join("user", rig_key, 0, anybody, NULL, &fd), ERR_INUSE, "that is the first lane's");
    cr_assert_eq(striped_find_join("user", rig_key, 3, anybody, NULL, &fd), 0);
    close(fd);
    cr_assert_eq(striped_find_join("user", rig_key, 3, anybody, NULL, &fd), ERR_INUSE);
    cr_assert_eq(striped_find_join("user", rig_key, 2, anybody, NULL, &fd), 0, "they may come out of order");
    close(fd);
    DRIVE_UNTIL(striped_state(rig.sides[1].striped).lanes == 1);
    cr_assert_eq(striped_find_join("user", rig_key, 2, anybody, NULL, &fd), ERR_INUSE);
    both_send(MIB, MIB);
    rig_finish();
    expect_whole();
}

/* A lane on its way to one that ends at that moment. */
RIG_TEST(striped_join, a_lane_that_comes_too_late) {
    unsigned before = rig_descriptors();
    int fd;
    uint8_t byte;
    rig_begin(backend, 3);
    cr_assert_eq(striped_find_join("user", rig_key, 1, anybody, NULL, &fd), 0);
    striped_abort(rig.sides[1].striped);
    striped_abort(rig.sides[1].striped);
    striped_abort(rig.sides[0].striped);
    rig_finish();
    cr_expect_str_eq(rig.sides[1].what, "ended here");
    cr_expect_eq(recv(fd, &byte, 1, MSG_DONTWAIT), 0, "its near end was closed");
    close(fd);
    cr_expect_eq(rig_descriptors(), before);
}

/* Either side loses one, and the other would wait for ever for what is on it. */
RIG_TEST(striped_join, a_lane_that_only_one_side_has_lost) {
    for (unsigned side = 0; side < 2; side++) {
        unsigned before = rig_descriptors();
        rig = (struct stripes){0};
        rig_begin(backend, 3);
        both_send(24 * MIB, 24 * MIB);
        DRIVE_UNTIL(rig.wires_count == 3 && rig.sides[0].received > 6 * MIB && rig.sides[1].received > 6 * MIB);
        rig.no_joining = true;
        freeze(&rig.wires[1], side);
        DRIVE_UNTIL(striped_state(rig.sides[!side].striped).lanes == 2);
        freeze(&rig.wires[0], side);
        rig_finish();
        expect_whole();
        cr_expect_eq(rig_descriptors(), before);
    }
}

/* Two that were frozen are replaced, under identities of their own: nothing that is said of the old ones meets these.
 */
RIG_TEST(striped_join, a_lane_that_only_one_side_has_lost_is_replaced) {
    rig_begin(backend, 3);
    rig.sides[0].to_send = rig.sides[1].to_send = 6 * MIB;
    DRIVE_UNTIL(rig.wires_count == 3 && rig.sides[0].received == 6 * MIB && rig.sides[1].received == 6 * MIB);
    freeze(&rig.wires[0], 0);
    freeze(&rig.wires[2], 1);
    while (rig.wires_count < 5) {
        rig.sides[0].to_send += 1000;
        DRIVE_UNTIL(rig.sides[1].received == rig.sides[0].to_send);
    }
    both_send(rig.sides[0].to_send + 24 * MIB, 24 * MIB);
    rig_finish();
    expect_whole();
    for (unsigned i = 3; i < 5; i++)
        cr_expect(rig.wires[i].carried > MIB, "lane %u carried %" PRIu64, i, rig.wires[i].carried);
    cr_expect_eq(rig.wires_count, 5);
}

/* Nothing waited for them, and from their first word on they carry their part. */
RIG_TEST(striped_join, lanes_that_are_answered_late) {
    rig.unanswered = true;
    rig_begin(backend, 3);
    rig.sides[0].to_send = rig.sides[1].to_send = 6 * MIB;
    DRIVE_UNTIL(rig.sides[0].received == 6 * MIB && rig.sides[1].received == 6 * MIB);
    cr_assert_eq(rig.wires_count, 3);
    for (unsigned i = 1; i < 3; i++) {
        cr_assert_eq(striped_find_join("user", rig_key, i, anybody, NULL, &rig.wires[i].fd[1]), 0);
        rig.wires[i].frozen = false;
    }
    both_send(30 * MIB, 30 * MIB);
    rig_finish();
    expect_whole();
    for (unsigned i = 1; i < 3; i++)
        cr_expect(rig.wires[i].carried > MIB, "lane %u carried %" PRIu64, i, rig.wires[i].carried);
}
