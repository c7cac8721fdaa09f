/* The pipes of plain relays: few, lent for as long as bytes are in them, and done without where there are none. */
#include "splice_rig.h"

#define FEW 3u

RIG_TEST(splice_pool, pipes_are_lent_up_to_the_maximum) {
    struct splice_pipe *pipes[FEW];
    world_init(backend, FEW);
    for (unsigned i = 0; i < FEW; i++) {
        pipes[i] = splice_pipe_take(pool);
        cr_assert(pipes[i] && pipes[i]->bytes >= LIMIT_SPLICE_COPY_BYTES);
    }
    cr_assert_null(splice_pipe_take(pool));
    splice_pipe_put(pool, pipes[1], true);
    cr_assert_eq(splice_pipe_take(pool), pipes[1]);
    splice_pipe_put(pool, pipes[0], false);
    cr_assert_eq(pool->pipes_count, FEW - 1, "one with bytes in it is closed");
    cr_assert_not_null(pipes[0] = splice_pipe_take(pool), "and makes room for a new one");
    for (unsigned i = 0; i < FEW; i++)
        splice_pipe_put(pool, pipes[i], true);
    world_deinit();
}

RIG_TEST(splice_pool, a_few_are_large_and_come_first_and_few_are_kept) {
    enum { MANY = LIMIT_SPLICE_PIPES_LARGE + LIMIT_SPLICE_PIPES_SPARE + 1 };
    struct splice_pipe *pipes[MANY];
    uint32_t large = 0;
    world_init(backend, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        pipes[i] = splice_pipe_take(pool);
        large += pipes[i]->bytes > LIMIT_SPLICE_COPY_BYTES;
    }
    cr_assert_leq(large, LIMIT_SPLICE_PIPES_LARGE);
    cr_assert_eq(large, pool->large_count);
    struct splice_pipe *smallest = pipes[MANY - 1], *largest = pipes[0];
    splice_pipe_put(pool, smallest, true);
    splice_pipe_put(pool, largest, true);
    cr_assert_eq(splice_pipe_take(pool), largest);
    splice_pipe_put(pool, largest, true);
    for (unsigned i = 1; i + 1 < MANY; i++)
        splice_pipe_put(pool, pipes[i], true);
    cr_assert_eq(pool->pipes_count, LIMIT_SPLICE_PIPES_SPARE);
    world_deinit();
}

/* Everybody sends and reads; bytes each way. */
static void converse(struct line *lines, unsigned count, uint64_t bytes) {
    uint64_t end_ns = io_clock_ns() + 3 * RIG_TIMEOUT_NS;
    for (unsigned done = 0; done < count;) {
        done = 0;
        for (unsigned i = 0; i < count; i++) {
            for (unsigned k = 0; k < 2; k++) {
                struct app *app = &lines[i].apps[k];
                app_send(app, bytes - app->sent);
                app_recv(app, UINT64_MAX);
            }
            done += lines[i].apps[0].received == bytes && lines[i].apps[1].received == bytes;
        }
        rig_turn(&shard, RIG_MS);
        cr_assert_lt(io_clock_ns(), end_ns);
    }
}

static void raise_descriptors(unsigned wanted) {
    rig_unlimit_descriptors();
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < wanted)
        cr_skip("too few descriptors are allowed");
}

/* All pipes are with readers that do not read; nobody else has to wait for that. */
RIG_TEST(splice_pool, two_thousand_relays_and_three_pipes) {
    enum { LINES = 2000 };
    static struct line lines[LINES];
    raise_descriptors(4 * LINES + 100);
    world_init(backend, FEW);
    for (unsigned i = 0; i < LINES; i++)
        line_init(&lines[i], 0);
    uint64_t end_ns = io_clock_ns() + RIG_TIMEOUT_NS;
    while (pool->pipes_count - pool->free_count < FEW) {
        for (unsigned i = 0; i < FEW; i++)
            app_send(&lines[i].apps[0], UINT64_MAX);
        rig_turn(&shard, RIG_MS);
        cr_assert_lt(io_clock_ns(), end_ns);
    }
    converse(lines + FEW, LINES - FEW, 20000);
    cr_assert_eq(pool->pipes_count, FEW);
    for (unsigned i = 0; i < FEW; i++)
        RIG_UNTIL(&shard, app_drained(&lines[i].apps[1])->received == lines[i].apps[0].sent);
    for (unsigned i = 0; i < LINES; i++)
        line_deinit(&lines[i]);
    world_deinit();
}

/* A copying relay stalls, ends and resets like any other. */
static void copy_everything(void) {
    struct line line;
    line_init(&line, 0);
    struct app *a = &line.apps[0], *b = &line.apps[1];
    for (unsigned quiet = 0; quiet < 10; quiet++) {
        if (app_send(a, UINT64_MAX) > 0)
            quiet = 0;
        rig_turn(&shard, RIG_MS);
    }
    cr_assert_leq(turns_while_quiet(500 * RIG_MS), QUIET_TURNS);
    app_end(a);
    RIG_UNTIL(&shard, app_drained(b)->eof);
    cr_assert_eq(b->received, a->sent);
    app_send(b, 200000);
    app_end(b);
    RIG_UNTIL(&shard, app_drained(a)->eof);
    cr_assert_eq(a->received, b->sent);
    RIG_UNTIL(&shard, line.ends == 1);
    cr_assert_str_eq(line.what, "");
    line_deinit(&line);

    line_init(&line, 0);
    app_send(a, 1000);
    app_reset(a);
    RIG_UNTIL(&shard, line.ends == 1);
    cr_assert_neq(line.what[0], 0);
    line_deinit(&line);
}

RIG_TEST(splice_pool, without_any_pipe) {
    world_init(backend, FEW);
    struct splice_pipe *pipes[FEW];
    for (unsigned i = 0; i < FEW; i++)
        pipes[i] = splice_pipe_take(pool);
    copy_everything();
    for (unsigned i = 0; i < FEW; i++)
        splice_pipe_put(pool, pipes[i], true);
    world_deinit();
}

/* No descriptors for pipes: copied meanwhile, and asked again later. */
RIG_TEST(splice_pool, without_descriptors) {
    struct line line;
    world_init(backend, FEW);
    line_init(&line, 0);
    int next = dup(0);
    close(next);
    rig_limit_descriptors(next);
    converse(&line, 1, 300000);
    cr_assert_eq(pool->pipes_count, 0);
    cr_assert_gt(pool->create_after_ns, shard_now(&shard));
    rig_unlimit_descriptors();
    converse(&line, 1, 600000);
    cr_assert_eq(pool->pipes_count, 0, "not asked with every byte");
    RIG_UNTIL(&shard, shard_now(&shard) >= pool->create_after_ns);
    converse(&line, 1, 900000);
    cr_assert_geq(pool->pipes_count, 1);
    line_deinit(&line);
    world_deinit();
}

/* An ordinary user beyond fs.pipe-user-pages-soft: the kernel gives only tiny pipes, which are worse than none. */
static void use_up_pages(void) {
    for (unsigned i = 0; i < 2000; i++) {
        int fds[2];
        cr_assert_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
        if (fcntl(fds[0], F_GETPIPE_SZ) < (int)LIMIT_SPLICE_COPY_BYTES)
            return;
        (void)fcntl(fds[0], F_SETPIPE_SZ, 1 << 20);
    }
    cr_skip("there is no limit for pipes here");
}
RIG_TEST(splice_pool, beyond_the_pages_of_an_ordinary_user) {
    if (geteuid() != 0)
        cr_skip("needs a user of its own, whose pipes are nobody else's");
    raise_descriptors(4200);
    world_init(backend, FEW);
    cr_assert_eq(setresuid(54321, 54321, 54321), 0);
    use_up_pages();
    cr_assert_null(splice_pipe_take(pool));
    cr_assert_eq(pool->pipes_count, 0);
    copy_everything();
    world_deinit();
}
