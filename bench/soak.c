#include "bench/soak.h"
#include "bench/load_process.h"
#include "bench/round.h"
#include "bench/soak_load.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LOOK_S 0.01

struct soak {
    struct load *load;
    struct soak_shared *shared;
    uint32_t orders;
};

/* What goes into the new process. */
struct soak_start {
    const struct soak_job *job;
    struct soak_shared *shared;
};

static void run(const void *job, const struct place *place, struct load_shared *shared, int channel) {
    const struct soak_start *start = job;
    soak_load_main(start->job, place, start->shared, channel);
    shared->result.ok = start->shared->why[0] == '\0';
    shared->is_complete = true;
}

static void soak_free(struct soak *soak) {
    if (soak->shared != NULL)
        munmap(soak->shared, sizeof(*soak->shared));
    free(soak);
}

struct soak *soak_start(const struct soak_job *job, const struct place *place) {
    struct soak *soak = calloc(1, sizeof(*soak));
    if (soak == NULL)
        return NULL;
    void *map = mmap(NULL, sizeof(*soak->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    soak->shared = map != MAP_FAILED ? map : NULL;
    if (soak->shared != NULL)
        soak->load = load_begin(run, &(struct soak_start){.job = job, .shared = soak->shared}, place);
    if (soak->load != NULL)
        return soak;
    int error = errno;
    soak_free(soak);
    errno = error;
    return NULL;
}

bool soak_runs(const struct soak *soak) {
    uint64_t bytes;
    return !atomic_load(&soak->shared->has_ended) && load_look(soak->load, &bytes);
}

bool soak_order(struct soak *soak, enum soak_order order, double timeout_s) {
    uint32_t told = (++soak->orders << 8) | order;
    double end_s = round_now_s() + timeout_s;
    atomic_store(&soak->shared->order, told);
    while (atomic_load(&soak->shared->obeyed) != told) {
        if (round_now_s() > end_s || world_interrupted() || !soak_runs(soak))
            return false;
        round_sleep(LOOK_S);
    }
    return true;
}

bool soak_wait_empty(struct soak *soak, double timeout_s) {
    double end_s = round_now_s() + timeout_s;
    while (atomic_load(&soak->shared->open) > 0) {
        if (round_now_s() > end_s || world_interrupted() || !soak_runs(soak))
            return false;
        round_sleep(LOOK_S);
    }
    return true;
}

void soak_look(const struct soak *soak, struct soak_counts *counts) {
    const struct soak_shared *shared = soak->shared;
    *counts = (struct soak_counts){.flows = shared->flows,
                                   .bytes = shared->bytes,
                                   .stalls = shared->stalls,
                                   .resets = shared->resets,
                                   .held = shared->held,
                                   .lost = shared->lost,
                                   .longest_stall_ns = shared->longest_stall_ns,
                                   .open = shared->open,
                                   .open_peak = shared->open_peak};
}

void soak_finish(struct soak *soak, struct load_result *result) {
    load_stop(soak->load);
    load_wait(soak->load, result);
    if (soak->shared->why[0] != '\0')
        snprintf(result->why, sizeof(result->why), "%s", soak->shared->why);
    soak_free(soak);
}
