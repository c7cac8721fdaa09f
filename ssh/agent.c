#include "ssh/agent.h"
#include "engine/check.h"
#include "engine/log.h"
#include "ssh/base64.h"
#include "ssh/codec.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* draft-ietf-sshm-ssh-agent */
enum {
    AGENT_FAILURE = 5,
    AGENT_REQUEST_IDENTITIES = 11,
    AGENT_IDENTITIES_ANSWER = 12,
    AGENT_SIGN_REQUEST = 13,
    AGENT_SIGN_RESPONSE = 14,
};
#define AGENT_MESSAGE_MAX (256u * 1024u)

static const char *socket_path(const char *identity_agent) {
    if (!identity_agent || strcmp(identity_agent, "SSH_AUTH_SOCK") == 0)
        return getenv("SSH_AUTH_SOCK");
    if (strcmp(identity_agent, "none") == 0)
        return NULL;
    return identity_agent[0] == '$' ? getenv(identity_agent + 1) : identity_agent;
}

static int connect_agent(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof to.sun_path)
        return -1;
    strcpy(to.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int r;
    while ((r = connect(fd, (struct sockaddr *)&to, sizeof to)) < 0 && errno == EINTR)
        continue;
    if (r == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static bool write_all(int fd, const uint8_t *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

static bool read_all(int fd, uint8_t *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = recv(fd, bytes, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

/* A message with its length field, malloc'd; NULL at the end, or when it is impossible. */
static uint8_t *read_message(int fd, uint32_t *len) {
    uint8_t length[4];
    if (!read_all(fd, length, sizeof length))
        return NULL;
    *len = codec_get_u32(length);
    uint8_t *message = *len > 0 && *len <= AGENT_MESSAGE_MAX ? malloc(sizeof length + *len) : NULL;
    if (!message)
        return NULL;
    memcpy(message, length, sizeof length);
    if (read_all(fd, message + sizeof length, *len))
        return message;
    free(message);
    return NULL;
}

static char *escaped(struct bytes bytes) {
    size_t cap = 4 * (size_t)bytes.len + 1;
    char *text = malloc(cap);
    return text ? (char *)(uintptr_t)log_safe(text, cap, bytes.at, bytes.len) : NULL;
}

static bool key_fill(struct agent_key *key, struct bytes blob, struct bytes comment) {
    struct reader reader;
    reader_init(&reader, blob.at, blob.len);
    *key = (struct agent_key){.blob = blob.at, .blob_len = blob.len};
    key->type = escaped(reader_string(&reader));
    key->comment = escaped(comment);
    key->base64 = malloc(BASE64_BYTES((size_t)blob.len));
    if (key->base64)
        base64_encode(key->base64, blob.at, blob.len);
    return key->type && key->comment && key->base64;
}

static int parse_keys(struct agent *agent, uint32_t len) {
    struct reader reader;
    reader_init(&reader, agent->answer + 4, len);
    if (reader_u8(&reader) != AGENT_IDENTITIES_ANSWER)
        return ERR_UNSUPPORTED;
    uint32_t count = reader_u32(&reader);
    if (!reader_ok(&reader) || count > AGENT_KEYS_MAX)
        return ERR_UNSUPPORTED;
    agent->keys = calloc(count + 1, sizeof *agent->keys);
    agent->shown = calloc(count + 1, sizeof *agent->shown);
    if (!agent->keys || !agent->shown)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < count; i++) {
        struct bytes blob = reader_string(&reader), comment = reader_string(&reader);
        if (!reader_ok(&reader))
            return ERR_UNSUPPORTED;
        if (!key_fill(&agent->keys[agent->keys_count++], blob, comment))
            return ERR_NOMEM;
    }
    return 0;
}

static int list_keys(struct agent *agent) {
    static const uint8_t request[] = {0, 0, 0, 1, AGENT_REQUEST_IDENTITIES};
    uint32_t len;
    if (!write_all(agent->fd, request, sizeof request))
        return ERR_UNSUPPORTED;
    agent->answer = read_message(agent->fd, &len);
    return agent->answer ? parse_keys(agent, len) : ERR_UNSUPPORTED;
}

int agent_open(struct agent *agent, const char *identity_agent) {
    *agent = (struct agent){.fd = -1, .pair = -1};
    const char *path = socket_path(identity_agent);
    if (!path || !*path)
        return ERR_UNSUPPORTED;
    agent->fd = connect_agent(path);
    int err = agent->fd < 0 ? ERR_UNSUPPORTED : list_keys(agent);
    if (!err)
        return 0;
    log_debug("no use of the agent at %s: %s", path, agent->fd < 0 ? strerror(errno) : err_text(err));
    agent_close(agent);
    return err;
}

/* ---- the relay ---- */

static bool answer_failure(int fd) {
    static const uint8_t failure[] = {0, 0, 0, 1, AGENT_FAILURE};
    return write_all(fd, failure, sizeof failure);
}

static bool answer_identities(struct agent *agent) {
    unsigned count = atomic_load(&agent->shown_count);
    uint32_t cap = 4 + 1 + 4;
    for (unsigned i = 0; i < count; i++)
        cap += 4 + agent->keys[agent->shown[i]].blob_len + 4;
    uint8_t *message = malloc(cap);
    if (!message)
        return answer_failure(agent->pair);
    struct writer writer;
    writer_init(&writer, message, cap);
    writer_u32(&writer, cap - 4);
    writer_u8(&writer, AGENT_IDENTITIES_ANSWER);
    writer_u32(&writer, count);
    for (unsigned i = 0; i < count; i++) {
        const struct agent_key *key = &agent->keys[agent->shown[i]];
        writer_string(&writer, key->blob, key->blob_len);
        writer_text(&writer, "");
    }
    CHECK(writer_ok(&writer) && writer_len(&writer) == cap);
    bool ok = write_all(agent->pair, message, cap);
    free(message);
    return ok;
}

static void note_asked(struct agent *agent, const uint8_t *request, uint32_t len) {
    struct reader reader;
    reader_init(&reader, request + 5, len - 1);
    struct bytes blob = reader_string(&reader);
    for (unsigned i = 0; i < agent->keys_count; i++)
        if (agent->keys[i].blob_len == blob.len && memcmp(agent->keys[i].blob, blob.at, blob.len) == 0)
            atomic_store(&agent->asked, (int)i);
}

/* Passes a request on and the answer back. An agent that is gone becomes a refusal, else libssh would wait for ever. */
static bool pass_on(struct agent *agent, const uint8_t *request, uint32_t len) {
    uint32_t answer_len;
    bool sign = request[4] == AGENT_SIGN_REQUEST;
    if (sign)
        note_asked(agent, request, len);
    uint8_t *answer = write_all(agent->fd, request, 4 + (size_t)len) ? read_message(agent->fd, &answer_len) : NULL;
    if (sign)
        atomic_store(&agent->refused, !answer || answer[4] != AGENT_SIGN_RESPONSE);
    bool ok = answer ? write_all(agent->pair, answer, 4 + (size_t)answer_len) : answer_failure(agent->pair);
    free(answer);
    return ok;
}

static void *relay(void *arg) {
    struct agent *agent = arg;
    uint32_t len;
    uint8_t *request;
    while ((request = read_message(agent->pair, &len)) != NULL) {
        bool ok = request[4] == AGENT_REQUEST_IDENTITIES ? answer_identities(agent) : pass_on(agent, request, len);
        free(request);
        if (!ok)
            break;
    }
    return NULL;
}

static int start_relay(struct agent *agent) {
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&agent->thread, NULL, relay, agent);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    agent->relaying = !failed;
    return failed ? ERR_SYSTEM : 0;
}

int agent_attach(struct agent *agent, ssh_session ssh) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return ERR_SYSTEM;
    agent->pair = pair[1];
    int err = start_relay(agent);
    if (!err && ssh_set_agent_socket(ssh, pair[0]) != SSH_OK)
        err = ERR_SYSTEM;
    if (err)
        (void)close(pair[0]);
    return err;
}

void agent_show(struct agent *agent, const unsigned *indexes, unsigned count) {
    CHECK(count <= agent->keys_count);
    atomic_store(&agent->shown_count, 0);
    for (unsigned i = 0; i < count; i++) {
        CHECK(indexes[i] < agent->keys_count);
        agent->shown[i] = indexes[i];
    }
    atomic_store(&agent->asked, -1);
    atomic_store(&agent->refused, false);
    atomic_store(&agent->shown_count, count);
}

void agent_close(struct agent *agent) {
    if (agent->relaying) {
        (void)shutdown(agent->pair, SHUT_RDWR);
        (void)pthread_join(agent->thread, NULL);
        agent->relaying = false;
    }
    if (agent->pair >= 0)
        (void)close(agent->pair);
    if (agent->fd >= 0)
        (void)close(agent->fd);
    for (unsigned i = 0; i < agent->keys_count; i++) {
        free(agent->keys[i].type);
        free(agent->keys[i].base64);
        free(agent->keys[i].comment);
    }
    free(agent->keys);
    free(agent->shown);
    free(agent->answer);
    *agent = (struct agent){.fd = -1, .pair = -1};
}
