/* A folder for everything a run needs, and the processes it starts. All of it is gone at the end, also when the harness
 * is interrupted (SIGINT, SIGTERM, SIGHUP) or killed: every child dies with its parent (PR_SET_PDEATHSIG), and what a
 * killed run left in the temporary folder is removed by the next one. One world, one thread. */
#ifndef BENCH_WORLD_H
#define BENCH_WORLD_H

#include "bench/place.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct world;

/* A process with its output in a file of the folder; a group of its own, so that what it forks goes with it. */
struct process {
    pid_t pid; /* 0: none */
    char log[256];
};

/* Makes the folder and installs the handlers of signals. NULL with errno. */
struct world *world_begin(bool keep);
/* Stops every process (TERM, then KILL after two seconds), removes the folder unless it is kept. */
void world_end(struct world *world);
const char *world_dir(const struct world *world);
/* A signal has asked for the end: loops look at it. */
bool world_interrupted(void);

/* Throwaway keys, made by ssh-keygen at the first call: DIR/host_key, DIR/user_key (+.pub), DIR/authorized_keys. */
bool world_keys(struct world *world, char *why, size_t why_bytes);
bool world_write(struct world *world, const char *name, const char *text);

/* Starts argv (looked up in PATH) with `environment` (NULL-terminated NAME=value added to ours, or NULL). False with
 * errno. */
bool world_start(struct world *world, struct process *process, const char *name, char *const *argv,
                 char *const *environment, const struct place *place);
/* Still there? */
bool process_alive(const struct process *process);
/* TERM, KILL after two seconds; waits; *process becomes none. A process that is none is passed over. */
void world_stop(struct world *world, struct process *process);
/* Runs argv and waits; its exit status (128 + signal), output in *output (free it) when not NULL. −1: not started. */
int world_run(const char *const *argv, char **output);
/* Waits until something listens on 127.0.0.1 (or `host`) PORT in `place`, without connecting (from /proc/net/tcp*), or
 * the process is gone. */
bool world_wait_listening(const struct place *place, uint16_t port, const struct process *process, double timeout_s);
/* A port nobody uses, from below the range of outgoing connections; never the same twice. */
uint16_t world_free_port(void);
/* The last lines of a process' output, for a message; free it. */
char *process_tail(const struct process *process, unsigned lines);

#endif
