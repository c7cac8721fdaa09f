/* SSH connections to the server alone, by the same client for every server: whole jumps, and idle ones. */
#include "bench/round.h"
#include "bench/scenario_runs.h"
#include "bench/settle.h"
#include "bench/ssh_load.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define SESSIONS_READY_S 60.0
#define SMOKE_CLIENTS 4u

static uint32_t clients_of(const struct round *round, uint32_t clients) {
    return round->size == SIZE_SMOKE && clients > SMOKE_CLIENTS ? SMOKE_CLIENTS : clients;
}

/* `key_path` must live as long as the job. */
static bool ssh_job(struct round *round, struct ssh_load_job *job, char *key_path, size_t key_path_bytes) {
    char why[300];
    if (!world_keys(round->world, why, sizeof why))
        return round_fail(round, "keys: %s", why);
    snprintf(key_path, key_path_bytes, "%s/user_key", world_dir(round->world));
    *job = (struct ssh_load_job){.server = {.sin_family = AF_INET,
                                            .sin_addr = round->tunnel_options->server_address,
                                            .sin_port = htons(round->tunnel->server_port)},
                                 .target = round->target->address,
                                 .key = key_path,
                                 .cipher = round->cipher};
    return true;
}

static bool ssh_run(struct round *round, const struct ssh_load_job *job, struct load_result *result) {
    struct load *load = ssh_load_start(job, &round->load_place);
    if (load == NULL)
        return round_fail(round, "load: %s", strerror(errno));
    load_wait(load, result);
    return round_check(round, result);
}

/* Servers differ by more than ten in how many jumps a second takes, so a few tell first how many to do. They are the
 * warm-up as well. */
bool jumps_run(const struct scenario *scenario, struct round *round) {
    struct ssh_load_job job;
    struct load_result result;
    struct round_account account;
    char key_path[300];
    if (!ssh_job(round, &job, key_path, sizeof key_path))
        return false;
    job.clients = clients_of(round, scenario->at_once);
    job.jumps = job.clients;
    if (!ssh_run(round, &job, &result))
        return false;
    double per_second = (double)result.operations / result.measured_s;
    job.jumps = job.clients + (uint32_t)fmax(job.clients, per_second * round->seconds);
    job.warmup_jumps = job.clients;
    if (!round_account_open(round, &account) || !ssh_run(round, &job, &result))
        return false;
    struct round_work work = {"s/1000 operations", job.jumps / 1e3, (double)result.operations / 1e3};
    if (!round_account_close(round, &account, &result, &work))
        return false;
    round_value(round, "jumps", "1/s", RESULTS_HIGHER, true, (double)result.operations / result.measured_s);
    round_latencies(round, &result.latency);
    return true;
}

/* What the server has more of than before, for each connection. The kernel's buffers of the sockets are not in it. */
static void connection_values(struct round *round, const struct usage *before, const struct usage *after, double n) {
    round_value(round, "memory", "KiB", RESULTS_LOWER, true,
                ((double)after->rss_bytes - (double)before->rss_bytes) / 1024 / n);
    round_value(round, "processes", "each", RESULTS_INFORMATION, false,
                ((double)after->processes - (double)before->processes) / n);
    round_value(round, "descriptors", "each", RESULTS_INFORMATION, false,
                ((double)after->descriptors - (double)before->descriptors) / n);
}

static bool measure_held(struct round *round, const struct usage *before, uint32_t connections) {
    struct usage after;
    if (!settle_usage(round, round->tunnel->server.pid, &after))
        return round_fail(round, "the server has ended");
    connection_values(round, before, &after, connections);
    return true;
}

bool memory_connection_run(const struct scenario *scenario, struct round *round) {
    struct ssh_load_job job;
    struct load_result result;
    struct usage before;
    char key_path[300];
    if (!ssh_job(round, &job, key_path, sizeof key_path))
        return false;
    job.clients = clients_of(round, scenario->flows);
    if (!settle_usage(round, round->tunnel->server.pid, &before))
        return round_fail(round, "the server has ended");
    struct load *load = ssh_load_start(&job, &round->load_place);
    if (load == NULL)
        return round_fail(round, "load: %s", strerror(errno));
    bool ready = load_ready(load, SESSIONS_READY_S);
    bool measured = ready && measure_held(round, &before, job.clients);
    bool finished = round_finish(round, load, ready && !measured, &result);
    if (finished && !ready)
        return round_fail(round, "the connections were not there in time");
    return finished && measured;
}
