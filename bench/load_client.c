#include "bench/load.h"
#include "bench/load_job.h"
#include "bench/load_net.h"
#include "bench/load_process.h"
#include "bench/world.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long a signal to the harness may go unseen when it comes between two looks. */
#define LOOK_MS 250

struct load {
    pid_t pid;
    int channel;
    struct load_shared *shared;
};

static bool job_is_sane(const struct load_job *job) {
    if (job->kind < LOAD_DOWN || job->kind > LOAD_HOLD || job->flows == 0 || job->flows > LOAD_FLOWS_MAX ||
        job->both_flows > LOAD_FLOWS_MAX - job->flows)
        return false;
    if (job->kind == LOAD_ECHO && (job->message_bytes == 0 || job->message_bytes > LOAD_MESSAGE_BYTES_MAX))
        return false;
    if (job->bytes_per_flow > 0 && job->kind != LOAD_DOWN && job->kind != LOAD_UP)
        return false;
    if (job->resumes && (job->pause_bytes == 0 || job->bytes_per_flow <= job->pause_bytes))
        return false;
    return job->kind == LOAD_DOWN || (job->both_flows == 0 && job->pause_bytes == 0 && job->pace == 0);
}

static void load_free(struct load *load) {
    if (load->shared != NULL)
        munmap(load->shared, sizeof(*load->shared));
    free(load);
}

struct load *load_begin(load_main_fn *run, const void *job, const struct place *place) {
    struct load *load = calloc(1, sizeof(*load));
    if (load == NULL)
        return NULL;
    void *map = mmap(NULL, sizeof(*load->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    load->shared = map != MAP_FAILED ? map : NULL;
    load->pid = load->shared != NULL ? load_fork(&load->channel) : -1;
    if (load->pid == 0) {
        run(job, place, load->shared, load->channel);
        _exit(0);
    }
    if (load->pid < 0) {
        int error = errno;
        load_free(load);
        errno = error;
        return NULL;
    }
    return load;
}

static void run_job(const void *job, const struct place *place, struct load_shared *shared, int channel) {
    load_job_main(job, place, shared, channel);
}

struct load *load_start(const struct load_job *job, const struct place *place) {
    if (job_is_sane(job))
        return load_begin(run_job, job, place);
    errno = EINVAL;
    return NULL;
}

/* Waits for something from the job until `end_ns`. −1: nothing came, or the harness is to end; else what recv(2) said.
 */
static ssize_t channel_read(struct load *load, char *byte, uint64_t end_ns) {
    for (uint64_t now; (now = load_now()) < end_ns && !world_interrupted();) {
        uint64_t left_ms = (end_ns - now) / 1000000 + 1;
        struct pollfd channel = {.fd = load->channel, .events = POLLIN};
        if (poll(&channel, 1, left_ms < LOOK_MS ? (int)left_ms : LOOK_MS) <= 0)
            continue;
        ssize_t n = recv(load->channel, byte, 1, 0);
        return n < 0 ? 0 : n; /* a reset is an end */
    }
    return -1;
}

bool load_ready(struct load *load, double timeout_s) {
    char byte;
    return channel_read(load, &byte, load_now() + (uint64_t)(timeout_s * 1e9)) == 1;
}

bool load_look(struct load *load, uint64_t *bytes) {
    char byte;
    const struct load_result *result = &load->shared->result;
    *bytes = result->down_bytes + result->up_bytes;
    ssize_t n = recv(load->channel, &byte, 1, MSG_DONTWAIT);
    return n == 1 || (n < 0 && errno == EAGAIN);
}

void load_stop(struct load *load) {
    /* To a job that has ended already it does not come, and need not. */
    send(load->channel, "s", 1, MSG_NOSIGNAL);
}

static void describe_death(struct load_result *result, int status) {
    memset(result, 0, sizeof(*result));
    histogram_clear(&result->latency);
    if (world_interrupted())
        snprintf(result->why, sizeof(result->why), "interrupted");
    else if (WIFSIGNALED(status))
        snprintf(result->why, sizeof(result->why), "the load's process was killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        snprintf(result->why, sizeof(result->why), "the load's process ended with status %d", WEXITSTATUS(status));
}

void load_wait(struct load *load, struct load_result *result) {
    char byte;
    ssize_t n;
    int status = 0;
    while ((n = channel_read(load, &byte, UINT64_MAX)) > 0)
        ;
    if (n < 0)
        kill(load->pid, SIGKILL);
    while (waitpid(load->pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (load->shared->is_complete && n == 0)
        *result = load->shared->result;
    else
        describe_death(result, status);
    close(load->channel);
    load_free(load);
}

void load_run(const struct load_job *job, const struct place *place, struct load_result *result) {
    struct load *load = load_start(job, place);
    if (load != NULL) {
        load_wait(load, result);
        return;
    }
    memset(result, 0, sizeof(*result));
    histogram_clear(&result->latency);
    snprintf(result->why, sizeof(result->why), "start: %s", strerror(errno));
}
