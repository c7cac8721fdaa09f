#include "engine/splice_pool.h"
#include "engine/check.h"
#include "engine/limits.h"
#include "engine/listener.h"
#include "engine/log.h"
#include "engine/splice.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define RETRY_NS UINT64_C(1000000000)

/* A pipe is two descriptors; most of them are for connections. */
static uint32_t pipes_allowed(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / 16 >= LIMIT_SPLICE_PIPES_PER_SHARD)
        return LIMIT_SPLICE_PIPES_PER_SHARD;
    return (uint32_t)limit.rlim_cur / 16;
}

int splice_pool_create(struct shard *shard, uint32_t pipes_max, struct splice_pool **result) {
    struct splice_pool *pool = malloc(sizeof *pool);
    uint8_t *copy = malloc(LIMIT_SPLICE_COPY_BYTES);
    if (!pool || !copy) {
        free(pool);
        free(copy);
        return ERR_NOMEM;
    }
    *pool =
        (struct splice_pool){.shard = shard, .copy = copy, .pipes_max = pipes_max > 0 ? pipes_max : pipes_allowed()};
    list_init(&pool->stalled);
    pool->sweep.on_timer = splice_on_sweep;
    *result = pool;
    return 0;
}

static bool is_large(const struct splice_pipe *pipe) {
    return pipe->bytes > LIMIT_SPLICE_COPY_BYTES;
}

static void pipe_close(struct splice_pool *pool, struct splice_pipe *pipe) {
    close(pipe->read_fd);
    close(pipe->write_fd);
    pool->pipes_count--;
    pool->large_count -= is_large(pipe);
    free(pipe);
    listener_resume(pool->shard);
}

static struct splice_pipe *pop_free(struct splice_pool *pool) {
    struct splice_pipe *pipe = pool->free;
    if (pipe) {
        pool->free = pipe->next;
        pool->free_count--;
    }
    return pipe;
}

void splice_pool_destroy(struct splice_pool *pool) {
    CHECK(pool->relays_count == 0 && pool->free_count == pool->pipes_count);
    for (struct splice_pipe *pipe; (pipe = pop_free(pool));)
        pipe_close(pool, pipe);
    timer_cancel(&pool->shard->timers, &pool->sweep);
    free(pool->copy);
    free(pool);
}

/* Only a few are enlarged: they are the ones in steady use, and the user's pages are shared by all shards. */
static uint32_t pipe_size(const struct splice_pool *pool, int fd) {
    int size = -1;
    uint32_t wanted = pool->large_count < LIMIT_SPLICE_PIPES_LARGE ? LIMIT_SPLICE_PIPE_BYTES : 0;
    for (; size < 0 && wanted > LIMIT_SPLICE_COPY_BYTES; wanted /= 4) /* fs.pipe-max-size may be less */
        size = fcntl(fd, F_SETPIPE_SZ, (int)wanted);
    if (size < 0)
        size = fcntl(fd, F_GETPIPE_SZ);
    return size < 0 ? 0 : (uint32_t)size;
}

/* 0 or a negative enum err. */
static int pipe_open(struct splice_pool *pool, struct splice_pipe *opened) {
    int fds[2];
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0)
        return err_from_errno(errno);
    *opened = (struct splice_pipe){.read_fd = fds[0], .write_fd = fds[1], .bytes = pipe_size(pool, fds[0])};
    if (opened->bytes >= LIMIT_SPLICE_COPY_BYTES)
        return 0;
    close(fds[0]);
    close(fds[1]);
    return ERR_LIMIT;
}

static struct splice_pipe *pipe_create(struct splice_pool *pool) {
    struct splice_pipe *pipe = calloc(1, sizeof *pipe);
    int err = pipe ? pipe_open(pool, pipe) : ERR_NOMEM;
    if (err < 0) {
        log_verbose("shard %u: %u pipes for plain relays and no more: %s", pool->shard->index, pool->pipes_count,
                    err_text(err));
        pool->create_after_ns = shard_now(pool->shard) + RETRY_NS;
        free(pipe);
        return NULL;
    }
    pool->pipes_count++;
    pool->large_count += is_large(pipe);
    return pipe;
}

struct splice_pipe *splice_pipe_take(struct splice_pool *pool) {
    struct splice_pipe *pipe = pop_free(pool);
    if (pipe || pool->pipes_count >= pool->pipes_max || shard_now(pool->shard) < pool->create_after_ns)
        return pipe;
    return pipe_create(pool);
}

void splice_pipe_put(struct splice_pool *pool, struct splice_pipe *pipe, bool empty) {
    if (!empty || pool->free_count >= LIMIT_SPLICE_PIPES_SPARE)
        return pipe_close(pool, pipe);
    struct splice_pipe **at = &pool->free;
    while (*at && (*at)->bytes > pipe->bytes)
        at = &(*at)->next;
    pipe->next = *at;
    *at = pipe;
    pool->free_count++;
}
