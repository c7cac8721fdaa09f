#pragma once
/* A thread that is the bottleneck, whatever the machine: it gets a tenth of a processor, and somebody busier has the
 * rest. One at a time. */
#include "world.h"
#include <sys/types.h>

/* Takes the processor away from the thread that bears this name ("leat/0"); the test fails when there is none. */
void starve(const struct process *process, const char *thread);
/* Gives it back, as far as that goes: it stays nice. A no-op when nobody starves. */
void starve_end(void);
