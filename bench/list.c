#include "bench/list.h"
#include "bench/peers.h"
#include "bench/text.h"

#define WHY_BYTES 4096
#define SCENARIO_COLUMNS 26
#define TITLE_COLUMNS 64
#define PEER_COLUMNS 22

static void list_scenarios(enum scenario_size size, FILE *out) {
    text_pad(out, "SCENARIO", SCENARIO_COLUMNS, false);
    text_pad(out, "", TITLE_COLUMNS, false);
    fputs(" SECONDS\n", out);
    for (size_t i = 0; i < scenario_table_count; i++) {
        const struct scenario *scenario = &scenario_table[i];
        char why[WHY_BYTES] = "";
        text_pad(out, scenario->name, SCENARIO_COLUMNS, false);
        text_pad(out, scenario->title, TITLE_COLUMNS, false);
        if (scenario->alone_s > 0)
            fprintf(out, " %g (by name alone)", scenario->alone_s);
        else if (scenario->seconds[size] > 0)
            fprintf(out, " %g%s", scenario->seconds[size],
                    scenario->when_named && size != SIZE_SMOKE ? " (when named)" : "");
        else
            fputs(" – (by name alone)", out);
        if (!scenario_possible(scenario, size, why, sizeof(why)))
            fprintf(out, "  cannot run here: %s", why);
        fputc('\n', out);
    }
}

static void list_peers(const struct peers *peers, FILE *out) {
    text_pad(out, "PEER", PEER_COLUMNS, false);
    fputc('\n', out);
    for (size_t i = 0; i < peers_count(peers); i++) {
        const struct peer *peer = peers_at(peers, i);
        text_pad(out, peer->name, PEER_COLUMNS, false);
        fputs(peer->about != NULL ? peer->about : "", out);
        if (peer->missing != NULL)
            fprintf(out, " (missing: %s)", peer->missing);
        fputc('\n', out);
    }
}

int list_all(const struct bench_options *options, FILE *out) {
    const struct peers_options peers_options = {options->peers_file, options->programs};
    char why[WHY_BYTES] = "";
    struct peers *peers = peers_load(&peers_options, why, sizeof(why));
    if (peers == NULL) {
        fprintf(stderr, "leat-bench: %s\n", why);
        return BENCH_USAGE;
    }
    list_scenarios(options->size, out);
    fputc('\n', out);
    list_peers(peers, out);
    peers_free(peers);
    return BENCH_FINE;
}
