#include "bench/restart.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void free_strings(char **strings) {
    for (size_t i = 0; strings != NULL && strings[i] != NULL; i++)
        free(strings[i]);
    free(strings);
}

static bool append(char ***strings, size_t *count, char *string) {
    char **grown = realloc(*strings, (*count + 2) * sizeof *grown);
    if (grown == NULL)
        return false;
    *strings = grown;
    grown[(*count)++] = string;
    grown[*count] = NULL;
    return true;
}

/* The strings of a file in which each ends with a zero byte; NULL when there are none. */
static char **read_strings(pid_t pid, const char *name) {
    char path[64], **strings = NULL, *string = NULL;
    size_t count = 0, room = 0;
    bool kept = true;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *file = fopen(path, "re");
    while (file != NULL && kept && getdelim(&string, &room, '\0', file) > 0) {
        kept = append(&strings, &count, string);
        if (kept)
            string = NULL;
        room = 0;
    }
    free(string);
    if (file != NULL)
        fclose(file);
    if (kept)
        return strings;
    free_strings(strings);
    errno = ENOMEM;
    return NULL;
}

bool restart_learn(struct restart *restart, pid_t pid) {
    restart->argv = read_strings(pid, "cmdline");
    if (restart->argv == NULL) {
        errno = errno == ENOMEM ? ENOMEM : ESRCH;
        return false;
    }
    restart->environment = read_strings(pid, "environ");
    return true;
}

bool restart_run(const struct restart *restart, struct world *world, struct process *process,
                 const struct place *place) {
    char name[32];
    snprintf(name, sizeof name, "again-%d", (int)process->pid);
    world_stop(world, process);
    return world_start(world, process, name, restart->argv, restart->environment, place);
}

void restart_forget(struct restart *restart) {
    free_strings(restart->argv);
    free_strings(restart->environment);
}
