#include "engine/limits.h"
#include "tests/sim/sim_line.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void judge_told(struct line *line) {
    if (line->client.ended != line->client.begun || line->server.ended < line->server.opened)
        line_blame(line, &line->near, "a relay's end was not told");
}

/* Why it could not be reached, in the words that an application's user gets to see. */
static const char *expected_reason(const struct line *line) {
    bool silent = false;
    for (unsigned i = 0; i < line->fates_count; i++)
        silent |= line->fates[i].kind == FATE_SILENT;
    if (line->forbidden)
        return "prohibited";
    if (line->resolve_ns >= LIMIT_DIAL_NS)
        return "timed out";
    if (line->resolve_fails)
        return "Name or service not known";
    if (silent)
        return line_is_path(line) ? "No such file" : "timed out";
    return "refused";
}

static void judge_refusal(struct line *line) {
    const struct app *near = &line->near;
    const struct told *told = line_reversed(line) ? &line->server : &line->client;
    if (!near->broken || near->received > 0 || line->client.opened > 0 || line->server.opened > 0)
        return line_blame(line, near, "not refused");
    if (!told->refused || !strstr(told->what, expected_reason(line)))
        line_blame(line, near, "refused for another reason than the true one");
}

static void judge_app(struct line *line, const struct app *app) {
    bool all = app->received == app->other->total && app->eof_seen;
    if (!all && !app->left && !app->cut_off)
        line_blame(line, app, "not complete");
}

void line_judge(struct line *line) {
    judge_told(line);
    if (line->excused || (line->loose && !line_stands(line)))
        return;
    if (!line->reachable)
        return judge_refusal(line);
    judge_app(line, &line->near);
    judge_app(line, &line->far);
    if (line->client.opened != 1 || line->server.opened != 1)
        line_blame(line, &line->near, "both ends did not stand");
    bool orderly = !line->near.left && !line->far.left;
    if (orderly && (line->client.what[0] || line->server.what[0]))
        line_blame(line, &line->near, "an orderly end was told as a failure");
}

static void app_print(const struct app *app, const char *name) {
    fprintf(stderr, "    %s: fd %d, sent %" PRIu64 " of %" PRIu64 ", received %" PRIu64 "%s%s%s%s%s%s%s%s\n", name,
            app->fd < 0 ? -1 : app->fd - SIM_FD_BASE, app->sent, app->total, app->received,
            app->finished ? ", finished" : "", app->eof_seen ? ", eof seen" : "", app->broken ? ", broken" : "",
            app->gone ? ", gone" : "", app->waits_for_eof ? ", waits for eof" : "", app->sleeps ? ", sleeps" : "",
            app->left ? ", left early" : "", app->cut_off ? ", cut off" : "");
}

static void told_print(const struct told *told, const char *name) {
    fprintf(stderr, "    %s told: begun %u opened %u ended %u (%s)\n", name, told->begun, told->opened, told->ended,
            told->what);
}

void line_print(const struct line *line) {
    static const char *const kinds[] = {"direct", "direct path", "forwarded", "forwarded path"};
    static const char *const fates[] = {"answers", "refuses", "silent"};
    fprintf(stderr, "  line %u, %s%s%s%s%s%s%s:", line->index, kinds[line->kind], line->opened ? "" : ", not opened",
            line->listener < 0 ? ", nobody listens" : "", line->forbidden ? ", forbidden" : "",
            line->resolve_fails ? ", no such name" : "", line->excused ? ", excused" : "",
            line->loose ? ", loose" : "");
    for (unsigned i = 0; i < line->fates_count; i++)
        fprintf(stderr, " %s", fates[line->fates[i].kind]);
    fprintf(stderr, "\n");
    told_print(&line->client, "client");
    told_print(&line->server, "server");
    app_print(&line->near, "near");
    app_print(&line->far, "far");
}
