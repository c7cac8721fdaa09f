#include "terminal.h"
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void terminal_open(struct terminal *terminal, const struct world *world, struct process *process) {
    *terminal = (struct terminal){.process = process, .fd = world->terminal_fd};
}

/* False at the end of the terminal, which is when its last process is gone, or after the deadline. */
static bool read_more(struct terminal *terminal, double deadline) {
    struct pollfd pollfd = {.fd = terminal->fd, .events = POLLIN};
    double left = deadline - now_seconds();
    if (left <= 0 || poll(&pollfd, 1, (int)(left * 1000) + 1) <= 0)
        return false;
    ssize_t n = read(terminal->fd, terminal->text + terminal->len, sizeof(terminal->text) - terminal->len - 1);
    if (n <= 0)
        return false;
    terminal->len += (size_t)n;
    terminal->text[terminal->len] = '\0';
    return true;
}

bool terminal_shows(struct terminal *terminal, const char *text, double seconds) {
    double deadline = now_seconds() + world_deadline(seconds);
    const char *found;
    while ((found = strstr(terminal->text + terminal->seen, text)) == NULL)
        if (!read_more(terminal, deadline)) {
            fprintf(stderr, "test world: the terminal did not show \"%s\" but:\n%s\n", text, terminal->text);
            return false;
        }
    terminal->seen = (size_t)(found - terminal->text) + strlen(text);
    return true;
}

void terminal_type(struct terminal *terminal, const char *text) {
    (void)!write(terminal->fd, text, strlen(text));
    (void)!write(terminal->fd, "\n", 1);
}

int terminal_wait(struct terminal *terminal, double seconds) {
    double deadline = now_seconds() + world_deadline(seconds);
    while (read_more(terminal, deadline))
        ;
    return process_wait(terminal->process, seconds);
}

void terminal_close(struct terminal *terminal) {
    close(terminal->fd);
    terminal->fd = -1;
}
