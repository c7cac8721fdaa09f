#pragma once
/* Verified traffic: every connection carries keyed streams in both directions; each receiver checks every byte against
 * the key.
 *
 *   client ── header(seed, up, down) ── stream(seed, up bytes) ──► target
 *   client ◄── stream(~seed, down bytes) ──────────────────────── target */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Byte i of stream(seed), for any offset; no state. */
void stream_fill(uint64_t seed, uint64_t offset, uint8_t *out, size_t len);
bool stream_check(uint64_t seed, uint64_t offset, const uint8_t *data, size_t len);

struct traffic_result {
    bool ok;
    uint64_t sent, received;
    char why[128]; /* when not ok: what broke, where */
};

/* On a connected socket: sends `send` bytes of stream(send_seed) and checks `receive` bytes of stream(receive_seed),
 * both at once; half-closes when all is sent; expects the peer's EOF right after `receive` bytes. Deadline: without
 * progress for so long. */
struct traffic_result traffic_exchange(int fd, uint64_t send_seed, uint64_t send, uint64_t receive_seed,
                                       uint64_t receive, double stall_seconds);

/* A target: listens on host ("127.0.0.1", "::1", or "/path" for a Unix socket), one thread per connection. Modes: */
enum target_mode {
    TARGET_TRAFFIC, /* reads the header, does its half of the exchange */
    TARGET_ECHO,    /* sends back what comes, until EOF */
    TARGET_HOLD,    /* accepts and neither reads nor writes until target_stop */
    TARGET_RESET,   /* accepts, reads one byte, resets */
    TARGET_CLOSE,   /* accepts and closes at once */
};
struct target;
struct target *target_start(const char *host, enum target_mode mode);
uint16_t target_port(const struct target *target);
unsigned target_accepted(const struct target *target);
unsigned target_failures(const struct target *target, char *why, size_t cap); /* of TARGET_TRAFFIC connections */
void target_stop(struct target *target);                                      /* closes everything, joins */

/* Connects, blocking; -1 with errno. host as above, here and below. */
int connect_to(const char *host, uint16_t port);
/* The same, again and again until it works or the deadline is over. */
int connect_soon(const char *host, uint16_t port, double seconds);
/* Connects to a TARGET_TRAFFIC behind port and exchanges. */
struct traffic_result traffic_through(const char *host, uint16_t port, uint64_t seed, uint64_t up, uint64_t down);
/* `flows` of those at once, each with its own seed. Returns how many failed; why tells of the first. */
unsigned traffic_many(const char *host, uint16_t port, unsigned flows, uint64_t seed, uint64_t up, uint64_t down,
                      char *why, size_t cap);
