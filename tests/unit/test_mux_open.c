/* CHANNEL_OPEN by its type: what the owner is told, what is malformed, and opening a path ourselves. */
#include "mux_rig.h"

static struct rig rig;
static struct probe probe;

#define OPEN_HEAD PEER_ID, PEER_WINDOW, PEER_PACKET
static bool says(struct bytes bytes, const char *text) {
    return bytes_equal(bytes, text);
}

/* The strings of mux_open lie in the packet: looked at from within on_open. */
static const struct wanted {
    enum mux_open_kind kind;
    const char *type, *host, *origin;
    uint32_t port, origin_port;
} * wanted;
static struct flow *check_open(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    cr_assert_eq(open->kind, wanted->kind);
    cr_assert(says(open->type, wanted->type));
    cr_assert(says(open->host, wanted->host) && says(open->origin, wanted->origin));
    cr_assert(open->port == wanted->port && open->origin_port == wanted->origin_port);
    return rig_on_open(mux, open, reason, text);
}
static const struct mux_ops checking_ops = {.on_open = check_open, .on_global = rig_on_global};

static void start(void) {
    rig_init(&rig);
    rig.mux.ops = &checking_ops;
    rig.next_asked = &probe;
}

static void accepted(void) {
    cr_assert_eq(rig.opens, 1);
    flow_confirm(&probe.flow);
    rig_expect(&rig, MSG_CHANNEL_OPEN_CONFIRMATION);
    rig_deinit(&rig);
}

Test(mux_open, session) {
    wanted = &(const struct wanted){MUX_OPEN_SESSION, "session", "", "", 0, 0};
    start();
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuu", "session", OPEN_HEAD), 0);
    accepted();
    start();
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuub", "session", OPEN_HEAD, 0), ERR_PROTOCOL);
    rig_deinit(&rig);
}

/* A port that is none is delivered as it is; the owner refuses with a reason, and the session goes on. */
Test(mux_open, tcpip) {
    const uint32_t ports[] = {0, 1, 65535, 65536, UINT32_MAX};
    for (unsigned i = 0; i < sizeof ports / sizeof *ports; i++) {
        for (unsigned direct = 0; direct < 2; direct++) {
            const struct wanted want = {direct ? MUX_OPEN_DIRECT_TCPIP : MUX_OPEN_FORWARDED_TCPIP,
                                        direct ? "direct-tcpip" : "forwarded-tcpip",
                                        "host",
                                        "origin",
                                        ports[i],
                                        70000};
            wanted = &want;
            start();
            int result =
                rig_put(&rig, MSG_CHANNEL_OPEN, "suuususu", want.type, OPEN_HEAD, "host", ports[i], "origin", 70000u);
            cr_assert_eq(result, 0);
            accepted();
        }
    }
}

Test(mux_open, streamlocal) {
    wanted = &(const struct wanted){MUX_OPEN_DIRECT_STREAMLOCAL, "direct-streamlocal@openssh.com", "/run/x", "", 0, 0};
    start();
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuussu", wanted->type, OPEN_HEAD, "/run/x", "reserved", 9u), 0);
    accepted();
    start();
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuuss", wanted->type, OPEN_HEAD, "/run/x", ""), ERR_PROTOCOL);
    rig_deinit(&rig);
    wanted =
        &(const struct wanted){MUX_OPEN_FORWARDED_STREAMLOCAL, "forwarded-streamlocal@openssh.com", "/s", "", 0, 0};
    start();
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuuss", wanted->type, OPEN_HEAD, "/s", "reserved"), 0);
    accepted();
    start();
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuussu", wanted->type, OPEN_HEAD, "/s", "", 0u), ERR_PROTOCOL);
    rig_deinit(&rig);
}

#define KEY "0123456789abcdef"
#define LANE 0x80000002u
static bool key_came;
static struct flow *check_key(struct mux *mux, const struct mux_open *open, uint32_t *reason, const char **text) {
    key_came = open->stripe_key && memcmp(open->stripe_key, KEY, MUX_STRIPE_KEY_BYTES) == 0;
    cr_assert_eq(open->stripe_lane, open->kind == MUX_OPEN_STRIPE_JOIN ? LANE : 0);
    return check_open(mux, open, reason, text);
}
static const struct mux_ops key_ops = {.on_open = check_key, .on_global = rig_on_global};

static void start_stripe(void) {
    start();
    rig.mux.ops = &key_ops;
    key_came = false;
}

Test(mux_open, stripe) {
    wanted = &(const struct wanted){MUX_OPEN_STRIPE, "stripe@leat", "host", "origin", 80, 7};
    start_stripe();
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuususus", wanted->type, OPEN_HEAD, "host", 80u, "origin", 7u, KEY),
                 0);
    cr_assert(key_came);
    accepted();
    wanted = &(const struct wanted){MUX_OPEN_STRIPE_JOIN, "stripe-join@leat", "", "", 0, 0};
    start_stripe();
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuusu", wanted->type, OPEN_HEAD, KEY, LANE), 0);
    cr_assert(key_came);
    accepted();
}

Test(mux_open, stripe_keys_have_one_length) {
    const uint32_t lengths[] = {0, 1, MUX_STRIPE_KEY_BYTES - 1, MUX_STRIPE_KEY_BYTES + 1, 200};
    start();
    for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuuzu", "stripe-join@leat", OPEN_HEAD, lengths[i], LANE),
                     ERR_PROTOCOL);
        cr_assert_eq(
            rig_put(&rig, MSG_CHANNEL_OPEN, "suuususuz", "stripe@leat", OPEN_HEAD, "h", 1u, "", 1u, lengths[i]),
            ERR_PROTOCOL);
    }
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuususu", "stripe@leat", OPEN_HEAD, "h", 1u, "", 1u), ERR_PROTOCOL);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuus", "stripe-join@leat", OPEN_HEAD, KEY), ERR_PROTOCOL, "no lane");
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuusub", "stripe-join@leat", OPEN_HEAD, KEY, LANE, 0), ERR_PROTOCOL);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuususub", "stripe@leat", OPEN_HEAD, "h", 1u, "", 1u), ERR_PROTOCOL);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuuzusus", "stripe@leat", OPEN_HEAD, 1u, 1u, "", 1u, KEY),
                 ERR_PROTOCOL, "a host with a NUL");
    cr_assert_eq(rig.opens, 0);
    rig_deinit(&rig);
}

/* What we send is what we would take. */
Test(mux_open, stripe_of_ours) {
    static struct rig far;
    uint8_t packet[MUX_CONTROL_BYTES];
    struct slot *slot;
    uint32_t len;
    wanted = &(const struct wanted){MUX_OPEN_STRIPE, "stripe@leat", "host", "origin", 80, 7};
    start_stripe();
    rig_init(&far);
    static struct probe ours[2];
    const uint8_t *key = (const uint8_t *)KEY;
    cr_assert_eq(mux_open_stripe(&far.mux, &ours[0].flow, &probe_ops, &ours[0], "host", 80, "origin", 7, key), 0);
    cr_assert_eq(mux_next(&far.mux, 0, packet, sizeof packet, &len, &slot), MUX_CONTROL);
    cr_assert_eq(rig_feed(&rig, packet, len), 0, "%s", rig.why);
    cr_assert(key_came);
    accepted();
    wanted = &(const struct wanted){MUX_OPEN_STRIPE_JOIN, "stripe-join@leat", "", "", 0, 0};
    start_stripe();
    cr_assert_eq(mux_open_stripe_join(&far.mux, &ours[1].flow, &probe_ops, &ours[1], key, LANE), 0);
    cr_assert_eq(mux_next(&far.mux, 0, packet, sizeof packet, &len, &slot), MUX_CONTROL);
    cr_assert_eq(rig_feed(&rig, packet, len), 0, "%s", rig.why);
    cr_assert(key_came);
    accepted();
    rig_deinit(&far);
}

Test(mux_open, other_types_may_carry_anything) {
    wanted = &(const struct wanted){MUX_OPEN_OTHER, "x11", "", "", 0, 0};
    start();
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuusub", "x11", OPEN_HEAD, "host", 1u, 1), 0);
    accepted();
    wanted = &(const struct wanted){MUX_OPEN_OTHER, "", "", "", 0, 0};
    start();
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuu", "", OPEN_HEAD), 0);
    accepted();
}

/* A name with a NUL would be checked as one thing and connected to as another. */
Test(mux_open, names_have_no_nul) {
    start();
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuuzusu", "direct-tcpip", OPEN_HEAD, 1u, 1u, "", 1u), ERR_PROTOCOL);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuusuzu", "direct-tcpip", OPEN_HEAD, "", 1u, 1u, 1u), ERR_PROTOCOL);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuuzsu", "direct-streamlocal@openssh.com", OPEN_HEAD, 1u, "", 0u),
                 ERR_PROTOCOL);
    cr_assert_eq(rig.opens, 0);
    rig_deinit(&rig);
}

/* Two sessions, one budget. */
Test(mux_open, nobody_takes_all_channels) {
    enum { MANY = LIMIT_FLOWS_PER_SESSION, FEW = 1000 };
    static struct probe many[MANY], few[FEW];
    static struct rig other;
    unsigned count = 0;
    rig_init(&rig);
    rig_init(&other);
    window_budget_init(&rig.budget, LIMIT_WINDOW_BUDGET_BYTES / 2);
    other.mux.budget = &rig.budget;
    while (count < MANY &&
           mux_open_direct(&rig.mux, &many[count].flow, &probe_ops, &many[count], "host", 1, "127.0.0.1", 1) == 0)
        count++;
    cr_assert(count > 3000 && count < MANY, "%u", count);
    for (unsigned i = 0; i < FEW; i++)
        cr_assert_eq(mux_open_direct(&other.mux, &few[i].flow, &probe_ops, &few[i], "host", 1, "127.0.0.1", 1), 0);
    mux_shutdown(&other.mux);
    rig_deinit(&rig);
    other.mux.budget = &other.budget;
    rig_deinit(&other);
}

/* By default a session may have every channel number there is. */
Test(mux_open, a_session_may_have_all_its_numbers) {
    static struct probe many[LIMIT_FLOWS_PER_SESSION];
    rig_init(&rig);
    window_budget_init(&rig.budget, LIMIT_WINDOW_BUDGET_BYTES);
    for (unsigned i = 0; i < LIMIT_FLOWS_PER_SESSION; i++)
        cr_assert_eq(mux_open_direct(&rig.mux, &many[i].flow, &probe_ops, &many[i], "host", 1, "127.0.0.1", 1), 0, "%u",
                     i);
    rig_deinit(&rig);
}

/* Who could not even be asked is told. */
static unsigned shortages;
static void count_shortage(struct mux *mux, const struct mux_open *open, const char *why) {
    (void)mux;
    cr_assert(says(open->host, "host") && open->port == 80 && strlen(why) > 0);
    shortages++;
}
Test(mux_open, shortage_is_told) {
    static const struct mux_ops ops = {
        .on_open = rig_on_open, .on_global = rig_on_global, .on_shortage = count_shortage};
    start();
    rig.mux.ops = &ops;
    window_budget_init(&rig.budget, 1000);
    cr_assert_eq(rig_put(&rig, MSG_CHANNEL_OPEN, "suuususu", "direct-tcpip", OPEN_HEAD, "host", 80u, "127.0.0.1", 1u),
                 0);
    cr_assert_eq(rig.opens, 0);
    cr_assert_eq(shortages, 1);
    rig_expect(&rig, MSG_CHANNEL_OPEN_FAILURE);
    rig_deinit(&rig);
}

/* Whoever asks first is told just what opening would have said, and in words that name what is to be raised. */
Test(mux_open, who_lacks_a_window_can_say_so) {
    enum { MANY = LIMIT_WINDOW_START_BYTES / LIMIT_CHANNEL_PACKET_BYTES };
    static struct probe many[MANY];
    const struct {
        uint64_t max;
        const char *text;
    } limits[] = {{16u << 20, "16M"}, {2u << 20, "2M"}, {(2u << 20) + 1024, "2049K"}, {(2u << 20) + 1, "2097153"}};
    char why[MUX_SHORTAGE_BYTES], wanted_why[MUX_SHORTAGE_BYTES];
    unsigned count = 0;
    rig_init(&rig);
    window_budget_init(&rig.budget, LIMIT_WINDOW_START_BYTES);
    while (!mux_lacks_window(&rig.mux, why)) {
        cr_assert_lt(count, MANY);
        cr_assert_eq(mux_open_direct(&rig.mux, &many[count].flow, &probe_ops, &many[count], "host", 1, "127.0.0.1", 1),
                     0);
        count++;
    }
    cr_expect(count > MANY * 3 / 4 && count < MANY, "four fifths: %u", count);
    cr_assert_eq(mux_open_direct(&rig.mux, &probe.flow, &probe_ops, &probe, "host", 1, "127.0.0.1", 1), ERR_LIMIT);
    rig_deinit(&rig);
    rig_init(&rig);
    for (unsigned i = 0; i < sizeof limits / sizeof *limits; i++) {
        window_budget_init(&rig.budget, limits[i].max);
        rig.budget.used = limits[i].max;
        cr_assert(mux_lacks_window(&rig.mux, why));
        snprintf(wanted_why, sizeof wanted_why, "no room for another connection's window within MemoryLimit %s",
                 limits[i].text);
        cr_expect_str_eq(why, wanted_why);
        rig.budget.used = 0;
    }
    rig_deinit(&rig);
}

Test(mux_open, a_path_of_ours) {
    char path[300];
    rig_init(&rig);
    memset(path, 'p', sizeof path);
    path[256] = 0;
    cr_assert_eq(mux_open_forwarded_path(&rig.mux, &probe.flow, &probe_ops, &probe, path), ERR_LENGTH);
    path[255] = 0;
    cr_assert_eq(mux_open_forwarded_path(&rig.mux, &probe.flow, &probe_ops, &probe, path), 0);
    rig_expect(&rig, MSG_CHANNEL_OPEN);
    struct reader reader;
    reader_init(&reader, rig.out + 1, rig.out_len - 1);
    rig_text(&reader, "forwarded-streamlocal@openssh.com");
    cr_assert_eq(reader_u32(&reader), probe.flow.id);
    cr_assert_eq(reader_u32(&reader), LIMIT_WINDOW_START_BYTES);
    cr_assert_eq(reader_u32(&reader), LIMIT_CHANNEL_PACKET_BYTES);
    rig_text(&reader, path);
    rig_text(&reader, "");
    cr_assert(reader_done(&reader));
    cr_assert_eq(rig_confirm(&rig, &probe), 0);
    rig_deinit(&rig);
}
