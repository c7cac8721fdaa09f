#include "engine/mailbox.h"
#include "engine/check.h"
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Each cell's sequence number says whose turn it is: equal to the position a sender claims: free; one more: holds that
 * position's message; one round more: free for the next round. Senders claim positions by moving `tail`; closing sets a
 * bit in the same word, so that a message is either claimed before the closing and will be run, or refused. */
#define CACHE_LINE 64
#define CLOSED (UINT64_C(1) << 63)

struct cell {
    _Atomic uint64_t sequence;
    struct message message;
};

struct mailbox {
    /* Senders. */
    _Alignas(CACHE_LINE) _Atomic uint64_t tail;
    _Atomic uint32_t posting; /* inside mailbox_post: they may not lose the ground under their feet */
    /* Both: set with the write to the descriptor, so that many posts cost one wake-up. */
    _Alignas(CACHE_LINE) _Atomic bool signaled;
    /* The receiver. */
    _Alignas(CACHE_LINE) uint64_t head;
    /* Constant. */
    _Alignas(CACHE_LINE) struct cell *cells;
    uint32_t size;
    int fd;
};

int mailbox_create(uint32_t size, struct mailbox **result) {
    CHECK(size >= 2 && (size & (size - 1)) == 0);
    struct mailbox *mailbox = aligned_alloc(CACHE_LINE, sizeof *mailbox);
    struct cell *cells = calloc(size, sizeof *cells);
    int fd = mailbox && cells ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (fd < 0) {
        int err = mailbox && cells ? err_from_errno(errno) : ERR_NOMEM;
        free(mailbox);
        free(cells);
        return err;
    }
    *mailbox = (struct mailbox){.cells = cells, .size = size, .fd = fd};
    for (uint32_t i = 0; i < size; i++)
        atomic_init(&cells[i].sequence, i);
    *result = mailbox;
    return ERR_OK;
}

static uint64_t tail_position(struct mailbox *mailbox) {
    return atomic_load_explicit(&mailbox->tail, memory_order_acquire) & ~CLOSED;
}

void mailbox_destroy(struct mailbox *mailbox) {
    while (atomic_load_explicit(&mailbox->posting, memory_order_acquire) > 0)
        sched_yield();
    CHECK(mailbox->head == tail_position(mailbox));
    close(mailbox->fd);
    free(mailbox->cells);
    free(mailbox);
}

void mailbox_wake(struct mailbox *mailbox) {
    /* The one failure is a full counter, and then the descriptor is readable anyway. */
    (void)!write(mailbox->fd, &(uint64_t){1}, sizeof(uint64_t));
}

/* After the message was published. The receiver clears the flag before it looks, so a sender that finds it set has been
 * seen, and one that finds it clear wakes. */
static void signal_receiver(struct mailbox *mailbox) {
    if (!atomic_exchange_explicit(&mailbox->signaled, true, memory_order_acq_rel))
        mailbox_wake(mailbox);
}

static struct cell *cell_at(const struct mailbox *mailbox, uint64_t position) {
    return &mailbox->cells[position & (mailbox->size - 1)];
}

static int claim(struct mailbox *mailbox, uint64_t *claimed) {
    uint64_t position = atomic_load_explicit(&mailbox->tail, memory_order_relaxed);
    for (;;) {
        if (position & CLOSED)
            return ERR_CLOSED;
        uint64_t sequence = atomic_load_explicit(&cell_at(mailbox, position)->sequence, memory_order_acquire);
        if (sequence < position)
            return ERR_FULL;
        if (sequence > position) {
            position = atomic_load_explicit(&mailbox->tail, memory_order_relaxed);
            continue;
        }
        if (atomic_compare_exchange_weak_explicit(&mailbox->tail, &position, position + 1, memory_order_relaxed,
                                                  memory_order_relaxed))
            break;
    }
    *claimed = position;
    return ERR_OK;
}

int mailbox_post(struct mailbox *mailbox, struct message message) {
    atomic_fetch_add_explicit(&mailbox->posting, 1, memory_order_relaxed);
    uint64_t position;
    int err = claim(mailbox, &position);
    if (err == ERR_OK) {
        struct cell *cell = cell_at(mailbox, position);
        cell->message = message;
        atomic_store_explicit(&cell->sequence, position + 1, memory_order_release);
        signal_receiver(mailbox);
    }
    atomic_fetch_sub_explicit(&mailbox->posting, 1, memory_order_release);
    return err;
}

int mailbox_fd(const struct mailbox *mailbox) {
    return mailbox->fd;
}

bool mailbox_pending(const struct mailbox *mailbox) {
    return atomic_load_explicit(&mailbox->signaled, memory_order_relaxed);
}

/* False when there is none. One that is claimed but not yet written is left to the wake-up that follows it; after
 * closing it is waited for, because nobody will look again. */
static bool message_take(struct mailbox *mailbox, struct message *message) {
    struct cell *cell = cell_at(mailbox, mailbox->head);
    while (atomic_load_explicit(&cell->sequence, memory_order_acquire) != mailbox->head + 1) {
        uint64_t tail = atomic_load_explicit(&mailbox->tail, memory_order_acquire);
        if (!(tail & CLOSED) || (tail & ~CLOSED) == mailbox->head)
            return false;
        sched_yield();
    }
    *message = cell->message;
    atomic_store_explicit(&cell->sequence, mailbox->head + mailbox->size, memory_order_release);
    mailbox->head++;
    return true;
}

uint32_t mailbox_run(struct mailbox *mailbox) {
    uint64_t wakes;
    (void)!read(mailbox->fd, &wakes, sizeof wakes);
    atomic_exchange_explicit(&mailbox->signaled, false, memory_order_acq_rel);
    /* Once around is enough: what is behind that was posted after the flag was cleared, and has woken again. */
    uint32_t ran = 0;
    struct message message;
    while (ran < mailbox->size && message_take(mailbox, &message)) {
        message.run(message.arg, message.value);
        ran++;
    }
    return ran;
}

void mailbox_close(struct mailbox *mailbox) {
    atomic_fetch_or_explicit(&mailbox->tail, CLOSED, memory_order_acq_rel);
}
