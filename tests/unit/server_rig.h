#pragma once
/* A connection of leatd without its handshake: a server's session with server_mux_ops, for whose client the test
 * speaks. What goes to the audit and to server_connection.c is noted. */
#include "ssh/audit.h"
#include "ssh/relay.h"
#include "ssh/server_forward.h"
#include "tests/unit/session_rig.h"

#define CLIENT_CHANNEL 5u
#define NOTES_MAX 600u

struct note {
    char event[32], forward[32], origin[80], requested[300], resolved[80], reason[160];
    bool counted;
    uint64_t bytes_to_target, bytes_from_target;
};

static struct server_connection connection;
static struct server_options options;
static int channels; /* as server_connection.c counts them */
static struct note notes[NOTES_MAX];
static unsigned notes_count;

/* In place of those of the library. */
void server_connection_channels(struct server_connection *of, int change) {
    cr_assert(of == &connection);
    channels += change;
    cr_assert_geq(channels, 0);
}

static void copy_note(char *to, size_t cap, const char *text) {
    snprintf(to, cap, "%s", text ? text : "");
}

void audit_log(enum log_level level, const struct audit *audit) {
    cr_assert(level == LOG_LEVEL_INFO && notes_count < NOTES_MAX);
    struct note *note = &notes[notes_count++];
    cr_assert_eq(audit->connection, connection.number);
    cr_assert_str_eq(audit->user, "alice");
    cr_assert_str_eq(audit->key, "SHA256:x");
    cr_assert_str_eq(audit->source, "192.0.2.7 port 40000");
    copy_note(note->event, sizeof note->event, audit->event);
    copy_note(note->forward, sizeof note->forward, audit->forward);
    copy_note(note->origin, sizeof note->origin, audit->origin);
    copy_note(note->requested, sizeof note->requested, audit->requested);
    copy_note(note->resolved, sizeof note->resolved, audit->resolved);
    copy_note(note->reason, sizeof note->reason, audit->reason);
    note->counted = audit->counted;
    note->bytes_to_target = audit->bytes_to_target;
    note->bytes_from_target = audit->bytes_from_target;
}

static inline const struct note *last_note(void) {
    cr_assert_gt(notes_count, 0);
    return &notes[notes_count - 1];
}

static void server_rig_ending(struct session *session) {
    server_forward_stop(session->owner);
}

/* options may be changed before. */
static inline void server_rig_begin(enum io_backend backend) {
    connection = (struct server_connection){.number = 17, .options = &options, .policy = {.options = &options}};
    snprintf(connection.source, sizeof connection.source, "192.0.2.7 port 40000");
    static char user[] = "alice", key[] = "SHA256:x";
    connection.handshake.user = user;
    connection.handshake.key_fingerprint = key;
    list_init(&connection.listeners);
    list_init(&connection.shells);
    rig.session = &connection.session;
    struct session_options wanted = {
        .mux_ops = &server_mux_ops, .on_ending = server_rig_ending, .is_server = true, .owner = &connection};
    session_rig_begin(backend, &wanted, "SSH-2.0-OpenSSH_9.2\r\n");
}

static inline void server_rig_defaults(void) {
    options = (struct server_options){.allow_tcp_forwarding = FORWARDING_ALL,
                                      .allow_streamlocal_forwarding = FORWARDING_ALL,
                                      .streamlocal_bind_mask = 0177,
                                      .max_sessions = 10,
                                      .family = AF_UNSPEC};
}

static inline void server_rig_end(void) {
    session_end(rig.session, 0, "test over");
    RIG_GO_UNTIL(server_forward_stopped(&connection) && rig.over);
    cr_expect_eq(channels, 0, "%d channels and listeners are still counted", channels);
    cr_expect_eq(connection.session_channels, 0);
    cr_expect_eq(connection.forwards_open, 0);
    session_rig_end();
}

#define SERVER_TEST(suite, name)                                                                                       \
    static void name##_body(enum io_backend backend);                                                                  \
    RIG_TEST(suite, name) {                                                                                            \
        server_rig_defaults();                                                                                         \
        name##_body(backend);                                                                                          \
    }                                                                                                                  \
    static void name##_body(enum io_backend backend)
