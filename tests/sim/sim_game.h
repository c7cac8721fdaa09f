#pragma once
/* One seed of sim_session: a client's session and a leatd's connection, what goes through them, and how it ends.
 *
 *   sim_session.c  the story: begins, runs, ends        sim_side.c    both ends: shards, sessions, invariants
 *   sim_server.c   leatd's end: its connection, whose   sim_host.c    the kernel and the names, as both ends see them
 *                  handshake is a double's; the audit   sim_lines.c   opens the lines, asks for remote forwards
 *   sim_shell.c    session channels                     sim_watch.c   looks at every message that arrives
 *   sim_event.c    what happens meanwhile, and plans    sim_report.c  a failure is told with its seed
 *
 * All are functions on one struct game, on one thread. */
#include "engine/limits.h"
#include "ssh/mux.h"
#include "ssh/server.h"
#include "tests/sim/fake_kex.h"
#include "tests/sim/sim_line.h"

#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
#define LINES_MAX 10u
#define SHELLS_MAX 3u
#define ORIGIN_PORT 40000u /* and the line's index: where its near app connects from */

struct game;
enum plan {
    PLAN_ORDERLY,
    PLAN_LINK_RESET,
    PLAN_CORRUPT,
    PLAN_END_CLIENT,
    PLAN_END_SERVER,
    PLAN_DRAIN,    /* the server's: ends with its last channel */
    PLAN_UNUSED,   /* UnusedConnectionTimeout, when all is over */
    PLAN_NONSENSE, /* the client breaks the protocol */
    PLAN_SILENCE,  /* the link carries nothing any more, and nobody is told */
    PLAN_NO_LOGIN, /* the handshake fails */
    PLAN_COUNT
};

struct side {
    struct game *game;
    const char *name;
    bool is_client;
    struct shard shard;
    struct transport *transport;
    struct fake_kex fake;
    struct session *session; /* NULL: there is none yet */
    struct window_budget *budget;
    int fd;
    uint64_t alive_ns; /* keepalives; 0: none */
    uint32_t alive_count;
    unsigned ending, ended;
    uint64_t ending_ns; /* when it began to end; 0: not yet */
    uint64_t end_by_ns; /* told to end: not later than this; 0: not told */
    int end_err;
    char end_reason[512];
    unsigned requests, replies; /* global requests: numbered, and answered in that order */
    struct timer doze;          /* until when the speaker is late */
    struct timer theft;         /* until when slots are held by somebody else */
    struct slot_queue stolen;
    unsigned lookups; /* names that are being looked up */
};

/* A session channel, from its client's side. */
struct shell {
    struct game *game;
    enum { SHELL_WAITING, SHELL_OPENING, SHELL_OPEN, SHELL_OVER } state;
    uint64_t start_ns, act_ns;
    struct flow flow;
    unsigned actions; /* that it still does */
    bool sleeps;      /* never ends by itself */
    unsigned rivals;  /* that were there when it was opened */
    unsigned flood;   /* bytes it still sends before it interrupts */
    bool late;        /* opened after "no more sessions" */
    bool started, is_command, aborted, cut, eof_seen, opened, wants_end;
    unsigned owed, answered; /* requests that the server has to answer, in order */
    bool answers[16];        /* what each answer will be */
    unsigned asked;          /* of them in use */
    unsigned exits;
    uint64_t received;
    uint32_t held; /* received and not taken yet */
    uint8_t last;
};

/* A remote forward, asked for by the client. */
struct asked {
    enum { ASKED_NOT, ASKED_WAITING, ASKED_GRANTED, ASKED_REFUSED, ASKED_OVER } state;
    bool is_path;
    char name[32]; /* address or path */
    uint16_t port_asked, port;
};

struct client_end {
    struct side side;
    struct transport transport;
    struct session session;
    struct window_budget budget;
    struct shell shells[SHELLS_MAX];
    unsigned shells_count;
};

struct server_end {
    struct side side;
    struct server server;
    struct server_shard on;
    struct server_generation generation;
    struct server_options options;
    struct channel_timeout timeout;
    struct permission permits[LINES_MAX];
    struct server_connection *connection; /* NULL: gone */
    struct server_handshake *handshake;
    unsigned config_references, gone, cancelled;
    unsigned opened, authenticated, refused, closed; /* events of the connection */
    unsigned channels_opened, channels_closed, listeners_opened, listeners_closed;
    uint64_t channel_ns; /* when one of them began or ended */
    uint16_t ports;      /* given out for port 0 */
    struct {
        bool yes, already; /* done; not, as it had been done before */
    } listened[64];        /* what became of each request to listen, until the client hears of it */
    unsigned listened_first, listened_count;
};

struct game {
    uint64_t seed;
    struct sim_world *world;
    struct client_end client;
    struct server_end server;
    struct line lines[LINES_MAX];
    struct asked asked[LINES_MAX]; /* of the line with this number */
    unsigned lines_count;
    struct timer alarm; /* when an application wants the clock to stop; on the client's shard */
    enum plan plan;
    uint64_t plan_at; /* bytes over the link */
    uint64_t plan_ns; /* or when, whichever comes first */
    bool plan_done;
    bool quiet_link;           /* no keepalive, no rekeys by time: an idle session becomes quiet */
    bool stock;                /* neither end says hello */
    bool tight;                /* a window budget that does not hold everything */
    bool short_of_memory;      /* now and then there is none */
    bool short_of_descriptors; /* the same */
    bool no_more_sessions;     /* said by the client */
    unsigned extra_asks, events;
    uint32_t event_odds, burst;
    unsigned rekeys;
    uint64_t steps;
};

extern struct game *playing; /* for what has no argument: the wrapped calls and the report of a failure */

/* ---- sim_report.c ---- */
_Noreturn void fail(const char *what);
void expect(bool holds, const char *what);
void report_signals(void);
void print_game(const struct game *game);

/* ---- sim_session.c ---- */
static inline uint64_t roll(struct game *game, uint64_t below) {
    return sim_random(game->world, below);
}
static inline uint64_t game_now(const struct game *game) {
    return sim_world_now(game->world);
}

/* ---- sim_side.c ---- */
void side_init(struct side *side, struct game *game, bool is_client, int fd);
void side_speak(struct side *side); /* its transport is there */
void client_init(struct game *game);
/* Both handshakes, then both sessions. */
void sides_start(struct game *game);
/* Told of the session's end. */
void side_ended(struct side *side, int err, const char *reason);
/* Ends it now; a peer that does not take the last bytes holds nothing up for long. */
void side_end(struct side *side);
static inline bool side_is_ending(const struct side *side) {
    return side->session && side->session->ending;
}
static inline bool side_works(const struct side *side) {
    return side->session && !side->session->ending && !side->ended;
}
void side_doze(struct side *side, uint64_t ns);        /* its speaker is late */
void side_steal_slots(struct side *side, uint64_t ns); /* the shard's slots are all in use, by others */
void side_note_ending(struct side *side);              /* looks whether it has begun to end */
void side_validate(struct side *side);
void side_validate_idle(struct side *side);
void side_deinit(struct side *side);

/* ---- sim_server.c ---- */
void server_end_init(struct game *game); /* draws its options, and which lines they forbid */
void server_end_login(struct game *game, const uint8_t *early, size_t early_len);
void server_end_no_login(struct game *game);
void server_end_deinit(struct game *game);
struct line *line_at(struct game *game, uint32_t index); /* NULL: there is none */
struct line *line_of_path(struct game *game, const char *path);

/* ---- sim_host.c ---- */
int host_connect(struct game *game, const struct asked *asked); /* the near app, to leatd's listener; -1: it is gone */
void host_fail_accept(struct game *game, const struct asked *asked); /* no descriptor for the next one, for a moment */

/* ---- sim_lines.c ---- */
void line_open(struct game *game, struct line *line); /* when it can; sets opened */
void asks_begin(struct game *game);
void asks_over(struct game *game); /* nothing is granted any more */
void ask_cancel(struct game *game, struct asked *asked);
/* Asks once more, for the same or another address. */
void ask_more(struct game *game);
void lines_excuse(struct game *game);
void lines_loosen(struct game *game); /* those that do not stand yet */
extern const struct mux_ops client_mux_ops;
/* A global request that means nothing, answered all the same. */
void side_request(struct side *side);

/* ---- sim_shell.c ---- */
void shells_init(struct game *game);
bool shells_act(struct game *game); /* true when any did */
uint64_t shells_wake_ns(const struct game *game);
bool shells_over(const struct game *game);
void shells_refuse(struct game *game); /* says "no more sessions" */
void shells_judge(struct game *game);
struct shell *shell_of_channel(struct game *game, uint32_t id); /* our number; NULL: none */
void shell_request_heard(struct shell *shell);                  /* by a server that has to answer */
void shell_answered(struct shell *shell, bool success);

/* ---- sim_watch.c ---- */
void watch_init(void);
void watch_judge(void); /* nothing is left open */
/* The line of a channel; NULL: none. */
struct line *watch_line(bool of_client, uint32_t id);
/* For how long the server had got no bytes of this line when it gave it up. */
uint64_t watch_silent_ns(const struct line *line);

/* ---- sim_event.c ---- */
void game_event(struct game *game);
void game_plan(struct game *game);
void game_silence(struct game *game); /* ends it, when one end has noticed */
