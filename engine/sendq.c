#include "engine/sendq.h"
#include "engine/check.h"
#include "engine/limits.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A private copy of outgoing bytes. It queues like a slice of a ring; its holder is NULL. */
struct chunk {
    struct slice slice;
    uint32_t capacity, mapped; /* mapped: all its memory in bytes; 0: it is the heap's */
    uint8_t bytes[];
};

/* Small spills of a slow reader's connection share a chunk instead of taking one each. */
#define CHUNK_MIN_BYTES 4096u
/* From this size on a chunk is a mapping of its own. Thousands of readers that stop leave the heap's tables as long as
 * they ever had to be, and its pages where others still have some; a mapping leaves nothing. */
#define CHUNK_MAPPED_BYTES 16384u

static struct slice *segment_of(struct list *node) {
    return list_entry(node, struct slice, node);
}

/* With too many mappings (vm.max_map_count) the kernel may refuse to make a hole in one; the memory goes back all the
 * same, only the addresses don't. */
static void chunk_free(struct chunk *chunk) {
    size_t mapped = chunk->mapped;
    if (mapped == 0)
        free(chunk);
    else if (munmap(chunk, mapped) != 0)
        (void)madvise(chunk, mapped, MADV_DONTNEED);
}

static void sendq_remove(struct sendq *queue, struct slice *segment) {
    list_remove(&segment->node);
    queue->count--;
    if (segment->holder)
        rxbuf_release(queue->rx, segment);
    else
        chunk_free(list_entry(segment, struct chunk, slice));
}

static struct chunk *chunk_map(uint32_t capacity) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), mapped = (sizeof(struct chunk) + capacity + page - 1) / page * page;
    struct chunk *chunk = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk == MAP_FAILED)
        return NULL;
    /* Plaintext stays out of core files; not vital, so a refusal is ignored. */
    (void)madvise(chunk, mapped, MADV_DONTDUMP);
    *chunk = (struct chunk){.capacity = (uint32_t)(mapped - sizeof *chunk), .mapped = (uint32_t)mapped};
    return chunk;
}

static struct chunk *chunk_create(uint32_t capacity) {
    if (capacity < CHUNK_MIN_BYTES)
        capacity = CHUNK_MIN_BYTES;
    struct chunk *chunk = capacity >= CHUNK_MAPPED_BYTES ? chunk_map(capacity) : NULL;
    if (!chunk && (chunk = malloc(sizeof *chunk + capacity)) != NULL)
        *chunk = (struct chunk){.capacity = capacity};
    if (chunk)
        chunk->slice.data = chunk->bytes;
    return chunk;
}

/* The chunk before `node` when it has room for `len` more bytes. Bytes may even be added to a chunk that is being sent:
 * they lie behind those that the send knows of. */
static struct chunk *chunk_before(struct sendq *queue, struct list *node, uint32_t len) {
    if (node->prev == &queue->segments)
        return NULL;
    struct slice *slice = segment_of(node->prev);
    if (slice->holder)
        return NULL;
    struct chunk *chunk = list_entry(slice, struct chunk, slice);
    return chunk->capacity - slice->len >= len ? chunk : NULL;
}

static void chunk_append(struct sendq *queue, struct chunk *chunk, const void *data, uint32_t len) {
    memcpy(chunk->bytes + chunk->slice.len, data, len);
    chunk->slice.len += len;
    queue->copied_bytes += len;
}

void sendq_init(struct sendq *queue) {
    *queue = (struct sendq){0};
    list_init(&queue->segments);
}

void sendq_push_slice(struct sendq *queue, struct rxbuf *rx, struct slice *slice, void *holder) {
    CHECK(slice->len > 0 && holder != NULL);
    CHECK(queue->rx == NULL || queue->rx == rx);
    queue->rx = rx;
    slice->holder = holder;
    list_push_back(&queue->segments, &slice->node);
    queue->count++;
    queue->bytes += slice->len;
}

int sendq_push_copy(struct sendq *queue, const void *data, uint32_t len) {
    if (len == 0)
        return 0;
    struct chunk *chunk = chunk_before(queue, &queue->segments, len);
    if (!chunk) {
        chunk = chunk_create(len);
        if (!chunk)
            return ERR_NOMEM;
        list_push_back(&queue->segments, &chunk->slice.node);
        queue->count++;
    }
    chunk_append(queue, chunk, data, len);
    queue->bytes += len;
    return 0;
}

unsigned sendq_begin(struct sendq *queue, struct iovec *iov, unsigned iov_max, uint64_t *bytes) {
    CHECK(queue->in_send == 0);
    uint32_t skip = queue->first_sent;
    unsigned n = 0;
    *bytes = 0;
    list_for_each (node, &queue->segments) {
        if (n == iov_max)
            break;
        const struct slice *segment = segment_of(node);
        iov[n++] = (struct iovec){.iov_base = segment->data + skip, .iov_len = segment->len - skip};
        *bytes += segment->len - skip;
        skip = 0;
    }
    queue->in_send = n;
    return n;
}

void sendq_end(struct sendq *queue, uint64_t bytes) {
    queue->in_send = 0;
    queue->bytes -= bytes;
    while (bytes > 0) {
        struct slice *first = segment_of(queue->segments.next);
        uint32_t rest = first->len - queue->first_sent;
        uint32_t out = rest < bytes ? rest : (uint32_t)bytes;
        if (!first->holder)
            queue->copied_bytes -= out;
        bytes -= out;
        queue->first_sent += out;
        if (out < rest)
            return;
        queue->first_sent = 0;
        sendq_remove(queue, first);
    }
}

/* Copies one ring slice into the chunk before it, or into a new one in its place with room for what comes next. */
static int sendq_spill_one(struct sendq *queue, struct slice *slice) {
    bool first = &slice->node == queue->segments.next;
    uint32_t skip = first ? queue->first_sent : 0, len = slice->len - skip;
    struct chunk *chunk = chunk_before(queue, &slice->node, len);
    if (!chunk) {
        uint64_t capacity = queue->bytes - queue->copied_bytes;
        if (capacity > LIMIT_SPILL_CHUNK_BYTES)
            capacity = LIMIT_SPILL_CHUNK_BYTES;
        chunk = chunk_create(capacity < len ? len : (uint32_t)capacity);
        if (!chunk)
            return ERR_NOMEM;
        list_push_back(&slice->node, &chunk->slice.node);
        queue->count++;
    }
    chunk_append(queue, chunk, slice->data + skip, len);
    if (first)
        queue->first_sent = 0;
    sendq_remove(queue, slice);
    return 0;
}

int sendq_spill(struct sendq *queue) {
    uint32_t being_sent = queue->in_send;
    bool busy = false;
    list_for_each_safe (node, after, &queue->segments) {
        struct slice *segment = segment_of(node);
        if (being_sent > 0) {
            being_sent--;
            busy |= segment->holder != NULL;
            continue;
        }
        if (segment->holder && sendq_spill_one(queue, segment) < 0)
            return ERR_NOMEM;
    }
    return busy ? ERR_AGAIN : 0;
}

void sendq_drop(struct sendq *queue) {
    CHECK(queue->in_send == 0);
    while (!sendq_empty(queue))
        sendq_remove(queue, segment_of(queue->segments.next));
    queue->bytes = queue->copied_bytes = 0;
    queue->first_sent = 0;
}
