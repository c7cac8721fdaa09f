#pragma once
/* The two applications of one forwarded connection in the simulation: `near` opens it at one session, `far` is what the
 * other session dials. Each sends a keyed stream and checks every byte it gets against the other's:
 *
 *   near app ── pair ── relay ══ session ══ session ══ relay ── dialled ── far app
 *
 * An end of file is believed only when everything that was meant to be sent is there. A reset is believed only on a
 * line that was broken by somebody. They are played by the test, without operations of the I/O seam. */
#include "ssh/relay.h"
#include "tests/sim/io_sim.h"

struct line;
struct app {
    struct line *line;
    struct app *other;
    int fd; /* -1: not there yet, or gone */
    uint8_t *stream;
    uint64_t total, sent, received;
    uint64_t abort_at;                    /* bytes in both directions after which it breaks off; UINT64_MAX: never */
    uint64_t read_from_ns, write_from_ns; /* until then it does nothing */
    uint32_t chunk;
    uint8_t stall_percent;
    uint64_t stall_max_ns;
    bool waits_for_eof; /* ends its own stream only after the other's end */
    bool finished, eof_seen, broken, gone;
};

struct line {
    struct sim_world *world;
    unsigned index;
    uint16_t port;
    int listener; /* -1: nobody listens: refused */
    uint64_t start_ns;
    bool reversed; /* opened by the server */
    bool opened, prohibited;
    bool excused; /* broken by somebody: what follows may be cut short */
    struct app near, far;
    unsigned near_ends, far_asked, far_ends;
    char near_what[200], far_what[200];
    char fault[160]; /* what must not be; "" */
};

/* Draws everything from the world's seed. */
void line_init(struct line *line, struct sim_world *world, unsigned index, uint64_t start_ns);
/* Lets both apps do what they can. True when any did. */
bool line_act(struct line *line);
/* When an app wants to act again by itself; UINT64_MAX: it waits for others. */
uint64_t line_wakes_ns(const struct line *line);
bool line_over(const struct line *line); /* both apps have gone and every relay was told */
/* Over: was it what it should have been? Sets fault. */
void line_judge(struct line *line);
void line_close(struct line *line); /* the listener, the streams */
void line_print(const struct line *line);
