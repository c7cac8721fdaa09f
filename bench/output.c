#include "bench/output.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool refuse(const char *path, int error, char *why, size_t why_bytes) {
    snprintf(why, why_bytes, "%s: %s", path, strerror(error));
    return false;
}

static int open_there(struct output *output) {
    struct stat there;
    if (lstat(output->path, &there) == 0 && !S_ISREG(there.st_mode))
        return open(output->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (asprintf(&output->temporary, "%s.%d.tmp", output->path, (int)getpid()) < 0)
        abort();
    unlink(output->temporary); /* of a killed run whose number has come round again */
    return open(output->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}

static void forget(struct output *output) {
    free(output->path);
    free(output->temporary);
    *output = (struct output){0};
}

bool output_begin(struct output *output, const char *path, char *why, size_t why_bytes) {
    *output = (struct output){.path = strdup(path)};
    if (!output->path)
        abort();
    int fd = open_there(output);
    if (fd < 0) {
        int error = errno;
        forget(output);
        return refuse(path, error, why, why_bytes);
    }
    output->file = fdopen(fd, "w");
    if (!output->file)
        abort();
    return true;
}

/* 0 or what went wrong. Devices and pipes cannot be synchronised, and need not be. */
static int finish(struct output *output) {
    int error = 0;
    errno = EIO; /* for a stream that has failed before and cannot say why any more */
    if (fflush(output->file) != 0 || ferror(output->file))
        error = errno;
    if (!error && output->temporary && fsync(fileno(output->file)) != 0)
        error = errno;
    if (fclose(output->file) != 0 && !error)
        error = errno;
    if (!error && output->temporary && rename(output->temporary, output->path) != 0)
        error = errno;
    if (error && output->temporary)
        unlink(output->temporary);
    return error;
}

bool output_end(struct output *output, char *why, size_t why_bytes) {
    int error = finish(output);
    if (error)
        refuse(output->path, error, why, why_bytes);
    forget(output);
    return error == 0;
}
