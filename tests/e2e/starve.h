#pragma once
/* A thread that is the bottleneck, whatever the machine: it gets a tenth of a processor, and somebody busier has the
 * rest. One at a time. And one that has nothing to do. */
#include "world.h"
#include <stdbool.h>
#include <sys/types.h>

/* The thread of a process that bears this name; it may yet have to come: 0. */
pid_t thread_named(const struct process *process, const char *name);
/* Takes the processor away from the thread that bears this name ("leat/0"); the test fails when there is none. */
void starve(const struct process *process, const char *thread);
/* Gives it back, as far as that goes: it stays nice. A no-op when nobody starves. */
void starve_end(void);

/* Watches a thread for some seconds: it wakes less than three times a second. */
bool thread_rests(pid_t thread);
