/* Who used which processor time while a job ran. */
#include "bench/round.h"
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#define LOAD_BUSY_MAX 0.9   /* of the load's one thread */
#define TARGET_BUSY_MAX 0.9 /* of the target's threads */
#define STOLEN_MAX 0.05     /* of all processors, taken by the hypervisor */
#define OTHERS_MAX 0.2      /* of all processors, used by what is not ours */
#define NOISE_ELAPSED_S 0.3 /* shorter ones are too few clock ticks to judge */
#define MEGABYTE 1e6

static bool look(struct round *round, struct round_account *account) {
    const struct tunnel *tunnel = round->tunnel;
    if (!usage_of(tunnel->client.pid, false, &account->client))
        return round_fail(round, "the client has ended");
    if (!usage_of(tunnel->server.pid, false, &account->server))
        return round_fail(round, "the server has ended");
    if (!usage_of(round->target != NULL ? round->target->pid : 0, false, &account->target))
        return round_fail(round, "the target has ended");
    usage_of(getpid(), false, &account->everything);
    machine_time_now(&account->machine);
    account->began_s = round_now_s();
    return true;
}

bool round_account_open(struct round *round, struct round_account *account) {
    return look(round, account);
}

static double cpu_s(const struct usage *usage) {
    return usage->user_s + usage->system_s;
}

/* One side's time for a unit of work. */
struct cost {
    const char *who;
    enum results_better better;
    double user, system, peak_rss_bytes;
};

static void record_cost(struct round *round, const char *unit, const struct cost *cost) {
    char name[48];
    snprintf(name, sizeof name, "%s-cpu", cost->who);
    round_value(round, name, unit, cost->better, false, cost->user + cost->system);
    snprintf(name, sizeof name, "%s-cpu-user", cost->who);
    round_value(round, name, unit, RESULTS_INFORMATION, false, cost->user);
    snprintf(name, sizeof name, "%s-cpu-system", cost->who);
    round_value(round, name, unit, RESULTS_INFORMATION, false, cost->system);
    snprintf(name, sizeof name, "%s-peak-rss", cost->who);
    round_value(round, name, "MB", RESULTS_INFORMATION, false, cost->peak_rss_bytes / MEGABYTE);
}

static struct cost side_cost(const char *who, const struct usage *spent, double work) {
    return (struct cost){who, RESULTS_LOWER, spent->user_s / work, spent->system_s / work,
                         (double)spent->peak_rss_bytes};
}

static void record_costs(struct round *round, const struct round_account *spent, const struct load_result *result,
                         const struct round_work *work) {
    const struct tunnel *tunnel = round->tunnel;
    struct cost client = side_cost("client", &spent->client, work->whole);
    struct cost server = side_cost("server", &spent->server, work->whole);
    struct cost load = {.who = "load",
                        .better = RESULTS_INFORMATION,
                        .user = result->cpu_user_s / work->measured + spent->target.user_s / work->whole,
                        .system = result->cpu_system_s / work->measured + spent->target.system_s / work->whole,
                        .peak_rss_bytes = (double)(result->peak_rss_bytes + spent->target.peak_rss_bytes)};
    if (tunnel->client.pid != 0)
        record_cost(round, work->unit, &client);
    if (tunnel->server.pid != 0)
        record_cost(round, work->unit, &server);
    record_cost(round, work->unit, &load);
    if (tunnel->client.pid != 0 || tunnel->server.pid != 0)
        round_value(round, "cpu", work->unit, RESULTS_LOWER, true,
                    (cpu_s(&spent->client) + cpu_s(&spent->server)) / work->whole);
}

/* Through no tunnel at all the load is what is measured, and nothing to warn of. */
static void warn_of_load(struct round *round, const struct round_account *spent, const struct load_result *result,
                         double elapsed_s) {
    if (round->tunnel->is_reached_directly)
        return;
    if (result->busy > LOAD_BUSY_MAX)
        round_warn(round, "the load was the bottleneck: its thread was busy all the time");
    if (spent->target.threads > 0 && cpu_s(&spent->target) > TARGET_BUSY_MAX * spent->target.threads * elapsed_s)
        round_warn(round, "the load's target was the bottleneck: it was busy all the time");
}

static void warn_of_noise(struct round *round, const struct round_account *spent, double elapsed_s) {
    double all_s = elapsed_s * (double)sysconf(_SC_NPROCESSORS_ONLN);
    if (elapsed_s < NOISE_ELAPSED_S)
        return;
    if (spent->machine.stolen_s > STOLEN_MAX * all_s)
        round_warn(round, "noisy: the hypervisor took more than a twentieth of the machine away");
    if (spent->machine.busy_s - cpu_s(&spent->everything) > OTHERS_MAX * all_s)
        round_warn(round, "noisy: others used more than a fifth of the machine");
}

bool round_account_close(struct round *round, const struct round_account *account, const struct load_result *result,
                         const struct round_work *work) {
    struct round_account now, spent = {.began_s = 0};
    if (!look(round, &now))
        return false;
    if (!(work->whole > 0) || !(work->measured > 0))
        return round_fail(round, "nothing came through");
    usage_since(&account->client, &now.client, &spent.client);
    usage_since(&account->server, &now.server, &spent.server);
    usage_since(&account->target, &now.target, &spent.target);
    usage_since(&account->everything, &now.everything, &spent.everything);
    spent.machine.busy_s = now.machine.busy_s - account->machine.busy_s;
    spent.machine.stolen_s = now.machine.stolen_s - account->machine.stolen_s;
    double elapsed_s = now.began_s - account->began_s;
    record_costs(round, &spent, result, work);
    warn_of_load(round, &spent, result, elapsed_s);
    warn_of_noise(round, &spent, elapsed_s);
    return true;
}
