#pragma once
/* A shard: one thread with its own I/O ring, timers, pools and mailbox. It shares nothing; everything that lives on it
 * is touched by its thread alone. One turn: wait for completions → run them → timers → mailbox → deferred tasks →
 * submit.
 *
 *   thread A ── shard_post ──►  mailbox ─►┐
 *                                         │  turn loop:  io completions, timers, messages, then tasks (once each)
 *   kernel  ── completions ──►  io ──────►┘ */
#include "engine/io.h"
#include "engine/list.h"
#include "engine/mailbox.h"
#include "engine/ring.h"
#include "engine/slot.h"
#include "engine/timer.h"
#include <stdatomic.h>

/* Work to be done once at the end of this turn (sending what the turn has gathered). */
struct task {
    struct list node;
    void (*run)(struct task *task);
    uint64_t turn; /* private: in which it ran last */
};
static inline void task_init(struct task *task, void (*run)(struct task *)) {
    list_init(&task->node);
    task->run = run;
    task->turn = 0;
}

struct shard {
    struct io *io;
    struct timers timers;
    struct slot_pool slots;
    struct ring_pool rings;
    struct list tasks;
    struct mailbox *mailbox;
    uint32_t index;
    _Atomic bool stopping;
    uint32_t flows;              /* relays on it, with or without SSH: the next one is connected as that many need it */
    struct list accept_paused;   /* listeners that wait for a descriptor to be freed (listener.h) */
    struct shard_thread *thread; /* NULL: driven by its owner turn by turn (tests) */
    /* private */
    struct io_op mailbox_poll;
    bool mailbox_ready, ending;
    uint64_t turn;
    struct timer trim;
    uint64_t trim_turn; /* in which it was armed */
};

/* A shard with a thread does it by itself, every LIMIT_TRIM_NS while it has work and until all is given back. turns:
 * how many it has made since the last time. Buffers that were not in use since then go back to the system. A shard of
 * LIMIT_IDLE_TURNS at most is idle: all buffers that are not in use do. Of one at most, it has slept but for this: the
 * allocator's memory does, too, of all threads; else what the allocator has not needed for long. True: there is more
 * for a later call. */
bool shard_trim(struct shard *shard, uint64_t turns);

struct shard_options {
    enum io_backend backend;
    uint32_t index, slots_max, rings_max;         /* 0: those of limits.h */
    int cpu;                                      /* -1: not pinned */
    void (*on_thread_start)(struct shard *shard); /* on the shard's thread, before its first turn; may be NULL */
};
/* Starts a thread that runs the shard. Returns when it is up (0), or with the reason why not; nothing is left then. */
MUST_USE int shard_start(const struct shard_options *options, struct shard **shard);
/* Any thread: asks the loop to end after this turn; everything on the shard must have been closed before by its owners.
 */
void shard_stop(struct shard *shard);
/* Waits for the thread, frees everything. CHECKs that pools are whole again. */
void shard_join(struct shard *shard);

/* Any thread: for how long its thread has run, or waited for a processor to run on, since it was started. What the
 * kernel knows, late by some milliseconds. 0: it does not tell. */
uint64_t shard_busy_ns(const struct shard *shard);

/* Without a thread, on the caller's: init with an already created backend (whose slots are &shard->slots after init:
 * the maker is called with them), then shard_turn. */
MUST_USE int shard_init(struct shard *shard, const struct shard_options *options,
                        int (*make_io)(struct slot_pool *, void *, struct io **), void *arg);
void shard_deinit(struct shard *shard);
/* One turn, waiting at most until deadline_ns (absolute; 0: not at all; UINT64_MAX: until something happens). */
MUST_USE int shard_turn(struct shard *shard, uint64_t deadline_ns);

/* Any thread. ERR_FULL, ERR_CLOSED: nothing was taken over. */
MUST_USE int shard_post(struct shard *shard, void (*run)(void *arg, int64_t value), void *arg, int64_t value);
/* This shard's thread only. A task deferred while tasks run is run in the same turn, unless it has already run in it:
 * then in the next, which follows without waiting. No-op when already deferred. */
void shard_defer(struct shard *shard, struct task *task);
void shard_undefer(struct task *task);
static inline uint64_t shard_now(const struct shard *shard) {
    return io_now(shard->io);
}
/* The shard whose thread this is, or NULL. */
struct shard *shard_current(void);
