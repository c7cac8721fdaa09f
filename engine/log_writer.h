#pragma once
/* The log's thread (log_writer.c) and what it shares with log.c: whole lines, and how one is written. */
#include "engine/log.h"
#include <stdint.h>

struct log_record {
    enum log_level level;
    uint32_t len; /* with the newline */
    char text[LOG_LINE_BYTES];
};

/* Queues a copy; at FATAL waits until it is out, a second at most. false: there is no thread. */
bool log_writer_submit(const struct log_record *record);
/* The log took nothing for as long as log_stop_thread waits. Until log_set_fd. */
bool log_writer_gave_up(void);
void log_writer_forgive(void);

/* log.c: writes one where lines go now. may_wait: only the thread may, as long as it takes. */
void log_record_emit(const struct log_record *record, bool may_wait);
void log_record_compose(struct log_record *record, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
