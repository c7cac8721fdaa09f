#pragma once
/* A bounded queue of messages from any thread to one shard, with a wake-up descriptor. The only road between threads.
 */
#include "engine/error.h"
#include <stdbool.h>
#include <stdint.h>

struct message {
    void (*run)(void *arg, int64_t value); /* runs on the receiving shard's thread */
    void *arg;
    int64_t value; /* often a descriptor, whose ownership goes along */
};
struct mailbox;

MUST_USE int mailbox_create(uint32_t size, struct mailbox **mailbox); /* size: power of two, 2 or more */
/* Waits for posts that are on their way out; CHECKs that no message is left. */
void mailbox_destroy(struct mailbox *mailbox);
/* Any thread. ERR_FULL: nothing was taken over; ERR_CLOSED after mailbox_close(). */
MUST_USE int mailbox_post(struct mailbox *mailbox, struct message message);
/* Readable (POLLIN) while there may be messages; the receiver's thread polls it and calls mailbox_run. */
int mailbox_fd(const struct mailbox *mailbox);
/* Receiver only: true while messages may be waiting; costs one load. */
bool mailbox_pending(const struct mailbox *mailbox);
/* Any thread: makes the descriptor readable without a message. */
void mailbox_wake(struct mailbox *mailbox);
/* Receiver only: runs what is there, at most once around; returns how many. */
uint32_t mailbox_run(struct mailbox *mailbox);
/* Receiver only: nothing is taken over from now on; run mailbox_run once more for what came before. */
void mailbox_close(struct mailbox *mailbox);
