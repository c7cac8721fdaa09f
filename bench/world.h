/* A folder for everything a run needs, and the processes it starts. All of it is gone at the end, also when the harness
 * is interrupted (SIGINT, SIGTERM, SIGHUP) or killed: every child dies with its parent (PR_SET_PDEATHSIG), and what a
 * killed run left in the temporary folder is removed by the next one (a run holds a lock in its folder as long as it
 * lives). One world, one thread. */
#ifndef BENCH_WORLD_H
#define BENCH_WORLD_H

#include "bench/place.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct world;

/* A process with its output in a file of the folder; a group of its own, so that what it forks goes with it, and what
 * left the group as well. */
struct process {
    pid_t pid; /* 0: none */
    char log[256];
};

/* Makes the folder and installs the handlers of signals (SIGPIPE is ignored from now on). Raises the limit of
 * descriptors, for what is started too. Orphans below us become our children until the end. NULL with errno. */
struct world *world_begin(bool keep);
/* Stops every process (TERM, then KILL after two seconds), removes the folder unless it is kept. */
void world_end(struct world *world);
const char *world_dir(const struct world *world);
/* A signal has asked for the end: loops look at it. */
bool world_interrupted(void);
/* Which signal (the first); 0: none. */
int world_signal(void);

/* Throwaway keys, made by ssh-keygen at the first call: DIR/host_key, DIR/user_key (+.pub), DIR/authorized_keys. */
bool world_keys(struct world *world, char *why, size_t why_bytes);
/* Writes a file of the folder; folders above it are made. False with errno. */
bool world_write(struct world *world, const char *name, const char *text);
/* The whole text of a file (its path, not its name in the folder), or NULL with errno; free it. */
char *world_read(const char *path);
/* Makes a folder of the folder. False with errno. */
bool world_make_dir(struct world *world, const char *name);
/* Removes a folder of the folder with all that is in it, unless the whole is kept. */
void world_remove_dir(struct world *world, const char *name);
/* Makes a folder elsewhere if there is none (as root's sshd wants /run/sshd), which goes with the world if it was made
 * here. False with errno. */
bool world_borrow_dir(struct world *world, const char *path);

/* Starts argv (looked up in PATH) with `environment` (NULL-terminated NAME=value added to ours, or NULL). Its output
 * goes to DIR/NAME.log. False with errno. */
bool world_start(struct world *world, struct process *process, const char *name, char *const *argv,
                 char *const *environment, const struct place *place);
/* Still there? */
bool process_alive(const struct process *process);
/* TERM, KILL after two seconds; waits; *process becomes none. A process that is none is passed over. */
void world_stop(struct world *world, struct process *process);
/* Two at once: what is below one of them is found before the end of the other can change it. */
void world_stop_both(struct world *world, struct process *one, struct process *other);
/* Runs argv and waits; its exit status (128 + signal), output in *output (free it) when not NULL. −1: not started. */
int world_run(const char *const *argv, char **output);
/* Waits until something listens on TCP `port` in the network namespace of the process, without connecting (from
 * /proc/PID/net/tcp*). False: the process is gone, time is up, or world_interrupted. */
bool world_wait_listening(const struct process *process, uint16_t port, double timeout_s);
/* A port nobody uses, from below the range of outgoing connections where there is room; never the same twice, nor one
 * that another harness has got. 0: none. */
uint16_t world_free_port(void);
/* The last lines (one or more) of a process' output, for a message; free it. */
char *process_tail(const struct process *process, unsigned lines);

#endif
