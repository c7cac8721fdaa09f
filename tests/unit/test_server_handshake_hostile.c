/* Clients that mean harm, or know no better: the server ends them, and holds little for them until then. */
#include "seed.h"
#include "server_handshake_client.h"
#include <malloc.h>

#define GCM "aes128-gcm@openssh.com"

extern size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static size_t memory_used(void) {
    return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes() : mallinfo2().uordblks;
}

static unsigned descriptors_used(void) {
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

static void make(struct place *place, enum io_backend backend, const char *statements) {
    char text[1024];
    place_make(place);
    keygen(place, "ed25519", "256", "host");
    keygen(place, "ed25519", "256", "user");
    file_put(place, "authorized_keys", file_get(place, "user.pub"));
    snprintf(text, sizeof text, "HostKey %s\n%s", place_path(place, "host"), statements);
    place_serve(place, backend, text);
}

/* Everything the server says until it closes or has nothing more to say yet. */
static size_t receive_some(struct place *place, int fd, char *text, size_t cap, size_t at_least) {
    size_t len = 0;
    for (int i = 0; i < 4000; i++) {
        ssize_t n = recv(fd, text + len, cap - 1 - len, 0);
        if (n == 0 || (len += n > 0 ? (size_t)n : 0) >= at_least)
            break;
        rig_turn(&place->shard, RIG_MS);
    }
    text[len] = '\0';
    return len;
}

static void first_line(struct place *place, int fd) {
    char text[256];
    size_t len = strlen(place->bind->version);
    cr_assert_eq(receive_some(place, fd, text, len + 1, len), len);
    cr_assert_str_eq(text, place->bind->version);
}

/* ---- what comes before a version ---- */

static void nonsense(struct place *place, const void *bytes, size_t len, const char *answer, const char *reason) {
    struct guest guest;
    char text[512];
    int fd = place_connect(place);
    guest_begin(&guest, place, place_accept(place));
    first_line(place, fd);
    cr_assert_eq(send(fd, bytes, len, 0), (ssize_t)len);
    RIG_UNTIL(&place->shard, guest.done);
    cr_assert_eq(guest.err, ERR_PROTOCOL, "%s", guest.reason);
    cr_assert_str_eq(guest.reason, reason);
    receive_some(place, fd, text, sizeof text, strlen(answer));
    cr_assert_str_eq(text, answer);
    guest_end(&guest);
    close(fd);
}

RIG_TEST(server_hostile, no_version) {
    static const char invalid[] = "Invalid SSH identification string.\r\n";
    static const char differ[] = "Protocol major versions differ.\r\n";
    struct place place;
    char longline[400], reason[400];
    make(&place, backend, "");
    nonsense(&place, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, invalid,
             "Bad protocol version identification 'GET / HTTP/1.1\\015'");
    nonsense(&place, "\n", 1, invalid, "Bad protocol version identification ''");
    nonsense(&place, "\026\003\001\002\n", 5, invalid, "Bad protocol version identification '\\026\\003\\001\\002'");
    nonsense(&place, "SSH-2.0-a\0b\r\n", 13, invalid, "Bad protocol version identification 'SSH-2.0-a\\000b\\015'");
    nonsense(&place, "SSH-1.5-old\r\n", 13, differ, "Protocol major versions differ");
    nonsense(&place, "SSH-3.0-new\r\n", 13, differ, "Protocol major versions differ");
    memset(longline, 'x', sizeof longline);
    memcpy(longline, "SSH-2.0-", 8);
    snprintf(reason, sizeof reason, "Bad protocol version identification '%.*s'", 127, longline);
    nonsense(&place, longline, sizeof longline, invalid, reason);
    place_remove(&place);
}

/* ---- what comes instead of a key exchange ---- */

static void bad_packet(struct place *place, const void *bytes, size_t len) {
    struct guest guest;
    int fd = place_connect(place);
    guest_begin(&guest, place, place_accept(place));
    first_line(place, fd);
    cr_assert_eq(send(fd, "SSH-2.0-test\r\n", 14, 0), 14);
    cr_assert_eq(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
    RIG_UNTIL(&place->shard, guest.done);
    cr_assert_neq(guest.err, 0);
    cr_assert_neq(guest.err, ERR_TIMEOUT, "it is not for the clock to find out");
    guest_end(&guest);
    close(fd);
}

/* A plain packet with this payload. */
static size_t pack(uint8_t *out, const uint8_t *payload, uint32_t len) {
    uint32_t padding = 8 - (4 + 1 + len) % 8;
    if (padding < 4)
        padding += 8;
    codec_put_u32(out, 1 + len + padding);
    out[4] = (uint8_t)padding;
    memcpy(out + 5, payload, len);
    memset(out + 5 + len, 0, padding);
    return 5 + len + padding;
}

static uint32_t make_kexinit(uint8_t *payload, uint32_t cap, const char *kex) {
    const char *const lists[] = {kex,    "ssh-ed25519", GCM, GCM, "hmac-sha2-256", "hmac-sha2-256",
                                 "none", "none",        "",  ""};
    struct writer writer;
    writer_init(&writer, payload, cap);
    writer_u8(&writer, MSG_KEXINIT);
    for (int i = 0; i < 16; i++)
        writer_u8(&writer, 7);
    for (int i = 0; i < 10; i++)
        writer_text(&writer, lists[i]);
    writer_bool(&writer, false);
    writer_u32(&writer, 0);
    cr_assert(writer_ok(&writer));
    return writer_len(&writer);
}

RIG_TEST(server_hostile, no_key_exchange) {
    static const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 4, 20}, zero[8] = {0}, odd[] = {0, 0, 0, 13, 4, 20};
    static const uint8_t padding[] = {0, 0, 0, 12, 200, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t below_the_wires_limit[] = {0, 1, 0, 4, 4, 20};
    static const uint8_t newkeys[] = {MSG_NEWKEYS}, kex_init[] = {30, 0, 0, 0, 0};
    static const uint8_t service[] = {
        MSG_SERVICE_REQUEST, 0, 0, 0, 12, 's', 's', 'h', '-', 'u', 's', 'e', 'r', 'a', 'u', 't', 'h'};
    uint8_t payload[1024], bytes[2048];
    struct place place;
    make(&place, backend, "");
    bad_packet(&place, huge, sizeof huge);
    bad_packet(&place, zero, sizeof zero);
    bad_packet(&place, odd, sizeof odd);
    bad_packet(&place, padding, sizeof padding);
    bad_packet(&place, below_the_wires_limit, sizeof below_the_wires_limit);
    bad_packet(&place, bytes, pack(bytes, newkeys, sizeof newkeys));
    bad_packet(&place, bytes, pack(bytes, kex_init, sizeof kex_init));
    /* In the clear there is no authentication. */
    bad_packet(&place, bytes, pack(bytes, service, sizeof service));
    uint32_t len = make_kexinit(payload, sizeof payload, "curve25519-sha256");
    size_t both = pack(bytes, payload, len);
    both += pack(bytes + both, service, sizeof service);
    bad_packet(&place, bytes, both);
    /* A KEXINIT that is none, one that has nothing in common, one too many. */
    bad_packet(&place, bytes, pack(bytes, payload, len - 20));
    len = make_kexinit(payload, sizeof payload, "none-of-them");
    bad_packet(&place, bytes, pack(bytes, payload, len));
    len = make_kexinit(payload, sizeof payload, "curve25519-sha256");
    both = pack(bytes, payload, len);
    both += pack(bytes + both, payload, len);
    bad_packet(&place, bytes, both);
    place_remove(&place);
}

/* ---- many that only hold the door ---- */

#define CROWD 300u
static struct guest crowd[CROWD];
static int crowd_fds[CROWD];

static void crowd_come(struct place *place, const char *words) {
    for (unsigned i = 0; i < CROWD; i++) {
        crowd_fds[i] = place_connect(place);
        guest_begin(&crowd[i], place, place_accept(place));
        if (words)
            cr_assert_eq(send(crowd_fds[i], words, strlen(words), 0), (ssize_t)strlen(words));
        rig_turn(&place->shard, 0);
    }
}

static bool crowd_done(void) {
    for (unsigned i = 0; i < CROWD; i++)
        if (!crowd[i].done)
            return false;
    return true;
}

static void crowd_leave(struct place *place, int err) {
    RIG_UNTIL(&place->shard, crowd_done());
    for (unsigned i = 0; i < CROWD; i++) {
        cr_assert_eq(crowd[i].err, err, "%s", crowd[i].reason);
        guest_end(&crowd[i]);
        close(crowd_fds[i]);
    }
}

static void raise_descriptors(void) {
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max < 8192 ? limit.rlim_max : 8192;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Nothing but their slot, and that for the grace time only. */
RIG_TEST(server_hostile, a_silent_crowd) {
    struct place place;
    raise_descriptors();
    make(&place, backend, "LoginGraceTime 2\n");
    size_t memory = memory_used();
    unsigned descriptors = descriptors_used();
    crowd_come(&place, NULL);
    for (unsigned i = 0; i < CROWD; i++)
        first_line(&place, crowd_fds[i]);
    cr_assert_leq(memory_used() - memory, CROWD * 1024);
    cr_assert_eq(descriptors_used() - descriptors, 2 * CROWD, "the two ends of each");
    cr_assert(!crowd_done());
    crowd_leave(&place, ERR_TIMEOUT);
    place_remove(&place);
}

/* Half a version line costs the smallest buffer. */
RIG_TEST(server_hostile, a_crowd_that_stutters) {
    struct place place;
    raise_descriptors();
    make(&place, backend, "LoginGraceTime 2\n");
    size_t memory = memory_used();
    unsigned descriptors = descriptors_used();
    crowd_come(&place, "SSH-2.0-stutt");
    for (unsigned i = 0; i < CROWD; i++)
        first_line(&place, crowd_fds[i]);
    rig_turn(&place.shard, RIG_MS);
    cr_assert_leq(memory_used() - memory, CROWD * 6144);
    cr_assert_eq(descriptors_used() - descriptors, 2 * CROWD);
    crowd_leave(&place, ERR_TIMEOUT);
    place_remove(&place);
}

static bool crowd_started(void) {
    for (unsigned i = 0; i < CROWD; i++)
        if (!crowd[i].handshake.work || !crowd[i].handshake.transport.wire.first_kexinit_out)
            return false;
    return true;
}

/* Those that wait for the server's KEXINIT get it, and cost a session of libssh each. */
RIG_TEST(server_hostile, a_crowd_that_waits) {
    struct place place;
    raise_descriptors();
    make(&place, backend, "LoginGraceTime 5\n");
    size_t memory = memory_used();
    crowd_come(&place, "SSH-2.0-waiting\r\n");
    RIG_UNTIL(&place.shard, crowd_started());
    cr_assert_leq(memory_used() - memory, CROWD * 65536);
    for (unsigned i = 0; i < CROWD; i++)
        server_handshake_cancel(&crowd[i].handshake);
    crowd_leave(&place, ERR_CANCELED);
    place_remove(&place);
}

/* ---- the slow and the clumsy get in ---- */

static int call_publickey(ssh_session ssh, void *key) {
    return ssh_userauth_publickey(ssh, NULL, key);
}

static void log_in(struct client *client) {
    ssh_key key = NULL;
    provider_enter(NULL);
    cr_assert_eq(ssh_pki_import_privkey_file(place_path(client->place, "user"), "", NULL, NULL, &key), SSH_OK);
    cr_assert_eq(provider_leave(), 0);
    client->to_libssh = true;
    int r = SSH_AUTH_AGAIN;
    while (r == SSH_AUTH_AGAIN) {
        r = client_libssh(client, call_publickey, key);
        client_turn(client);
    }
    cr_assert_eq(r, SSH_AUTH_SUCCESS);
    cr_assert(client->guest->done && client->guest->err == 0);
    provider_enter(NULL);
    ssh_key_free(key);
    cr_assert_eq(provider_leave(), 0);
}

RIG_TEST(server_hostile, one_byte_at_a_time) {
    struct place place;
    struct guest guest;
    struct client client;
    make(&place, backend, "");
    client_make(&client, &place, &guest, GCM);
    client.crumbs = true;
    client_exchange_keys(&client);
    log_in(&client);
    client_end(&client);
    guest_end(&guest);
    place_remove(&place);
}

/* A client that says nothing after its version until it has the server's KEXINIT. */
RIG_TEST(server_hostile, a_client_that_waits_gets_in) {
    struct place place;
    struct guest guest;
    struct client client;
    make(&place, backend, "");
    client_make(&client, &place, &guest, GCM);
    cr_assert_eq(client_libssh(&client, client_call_connect, NULL), SSH_AGAIN);
    client_flush(&client);
    cr_assert_gt(client.sent, 0);
    size_t version = client.sent;
    /* What libssh says to the server's version stays in its pair. */
    while (!guest.handshake.transport.wire.first_kexinit_out)
        rig_turn(&place.shard, 10 * RIG_MS);
    cr_assert(client.sent == version && !guest.handshake.transport.wire.first_kexinit_in);
    client_exchange_keys(&client);
    log_in(&client);
    cr_assert(strncmp(guest.handshake.details, GCM, strlen(GCM)) == 0);
    client_end(&client);
    guest_end(&guest);
    place_remove(&place);
}

/* What libssh before 0.11 has to say at -d has the client's words in it. */
RIG_TEST(server_hostile, writes_to_a_terminal) {
    static const char version[] = "SSH-2.0-x\033[31m\001\177\r\n";
    struct place place;
    struct guest guest;
    make(&place, backend, "");
    log_set_level(LOG_LEVEL_DEBUG1);
    int fd = place_connect(&place);
    guest_begin(&guest, &place, place_accept(&place));
    cr_assert_eq(send(fd, version, sizeof version - 1, 0), (ssize_t)sizeof version - 1);
    RIG_UNTIL(&place.shard, guest.handshake.transport.wire.first_kexinit_out);
    close(fd);
    RIG_UNTIL(&place.shard, guest.done);
    const char *log = file_get(&place, "log");
    cr_assert(ssh_version(SSH_VERSION_INT(0, 11, 0)) || strstr(log, "SSH-2.0-x\\033[31m\\001\\177"), "%s", log);
    for (; *log; log++)
        cr_assert(*log == '\n' || (*log >= ' ' && *log <= '~'));
    guest_end(&guest);
    place_remove(&place);
}

/* Each exchange costs the server a signature, and nobody knows yet for whom. */
RIG_TEST(server_hostile, exchanges_keys_again) {
    struct place place;
    struct guest guest;
    struct client client;
    uint8_t payload[512], cookie[16] = {1};
    struct writer writer;
    make(&place, backend, "");
    client_make(&client, &place, &guest, GCM);
    client_exchange_keys(&client);
    writer_init(&writer, payload, sizeof payload);
    writer_u8(&writer, MSG_KEXINIT);
    writer_raw(&writer, cookie, sizeof cookie);
    for (const char *const *list =
             (const char *const[]){"curve25519-sha256", "ssh-ed25519", GCM, GCM, "", "", "none", "none", "", "", NULL};
         *list; list++)
        writer_text(&writer, *list);
    writer_bool(&writer, false);
    writer_u32(&writer, 0);
    client_say(&client, payload, writer_len(&writer));
    RIG_UNTIL(&place.shard, guest.done);
    cr_assert_eq(guest.err, ERR_KEX, "%s", guest.reason);
    cr_assert_eq(guest.handshake.transport.wire.out.epochs, 1);
    client_end(&client);
    guest_end(&guest);
    place_remove(&place);
}

/* ---- those who leave, and those who garble ---- */

#define MOMENTS 24u
RIG_TEST(server_hostile, leaves_at_any_moment) {
    struct place place;
    make(&place, backend, "");
    size_t memory = 0;
    /* Twice, since libraries keep what they look up the first time. */
    for (unsigned turns = 0; turns < 2 * MOMENTS; turns++) {
        struct guest guest;
        struct client client;
        client_make(&client, &place, &guest, GCM);
        for (unsigned i = 0; i < turns % MOMENTS; i++) {
            (void)client_libssh(&client, client_call_connect, NULL);
            client_turn(&client);
        }
        if (turns % 2)
            rig_close_with_reset(client.fd);
        else
            close(client.fd);
        client.fd = -1;
        RIG_UNTIL(&place.shard, guest.done);
        cr_assert(guest.err == ERR_CLOSED || guest.err == ERR_RESET, "%d %s", guest.err, guest.reason);
        client_end(&client);
        guest_end(&guest);
        if (turns == MOMENTS - 1)
            memory = memory_used();
    }
    cr_assert_leq(memory_used(), memory + 16384);
    place_remove(&place);
}

/* Changes one byte of the stream, at a place that the test has chosen. */
struct spoil {
    size_t at;
    uint8_t by;
};
static void spoil(struct client *client, uint8_t *bytes, size_t len) {
    const struct spoil *what = client->arg;
    if (what->at >= client->sent && what->at - client->sent < len)
        bytes[what->at - client->sent] ^= what->by;
}

/* The same for each backend, with seeds. */
static struct place seeded;
#define SEEDED_TEST(body, statements, count)                                                                           \
    static void body(uint64_t *state);                                                                                 \
    static void body##_all(enum io_backend backend) {                                                                  \
        make(&seeded, backend, statements);                                                                            \
        seed_each(count, body);                                                                                        \
        place_remove(&seeded);                                                                                         \
    }                                                                                                                  \
    Test(server_hostile_io_uring, body, .fini = seed_report) {                                                         \
        body##_all(IO_BACKEND_URING);                                                                                  \
    }                                                                                                                  \
    Test(server_hostile_epoll, body, .fini = seed_report) {                                                            \
        body##_all(IO_BACKEND_EPOLL);                                                                                  \
    }                                                                                                                  \
    static void body(uint64_t *state)

/* Whatever byte of the key exchange is not the client's own: nobody gets in, and nothing is left over. */
SEEDED_TEST(one_byte_is_wrong, "", 60) {
    struct guest guest;
    struct client client;
    struct spoil what = {.at = random_below(state, 1000), .by = (uint8_t)(1u << random_below(state, 8))};
    client_make(&client, &seeded, &guest, GCM);
    client.spoil = spoil;
    client.arg = &what;
    for (unsigned i = 0; i < 30 && !guest.done && !client.gone; i++) {
        (void)client_libssh(&client, client_call_connect, NULL);
        client_turn(&client);
    }
    /* A wrong length may wait for bytes that never come. */
    shutdown(client.fd, SHUT_WR);
    RIG_UNTIL(&seeded.shard, guest.done);
    cr_assert_neq(guest.err, 0);
    client_end(&client);
    guest_end(&guest);
}

/* Pure noise behind a version line, as packets of right length. */
SEEDED_TEST(noise, "", 60) {
    uint8_t payload[600], bytes[700];
    struct guest guest;
    uint32_t len = 1 + random_below(state, sizeof payload - 1), kind = random_below(state, 3);
    for (uint32_t i = 0; i < len; i++)
        payload[i] = (uint8_t)random_u32(state);
    if (kind > 0)
        payload[0] = kind == 1 ? MSG_KEXINIT : (uint8_t)random_below(state, 80);
    size_t n = pack(bytes, payload, len);
    int fd = place_connect(&seeded);
    guest_begin(&guest, &seeded, place_accept(&seeded));
    cr_assert_eq(send(fd, "SSH-2.0-noise\r\n", 15, 0), 15);
    cr_assert_eq(send(fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
    rig_turn(&seeded.shard, RIG_MS);
    shutdown(fd, SHUT_WR);
    RIG_UNTIL(&seeded.shard, guest.done);
    cr_assert_neq(guest.err, 0);
    guest_end(&guest);
    close(fd);
}
