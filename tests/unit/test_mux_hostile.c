/* Packets of a peer that means harm: cut short, lengthened, altered, out of place. Each ends in 0 or in an error that
 * ends the session; never in a crash, a read past its end (ASan), a broken table or memory kept. */
#include "mux_rig.h"

static struct rig rig;

struct packet {
    uint8_t bytes[512];
    uint32_t len;
};

static void build(struct packet *packet, uint8_t type, const char *fields, ...) {
    va_list list;
    va_start(list, fields);
    packet->len = build_packet(packet->bytes, sizeof packet->bytes, type, fields, list);
    va_end(list);
}

enum { TEMPLATES = 18 };
/* A well-formed packet of every type, aimed at channel id. The first STRICT of them are of exactly one length. */
static void build_all(struct packet *packets, uint32_t id) {
    build(&packets[0], MSG_CHANNEL_DATA, "uz", id, 100u);
    build(&packets[1], MSG_CHANNEL_EXTENDED_DATA, "uuz", id, 1u, 100u);
    build(&packets[2], MSG_CHANNEL_WINDOW_ADJUST, "uu", id, 1000u);
    build(&packets[3], MSG_CHANNEL_EOF, "u", id);
    build(&packets[4], MSG_CHANNEL_CLOSE, "u", id);
    build(&packets[5], MSG_CHANNEL_SUCCESS, "u", id);
    build(&packets[6], MSG_CHANNEL_FAILURE, "u", id);
    build(&packets[7], MSG_CHANNEL_OPEN_FAILURE, "uuss", id, 2u, "refused", "en");
    build(&packets[8], MSG_CHANNEL_OPEN, "suuususu", "forwarded-tcpip", 5u, 1000u, 1000u, "host", 80u, "origin", 81u);
    build(&packets[9], MSG_CHANNEL_OPEN, "suuussu", "direct-streamlocal@openssh.com", 5u, 1000u, 1000u, "/run/s", "",
          0u);
    build(&packets[10], MSG_CHANNEL_OPEN, "suuu", "session", 5u, 1000u, 1000u);
    build(&packets[11], MSG_CHANNEL_OPEN, "suuususus", "stripe@leat", 5u, 1000u, 1000u, "host", 80u, "origin", 81u,
          "0123456789abcdef");
    build(&packets[12], MSG_CHANNEL_OPEN, "suuusu", "stripe-join@leat", 5u, 1000u, 1000u, "0123456789abcdef", 1u);
    build(&packets[13], MSG_CHANNEL_OPEN_CONFIRMATION, "uuuu", id, 5u, 1000u, 1000u);
    build(&packets[14], MSG_CHANNEL_REQUEST, "usb", id, "keepalive@openssh.com", 1);
    build(&packets[15], MSG_GLOBAL_REQUEST, "sb", "keepalive@openssh.com", 1);
    build(&packets[16], MSG_CHANNEL_OPEN, "suuu", "tun@openssh.com", 5u, 1000u, 1000u);
    build(&packets[17], MSG_REQUEST_SUCCESS, "u", 40000u);
}
#define STRICT 13u

/* One flow of ours that is open, one opening, one asked, one closing. */
static struct probe probes[4], spare;
static void rig_crowd(void) {
    rig_init(&rig);
    rig_connect(&rig, &probes[0]);
    rig_open_sent(&rig, &probes[1]);
    cr_assert_eq(rig_ask(&rig, &probes[2]), 0);
    rig_connect(&rig, &probes[3]);
    flow_abort(&probes[3].flow);
    rig_expect(&rig, MSG_CHANNEL_CLOSE);
    rig.next_asked = &spare;
}

/* Every proper prefix of every packet is malformed, in every state of the channel. */
Test(hostile, truncated) {
    for (unsigned state = 0; state < 4; state++) {
        struct packet packets[TEMPLATES];
        rig_crowd();
        build_all(packets, probes[state].flow.id);
        for (unsigned i = 0; i < TEMPLATES; i++) {
            for (uint32_t len = 0; len < packets[i].len; len++) {
                /* The texts of an OPEN_FAILURE may lack the language; the answer to a request has no form. */
                bool whole = (packets[i].bytes[0] == MSG_CHANNEL_OPEN_FAILURE && len == packets[i].len - 6) ||
                             packets[i].bytes[0] == MSG_REQUEST_SUCCESS;
                if (whole)
                    continue;
                cr_assert_eq(rig_feed(&rig, packets[i].bytes, len), ERR_PROTOCOL, "message %u, %u bytes, state %u",
                             packets[i].bytes[0], len, state);
                cr_assert_neq(rig.why[0], 0);
            }
        }
        cr_assert_eq(rig.opens, 1, "only the crowd's");
        rig_deinit(&rig);
    }
}

Test(hostile, lengthened) {
    for (unsigned state = 0; state < 4; state++) {
        struct packet packets[TEMPLATES];
        rig_crowd();
        build_all(packets, probes[state].flow.id);
        for (unsigned i = 0; i < STRICT; i++) {
            packets[i].bytes[packets[i].len] = 0;
            cr_assert_eq(rig_feed(&rig, packets[i].bytes, packets[i].len + 1), ERR_PROTOCOL, "message %u",
                         packets[i].bytes[0]);
        }
        rig_deinit(&rig);
    }
}

/* Each 32-bit field in turn set to numbers that lie. */
Test(hostile, lying_numbers) {
    const uint32_t lies[] = {0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, UINT32_MAX};
    for (unsigned state = 0; state < 4; state++) {
        for (unsigned i = 0; i < TEMPLATES; i++) {
            for (unsigned lie = 0; lie < sizeof lies / sizeof *lies; lie++) {
                struct packet packets[TEMPLATES];
                rig_crowd();
                build_all(packets, probes[state].flow.id);
                for (uint32_t at = 1; at + 4 <= packets[i].len; at++) {
                    struct packet altered = packets[i];
                    codec_put_u32(altered.bytes + at, lies[lie]);
                    if (rig_feed(&rig, altered.bytes, altered.len) < 0)
                        break; /* the session would have ended */
                    if (rig.mux.flows_count >= 5 || spare.flow.phase != FLOW_CLOSED)
                        rig.next_asked = NULL;
                }
                rig_deinit(&rig);
            }
        }
    }
}

/* The app at the hostile peer's other end: does this and that whatever comes. */
static void act(struct probe *probe, uint64_t *seed) {
    struct flow *flow = &probe->flow;
    probe->request_answer = random_chance(seed, 2);
    switch (random_below(seed, 9)) {
    case 0:
        if (flow->phase == FLOW_OPEN && flow->window.unconsumed > 0)
            flow_consumed(flow, 1 + random_below(seed, flow->window.unconsumed));
        break;
    case 1:
        if (flow_room(flow) > 0 && rig.slots.free_count > 0) {
            uint32_t most = flow->peer_packet_max < flow_room(flow) ? flow->peer_packet_max : (uint32_t)flow_room(flow);
            rig_send(&rig, probe, 1 + random_below(seed, most));
        }
        break;
    case 2:
        if (flow->out == FLOW_HALF_DRAINING)
            flow_drained(flow);
        break;
    case 3:
        if (flow->life == LIFE_ASKED)
            flow_confirm(flow);
        break;
    case 4:
        if (random_chance(seed, 50))
            flow_abort(flow);
        break;
    case 5:
        if (random_chance(seed, 50) && flow->phase != FLOW_ASKED)
            flow_end(flow);
        break;
    case 6:
        if (flow->phase == FLOW_OPEN && !flow->text)
            cr_assert_eq(flow_request(flow, "exit-status", "\0\0\0\1", 4), 0);
        break;
    default:
        rig_next(&rig);
    }
    mux_validate(&rig.mux);
}

/* Random packets, most of them well-formed, some altered. A real session ends at the first error; here it goes on, for
 * depth, and because a refused packet must have changed nothing. */
static void session(uint64_t *seed) {
    rig_crowd();
    spare = (struct probe){0};
    struct packet packets[TEMPLATES];
    for (uint32_t n = 0; n < 120; n++) {
        build_all(packets, probes[random_below(seed, 4)].flow.id);
        struct packet packet = packets[random_below(seed, TEMPLATES)];
        if (random_chance(seed, 4))
            packet.bytes[random_below(seed, packet.len)] = (uint8_t)random_u32(seed);
        if (random_chance(seed, 16))
            packet.len = random_below(seed, packet.len + 1);
        int result = rig_feed(&rig, packet.bytes, packet.len);
        cr_assert(result == 0 || result == ERR_PROTOCOL || result == ERR_LIMIT || result == ERR_UNSUPPORTED);
        cr_assert_eq(result == 0 || result == ERR_UNSUPPORTED, rig.why[0] == 0);
        rig.next_asked = NULL;
        for (unsigned i = 0; i < 4; i++)
            act(&probes[i], seed);
    }
    rig_deinit(&rig);
    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(probes[i].closed + probes[i].refused, 1, "each flow ends once");
}

Test(hostile, random_sessions, .fini = seed_report) {
    seed_each(1500, session);
}
