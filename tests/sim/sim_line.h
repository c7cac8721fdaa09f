#pragma once
/* The two applications of one forwarded connection in the simulation: `near` opens it at one session, `far` is what the
 * other session dials. Each sends a keyed stream and checks every byte it gets against the other's:
 *
 *   near app ── pair ── relay ══ session ══ session ══ relay ── dialled ── far app
 *
 * An end of file is believed only when everything that was meant to be sent is there. A reset is believed only on a
 * line that was broken by somebody. They are played by the test, without operations of the I/O seam. */
#include "tests/sim/io_sim.h"

#define LINE_ADDRESSES_MAX 5u
#define LINE_SPARES_MAX 8u
#define LINE_NEVER UINT64_MAX

struct line;
struct app {
    struct line *line;
    struct app *other;
    int fd; /* -1: not there yet, or gone */
    uint8_t *stream;
    uint64_t total, sent, received;
    uint64_t abort_at;                    /* bytes in both directions after which it breaks off; LINE_NEVER: never */
    uint64_t abort_ns;                    /* or when */
    uint64_t leave_at;                    /* bytes received after which it takes no more, its own stream once ended */
    uint64_t read_from_ns, write_from_ns; /* until then it does nothing */
    uint64_t pause_ns;                    /* of one that sleeps, halfway */
    uint32_t chunk;
    uint8_t stall_percent;
    unsigned stalls;
    uint64_t stall_max_ns;
    bool waits_for_eof; /* ends its own stream only after the other's end */
    bool sleeps;        /* never ends it */
    bool finished, eof_seen, broken, gone;
    bool left;    /* took not all, by leave_at */
    bool cut_off; /* the other one did: what follows may be cut short */
};

enum line_kind { LINE_DIRECT, LINE_DIRECT_PATH, LINE_FORWARDED, LINE_FORWARDED_PATH, LINE_KINDS };

/* What becomes of a connect to one of the target's addresses. */
enum fate_kind { FATE_ANSWERS, FATE_REFUSES, FATE_SILENT };
struct fate {
    enum fate_kind kind;
    bool is_v6, scripted;
    uint64_t delay_ns; /* when scripted; else it is the link's */
};

/* What one end has told of its relay. */
struct told {
    unsigned begun, opened, ended;
    bool refused; /* ended without having been opened */
    char what[200];
};

struct line {
    struct sim_world *world;
    unsigned index;
    enum line_kind kind;
    char target[32]; /* name or path of the far app */
    uint16_t port;
    int listener; /* of the far app; -1: nobody listens */
    struct fate fates[LINE_ADDRESSES_MAX];
    unsigned fates_count, busy; /* a socket's backlog is full so often before it answers */
    bool resolve_fails;
    uint64_t resolve_ns, start_ns;
    bool forbidden; /* by somebody's policy */
    bool too_late;  /* asked of a server that drains */
    bool reachable; /* nothing of the above is in its way */
    bool may_idle;  /* may be ended for being idle, which its end tells: then it is excused */
    bool opened;    /* the near app is there */
    bool excused;   /* broken by somebody: what follows may be cut short */
    bool stock;     /* between stock peers: to whom a CLOSE alone may be an orderly end */
    bool loose;     /* may be refused, or broken until both relays stand */
    struct app near, far;
    int spares[LINE_SPARES_MAX]; /* further connections to the far app: attempts that will have lost, or have won */
    unsigned spares_count;
    uint64_t dialled_ns; /* the far end began to connect; 0: not yet */
    struct told client, server;
    char fault[160]; /* what must not be; "" */
};

static inline bool line_reversed(const struct line *line) {
    return line->kind >= LINE_FORWARDED;
}
static inline bool line_is_path(const struct line *line) {
    return line->kind == LINE_DIRECT_PATH || line->kind == LINE_FORWARDED_PATH;
}
/* Both relays stand, as far as the near one's end knows. */
static inline bool line_stands(const struct line *line) {
    return (line_reversed(line) ? line->server.opened : line->client.opened) > 0;
}

/* Draws everything from the world's seed. */
void line_init(struct line *line, struct sim_world *world, unsigned index, uint64_t start_ns);
/* After `forbidden` was decided. idle_ns: of the timeout that watches over it; 0: there is none. */
void line_settle(struct line *line, uint64_t idle_ns);
/* The near app's end: it is there, or nobody took it (-1). */
void line_begin(struct line *line, int fd);
/* Lets both apps do what they can. True when any did. */
bool line_act(struct line *line);
/* When an app wants to act again by itself; LINE_NEVER: it waits for others. */
uint64_t line_wakes_ns(const struct line *line);
/* An app of it stops to listen: see leave_at. */
void line_hang_up(struct line *line, struct app *app);
bool line_over(const struct line *line); /* both apps have gone and the client's relay was told */
void line_blame(struct line *line, const struct app *app, const char *what);
void line_close(struct line *line); /* the listener, the streams */

/* sim_verdict.c. Over: was it what it should have been? Sets fault. */
void line_judge(struct line *line);
void line_print(const struct line *line);
