#include "bench/usage.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is taken from /proc/PID/stat. */
struct stat_line {
    char state;
    double user_s, system_s;
    uint32_t threads;
    uint64_t started;
};

static bool read_text(char *text, size_t bytes, const char *path) {
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t len = fread(text, 1, bytes - 1, file);
    text[len] = '\0';
    fclose(file);
    return len > 0;
}

static bool read_stat(pid_t pid, struct stat_line *line) {
    char path[64], text[1024];
    unsigned long user, system;
    long user_below, system_below;
    unsigned long long started;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    /* The name stands in parentheses and may hold any character: what follows the last one counts. */
    char *at = read_text(text, sizeof text, path) ? strrchr(text, ')') : NULL;
    if (at == NULL || sscanf(at + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld %*d %*d %u %*d %llu",
                             &line->state, &user, &system, &user_below, &system_below, &line->threads, &started) != 7)
        return false;
    double tick_s = 1.0 / (double)sysconf(_SC_CLK_TCK);
    line->user_s = ((double)user + (double)user_below) * tick_s;
    line->system_s = ((double)system + (double)system_below) * tick_s;
    line->started = started;
    return true;
}

static bool is_gone(const struct stat_line *line) {
    return line->state == 'Z' || line->state == 'X';
}

struct tree {
    struct usage_process *at;
    size_t count, room;
};

static bool tree_add(struct tree *tree, pid_t pid) {
    struct stat_line line;
    if (!read_stat(pid, &line))
        return true; /* gone between two looks */
    if (tree->count == tree->room) {
        size_t room = tree->room == 0 ? 16 : tree->room * 2;
        struct usage_process *at = realloc(tree->at, room * sizeof *at);
        if (at == NULL)
            return false;
        tree->at = at;
        tree->room = room;
    }
    tree->at[tree->count++] = (struct usage_process){pid, line.started};
    return true;
}

static bool add_children_of_thread(struct tree *tree, pid_t pid, const char *thread) {
    char path[64 + 256];
    int child;
    bool ok = true;
    snprintf(path, sizeof path, "/proc/%d/task/%s/children", (int)pid, thread);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return true;
    while (ok && fscanf(file, "%d", &child) == 1)
        ok = tree_add(tree, child);
    fclose(file);
    return ok;
}

static bool add_children(struct tree *tree, pid_t pid) {
    char path[64];
    struct dirent *entry;
    bool ok = true;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *threads = opendir(path);
    if (threads == NULL)
        return true;
    while (ok && (entry = readdir(threads)) != NULL)
        if (entry->d_name[0] != '.')
            ok = add_children_of_thread(tree, pid, entry->d_name);
    closedir(threads);
    return ok;
}

size_t usage_tree(pid_t pid, struct usage_process **processes) {
    struct tree tree = {0};
    bool ok = tree_add(&tree, pid);
    for (size_t i = 0; ok && i < tree.count; i++)
        ok = add_children(&tree, tree.at[i].pid);
    if (!ok || tree.count == 0) {
        free(tree.at);
        tree = (struct tree){0};
    }
    *processes = tree.at;
    return tree.count;
}

bool usage_runs(const struct usage_process *process) {
    struct stat_line line;
    return read_stat(process->pid, &line) && line.started == process->started && !is_gone(&line);
}

/* The value in KiB behind `key` in a file of lines "Key: value kB"; 0 where there is none. */
static uint64_t read_kib(pid_t pid, const char *name, const char *key) {
    char path[64], line[256];
    unsigned long long kib = 0;
    size_t key_len = strlen(key);
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, key_len) == 0 && sscanf(line + key_len, "%llu", &kib) == 1)
            break;
    fclose(file);
    return kib;
}

static uint32_t count_descriptors(pid_t pid) {
    char path[64];
    struct dirent *entry;
    uint32_t count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *descriptors = opendir(path);
    if (descriptors == NULL)
        return 0;
    while ((entry = readdir(descriptors)) != NULL)
        count += entry->d_name[0] != '.';
    closedir(descriptors);
    return count;
}

/* A process that hides from its own user (as sshd does) tells its resident size and no share of it. */
static uint64_t resident_kib(pid_t pid) {
    uint64_t kib = read_kib(pid, "smaps_rollup", "Pss:");
    return kib > 0 ? kib : read_kib(pid, "status", "VmRSS:");
}

static void add_process(struct usage *usage, pid_t pid, const struct stat_line *line, bool with_memory) {
    usage->user_s += line->user_s;
    usage->system_s += line->system_s;
    usage->processes += !is_gone(line);
    usage->threads += line->threads;
    usage->descriptors += count_descriptors(pid);
    usage->peak_rss_bytes += read_kib(pid, "status", "VmHWM:") << 10;
    if (with_memory)
        usage->rss_bytes += resident_kib(pid) << 10;
}

bool usage_of(pid_t pid, bool with_memory, struct usage *usage) {
    struct usage_process *processes;
    struct stat_line line;
    *usage = (struct usage){0};
    if (pid == 0)
        return true;
    size_t count = usage_tree(pid, &processes);
    bool is_there = count > 0 && read_stat(pid, &line) && !is_gone(&line);
    for (size_t i = 0; is_there && i < count; i++)
        if (read_stat(processes[i].pid, &line) && line.started == processes[i].started)
            add_process(usage, processes[i].pid, &line, with_memory);
    free(processes);
    return is_there;
}

static double since(double before, double after) {
    return after > before ? after - before : 0;
}

void usage_since(const struct usage *before, const struct usage *after, struct usage *spent) {
    *spent = *after;
    spent->user_s = since(before->user_s, after->user_s);
    spent->system_s = since(before->system_s, after->system_s);
}

bool machine_time_now(struct machine_time *time) {
    char text[1024];
    unsigned long long user, nice, system, idle, waiting, hard, soft, stolen;
    /* Guests' time (the two fields behind) is in user's and nice's already. */
    if (!read_text(text, sizeof text, "/proc/stat") ||
        sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &waiting, &hard,
               &soft, &stolen) != 8)
        return false;
    double tick_s = 1.0 / (double)sysconf(_SC_CLK_TCK);
    time->busy_s = (double)(user + nice + system + hard + soft) * tick_s;
    time->idle_s = (double)(idle + waiting) * tick_s;
    time->stolen_s = (double)stolen * tick_s;
    return true;
}
