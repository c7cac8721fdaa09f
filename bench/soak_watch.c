#include "bench/soak_watch.h"
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define STEP_S 0.2
#define REST_LOOKS 4u /* as many that say the same are rest */
#define REST_MAX_S 20.0
#define BACK_MAX_S 40.0

/* Memory that is back: a fifth more, or what an allocator and lazily touched pages take in a small process. */
#define MEMORY_FACTOR 1.2
#define MEMORY_SPARE (4u << 20)

/* No process takes so much by itself; the shadow of a sanitizer does. */
#define SANITIZED_KIB (UINT64_C(4) << 30)

#define ANSWER_S 10.0

static const char *const names[] = {"client", "server"};

static const struct process *process_of(const struct soak_watch *watch, unsigned who) {
    const struct tunnel *tunnel = watch->round->tunnel;
    return who == 0 ? &tunnel->client : &tunnel->server;
}

static bool look(const struct soak_watch *watch, bool with_memory, struct usage usage[2]) {
    for (unsigned who = 0; who < 2; who++)
        if (!usage_of(process_of(watch, who)->pid, with_memory, &usage[who]))
            return round_fail(watch->round, "the %s has ended", names[who]);
    return true;
}

static bool same_counts(const struct usage *a, const struct usage *b) {
    return a->processes == b->processes && a->threads == b->threads && a->descriptors == b->descriptors;
}

static bool is_sanitized(pid_t pid) {
    char path[64], line[256];
    uint64_t kib = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *file = pid > 0 ? fopen(path, "re") : NULL;
    while (file != NULL && fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "VmSize: %" SCNu64, &kib) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return kib > SANITIZED_KIB;
}

/* What the kernel calls it: "leat", "leatd". */
static bool is_called(pid_t pid, const char *wanted) {
    char path[64], name[32] = "";
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    FILE *file = pid > 0 ? fopen(path, "re") : NULL;
    bool read = file != NULL && fgets(name, sizeof(name), file) != NULL;
    if (file != NULL)
        fclose(file);
    name[strcspn(name, "\n")] = '\0';
    return read && strcmp(name, wanted) == 0;
}

/* One with a sanitizer keeps what it frees. */
static void judge_memory(struct soak_watch *watch) {
    for (unsigned who = 0; who < 2; who++) {
        pid_t pid = process_of(watch, who)->pid;
        bool is_ours = is_called(pid, who == 0 ? "leat" : "leatd"), sanitized = is_sanitized(pid);
        watch->judges_memory[who] = is_ours && !sanitized;
        if (is_ours && sanitized)
            round_warn(watch->round, "memory of the %s is not judged: a sanitizer keeps what is freed", names[who]);
    }
}

bool soak_watch_begin(struct soak_watch *watch, struct round *round) {
    struct usage now[2];
    unsigned same = 0;
    *watch = (struct soak_watch){.round = round, .back_max_s = BACK_MAX_S};
    for (double end_s = round_now_s() + REST_MAX_S; same < REST_LOOKS && round_now_s() < end_s;) {
        if (world_interrupted() || !look(watch, true, now))
            return false;
        bool is_same = same_counts(&now[0], &watch->start[0]) && same_counts(&now[1], &watch->start[1]);
        same = is_same ? same + 1 : 1;
        memcpy(watch->start, now, sizeof(now));
        round_sleep(STEP_S);
    }
    memcpy(watch->peak, watch->start, sizeof(watch->peak));
    memcpy(watch->end, watch->start, sizeof(watch->end));
    judge_memory(watch);
    return same >= REST_LOOKS || round_fail(round, "the tunnel does not come to rest after its start");
}

static void raise_peak(struct usage *peak, const struct usage *now) {
    if (peak->rss_bytes < now->rss_bytes)
        peak->rss_bytes = now->rss_bytes;
    if (peak->descriptors < now->descriptors)
        peak->descriptors = now->descriptors;
    if (peak->threads < now->threads)
        peak->threads = now->threads;
}

void soak_watch_sample(struct soak_watch *watch) {
    struct usage now;
    for (unsigned who = 0; who < 2; who++)
        if (usage_of(process_of(watch, who)->pid, true, &now))
            raise_peak(&watch->peak[who], &now);
}

static double memory_max(const struct usage *start) {
    double factor = MEMORY_FACTOR * (double)start->rss_bytes, spare = (double)start->rss_bytes + MEMORY_SPARE;
    return factor > spare ? factor : spare;
}

static bool is_back(const struct soak_watch *watch, unsigned who) {
    const struct usage *start = &watch->start[who], *end = &watch->end[who];
    bool has_memory = !watch->judges_memory[who] || (double)end->rss_bytes <= memory_max(start);
    return has_memory && same_counts(start, end);
}

static bool fail_left(const struct soak_watch *watch, unsigned who, const char *when) {
    const struct usage *start = &watch->start[who], *end = &watch->end[who];
    return round_fail(watch->round,
                      "%s the %s is not as it was after %g s: %u descriptors instead of %u, %u threads instead of %u, "
                      "%u processes instead of %u, %.1f MiB instead of %.1f",
                      when, names[who], watch->back_max_s, end->descriptors, start->descriptors, end->threads,
                      start->threads, end->processes, start->processes, (double)end->rss_bytes / (1 << 20),
                      (double)start->rss_bytes / (1 << 20));
}

bool soak_watch_settle(struct soak_watch *watch, const char *when) {
    double end_s = round_now_s() + watch->back_max_s;
    for (;;) {
        if (world_interrupted() || !look(watch, true, watch->end))
            return false;
        bool client = is_back(watch, 0), server = is_back(watch, 1);
        if (client && server)
            return true;
        if (round_now_s() > end_s)
            return fail_left(watch, client ? 1 : 0, when);
        round_sleep(STEP_S);
    }
}

/* ---- what leat says ---- */

struct answer {
    unsigned lines;
    uint64_t forwarded, rekeys;
};

/* Of the lines "connection N to HOST: shard N, N connections, N bytes in, N bytes out, N rekeys" behind the first so
 * many of them. */
static struct answer read_answer(const struct process *client, unsigned known) {
    struct answer answer = {0};
    char *text = world_read(client->log), *rest = NULL;
    for (char *line = text != NULL ? strtok_r(text, "\n", &rest) : NULL; line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        const char *shard = strstr(line, ": shard ");
        uint64_t forwarded, rekeys;
        if (shard == NULL ||
            sscanf(shard, ": shard %*u, %" SCNu64 " connections, %*u bytes in, %*u bytes out, %" SCNu64 " rekeys",
                   &forwarded, &rekeys) != 2 ||
            answer.lines++ < known)
            continue;
        answer.forwarded += forwarded;
        answer.rekeys += rekeys;
    }
    free(text);
    return answer;
}

bool soak_watch_ask(struct soak_watch *watch, bool is_empty) {
    const struct process *client = process_of(watch, 0);
    if (!is_called(client->pid, "leat"))
        return true;
    unsigned known = read_answer(client, 0).lines;
    struct answer answer = {.lines = known};
    kill(client->pid, SIGUSR1);
    for (double end_s = round_now_s() + ANSWER_S; answer.lines == known && round_now_s() < end_s;) {
        if (world_interrupted())
            return true;
        round_sleep(STEP_S);
        answer = read_answer(client, known);
    }
    watch->rekeys = answer.rekeys;
    if (answer.lines == known)
        return round_fail(watch->round, "leat does not say on SIGUSR1 what it has");
    return !is_empty || answer.forwarded == 0 ||
           round_fail(watch->round, "leat forwards %" PRIu64 " connections though there are none", answer.forwarded);
}

void soak_watch_restarted(struct soak_watch *watch) {
    watch->rekeys_before += watch->rekeys;
    watch->rekeys = 0;
}

/* ---- what is recorded ---- */

static void value(const struct soak_watch *watch, unsigned who, const char *what, const char *unit, double number) {
    char name[64];
    snprintf(name, sizeof(name), "%s-%s", names[who], what);
    round_value(watch->round, name, unit, RESULTS_INFORMATION, false, number);
}

void soak_watch_values(const struct soak_watch *watch) {
    const double mib = 1 << 20;
    for (unsigned who = 0; who < 2; who++) {
        if (process_of(watch, who)->pid == 0 && watch->start[who].processes == 0)
            continue;
        value(watch, who, "memory-start", "MiB", (double)watch->start[who].rss_bytes / mib);
        value(watch, who, "memory-peak", "MiB", (double)watch->peak[who].rss_bytes / mib);
        value(watch, who, "memory-end", "MiB", (double)watch->end[who].rss_bytes / mib);
        value(watch, who, "descriptors-start", "files", watch->start[who].descriptors);
        value(watch, who, "descriptors-peak", "files", watch->peak[who].descriptors);
        value(watch, who, "descriptors-end", "files", watch->end[who].descriptors);
    }
    uint64_t rekeys = watch->rekeys_before + watch->rekeys;
    if (rekeys > 0)
        round_value(watch->round, "rekeys", "times", RESULTS_INFORMATION, false, (double)rekeys);
}
