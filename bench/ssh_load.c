/* The crew: threads of one process, each with blocking libssh sessions. What they count lies behind one lock, which a
 * jump of milliseconds does not notice. The process' first thread waits for the end and for signs of life; the others
 * are never joined, as the process ends under them. */
#include "bench/ssh_load.h"
#include "bench/load_net.h"
#include "bench/load_process.h"
#include "bench/load_wire.h"
#include <arpa/inet.h>
#include <errno.h>
#include <libssh/libssh.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#define JUMPERS_MAX 256u
/* Fewer than sshd's MaxStartups (10) lets through without dropping any. */
#define HOLD_OPENERS_MAX 8u
/* libssh waits for ever for some answers; without a step forward for so long the load is dead. */
#define PATIENCE_NS 30000000000u
#define LIBSSH_TIMEOUT_S 25L
#define FILES_BESIDE 64u

struct crew {
    const struct ssh_load_job *job;
    struct load_result *result;
    ssh_key key;
    char user[256], server_host[INET_ADDRSTRLEN], target_host[INET_ADDRSTRLEN];
    int server_port, target_port;
    int news; /* eventfd: the first is through, all are there, or it is over */
    pthread_mutex_t lock;
    /* under the lock */
    uint32_t begun, done, warmup;
    bool over, measuring;
    uint64_t progress_ns, measure_from_ns;
    struct rusage measure_from;
    ssh_session *held;
};

static void tell(struct crew *crew) {
    uint64_t one = 1;
    while (write(crew->news, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

/* The first failure is the one that is told; those that it brings about are not. */
__attribute__((format(printf, 2, 3))) static void fail(struct crew *crew, const char *format, ...) {
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&crew->lock);
    if (!crew->over) {
        crew->over = true;
        crew->result->ok = false;
        vsnprintf(crew->result->why, sizeof crew->result->why, format, args);
    }
    pthread_mutex_unlock(&crew->lock);
    va_end(args);
    tell(crew);
}

/* What stock ssh and sshd agree on, so that every server does the same work; nothing of the user's own files. */
static bool set_options(const struct crew *crew, ssh_session session) {
    bool no = false;
    int nodelay = 1;
    long timeout_s = LIBSSH_TIMEOUT_S;
    const char *cipher = crew->job->cipher;
    const struct {
        enum ssh_options_e option;
        const void *value;
    } options[] = {
        {SSH_OPTIONS_PROCESS_CONFIG, &no},
        {SSH_OPTIONS_HOST, crew->server_host},
        {SSH_OPTIONS_PORT, &crew->server_port},
        {SSH_OPTIONS_USER, crew->user},
        {SSH_OPTIONS_KNOWNHOSTS, "/dev/null"},
        {SSH_OPTIONS_GLOBAL_KNOWNHOSTS, "/dev/null"},
        {SSH_OPTIONS_NODELAY, &nodelay},
        {SSH_OPTIONS_TIMEOUT, &timeout_s},
        {SSH_OPTIONS_KEY_EXCHANGE, "curve25519-sha256"},
        {SSH_OPTIONS_HOSTKEYS, "ssh-ed25519"},
        {SSH_OPTIONS_CIPHERS_C_S, cipher},
        {SSH_OPTIONS_CIPHERS_S_C, cipher},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (ssh_options_set(session, options[i].option, options[i].value) != SSH_OK)
            return false;
    return true;
}

static void leave(ssh_session session) {
    ssh_disconnect(session);
    ssh_free(session);
}

/* NULL, or the step that failed. */
static const char *log_in(const struct crew *crew, ssh_session session) {
    if (!set_options(crew, session))
        return "options";
    if (ssh_connect(session) != SSH_OK)
        return "connect";
    if (ssh_userauth_publickey(session, NULL, crew->key) != SSH_AUTH_SUCCESS)
        return "authentication";
    return NULL;
}

/* An authenticated connection, or NULL and the job has failed. */
static ssh_session enter(struct crew *crew) {
    ssh_session session = ssh_new();
    if (!session) {
        fail(crew, "no memory for an SSH session");
        return NULL;
    }
    const char *failed = log_in(crew, session);
    if (!failed)
        return session;
    fail(crew, "%s: %s", failed, ssh_get_error(session));
    leave(session);
    return NULL;
}

/* One byte to the target and back. NULL, or the step that failed. */
static const char *ask_target(const struct crew *crew, ssh_channel channel) {
    const struct load_wish wish = {.magic = LOAD_MAGIC, .kind = LOAD_OPEN};
    uint8_t answer = 0;
    if (ssh_channel_open_forward(channel, crew->target_host, crew->target_port, "127.0.0.1", 0) != SSH_OK)
        return "direct-tcpip";
    if (ssh_channel_write(channel, &wish, sizeof wish) != (int)sizeof wish)
        return "to the target";
    if (ssh_channel_read_timeout(channel, &answer, 1, 0, (int)LIBSSH_TIMEOUT_S * 1000) != 1)
        return "from the target";
    return answer == LOAD_ACK ? NULL : "content";
}

static bool ping(struct crew *crew, ssh_session session) {
    ssh_channel channel = ssh_channel_new(session);
    const char *failed = channel ? ask_target(crew, channel) : "channel";
    if (failed)
        fail(crew, "%s: %s", failed, ssh_get_error(session));
    if (channel) {
        ssh_channel_close(channel);
        ssh_channel_free(channel);
    }
    return !failed;
}

static double timeval_s(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

/* From here on it counts. Under the lock. */
static void measure(struct crew *crew, uint64_t from_ns) {
    crew->measuring = true;
    crew->measure_from_ns = from_ns;
    getrusage(RUSAGE_SELF, &crew->measure_from);
}

/* Until here. Under the lock. */
static void measured(struct crew *crew, uint64_t until_ns) {
    struct load_result *result = crew->result;
    struct rusage usage;
    cpu_set_t cpus;
    getrusage(RUSAGE_SELF, &usage);
    double processors = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    if (processors > crew->job->clients)
        processors = crew->job->clients;
    result->peak_rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
    if (!crew->measuring || until_ns <= crew->measure_from_ns)
        return;
    result->measured_s = (double)(until_ns - crew->measure_from_ns) / 1e9;
    result->cpu_user_s = timeval_s(usage.ru_utime) - timeval_s(crew->measure_from.ru_utime);
    result->cpu_system_s = timeval_s(usage.ru_stime) - timeval_s(crew->measure_from.ru_stime);
    result->busy = (result->cpu_user_s + result->cpu_system_s) / result->measured_s / processors;
}

/* Ends well, with what was counted until then. Under the lock. */
static void conclude(struct crew *crew, uint64_t until_ns) {
    measured(crew, until_ns);
    crew->result->ok = true;
    crew->over = true;
}

static bool take_turn(struct crew *crew, uint32_t all) {
    pthread_mutex_lock(&crew->lock);
    bool mine = !crew->over && crew->begun < all;
    crew->begun += mine;
    pthread_mutex_unlock(&crew->lock);
    return mine;
}

struct jump_times {
    uint64_t began_ns, answered_ns, ended_ns;
};

/* One jump is through: counted, or one less of the warm-up. */
static void count_jump(struct crew *crew, const struct jump_times *times) {
    struct load_result *result = crew->result;
    double first_byte_s = (double)(times->answered_ns - times->began_ns) / 1e9;
    pthread_mutex_lock(&crew->lock);
    if (!crew->over) {
        crew->done++;
        crew->progress_ns = times->ended_ns;
        if (crew->measuring) {
            result->operations++;
            histogram_record(&result->latency, times->ended_ns - times->began_ns);
            if (first_byte_s > result->first_byte_s)
                result->first_byte_s = first_byte_s;
        } else if (crew->done == crew->warmup) {
            measure(crew, times->ended_ns);
        }
        if (crew->done == crew->job->jumps)
            conclude(crew, times->ended_ns);
    }
    bool is_news = crew->done == 1 || crew->over;
    pthread_mutex_unlock(&crew->lock);
    if (is_news)
        tell(crew);
}

static void *jump_client(void *arg) {
    struct crew *crew = arg;
    while (take_turn(crew, crew->job->jumps)) {
        struct jump_times times = {.began_ns = load_now()};
        ssh_session session = enter(crew);
        if (!session)
            break;
        bool ok = ping(crew, session);
        times.answered_ns = load_now();
        leave(session);
        times.ended_ns = load_now();
        if (!ok)
            break;
        count_jump(crew, &times);
    }
    return NULL;
}

static void *hold_opener(void *arg) {
    struct crew *crew = arg;
    while (take_turn(crew, crew->job->clients)) {
        ssh_session session = enter(crew);
        if (!session)
            break;
        pthread_mutex_lock(&crew->lock);
        crew->held[crew->done++] = session;
        crew->progress_ns = load_now();
        bool all = crew->done == crew->job->clients;
        if (all)
            measure(crew, crew->progress_ns);
        pthread_mutex_unlock(&crew->lock);
        if (all)
            tell(crew);
    }
    return NULL;
}

static bool start_threads(uint32_t count, void *(*run)(void *), struct crew *crew) {
    pthread_attr_t attr;
    bool ok = pthread_attr_init(&attr) == 0 && pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0;
    for (uint32_t i = 0; ok && i < count; i++) {
        pthread_t thread;
        int err = pthread_create(&thread, &attr, run, crew);
        if (err != 0)
            fail(crew, "thread %u: %s", i, strerror(err));
        ok = err == 0;
    }
    return ok;
}

static bool set_up(struct crew *crew) {
    const struct ssh_load_job *job = crew->job;
    const struct passwd *user = getpwuid(geteuid());
    crew->server_port = ntohs(job->server.sin_port);
    crew->target_port = ntohs(job->target.sin_port);
    inet_ntop(AF_INET, &job->server.sin_addr, crew->server_host, sizeof crew->server_host);
    inet_ntop(AF_INET, &job->target.sin_addr, crew->target_host, sizeof crew->target_host);
    if (job->clients == 0 || (job->jumps > 0 && (job->clients > JUMPERS_MAX || crew->warmup >= job->jumps)))
        fail(crew, "%u clients, %u jumps of which %u warm up", job->clients, job->jumps, crew->warmup);
    else if (!user)
        fail(crew, "the user has no name");
    else if (ssh_init() != SSH_OK)
        fail(crew, "libssh does not start");
    else if (ssh_pki_import_privkey_file(job->key, NULL, NULL, NULL, &crew->key) != SSH_OK)
        fail(crew, "%s: not a private key", job->key);
    else if (job->jumps == 0 && !(crew->held = calloc(job->clients, sizeof(*crew->held))))
        fail(crew, "no memory for %u sessions", job->clients);
    else
        snprintf(crew->user, sizeof crew->user, "%s", user->pw_name);
    return !crew->over;
}

/* A server that hung up on a connection has not held it. Nobody opens any by now. */
static void stop_holding(struct crew *crew) {
    uint32_t gone = 0, all = crew->job->clients;
    for (uint32_t i = 0; i < all; i++) {
        struct pollfd fd = {.fd = ssh_get_fd(crew->held[i]), .events = POLLRDHUP};
        gone += poll(&fd, 1, 0) != 0;
    }
    if (gone > 0) {
        fail(crew, "%u of %u held connections are gone", gone, all);
        return;
    }
    pthread_mutex_lock(&crew->lock);
    crew->result->operations = all;
    conclude(crew, load_now());
    pthread_mutex_unlock(&crew->lock);
    for (uint32_t i = 0; i < all; i++)
        leave(crew->held[i]);
}

/* load_stop: what there is counts, if there is anything. */
static void stop(struct crew *crew) {
    bool holds = crew->job->jumps == 0;
    pthread_mutex_lock(&crew->lock);
    uint32_t done = crew->done;
    if (!crew->over && !holds && crew->result->operations > 0)
        conclude(crew, load_now());
    bool over = crew->over;
    pthread_mutex_unlock(&crew->lock);
    if (!over && holds && done == crew->job->clients)
        stop_holding(crew);
    else if (!over)
        fail(crew, "stopped when %u of %u were through", done, holds ? crew->job->clients : crew->job->jumps);
}

/* Until the job is over, stopped, or dead. */
static void watch(struct crew *crew, int channel) {
    struct pollfd fds[] = {{.fd = crew->news, .events = POLLIN}, {.fd = channel, .events = POLLIN}};
    bool holds = crew->job->jumps == 0, ready = false;
    for (;;) {
        uint64_t news;
        poll(fds, 2, 1000);
        if (fds[0].revents != 0 && read(crew->news, &news, sizeof news) < 0 && errno != EAGAIN)
            fail(crew, "eventfd: %s", strerror(errno));
        pthread_mutex_lock(&crew->lock);
        bool over = crew->over, has_begun = holds ? crew->done == crew->job->clients : crew->done > 0;
        uint64_t progress_ns = crew->progress_ns;
        pthread_mutex_unlock(&crew->lock);
        if (has_begun && !ready)
            ready = write(channel, "r", 1) == 1;
        if (over)
            return;
        if (fds[1].revents != 0) {
            stop(crew);
            return;
        }
        if (!(holds && has_begun) && load_now() > progress_ns + PATIENCE_NS)
            fail(crew, "nothing has come through for %u s", (unsigned)(PATIENCE_NS / 1000000000u));
    }
}

static void run(struct crew *crew, int channel) {
    const struct ssh_load_job *job = crew->job;
    bool holds = job->jumps == 0;
    uint32_t threads = holds && job->clients > HOLD_OPENERS_MAX ? HOLD_OPENERS_MAX : job->clients;
    crew->progress_ns = load_now();
    if (!holds && crew->warmup == 0)
        measure(crew, crew->progress_ns);
    if (start_threads(threads, holds ? hold_opener : jump_client, crew))
        watch(crew, channel);
}

/* In the child of load_fork. */
static void ssh_load_main(const void *job, const struct place *place, struct load_shared *shared, int channel) {
    /* Static, as its threads see it until the process has ended. */
    static struct crew crew = {.lock = PTHREAD_MUTEX_INITIALIZER};
    uint32_t limit;
    crew.job = job;
    crew.result = &shared->result;
    crew.warmup = (uint32_t)crew.job->warmup_jumps;
    histogram_clear(&crew.result->latency);
    if (!load_enter(place, channel) || (crew.news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        fail(&crew, "start: %s", strerror(errno));
    else if (!load_raise_files(crew.job->clients + FILES_BESIDE, &limit))
        fail(&crew, "%u connections need more descriptors than the %u there may be", crew.job->clients, limit);
    else if (set_up(&crew))
        run(&crew, channel);
    shared->is_complete = true;
}

struct load *ssh_load_start(const struct ssh_load_job *job, const struct place *place) {
    return load_begin(ssh_load_main, job, place);
}
