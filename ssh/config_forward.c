/* Forwards on their way into the options: what is there already, what cannot be, how many. */
#include "engine/limits.h"
#include "ssh/config.h"
#include <stdlib.h>
#include <string.h>

static bool same_text(const char *a, const char *b) {
    return a == b || (a && b && !strcmp(a, b));
}

static bool forward_known(const struct options *options, const struct forward_spec *spec) {
    for (uint32_t i = 0; i < options->forwards_count; i++) {
        const struct forward_spec *known = &options->forwards[i];
        if (known->kind == spec->kind && known->port == spec->port && known->host_port == spec->host_port &&
            same_text(known->bind, spec->bind) && same_text(known->host, spec->host))
            return true;
    }
    return false;
}

void config_refuse_forward(struct config *config, const struct place *place, const char *keyword, const char *text,
                           const char *why) {
    if (config->forward_refused)
        return;
    char *where = config_place(place);
    config->forward_refused = text_format("%s: %s: %s: '%s'", where, keyword, why, text);
    free(where);
}

static void forward_store(struct options *options, struct forward_spec *spec) {
    struct forward_spec *all = realloc(options->forwards, (options->forwards_count + 1) * sizeof *all);
    if (!all) {
        log_fatal("out of memory at start");
        exit(255);
    }
    options->forwards = all;
    all[options->forwards_count++] = *spec;
}

static uint32_t forwards_of(const struct options *options, enum forward_kind kind) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < options->forwards_count; i++)
        count += options->forwards[i].kind == kind;
    return count;
}

int config_add_forward(struct config *config, const struct place *place, const char *keyword, enum forward_kind kind,
                       const char *text) {
    struct options *options = config->options;
    struct forward_spec spec;
    const char *why;
    int error = forward_spec_parse(kind, text, &spec, &why);
    if (error == ERR_UNSUPPORTED) {
        config_refuse_forward(config, place, keyword, text, why);
        return 0;
    }
    if (error)
        return config_error(place, keyword, "%s: '%s'", why, text);
    uint32_t most = kind == FORWARD_LOCAL ? LIMIT_LOCAL_FORWARDS : LIMIT_REMOTE_FORWARDS;
    bool known = forward_known(options, &spec);
    if (!known && forwards_of(options, kind) < most) {
        forward_store(options, &spec);
        return 0;
    }
    forward_spec_deinit(&spec);
    return known ? 0 : config_error(place, keyword, "more than %u of them", most);
}
