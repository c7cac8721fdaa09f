#pragma once
/* A person at a terminal: reads what a process says there (world.next_on_terminal) and types answers. */
#include "world.h"

struct terminal {
    struct process *process;
    int fd;
    char text[262144]; /* all that has appeared on the screen */
    size_t len, seen;
};

/* Sits down at the terminal of the process that was started last. */
void terminal_open(struct terminal *terminal, const struct world *world, struct process *process);
/* Reads until the screen shows text behind what was shown by the call before; false when it ends or the deadline is
 * over. */
bool terminal_shows(struct terminal *terminal, const char *text, double seconds);
/* Types text and the return key. */
void terminal_type(struct terminal *terminal, const char *text);
/* Reads until the process has ended; its exit status. */
int terminal_wait(struct terminal *terminal, double seconds);
void terminal_close(struct terminal *terminal);
