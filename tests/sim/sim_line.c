#include "tests/sim/sim_line.h"
#include "engine/check.h"
#include "engine/limits.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)
#define STALLS_MAX 150u /* of one app: the rest goes through without */

static uint64_t roll(struct line *line, uint64_t below) {
    return sim_random(line->world, below);
}

/* As random as it takes to notice a byte at the wrong place. */
static uint8_t *draw_stream(struct line *line, uint64_t total) {
    uint64_t words = total / 8 + 1, *stream = malloc(words * sizeof *stream);
    uint64_t key = roll(line, UINT64_MAX);
    CHECK(stream);
    for (uint64_t i = 0; i < words; i++) {
        uint64_t word = (key ^ i) * UINT64_C(0x9e3779b97f4a7c15);
        stream[i] = word ^ word >> 29;
    }
    return (uint8_t *)stream;
}

void line_blame(struct line *line, const struct app *app, const char *what) {
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

static void draw_end(struct app *app) {
    struct line *line = app->line;
    switch (roll(line, 16)) {
    case 0:
        app->abort_at = roll(line, app->total + 2000);
        break;
    case 1:
        app->abort_ns = roll(line, roll(line, 2) ? 60 * MS : 3000 * MS);
        break;
    case 2:
        app->leave_at = roll(line, 4) ? 0 : roll(line, 3000);
        break;
    default:
        break;
    }
}

static void app_init(struct app *app, struct line *line, struct app *other) {
    *app = (struct app){.line = line, .other = other, .fd = -1};
    app->abort_at = app->abort_ns = app->leave_at = LINE_NEVER;
    app->total = draw_total(line);
    app->stream = draw_stream(line, app->total);
    app->chunk = app->total < 2000 && roll(line, 2) ? 1 + (uint32_t)roll(line, 30) : 1 + (uint32_t)roll(line, 60000);
    app->stall_percent = roll(line, 3) ? 0 : (uint8_t)roll(line, 30);
    app->stall_max_ns = roll(line, 4) ? 20 * MS : roll(line, 4) ? 2500 * MS : 20 * SECOND;
    draw_end(app);
}

static void draw_fate(struct line *line, struct fate *fate) {
    static const enum fate_kind kinds[] = {FATE_ANSWERS, FATE_ANSWERS, FATE_REFUSES, FATE_SILENT};
    fate->kind = kinds[roll(line, 4)];
    fate->is_v6 = roll(line, 2);
    fate->scripted = true;
    fate->delay_ns = roll(line, roll(line, 3) ? 40 * MS : 2000 * MS);
}

/* Most targets are at one address and answer at once. */
static void draw_target(struct line *line) {
    bool plain = roll(line, 3) > 0;
    snprintf(line->target, sizeof line->target, line_is_path(line) ? "/sim/%u" : "line-%u.sim", line->index);
    line->fates_count = plain || line_is_path(line) ? 1 : 1 + (unsigned)roll(line, LINE_ADDRESSES_MAX);
    if (roll(line, 12) > 0)
        line->listener = io_sim_listen(line->world, line->port);
    if (plain)
        return;
    for (unsigned i = 0; i < line->fates_count; i++)
        draw_fate(line, &line->fates[i]);
    line->busy = line_is_path(line) ? (unsigned)roll(line, 4) : 0;
    line->resolve_fails = !line_is_path(line) && roll(line, 8) == 0;
    line->resolve_ns = roll(line, 3) ? 0 : roll(line, 1500 * MS);
    if (!line_is_path(line) && roll(line, 16) == 0)
        line->resolve_ns = LIMIT_DIAL_NS + (1 + roll(line, 2)) * SECOND;
}

static bool answers(const struct line *line) {
    if (line->listener < 0 || line->resolve_fails || line->resolve_ns >= LIMIT_DIAL_NS)
        return false;
    for (unsigned i = 0; i < line->fates_count; i++)
        if (line->fates[i].kind == FATE_ANSWERS)
            return true;
    return false;
}

void line_init(struct line *line, struct sim_world *world, unsigned index, uint64_t start_ns) {
    static const enum line_kind kinds[] = {LINE_DIRECT,    LINE_DIRECT,    LINE_DIRECT,    LINE_DIRECT_PATH,
                                           LINE_FORWARDED, LINE_FORWARDED, LINE_FORWARDED, LINE_FORWARDED_PATH};
    *line = (struct line){
        .world = world, .index = index, .port = (uint16_t)(1000 + index), .listener = -1, .start_ns = start_ns};
    line->kind = kinds[roll(line, sizeof kinds / sizeof kinds[0])];
    draw_target(line);
    app_init(&line->near, line, &line->far);
    app_init(&line->far, line, &line->near);
    if (roll(line, 2))
        (roll(line, 2) ? &line->near : &line->far)->waits_for_eof = true;
}

void line_settle(struct line *line, uint64_t idle_ns) {
    line->may_idle = idle_ns > 0;
    if (line->may_idle && roll(line, 4) == 0) {
        line->near.sleeps = line->far.sleeps = true;
        line->near.pause_ns = roll(line, 2) * roll(line, idle_ns);
        line->far.pause_ns = roll(line, 2) * roll(line, idle_ns);
    }
    line->reachable = !line->forbidden && answers(line);
    /* The far app of a line that is never dialled has nothing to do. */
    line->far.gone = !line->reachable;
}

static void app_leave(struct app *app, enum io_close_mode mode) {
    io_sim_close(app->line->world, app->fd, mode);
    app->fd = -1;
    app->gone = true;
}

/* ---- the far app's connections ---- */

/* Where a target has several addresses, more than one may be connected to, and all but one are broken off at once. */
static bool may_have_lost(const struct app *app) {
    const struct line *line = app->line;
    return app == &line->far && app->received == 0 && line->fates_count > 1 && !line->excused && !app->cut_off;
}

static void far_start(struct app *far, int fd) {
    struct line *line = far->line;
    far->fd = fd;
    far->sent = 0;
    far->finished = far->eof_seen = false;
    if (far->abort_ns != LINE_NEVER)
        far->abort_ns += sim_world_now(line->world);
}

static void far_start_over(struct app *far) {
    struct line *line = far->line;
    if (far->fd >= 0)
        io_sim_close(line->world, far->fd, IO_CLOSE_RESET);
    far->fd = -1;
    if (line->spares_count == 0)
        return;
    far_start(far, line->spares[0]);
    line->spares_count--;
    memmove(line->spares, line->spares + 1, line->spares_count * sizeof line->spares[0]);
}

static bool far_accept(struct line *line) {
    int fd = line->listener >= 0 ? io_sim_accept(line->world, line->listener) : -1;
    if (fd < 0)
        return false;
    if (line->far.gone)
        io_sim_close(line->world, fd, IO_CLOSE_RESET);
    else if (line->far.fd < 0)
        far_start(&line->far, fd);
    else if (line->spares_count < LINE_SPARES_MAX)
        line->spares[line->spares_count++] = fd;
    else
        CHECK(false);
    return true;
}

static void drop_spares(struct line *line) {
    while (line->spares_count > 0)
        io_sim_close(line->world, line->spares[--line->spares_count], IO_CLOSE_RESET);
}

/* ---- what an app does ---- */

static void app_broke(struct app *app) {
    struct line *line = app->line;
    if (may_have_lost(app))
        return far_start_over(app);
    app->broken = true;
    bool refused = !line->reachable || (line->loose && !line_stands(line));
    if (!line->excused && !refused && !app->cut_off && !app->left && !line->may_idle)
        line_blame(line, app, "cut off, and nobody did it");
    app_leave(app, IO_CLOSE);
}

static uint32_t draw_chunk(struct app *app) {
    return 1 + (uint32_t)roll(app->line, app->chunk);
}

static void maybe_stall(struct app *app, uint64_t *until_ns) {
    struct line *line = app->line;
    if (app->stalls < STALLS_MAX && roll(line, 100) < app->stall_percent && ++app->stalls)
        *until_ns = sim_world_now(line->world) + roll(line, app->stall_max_ns);
}

static void check_bytes(struct app *app, const uint8_t *data, uint32_t len) {
    const struct app *from = app->other;
    if (app->received + len > from->sent)
        return line_blame(app->line, app, "more bytes than were sent");
    if (memcmp(data, from->stream + app->received, len) != 0)
        line_blame(app->line, app, "wrong byte");
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
        bool all = app->received == app->other->total && app->other->finished;
        if (!all && !app->left && !(app->line->stock && (app->line->excused || app->line->may_idle)))
            line_blame(app->line, app, "end of file before the end");
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
        if ((app->sleeps || app->waits_for_eof) && !app->eof_seen)
            return false;
        app->finished = true;
        io_sim_finish(world, app->fd);
        return true;
    }
    uint32_t len = draw_chunk(app);
    if (len > app->total - app->sent)
        len = (uint32_t)(app->total - app->sent);
    if (app->sleeps && app->sent == app->total / 2 &&
        app->pause_ns > 0) { /* says something just before it is too late */
        app->write_from_ns = sim_world_now(world) + app->pause_ns;
        app->pause_ns = 0;
        return true;
    }
    if (app->sleeps && app->sent < app->total / 2 && len > app->total / 2 - app->sent)
        len = (uint32_t)(app->total / 2 - app->sent);
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

/* It has ended its own stream and takes no more of the other's. That one still gets everything, unless bytes of its own
 * that nobody has read break its connection. */
void line_hang_up(struct line *line, struct app *app) {
    struct app *other = app->other;
    app->left = true;
    other->cut_off = other->fd >= 0 && (other->sent < other->total || io_sim_unread(line->world, other->fd) > 0);
}

static bool app_aborts(struct app *app) {
    bool now = app->sent + app->received >= app->abort_at || sim_world_now(app->line->world) >= app->abort_ns;
    if (now) {
        app->line->excused = true;
        app_leave(app, IO_CLOSE_RESET);
    }
    return now;
}

static bool app_leaves_early(struct app *app) {
    struct line *line = app->line;
    if (app->eof_seen || app->received < app->leave_at || !io_sim_eof_taken(line->world, app->fd))
        return false;
    line_hang_up(line, app);
    app_leave(app, IO_CLOSE);
    return true;
}

static bool app_act(struct app *app) {
    if (app->fd < 0)
        return false;
    if (app_aborts(app))
        return true;
    bool read = app_read(app);
    bool wrote = app->fd >= 0 && app_write(app);
    if (app->fd < 0)
        return true;
    if (app->finished && app->eof_seen)
        app_leave(app, IO_CLOSE);
    else if (app_leaves_early(app))
        return true;
    return read || wrote;
}

void line_begin(struct line *line, int fd) {
    line->opened = true;
    line->near.fd = fd;
    line->near.gone = fd < 0;
    if (line->near.abort_ns != LINE_NEVER)
        line->near.abort_ns += sim_world_now(line->world);
}

bool line_act(struct line *line) {
    if (!line->opened)
        return false;
    bool accepted = far_accept(line);
    bool near = app_act(&line->near);
    bool far = app_act(&line->far);
    if (line->far.gone)
        drop_spares(line);
    return near || far || accepted;
}

static void sooner(uint64_t *wakes_ns, uint64_t now, uint64_t at_ns) {
    if (at_ns > now && at_ns < *wakes_ns)
        *wakes_ns = at_ns;
}

static void app_wakes_ns(const struct app *app, uint64_t now, uint64_t *wakes_ns) {
    if (app->fd < 0)
        return;
    if (!app->eof_seen)
        sooner(wakes_ns, now, app->read_from_ns);
    if (!app->finished)
        sooner(wakes_ns, now, app->write_from_ns);
    sooner(wakes_ns, now, app->abort_ns);
}

uint64_t line_wakes_ns(const struct line *line) {
    uint64_t now = sim_world_now(line->world), wakes_ns = LINE_NEVER;
    if (!line->opened) {
        sooner(&wakes_ns, now, line->start_ns);
        return wakes_ns;
    }
    app_wakes_ns(&line->near, now, &wakes_ns);
    app_wakes_ns(&line->far, now, &wakes_ns);
    return wakes_ns;
}

/* Excused and loose lines may never have been dialled. */
bool line_over(const struct line *line) {
    bool broken = line->excused || (line->loose && !line_stands(line));
    bool far_gone = line->far.gone || (line->far.fd < 0 && broken);
    return line->opened && line->near.gone && far_gone && line->client.ended == line->client.begun;
}

void line_close(struct line *line) {
    free(line->near.stream);
    free(line->far.stream);
    if (line->far.fd >= 0) /* came when nobody waited for it any more */
        app_leave(&line->far, IO_CLOSE_RESET);
    line->far.gone = true;
    while (far_accept(line)) /* attempts that have lost */
        continue;
    drop_spares(line);
    if (line->listener >= 0)
        io_sim_close(line->world, line->listener, IO_CLOSE);
    line->listener = -1;
}
