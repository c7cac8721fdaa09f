#include "engine/limits.h"
#include "engine/sendq.h"
#include "tests/unit/engine_rig.h"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define IOV_MAX_USED 8u

/* The model: a queue is the bytes [taken, pushed) of one pattern. */
struct model {
    struct ring_pool rings;
    struct rxbuf rx;
    struct sendq queue;
    uint64_t pushed, taken, offered;
    struct iovec iov[IOV_MAX_USED];
    bool sending;
};

static void model_init(struct model *model) {
    *model = (struct model){0};
    ring_pool_init(&model->rings, 65536, 1);
    rxbuf_init(&model->rx, &model->rings);
    sendq_init(&model->queue);
}

static void model_deinit(struct model *model) {
    sendq_drop(&model->queue);
    cr_assert_null(rxbuf_oldest(&model->rx));
    rxbuf_deinit(&model->rx);
    ring_pool_deinit(&model->rings);
}

static bool push_slice(struct model *model, uint32_t len) {
    uint8_t *data;
    size_t space;
    if (rxbuf_space(&model->rx, len, &data, &space) < 0)
        return false;
    rig_fill(data, len, model->pushed);
    rxbuf_filled(&model->rx, len);
    struct slice *slice = rxbuf_hold(&model->rx, rxbuf_unparsed(&model->rx, &space), len);
    cr_assert_not_null(slice);
    rxbuf_parsed(&model->rx, len);
    sendq_push_slice(&model->queue, &model->rx, slice, model);
    model->pushed += len;
    return true;
}

static void push_copy(struct model *model, uint32_t len) {
    static uint8_t data[100000];
    rig_fill(data, len, model->pushed);
    cr_assert_eq(sendq_push_copy(&model->queue, data, len), 0);
    model->pushed += len;
}

static void begin(struct model *model) {
    unsigned n = sendq_begin(&model->queue, model->iov, IOV_MAX_USED, &model->offered);
    uint64_t position = model->taken;
    for (unsigned i = 0; i < n; i++) {
        cr_assert(model->iov[i].iov_len > 0);
        cr_assert(rig_matches(model->iov[i].iov_base, model->iov[i].iov_len, position));
        position += model->iov[i].iov_len;
    }
    cr_assert_eq(position, model->taken + model->offered);
    cr_assert(n == IOV_MAX_USED || position == model->pushed, "something was left out");
    model->sending = true;
}

/* What was offered must have stayed as it was, whatever happened meanwhile. */
static void end(struct model *model, uint64_t bytes) {
    uint64_t position = model->taken;
    for (unsigned i = 0; i < model->queue.in_send; i++) {
        cr_assert(rig_matches(model->iov[i].iov_base, model->iov[i].iov_len, position));
        position += model->iov[i].iov_len;
    }
    sendq_end(&model->queue, bytes);
    model->taken += bytes;
    model->sending = false;
}

static void spill(struct model *model) {
    int err = sendq_spill(&model->queue);
    if (!model->sending)
        cr_assert_eq(err, 0);
    if (err == 0) {
        cr_assert_null(rxbuf_oldest(&model->rx));
        cr_assert_eq(model->queue.copied_bytes, model->queue.bytes);
    } else {
        cr_assert_eq(err, ERR_AGAIN);
        cr_assert_not_null(rxbuf_oldest(&model->rx));
    }
}

static void check(const struct model *model) {
    cr_assert_eq(model->queue.bytes, model->pushed - model->taken);
    cr_assert_leq(model->queue.copied_bytes, model->queue.bytes);
    cr_assert_eq(sendq_empty(&model->queue), model->pushed == model->taken);
}

static uint64_t pick(uint64_t below) {
    return (uint64_t)rand() % below;
}

Test(sendq, random_operations_against_the_model) {
    for (unsigned seed = 1; seed <= 60; seed++) {
        struct model model;
        model_init(&model);
        srand(seed);
        for (unsigned i = 0; i < 3000; i++) {
            uint32_t len = 1 + (uint32_t)pick(pick(2) ? 30 : 9000);
            switch (pick(6)) {
            case 0:
            case 1:
                push_slice(&model, len);
                break;
            case 2:
                if (model.queue.bytes < 500000)
                    push_copy(&model, len);
                break;
            case 3:
                if (pick(4) == 0)
                    spill(&model);
                break;
            default:
                if (!model.sending && !sendq_empty(&model.queue))
                    begin(&model);
                else if (model.sending)
                    end(&model, pick(2) ? model.offered : pick(model.offered + 1));
                break;
            }
            check(&model);
        }
        if (model.sending)
            end(&model, 0);
        model_deinit(&model);
    }
}

Test(sendq, many_small_spills_share_chunks) {
    struct model model;
    model_init(&model);
    for (unsigned i = 0; i < 4000; i++) {
        push_slice(&model, 1);
        spill(&model);
    }
    cr_assert_eq(model.queue.count, 1, "%u chunks for 4000 bytes", model.queue.count);
    model_deinit(&model);
}

Test(sendq, one_spill_of_everything_takes_chunks_of_bounded_size) {
    struct model model;
    model_init(&model);
    for (unsigned i = 0; i < 60; i++)
        cr_assert(push_slice(&model, 1000));
    spill(&model);
    cr_assert_eq(model.queue.count, 1);
    for (unsigned i = 0; i < 65; i++)
        cr_assert(push_slice(&model, 1000));
    spill(&model);
    cr_assert_leq(model.queue.count, 3);
    begin(&model);
    for (unsigned i = 0; i < model.queue.in_send; i++)
        cr_assert_leq(model.iov[i].iov_len, LIMIT_SPILL_CHUNK_BYTES);
    end(&model, model.offered);
    model_deinit(&model);
}

static long resident_bytes(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    cr_assert_not_null(file);
    cr_assert_eq(fscanf(file, "%*d %ld", &pages), 1);
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

#define STALLED 500u
#define STALLED_BYTES 40000u

/* The small chunks between them would pin the heap. */
Test(sendq, the_memory_of_large_chunks_goes_back_at_once) {
    struct model large, small;
    model_init(&large);
    model_init(&small);
    push_copy(&large, STALLED_BYTES);
    long before = resident_bytes();
    for (unsigned i = 0; i < STALLED; i++) {
        push_copy(&large, STALLED_BYTES);
        push_copy(&small, 4000);
    }
    long full = resident_bytes();
    cr_assert_geq(full - before, (long)(STALLED * STALLED_BYTES));
    sendq_drop(&large.queue);
    cr_assert_leq(resident_bytes(), full - (long)(STALLED * STALLED_BYTES) * 9 / 10);
    model_deinit(&large);
    model_deinit(&small);
}

Test(sendq, a_half_sent_slice_spills_only_its_rest) {
    struct model model;
    model_init(&model);
    push_slice(&model, 1000);
    begin(&model);
    end(&model, 999);
    spill(&model);
    cr_assert_eq(model.queue.copied_bytes, 1);
    begin(&model);
    cr_assert_eq(model.offered, 1);
    end(&model, 1);
    cr_assert(sendq_empty(&model.queue));
    model_deinit(&model);
}

Test(sendq, dropping_what_is_being_sent_is_our_bug, .signal = SIGABRT) {
    struct model model;
    fclose(stderr);
    model_init(&model);
    push_copy(&model, 5);
    begin(&model);
    sendq_drop(&model.queue);
}
