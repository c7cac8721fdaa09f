/* What a forwarded connection costs that has nothing to say: resident memory of client and server, shared pages counted
 * once, divided by the flows. The kernel's buffers of the sockets are not in it. The tunnel is fresh: memory that an
 * earlier load has left behind would be used again and not be seen. */
#include "bench/round.h"
#include "bench/scenario_runs.h"
#include "bench/settle.h"

struct memory {
    struct usage client, server;
};

static bool memory_look(struct round *round, struct memory *memory) {
    return (settle_usage(round, round->tunnel->server.pid, &memory->server) ||
            round_fail(round, "the server has ended")) &&
           (usage_of(round->tunnel->client.pid, true, &memory->client) || round_fail(round, "the client has ended"));
}

static double memory_grown(const struct usage *before, const struct usage *after, double n) {
    return ((double)after->rss_bytes - (double)before->rss_bytes) / 1024 / n;
}

static void memory_values(struct round *round, const struct memory *before, const struct memory *after, double n) {
    double client = memory_grown(&before->client, &after->client, n);
    double server = memory_grown(&before->server, &after->server, n);
    round_value(round, "memory", "KiB", RESULTS_LOWER, true, client + server);
    round_value(round, "client-memory", "KiB", RESULTS_LOWER, false, client);
    round_value(round, "server-memory", "KiB", RESULTS_LOWER, false, server);
}

bool memory_flow_run(const struct scenario *scenario, struct round *round) {
    struct load_job hold = round_job(scenario, round, LOAD_HOLD);
    struct load_result held;
    struct memory before, after;
    hold.flows = scenario_idle_flows(scenario, round->size);
    hold.measure_s = 0;
    hold.patience_ms = ROUND_IDLE_PATIENCE_MS;
    if (!memory_look(round, &before))
        return false;
    struct load *load = round_begin(round, &hold);
    if (load == NULL)
        return false;
    bool measured = memory_look(round, &after);
    if (!round_finish(round, load, !measured, &held) || !measured)
        return false;
    memory_values(round, &before, &after, hold.flows);
    return true;
}
