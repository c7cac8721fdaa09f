#pragma once
/* What a connection has still to send: slices of a session's ring, where they were received, and private copies, in
 * one order. Pure memory, no descriptor. Owned by a conn; one thread.
 *
 *   first                                                    last
 *   [ slice |sent..|rest ] → [ chunk ] → [ slice ] → …        the first in_send segments belong to a send in flight */
#include "engine/rxbuf.h"
#include <sys/uio.h>

struct sendq {
    struct list segments; /* struct slice by node; holder: the conn for a ring slice, NULL for a private chunk */
    struct rxbuf *rx;     /* whose slices these are */
    uint64_t bytes, copied_bytes;
    uint32_t count, in_send, first_sent /* bytes of the first segment that are out */;
};

void sendq_init(struct sendq *queue);
static inline bool sendq_empty(const struct sendq *queue) {
    return list_empty(&queue->segments);
}
/* Takes over a held slice (released to rx when sent, spilled or dropped). All slices of a queue are of one rx. */
void sendq_push_slice(struct sendq *queue, struct rxbuf *rx, struct slice *slice, void *holder);
/* Queues a private copy. ERR_NOMEM: nothing queued. */
MUST_USE int sendq_push_copy(struct sendq *queue, const void *data, uint32_t len);
/* Fills at most iov_max entries from the front and notes them as being sent; *bytes is their sum. Returns how many. */
unsigned sendq_begin(struct sendq *queue, struct iovec *iov, unsigned iov_max, uint64_t *bytes);
/* The send is over and took `bytes` (≤ what begin said). */
void sendq_end(struct sendq *queue, uint64_t bytes);
/* Copies every ring slice aside and releases it. ERR_AGAIN: some are being sent; ERR_NOMEM: the rest stays as it was.
 */
MUST_USE int sendq_spill(struct sendq *queue);
void sendq_drop(struct sendq *queue); /* CHECKs that nothing is being sent */
