/* The table of scenarios. Names are stable: results are compared by them.
 *
 * Times are chosen so that the standard set with five rounds stays below 20 minutes, a quick one below three, and a
 * smoke below one; tests/unit/test_bench_scenarios.c adds them up. */
#include "bench/scenario_runs.h"

#define SECONDS(smoke, quick, standard)                                                                                \
    .seconds = {[SIZE_SMOKE] = (smoke), [SIZE_QUICK] = (quick), [SIZE_STANDARD] = (standard)},                         \
    .rounds = {[SIZE_SMOKE] = 1, [SIZE_QUICK] = QUICK_ROUNDS}
#define QUICK_ROUNDS 3

#define LINK_MBIT 1000.0
#define PEERS(...)                                                                                                     \
    (const char *const[]) {                                                                                            \
        __VA_ARGS__, NULL                                                                                              \
    }

/* Two where the ratio is what matters, both backends in what leat is steered by. */
#define PAIR "ssh→sshd", "leat→leatd"
#define TUNNELS PAIR, "leat→leatd,epoll"
#define MIXED "ssh→leatd", "leat→sshd"
/* In a smoke: each side of ours once, and the others only where their own code of the harness is run. */
#define SMOKE_ONE PEERS("leat→leatd")
#define SMOKE_LINK PEERS("direct") /* starting a tunnel takes many round trips */
#define SMOKE_TWO PEERS("leat→leatd", "ssh→sshd")
#define SMOKE_ALL PEERS("leat→leatd", "ssh→sshd", "direct")

#define BULK_MAIN(way, letter, count, word, ...)                                                                       \
    {                                                                                                                  \
        .name = "bulk/" way "/" #count, .title = "bulk " way ", " #count " " word, .group = "bulk", .run = bulk_run,   \
        .direction = (letter), .flows = (count), SECONDS(0.08, 0.5, 1.0), .peers = PEERS(TUNNELS, __VA_ARGS__),        \
        .smoke_peers = SMOKE_TWO                                                                                       \
    }
#define BULK_MORE(way, letter, count, word)                                                                            \
    {                                                                                                                  \
        .name = "bulk/" way "/" #count, .title = "bulk " way ", " #count " " word, .group = "bulk", .run = bulk_run,   \
        .direction = (letter), .flows = (count), SECONDS(0.08, 0, 0.6), .peers = PEERS(PAIR), .smoke_peers = SMOKE_ONE \
    }
#define MESSAGES(bytes, size)                                                                                          \
    {                                                                                                                  \
        .name = "messages/" #bytes, .title = "messages of " size ", one at a time", .group = "messages",               \
        .run = messages_run, .flows = 1, .message_bytes = (bytes), SECONDS(0.08, 0, 0.4), .peers = PEERS(PAIR),        \
        .smoke_peers = SMOKE_ONE                                                                                       \
    }
/* ssh and sshd take half a minute beside 4000 flows, and hold at most 10000: in a run they are measured with 1000. */
#define IDLE(count, tunnels, ...)                                                                                      \
    {                                                                                                                  \
        .name = "opens/idle-" #count, .title = "opens and bulk with " #count " idle flows held", .group = "opens",     \
        .run = idle_run, .at_once = 32, .idle_flows = (count), .flows = 1, .overhead_s = 1.8 + (count) / 3000.0,       \
        .peers = tunnels, .smoke_peers = SMOKE_ONE, __VA_ARGS__                                                        \
    }
/* As many as the limit has the smallest windows for, and a quarter beside. The link is there for its small buffers: the
 * kernel's own for thousands of stalled flows would be what all sockets of the machine may have. */
#define STALLED(count, memory)                                                                                         \
    {                                                                                                                  \
        .name = "memory/limit-" #count, .title = "memory for " #count " stalled flows, MemoryLimit " memory,           \
        .group = "memory", .run = memory_limit_run, .idle_flows = (count), .limit = (memory),                          \
        .shape = {.rate_mbit = 10000, .tcp_receive_max = LINK_TCP_MIN, .tcp_send_max = LINK_TCP_MIN},                  \
        .rounds = {1, 1, 0}, .needs_fresh_tunnel = true, .alone_s = 1, .overhead_s = 4.0 + (count) / 250.0,            \
        .peers = PEERS("leat→leatd", "leat→leatd,epoll"), .smoke_peers = SMOKE_ONE                                     \
    }
#define RTT(ms, way, letter, smoke, quick, standard, ...)                                                              \
    {                                                                                                                  \
        .name = "rtt/" #ms "ms/" way, .title = "bulk " way " over " #ms " ms", .group = "rtt", .run = rtt_run,         \
        .direction = (letter), .flows = 1, .shape = {.rtt_ms = (ms), .rate_mbit = LINK_MBIT},                          \
        SECONDS(smoke, quick, standard), .peers = PEERS(__VA_ARGS__), .smoke_peers = SMOKE_ONE                         \
    }
#define RTT_LOSS(ms, way, letter, smoke, standard, named)                                                              \
    {                                                                                                                  \
        .name = "rtt/" #ms "ms/loss0.1/" way, .title = "bulk " way " over " #ms " ms with 0.1 % loss", .group = "rtt", \
        .run = rtt_run, .direction = (letter), .flows = 1,                                                             \
        .shape = {.rtt_ms = (ms), .rate_mbit = LINK_MBIT, .loss = 0.001}, SECONDS(smoke, 0, standard),                 \
        .when_named = (named), .peers = PEERS(PAIR), .smoke_peers = SMOKE_LINK                                         \
    }
/* TCP's limits: a machine that was tuned for long links, and Linux' own until 6.17. */
#define TUNED_BYTES (64u << 20)
#define UNTUNED_RECEIVE_BYTES (6u << 20)
#define UNTUNED_SEND_BYTES (4u << 20)
#define DISTANCE(kind, what, way, letter, lost, receive, send, ...)                                                    \
    {                                                                                                                  \
        .name = "distance/" kind way, .title = "one flow " way " over 100 ms, from its start" what,                    \
        .group = "distance", .run = distance_run, .direction = (letter), .flows = 1, .needs_fresh_tunnel = true,       \
        .shape = {.rtt_ms = 100,                                                                                       \
                  .rate_mbit = LINK_MBIT,                                                                              \
                  .loss = (lost),                                                                                      \
                  .tcp_receive_max = (receive),                                                                        \
                  .tcp_send_max = (send)},                                                                             \
        SECONDS(0.15, 0, 2.0), .overhead_s = 3.7, .when_named = true, .peers = PEERS(__VA_ARGS__),                     \
        .smoke_peers = SMOKE_LINK                                                                                      \
    }
#define TUNED(kind, what, way, letter, lost)                                                                           \
    DISTANCE(kind, what, way, letter, lost, TUNED_BYTES, TUNED_BYTES, PAIR, MIXED)
#define UNTUNED(way, letter)                                                                                           \
    DISTANCE("untuned/", ", with an untuned machine's limits", way, letter, 0, UNTUNED_RECEIVE_BYTES,                  \
             UNTUNED_SEND_BYTES, "leat→leatd", "leat→leatd,striped")
#define RELAY(way, letter, count, word)                                                                                \
    {                                                                                                                  \
        .name = "relay/" way "/" #count, .title = "plain relay " way ", " #count " " word, .group = "relay",           \
        .run = bulk_run, .direction = (letter), .flows = (count), .relays_only = true, SECONDS(0.08, 0, 0.5),          \
        .peers = PEERS("haproxy", "relay", "relay,epoll", "socat"), .smoke_peers = PEERS("relay")                      \
    }

/* Flows a second that leave others their processors. The link's rate makes windows fill. */
#define SOAK(word, words, seconds)                                                                                     \
    {                                                                                                                  \
        .name = (word), .title = (words), .group = "soak", .run = soak_run, .rate = 60, .alone_s = (seconds),          \
        .rounds = {1, 1, 1}, .shape = {.rtt_ms = 0.2, .rate_mbit = 400}, .needs_proxy = true, .rekey = "32M 3",        \
        .rekeys_if_able = true, .needs_fresh_tunnel = true, .overhead_s = 5, .peers = PEERS("leat→leatd")              \
    }

const struct scenario scenario_table[] = {
    BULK_MAIN("down", 'd', 1, "flow", MIXED, "ceiling", "direct"),
    BULK_MAIN("up", 'u', 1, "flow", "ceiling", "direct"),
    BULK_MORE("both", 'b', 1, "flow each way"),
    BULK_MAIN("down", 'd', 8, "flows", MIXED, "ceiling", "direct"),
    BULK_MAIN("up", 'u', 8, "flows", "ceiling"),
    BULK_MORE("both", 'b', 8, "flows each way"),
    BULK_MORE("down", 'd', 64, "flows"),
    BULK_MORE("up", 'u', 64, "flows"),
    BULK_MORE("both", 'b', 64, "flows each way"),

    {.name = "connections/down",
     .title = "bulk down, 8 flows over several SSH connections",
     .group = "connections",
     .run = bulk_run,
     .direction = 'd',
     .flows = 8,
     .needs_client = true,
     SECONDS(0.08, 0, 0.5),
     .peers = PEERS("leat→leatd,1", "leat→leatd,2", "leat→leatd,4"),
     .smoke_peers = PEERS("leat→leatd,2")},

    MESSAGES(64, "64 B"),
    MESSAGES(1024, "1 KiB"),
    MESSAGES(16384, "16 KiB"),
    MESSAGES(65536, "64 KiB"),

    {.name = "latency/rate",
     .title = "64-byte messages at 1000 a second",
     .group = "latency",
     .run = latency_rate_run,
     .flows = 4,
     .message_bytes = 64,
     .rate = 1000,
     SECONDS(0.1, 0, 0.8),
     .peers = PEERS(PAIR, "direct"),
     .smoke_peers = SMOKE_TWO},
    {.name = "latency/loaded",
     .title = "64-byte messages while two flows of bulk saturate",
     .group = "latency",
     .run = latency_loaded_run,
     .direction = 'd',
     .flows = 2,
     .message_bytes = 64,
     .rate = 500,
     SECONDS(0.1, 0.8, 1.5),
     .overhead_s = 0.2,
     .peers = PEERS(TUNNELS),
     .smoke_peers = SMOKE_TWO},
    {.name = "latency/busy",
     .title = "64-byte messages at four fifths of the bulk that goes through",
     .group = "latency",
     .run = latency_busy_run,
     .flows = 2,
     .message_bytes = 64,
     .rate = 500,
     SECONDS(0.15, 0, 0.9),
     .overhead_s = 0.6,
     .peers = PEERS(PAIR),
     .smoke_peers = SMOKE_ONE},

    {.name = "opens/1",
     .title = "connections opened, one at a time",
     .group = "opens",
     .run = opens_run,
     .at_once = 1,
     SECONDS(0.08, 0, 0.5),
     .peers = PEERS(PAIR),
     .smoke_peers = SMOKE_ONE},
    {.name = "opens/32",
     .title = "connections opened, 32 at once",
     .group = "opens",
     .run = opens_run,
     .at_once = 32,
     SECONDS(0.08, 0.5, 1.0),
     .peers = PEERS(TUNNELS, "direct"),
     .smoke_peers = SMOKE_ALL},
    IDLE(1000, PEERS(PAIR), SECONDS(0.24, 0, 0.9)),
    IDLE(4000, PEERS(PAIR), .alone_s = 3),
    IDLE(10000, PEERS("leat→leatd", "leat→leatd,epoll"), SECONDS(0.24, 0, 0.9)),
    IDLE(15000, PEERS("leat→leatd", "leat→leatd,epoll"), .alone_s = 3),

    {.name = "ssh/jumps",
     .title = "whole SSH connections, 16 at once",
     .group = "ssh",
     .run = jumps_run,
     .at_once = 16,
     .needs_ssh = true,
     SECONDS(0.1, 0.7, 1.2),
     .overhead_s = 0.6,
     .peers = PEERS(TUNNELS),
     .smoke_peers = SMOKE_TWO},

    {.name = "memory/connection",
     .title = "the server's memory for an idle SSH connection",
     .group = "memory",
     .run = memory_connection_run,
     .flows = 32,
     .needs_ssh = true,
     .needs_fresh_tunnel = true,
     SECONDS(0.1, 0.5, 0.5),
     .overhead_s = 2.8,
     .peers = PEERS(TUNNELS),
     .smoke_peers = SMOKE_TWO},
    {.name = "memory/flow",
     .title = "memory for an idle flow",
     .group = "memory",
     .run = memory_flow_run,
     .idle_flows = 1000,
     .needs_client = true,
     .needs_fresh_tunnel = true,
     SECONDS(0.1, 0, 0.5),
     .overhead_s = 2.8,
     .peers = PEERS(PAIR),
     .smoke_peers = SMOKE_ONE},
    STALLED(1000, "64M"),
    STALLED(10000, "512M"),

    {.name = "fairness/64",
     .title = "shares of 64 flows",
     .group = "fairness",
     .run = fairness_run,
     .flows = 64,
     SECONDS(0.1, 0, 0.8),
     .peers = PEERS(PAIR),
     .smoke_peers = SMOKE_ONE},
    {.name = "fairness/stalled",
     .title = "bulk beside readers that have stopped",
     .group = "fairness",
     .run = stalled_run,
     .flows = 4,
     SECONDS(0.24, 0, 0.9),
     .overhead_s = 0.9,
     .peers = PEERS(PAIR),
     .smoke_peers = SMOKE_ONE},

    {.name = "rekey/bulk",
     .title = "bulk with new keys every 16 MiB",
     .group = "rekey",
     .run = rekey_bulk_run,
     .flows = 1,
     .needs_ssh = true,
     .rekey = "16M",
     SECONDS(0.1, 0, 0.8),
     .peers = PEERS(PAIR),
     .smoke_peers = SMOKE_TWO},
    {.name = "rekey/latency",
     .title = "64-byte messages at 1000 a second with new keys every 32 KiB",
     .group = "rekey",
     .run = rekey_latency_run,
     .flows = 1,
     .message_bytes = 64,
     .rate = 1000,
     .needs_ssh = true,
     .rekey = "32K",
     SECONDS(0.1, 0, 0.6),
     .peers = PEERS(PAIR),
     .smoke_peers = SMOKE_ONE},

    {.name = "rekey/busy",
     .title = "64-byte messages beside 100 MB/s of bulk with new keys every 16 MiB",
     .group = "rekey",
     .run = rekey_busy_run,
     .flows = 1,
     .message_bytes = 64,
     .rate = 1000,
     .needs_ssh = true,
     .rekey = "16M",
     SECONDS(0.1, 0, 0.6),
     .peers = PEERS(PAIR),
     .smoke_peers = SMOKE_ONE},

    {.name = "recovery/killed",
     .title = "the client is killed and started again at once",
     .group = "recovery",
     .run = recovery_killed_run,
     .flows = 1,
     .needs_client = true,
     .needs_fresh_tunnel = true,
     SECONDS(0.5, 0, 0.5),
     .overhead_s = 1.2,
     .peers = PEERS(PAIR),
     .smoke_peers = SMOKE_TWO},
    {.name = "recovery/cut",
     .title = "the link is cut for half a second: from its mending on",
     .group = "recovery",
     .run = recovery_cut_run,
     .flows = 1,
     .needs_fresh_tunnel = true,
     .shape = {.rtt_ms = 20, .rate_mbit = LINK_MBIT},
     SECONDS(0.5, 0, 1.0),
     .overhead_s = 1.6,
     .peers = PEERS(PAIR),
     .smoke_peers = SMOKE_ONE},

    RTT(0, "down", 'd', 0.08, 0, 0.5, PAIR, "direct"),
    RTT(0, "up", 'u', 0.08, 0, 0.5, PAIR),
    RTT(20, "down", 'd', 0.08, 0.5, 0.6, PAIR, "direct"),
    RTT(20, "up", 'u', 0.08, 0, 0.6, PAIR),
    RTT(100, "down", 'd', 0.15, 0, 0.8, PAIR, "direct"),
    RTT(100, "up", 'u', 0.15, 0, 0.8, PAIR),
    RTT(200, "down", 'd', 0.25, 0, 1.0, PAIR),
    RTT(200, "up", 'u', 0.25, 0, 1.0, PAIR),
    RTT_LOSS(0, "down", 'd', 0.08, 0.5, false),
    RTT_LOSS(0, "up", 'u', 0.08, 0.5, true),
    RTT_LOSS(20, "down", 'd', 0.08, 0.6, false),
    RTT_LOSS(20, "up", 'u', 0.08, 0.6, true),
    RTT_LOSS(100, "down", 'd', 0.15, 0.8, false),
    RTT_LOSS(100, "up", 'u', 0.15, 0.8, true),
    RTT_LOSS(200, "down", 'd', 0.25, 1.0, false),
    RTT_LOSS(200, "up", 'u', 0.25, 1.0, true),

    TUNED("", "", "down", 'd', 0),
    TUNED("", "", "up", 'u', 0),
    TUNED("loss/", ", with 0.1 % loss", "down", 'd', 0.001),
    TUNED("loss/", ", with 0.1 % loss", "up", 'u', 0.001),
    UNTUNED("down", 'd'),
    UNTUNED("up", 'u'),

    RELAY("down", 'd', 1, "flow"),
    RELAY("up", 'u', 1, "flow"),

    SOAK("soak", "an hour of everything at once, over a link that is killed now and then", 3600),
    SOAK("soak/short", "the same, for seconds", 20),
};

const size_t scenario_table_count = sizeof scenario_table / sizeof *scenario_table;
