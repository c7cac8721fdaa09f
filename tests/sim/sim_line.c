#include "tests/sim/sim_line.h"
#include "engine/check.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEVER UINT64_MAX
#define MS UINT64_C(1000000)

static uint64_t roll(struct line *line, uint64_t below) {
    return sim_random(line->world, below);
}

/* As random as it takes to notice a byte at the wrong place. */
static uint8_t *draw_stream(struct line *line, uint64_t total) {
    uint64_t words = total / 8 + 1, *stream = malloc(words * sizeof *stream);
    uint64_t key = roll(line, NEVER);
    CHECK(stream);
    for (uint64_t i = 0; i < words; i++) {
        uint64_t word = (key ^ i) * UINT64_C(0x9e3779b97f4a7c15);
        stream[i] = word ^ word >> 29;
    }
    return (uint8_t *)stream;
}

static void blame(struct line *line, const struct app *app, const char *what) {
    if (line->fault[0] == '\0')
        snprintf(line->fault, sizeof line->fault, "line %u, %s: %s", line->index, app == &line->near ? "near" : "far",
                 what);
}

static uint64_t draw_total(struct line *line) {
    switch (roll(line, 8)) {
    case 0:
        return 0;
    case 1:
    case 2:
        return 1 + roll(line, 20);
    case 3:
    case 4:
        return 1 + roll(line, 3000);
    case 5:
    case 6:
        return 1 + roll(line, 40000);
    default:
        return 1 + roll(line, 250000);
    }
}

static void app_init(struct app *app, struct line *line, struct app *other) {
    *app = (struct app){.line = line, .other = other, .fd = -1, .abort_at = NEVER};
    app->total = draw_total(line);
    app->stream = draw_stream(line, app->total);
    app->chunk = app->total < 2000 && roll(line, 2) ? 1 + (uint32_t)roll(line, 30) : 1 + (uint32_t)roll(line, 60000);
    app->stall_percent = roll(line, 3) ? 0 : (uint8_t)roll(line, 30);
    app->stall_max_ns = roll(line, 4) ? 20 * MS : 2500 * MS;
    if (roll(line, 8) == 0)
        app->abort_at = roll(line, app->total + 2000);
}

void line_init(struct line *line, struct sim_world *world, unsigned index, uint64_t start_ns) {
    *line = (struct line){
        .world = world, .index = index, .port = (uint16_t)(1000 + index), .listener = -1, .start_ns = start_ns};
    line->reversed = roll(line, 2);
    line->prohibited = roll(line, 16) == 0;
    if (roll(line, 12) > 0)
        line->listener = io_sim_listen(world, line->port);
    app_init(&line->near, line, &line->far);
    app_init(&line->far, line, &line->near);
    if (roll(line, 2))
        (roll(line, 2) ? &line->near : &line->far)->waits_for_eof = true;
    /* The far app of a line that is never dialled has nothing to do. */
    line->far.gone = line->listener < 0 || line->prohibited;
}

static void app_leave(struct app *app, enum io_close_mode mode) {
    io_sim_close(app->line->world, app->fd, mode);
    app->fd = -1;
    app->gone = true;
}

static void app_broke(struct app *app) {
    struct line *line = app->line;
    app->broken = true;
    if (!line->excused && line->listener >= 0 && !line->prohibited)
        blame(line, app, "cut off, and nobody did it");
    app_leave(app, IO_CLOSE);
}

static uint32_t draw_chunk(struct app *app) {
    return 1 + (uint32_t)roll(app->line, app->chunk);
}

static void maybe_stall(struct app *app, uint64_t *until_ns) {
    struct line *line = app->line;
    if (roll(line, 100) < app->stall_percent)
        *until_ns = sim_world_now(line->world) + roll(line, app->stall_max_ns);
}

static void check_bytes(struct app *app, const uint8_t *data, uint32_t len) {
    const struct app *from = app->other;
    if (app->received + len > from->sent)
        return blame(app->line, app, "more bytes than were sent");
    if (memcmp(data, from->stream + app->received, len) != 0)
        blame(app->line, app, "wrong byte");
}

static bool app_read(struct app *app) {
    static uint8_t data[65536];
    struct sim_world *world = app->line->world;
    if (app->eof_seen || sim_world_now(world) < app->read_from_ns)
        return false;
    int32_t n = io_sim_read(world, app->fd, data, draw_chunk(app));
    if (n == -EAGAIN)
        return false;
    if (n < 0) {
        app_broke(app);
        return true;
    }
    if (n == 0) {
        app->eof_seen = true;
        if (app->received != app->other->total || !app->other->finished)
            blame(app->line, app, "end of file before the end");
        return true;
    }
    check_bytes(app, data, (uint32_t)n);
    app->received += (uint32_t)n;
    maybe_stall(app, &app->read_from_ns);
    return true;
}

static bool app_write(struct app *app) {
    struct sim_world *world = app->line->world;
    if (app->finished || sim_world_now(world) < app->write_from_ns)
        return false;
    if (app->sent == app->total) {
        if (app->waits_for_eof && !app->eof_seen)
            return false;
        app->finished = true;
        io_sim_finish(world, app->fd);
        return true;
    }
    uint32_t len = draw_chunk(app);
    if (len > app->total - app->sent)
        len = (uint32_t)(app->total - app->sent);
    int32_t n = io_sim_write(world, app->fd, app->stream + app->sent, len);
    if (n == -EAGAIN)
        return false;
    if (n < 0) {
        app_broke(app);
        return true;
    }
    app->sent += (uint32_t)n;
    maybe_stall(app, &app->write_from_ns);
    return true;
}

static bool app_act(struct app *app) {
    if (app->fd < 0)
        return false;
    if (app->sent + app->received >= app->abort_at) {
        app->line->excused = true;
        app_leave(app, IO_CLOSE_RESET);
        return true;
    }
    bool read = app_read(app);
    bool wrote = app->fd >= 0 && app_write(app);
    if (app->fd >= 0 && app->finished && app->eof_seen)
        app_leave(app, IO_CLOSE);
    return read || wrote;
}

bool line_act(struct line *line) {
    bool accepted = false;
    if (line->listener >= 0 && line->opened && line->far.fd < 0 && !line->far.gone) {
        line->far.fd = io_sim_accept(line->world, line->listener);
        accepted = line->far.fd >= 0;
    }
    bool near = app_act(&line->near);
    return app_act(&line->far) || near || accepted;
}

static uint64_t app_wakes_ns(const struct app *app, uint64_t now) {
    if (app->fd < 0)
        return NEVER;
    uint64_t read = !app->eof_seen && app->read_from_ns > now ? app->read_from_ns : NEVER;
    uint64_t write = !app->finished && app->write_from_ns > now ? app->write_from_ns : NEVER;
    return read < write ? read : write;
}

uint64_t line_wakes_ns(const struct line *line) {
    uint64_t now = sim_world_now(line->world);
    if (!line->opened)
        return line->start_ns > now ? line->start_ns : NEVER;
    uint64_t near = app_wakes_ns(&line->near, now), far = app_wakes_ns(&line->far, now);
    return near < far ? near : far;
}

bool line_over(const struct line *line) {
    /* Excused lines may never have been dialled. */
    bool far_gone = line->far.gone || (line->far.fd < 0 && line->excused);
    return line->opened && line->near.gone && far_gone && line->near_ends > 0 && line->far_ends == line->far_asked;
}

void line_judge(struct line *line) {
    struct app *near = &line->near, *far = &line->far;
    if (line->near_ends != 1 || line->far_asked > 1 || line->far_ends != line->far_asked)
        blame(line, near, "a relay's end was told too often");
    if (line->excused)
        return;
    if (line->listener < 0 || line->prohibited) {
        if (!near->broken || near->received > 0 || line->near_what[0] == '\0')
            blame(line, near, "not refused");
        return;
    }
    if (near->received != far->total || far->received != near->total || !near->eof_seen || !far->eof_seen)
        blame(line, near, "not complete");
    if (line->near_what[0] || line->far_what[0])
        blame(line, near, "an orderly end was told as a failure");
}

void line_close(struct line *line) {
    free(line->near.stream);
    free(line->far.stream);
    if (line->listener >= 0)
        io_sim_close(line->world, line->listener, IO_CLOSE);
    line->listener = -1;
}

static void app_print(const struct app *app, const char *name) {
    fprintf(stderr, "    %s: fd %d, sent %" PRIu64 " of %" PRIu64 ", received %" PRIu64 "%s%s%s%s%s\n", name,
            app->fd < 0 ? -1 : app->fd - SIM_FD_BASE, app->sent, app->total, app->received,
            app->finished ? ", finished" : "", app->eof_seen ? ", eof seen" : "", app->broken ? ", broken" : "",
            app->gone ? ", gone" : "", app->waits_for_eof ? ", waits for eof" : "");
}

void line_print(const struct line *line) {
    fprintf(stderr, "  line %u%s%s%s%s%s: near ended %u (%s), far asked %u ended %u (%s)\n", line->index,
            line->reversed ? ", reversed" : "", line->opened ? "" : ", not opened",
            line->listener < 0 ? ", refused" : "", line->prohibited ? ", prohibited" : "",
            line->excused ? ", excused" : "", line->near_ends, line->near_what, line->far_asked, line->far_ends,
            line->far_what);
    app_print(&line->near, "near");
    app_print(&line->far, "far");
}
