#pragma once
/* Blocking work off the shards: a few threads run jobs (name resolution, user and key look-ups) and post the answers to
 * the asking shard's mailbox. Process-wide; bounded queue.
 *
 *   shard: offload_submit ─► queue ─► thread: work ─► mailbox ─► shard: done
 *                                            └─ abandoned meanwhile ─► thread: release */
#include "engine/shard.h"

struct offload_job {
    void (*work)(struct offload_job *job);    /* on a thread; may block */
    void (*done)(struct offload_job *job);    /* on the shard's thread; the job is the owner's again */
    void (*release)(struct offload_job *job); /* instead of done after offload_abandon; on any thread: frees the job */
    bool remote; /* waits for other machines: such jobs leave some of the threads to the others, and queue apart */
    /* private */
    struct shard *shard; /* NULL: abandoned */
    struct list node;
    uint8_t state;
};

MUST_USE int offload_start(void); /* before shards use it; starts its threads on first need */
/* A thread is inside a job, which cannot be interrupted: offload_stop would wait for it. */
bool offload_busy(void);
void offload_stop(void); /* joins its threads; all jobs must be done or abandoned */

/* Shard's thread. The job, its function pointers set, belongs to the threads until done or release. ERR_LIMIT: the
 * queue is full; ERR_NOMEM: no thread could be made; nothing was taken over then. done never comes from within this
 * call. */
MUST_USE int offload_submit(struct offload_job *job, struct shard *shard);
/* The answer is not wanted any more: done will not come, release will (perhaps from within this call). Shard's thread,
 * before done. */
void offload_abandon(struct offload_job *job);
