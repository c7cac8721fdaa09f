#include "engine/shard.h"
#include "engine/check.h"
#include "engine/heap.h"
#include "engine/limits.h"
#include "engine/log.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct shard_thread {
    pthread_t id;
    pid_t number; /* in /proc */
    struct shard_options options;
    sem_t up; /* posted once err and error_number are set */
    int err, error_number;
};

static _Thread_local struct shard *current;

struct shard *shard_current(void) {
    return current;
}

static void mailbox_polled(struct io_op *op, int32_t res) {
    (void)res;
    list_entry(op, struct shard, mailbox_poll)->mailbox_ready = true;
}

static void mailbox_watch(struct shard *shard) {
    if (!shard->mailbox_poll.in_flight)
        io_poll(shard->io, &shard->mailbox_poll, mailbox_fd(shard->mailbox), POLLIN);
}

bool shard_trim(struct shard *shard, uint64_t turns) {
    bool is_idle = turns <= LIMIT_IDLE_TURNS, has_slept = turns <= 1;
    if (is_idle)
        io_trim(shard->io);
    bool more = slot_pool_trim(&shard->slots, is_idle);
    more |= ring_pool_trim(&shard->rings);
    if (has_slept) /* while it goes on, others that allocate wait */
        heap_purge();
    else
        heap_decay();
    return more;
}

static void trim_soon(struct shard *shard) {
    shard->trim_turn = shard->turn;
    timer_arm(&shard->timers, &shard->trim, shard_now(shard) + LIMIT_TRIM_NS);
}

/* Idle is not only who slept all the time: something looks after a connection now and then, or somebody types. */
static void on_trim(struct timer *timer) {
    struct shard *shard = list_entry(timer, struct shard, trim);
    uint64_t turns = shard->turn - shard->trim_turn;
    if (shard_trim(shard, turns) || turns > LIMIT_IDLE_TURNS)
        trim_soon(shard);
    else
        shard->trim_turn = shard->turn;
}

int shard_init(struct shard *shard, const struct shard_options *options,
               int (*make_io)(struct slot_pool *, void *, struct io **), void *arg) {
    *shard = (struct shard){.index = options->index};
    uint32_t slots_max = options->slots_max ? options->slots_max : LIMIT_SLOTS_PER_SHARD;
    uint32_t rings_max = options->rings_max ? options->rings_max : LIMIT_RINGS_PER_SHARD;
    int err = mailbox_create(LIMIT_MAILBOX_MESSAGES, &shard->mailbox);
    if (err < 0)
        return err;
    err = slot_pool_init(&shard->slots, LIMIT_CHANNEL_PACKET_BYTES, slots_max);
    if (err == ERR_OK) {
        err = make_io(&shard->slots, arg, &shard->io);
        if (err < 0)
            slot_pool_deinit(&shard->slots);
    }
    if (err < 0) {
        mailbox_destroy(shard->mailbox);
        return err;
    }
    ring_pool_init(&shard->rings, LIMIT_RING_BYTES, rings_max);
    timers_init(&shard->timers);
    list_init(&shard->tasks);
    list_init(&shard->accept_paused);
    io_op_init(&shard->mailbox_poll, mailbox_polled);
    shard->trim.on_timer = on_trim;
    mailbox_watch(shard);
    return ERR_OK;
}

void shard_defer(struct shard *shard, struct task *task) {
    if (!list_linked(&task->node))
        list_push_back(&shard->tasks, &task->node);
}

void shard_undefer(struct task *task) {
    list_remove(&task->node);
}

/* Each task once: what is deferred again after it ran waits for the next turn, so that two tasks that wake each other
 * cannot keep completions and timers from their turn. */
static void tasks_run(struct shard *shard) {
    struct list again;
    list_init(&again);
    for (struct list *node; (node = list_first(&shard->tasks));) {
        struct task *task = list_entry(node, struct task, node);
        list_remove(node);
        if (task->turn == shard->turn) {
            list_push_back(&again, node);
            continue;
        }
        task->turn = shard->turn;
        task->run(task);
    }
    for (struct list *node; (node = list_first(&again));) {
        list_remove(node);
        list_push_back(&shard->tasks, node);
    }
}

static uint64_t turn_deadline(struct shard *shard, uint64_t deadline_ns) {
    if (!list_empty(&shard->tasks) || shard->mailbox_ready || mailbox_pending(shard->mailbox))
        return 0;
    uint64_t timer_ns = timers_next(&shard->timers);
    return timer_ns < deadline_ns ? timer_ns : deadline_ns;
}

int shard_turn(struct shard *shard, uint64_t deadline_ns) {
    struct shard *outer = current;
    current = shard;
    shard->turn++;
    int err = io_turn(shard->io, turn_deadline(shard, deadline_ns));
    timers_run(&shard->timers, shard_now(shard));
    if (shard->mailbox_ready || mailbox_pending(shard->mailbox)) {
        shard->mailbox_ready = false;
        mailbox_run(shard->mailbox);
    }
    tasks_run(shard);
    if (shard->thread && !shard->ending && !timer_armed(&shard->trim) && shard->trim_turn != shard->turn)
        trim_soon(shard);
    if (!shard->ending)
        mailbox_watch(shard);
    current = outer;
    return err;
}

/* There is no way to tell the owners of what is on a shard whose backend is broken, nor to cancel what is in flight. */
static void turn_or_die(struct shard *shard) {
    if (shard_turn(shard, UINT64_MAX) == ERR_OK)
        return;
    log_fatal("shard %u: %s failed", shard->index, io_name(shard->io));
    _exit(255);
}

/* On the shard's thread; the mailbox stays, refusing messages, as long as others may post. */
static void shard_end(struct shard *shard) {
    mailbox_close(shard->mailbox);
    shard->mailbox_ready = true;
    shard->ending = true;
    timer_cancel(&shard->timers, &shard->trim);
    io_cancel(shard->io, &shard->mailbox_poll);
    while (shard->mailbox_ready || shard->mailbox_poll.in_flight || !list_empty(&shard->tasks))
        turn_or_die(shard);
    CHECK(list_empty(&shard->accept_paused));
    io_destroy(shard->io);
    timers_deinit(&shard->timers);
    ring_pool_deinit(&shard->rings);
    slot_pool_deinit(&shard->slots);
}

void shard_deinit(struct shard *shard) {
    shard_end(shard);
    mailbox_destroy(shard->mailbox);
}

static void thread_place(const struct shard_options *options) {
    char name[16];
    snprintf(name, sizeof name, "leat/%u", options->index);
    pthread_setname_np(pthread_self(), name);
    if (options->cpu < 0)
        return;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET((size_t)options->cpu, &cpus);
    if (pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus) != 0)
        log_verbose("shard %u: not pinned, CPU %d is not to be had", options->index, options->cpu);
}

static int make_backend(struct slot_pool *slots, void *arg, struct io **io) {
    const struct shard_options *options = arg;
    return io_create(options->backend, slots, io);
}

static void *thread_main(void *arg) {
    struct shard *shard = arg;
    struct shard_thread *thread = shard->thread;
    thread->number = gettid();
    thread_place(&thread->options);
    thread->err = shard_init(shard, &thread->options, make_backend, &thread->options);
    thread->error_number = errno;
    shard->thread = thread;
    if (thread->err < 0) {
        sem_post(&thread->up);
        return NULL;
    }
    current = shard;
    if (thread->options.on_thread_start)
        thread->options.on_thread_start(shard);
    sem_post(&thread->up);
    while (!shard->stopping)
        turn_or_die(shard);
    shard_end(shard);
    return NULL;
}

/* Signals are for the main thread: the new one is born with all of them blocked. */
static int thread_create(struct shard *shard, struct shard_thread *thread) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error_number = pthread_create(&thread->id, NULL, thread_main, shard);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error_number;
}

static void shard_free(struct shard *shard) {
    sem_destroy(&shard->thread->up);
    free(shard->thread);
    free(shard);
}

static struct shard *shard_alloc(const struct shard_options *options) {
    struct shard *shard = calloc(1, sizeof *shard);
    struct shard_thread *thread = calloc(1, sizeof *thread);
    if (!shard || !thread) {
        free(shard);
        free(thread);
        return NULL;
    }
    thread->options = *options;
    sem_init(&thread->up, 0, 0);
    shard->thread = thread;
    return shard;
}

int shard_start(const struct shard_options *options, struct shard **result) {
    struct shard *shard = shard_alloc(options);
    if (!shard)
        return ERR_NOMEM;
    struct shard_thread *thread = shard->thread; /* until it is up, the shard is the new thread's alone */
    int error_number = thread_create(shard, thread);
    if (error_number != 0) {
        shard_free(shard);
        errno = error_number;
        return error_number == EAGAIN ? ERR_LIMIT : err_from_errno(error_number);
    }
    while (sem_wait(&thread->up) < 0 && errno == EINTR)
        continue;
    if (thread->err == ERR_OK) {
        *result = shard;
        return ERR_OK;
    }
    int err = thread->err;
    error_number = thread->error_number;
    pthread_join(thread->id, NULL);
    shard_free(shard);
    errno = error_number;
    return err;
}

void shard_stop(struct shard *shard) {
    shard->stopping = true;
    mailbox_wake(shard->mailbox);
}

void shard_join(struct shard *shard) {
    CHECK(shard->thread);
    pthread_join(shard->thread->id, NULL);
    mailbox_destroy(shard->mailbox);
    shard_free(shard);
}

/* Without what it has waited for a processor. */
static uint64_t thread_run_ns(const struct shard_thread *thread) {
    clockid_t clock;
    struct timespec run;
    if (pthread_getcpuclockid(thread->id, &clock) != 0 || clock_gettime(clock, &run) != 0)
        return 0;
    return (uint64_t)run.tv_sec * 1000000000u + (uint64_t)run.tv_nsec;
}

/* Asked of the kernel and not measured in the loop: much of a turn's work is done inside the call that also waits. */
uint64_t shard_busy_ns(const struct shard *shard) {
    const struct shard_thread *thread = shard->thread;
    char path[64], text[128] = "";
    uint64_t run_ns, waited_ns;
    CHECK(thread);
    snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", (int)thread->number);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0 || sscanf(text, "%" SCNu64 " %" SCNu64, &run_ns, &waited_ns) != 2)
        return thread_run_ns(thread);
    return run_ns + waited_ns;
}

int shard_post(struct shard *shard, void (*run)(void *arg, int64_t value), void *arg, int64_t value) {
    return mailbox_post(shard->mailbox, (struct message){.run = run, .arg = arg, .value = value});
}
