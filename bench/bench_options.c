#include "bench/bench_options.h"
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_TOLERANCE 0.05

enum option_id {
    OPT_QUICK = 256,
    OPT_STANDARD,
    OPT_SMOKE,
    OPT_ROUNDS,
    OPT_SECONDS,
    OPT_PEERS,
    OPT_BASE,
    OPT_PEERS_FILE,
    OPT_PROGRAM,
    OPT_TUNNEL,
    OPT_TARGET_PORT,
    OPT_CIPHER,
    OPT_RTT,
    OPT_RATE,
    OPT_LOSS,
    OPT_TCP_BUFFERS,
    OPT_CONGESTION,
    OPT_NO_NAMESPACES,
    OPT_PIN,
    OPT_SEED,
    OPT_KEEP,
    OPT_QUIET,
    OPT_JSON,
    OPT_CSV,
    OPT_HTML,
    OPT_PERCENTILES,
    OPT_MARKDOWN,
    OPT_TOLERANCE,
    OPT_VERSION,
    OPT_HELP,
};

#define IN(command) (1u << (command))
#define EVERYWHERE (~0u)

static const struct {
    const char *name;
    enum option_id id;
    int has_value;
    unsigned commands;
} table[] = {
    {"quick", OPT_QUICK, no_argument, IN(BENCH_RUN) | IN(BENCH_LIST)},
    {"standard", OPT_STANDARD, no_argument, IN(BENCH_RUN) | IN(BENCH_LIST)},
    {"smoke", OPT_SMOKE, no_argument, IN(BENCH_RUN) | IN(BENCH_LIST)},
    {"rounds", OPT_ROUNDS, required_argument, IN(BENCH_RUN)},
    {"seconds", OPT_SECONDS, required_argument, IN(BENCH_RUN)},
    {"peers", OPT_PEERS, required_argument, IN(BENCH_RUN)},
    {"base", OPT_BASE, required_argument, IN(BENCH_RUN)},
    {"peers-file", OPT_PEERS_FILE, required_argument, IN(BENCH_RUN) | IN(BENCH_LIST)},
    {"program", OPT_PROGRAM, required_argument, IN(BENCH_RUN) | IN(BENCH_LIST)},
    {"tunnel", OPT_TUNNEL, required_argument, IN(BENCH_RUN)},
    {"target-port", OPT_TARGET_PORT, required_argument, IN(BENCH_RUN) | IN(BENCH_TARGET)},
    {"cipher", OPT_CIPHER, required_argument, IN(BENCH_RUN)},
    {"rtt", OPT_RTT, required_argument, IN(BENCH_RUN)},
    {"rate", OPT_RATE, required_argument, IN(BENCH_RUN)},
    {"loss", OPT_LOSS, required_argument, IN(BENCH_RUN)},
    {"tcp-buffers", OPT_TCP_BUFFERS, required_argument, IN(BENCH_RUN)},
    {"congestion", OPT_CONGESTION, required_argument, IN(BENCH_RUN)},
    {"no-namespaces", OPT_NO_NAMESPACES, no_argument, IN(BENCH_RUN)},
    {"pin", OPT_PIN, required_argument, IN(BENCH_RUN)},
    {"seed", OPT_SEED, required_argument, IN(BENCH_RUN)},
    {"keep", OPT_KEEP, no_argument, IN(BENCH_RUN)},
    {"quiet", OPT_QUIET, no_argument, IN(BENCH_RUN) | IN(BENCH_LOAD)},
    {"json", OPT_JSON, required_argument, IN(BENCH_RUN)},
    {"csv", OPT_CSV, required_argument, IN(BENCH_RUN) | IN(BENCH_REPORT)},
    {"html", OPT_HTML, required_argument, IN(BENCH_RUN) | IN(BENCH_REPORT)},
    {"percentiles", OPT_PERCENTILES, required_argument, IN(BENCH_RUN) | IN(BENCH_REPORT)},
    {"markdown", OPT_MARKDOWN, no_argument, IN(BENCH_RUN) | IN(BENCH_REPORT)},
    {"tolerance", OPT_TOLERANCE, required_argument, IN(BENCH_COMPARE)},
    {"version", OPT_VERSION, no_argument, EVERYWHERE},
    {"help", OPT_HELP, no_argument, EVERYWHERE},
};
#define TABLE_COUNT (sizeof(table) / sizeof(table[0]))

static const char *const command_names[] = {"run", "compare", "report", "list", "target", "load"};

/* What reads a value needs to know for a message. */
struct reading {
    struct bench_options *options;
    FILE *err;
    const char *name;
};

__attribute__((format(printf, 2, 3))) static bool wrong(FILE *err, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("leat-bench: ", err);
    vfprintf(err, format, args);
    fputc('\n', err);
    va_end(args);
    return false;
}

static bool read_number(const struct reading *reading, const char *text, double low, double high, double *number) {
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (*text == '\0' || *end != '\0' || errno != 0 || !(value >= low && value <= high))
        return wrong(reading->err, "--%s: '%s' is not a number from %g to %g", reading->name, text, low, high);
    *number = value;
    return true;
}

static bool read_whole(const struct reading *reading, const char *text, uint64_t low, uint64_t high, uint64_t *number) {
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value < low || value > high)
        return wrong(reading->err, "--%s: '%s' is not a whole number from %llu to %llu", reading->name, text,
                     (unsigned long long)low, (unsigned long long)high);
    *number = value;
    return true;
}

static bool read_peers(const struct reading *reading, const char *text) {
    struct bench_options *options = reading->options;
    char *rest = NULL;
    free(options->peers_text);
    options->peers_text = strdup(text);
    options->peer_count = 0;
    for (char *word = strtok_r(options->peers_text, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest)) {
        if (options->peer_count == BENCH_LIST_MAX)
            return wrong(reading->err, "--%s: more than %d", reading->name, BENCH_LIST_MAX);
        options->peers[options->peer_count++] = word;
    }
    return options->peer_count > 0 || wrong(reading->err, "--%s: names no peer", reading->name);
}

static bool read_program(const struct reading *reading, const char *text) {
    struct bench_options *options = reading->options;
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text || equals[1] == '\0')
        return wrong(reading->err, "--%s: '%s' is not NAME=PATH", reading->name, text);
    if (options->program_count == BENCH_LIST_MAX)
        return wrong(reading->err, "--%s: more than %d", reading->name, BENCH_LIST_MAX);
    options->programs[options->program_count++] = text;
    return true;
}

static bool read_tunnel(const struct reading *reading, const char *text) {
    struct bench_options *options = reading->options;
    const char *equals = strchr(text, '=');
    if (options->tunnel_count == BENCH_LIST_MAX)
        return wrong(reading->err, "--%s: more than %d", reading->name, BENCH_LIST_MAX);
    struct bench_tunnel *tunnel = &options->tunnels[options->tunnel_count];
    if (equals == NULL || equals == text || !bench_options_address(equals + 1, &tunnel->address))
        return wrong(reading->err, "--%s: '%s' is not NAME=HOST:PORT (with IPv4)", reading->name, text);
    tunnel->name = strndup(text, (size_t)(equals - text));
    options->tunnel_count++;
    return true;
}

static struct bench_pin *pin_of(struct bench_options *options, const char *text, size_t *name_len) {
    struct {
        const char *name;
        struct bench_pin *pin;
    } const roles[] = {
        {"client=", &options->client_pin}, {"server=", &options->server_pin}, {"load=", &options->load_pin}};
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        *name_len = strlen(roles[i].name);
        if (strncmp(text, roles[i].name, *name_len) == 0)
            return roles[i].pin;
    }
    return NULL;
}

/* A comma may stand between processors, or before the next role. */
static bool read_pins(const struct reading *reading, const char *text) {
    size_t name_len, unused;
    for (const char *at = text; *at != '\0';) {
        struct bench_pin *pin = pin_of(reading->options, at, &name_len);
        if (pin == NULL)
            return wrong(reading->err, "--%s: '%s' does not begin with client=, server= or load=", reading->name, at);
        at += name_len;
        const char *end = at + strcspn(at, ",");
        while (*end == ',' && pin_of(reading->options, end + 1, &unused) == NULL)
            end += 1 + strcspn(end + 1, ",");
        free(pin->text);
        pin->text = strndup(at, (size_t)(end - at));
        if (!place_parse_cpus(pin->text, &pin->cpus))
            return wrong(reading->err, "--%s: '%s' is not a list of this machine's processors", reading->name,
                         pin->text);
        at = *end == ',' ? end + 1 : end;
    }
    return *text != '\0' || wrong(reading->err, "--%s: names nobody", reading->name);
}

/* One number for both, or one each. */
static bool read_buffers(const struct reading *reading, const char *text) {
    struct link_shape *shape = &reading->options->shape;
    uint32_t *const to[] = {&shape->tcp_receive_max, &shape->tcp_send_max};
    char *copy = strdup(text), *send = copy != NULL ? strchr(copy, ',') : NULL;
    bool good = copy != NULL;
    if (send != NULL)
        *send++ = '\0';
    const char *const words[] = {copy, send != NULL ? send : copy};
    for (size_t i = 0; i < 2 && good; i++) {
        uint64_t bytes;
        good = bench_options_bytes(words[i], &bytes) && bytes >= LINK_TCP_MIN && bytes <= LINK_TCP_MAX;
        if (good)
            *to[i] = (uint32_t)bytes;
    }
    free(copy);
    return good || wrong(reading->err, "--%s: '%s' is not BYTES or RECEIVE,SEND from %u to %u", reading->name, text,
                         LINK_TCP_MIN, LINK_TCP_MAX);
}

/* It becomes a sysctl's value and part of a name. */
static bool read_congestion(const struct reading *reading, const char *text) {
    if (text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_-")] != '\0' || strlen(text) >= 16)
        return wrong(reading->err, "--%s: '%s' is not the name of a congestion control", reading->name, text);
    reading->options->shape.congestion = text;
    return true;
}

static bool read_link(const struct reading *reading, enum option_id id, const char *text) {
    struct link_shape *shape = &reading->options->shape;
    double percent;
    if (id == OPT_TCP_BUFFERS)
        return read_buffers(reading, text);
    if (id == OPT_CONGESTION)
        return read_congestion(reading, text);
    if (id == OPT_RTT)
        return read_number(reading, text, 0, 10000, &shape->rtt_ms);
    if (id == OPT_RATE)
        return read_number(reading, text, 0.01, 100000, &shape->rate_mbit);
    if (!read_number(reading, text, 0, 99, &percent))
        return false;
    shape->loss = percent / 100;
    return true;
}

static bool read_measure(const struct reading *reading, enum option_id id, const char *text) {
    struct bench_options *options = reading->options;
    uint64_t whole;
    if (id == OPT_SECONDS)
        return read_number(reading, text, 0.01, 3600, &options->seconds);
    if (id == OPT_TOLERANCE) {
        if (!read_number(reading, text, 0, 1000, &options->tolerance))
            return false;
        options->tolerance /= 100;
        return true;
    }
    if (id == OPT_SEED)
        return read_whole(reading, text, 0, UINT64_MAX, &options->seed);
    if (!read_whole(reading, text, 1, id == OPT_ROUNDS ? 1000 : UINT16_MAX, &whole))
        return false;
    if (id == OPT_ROUNDS)
        options->rounds = (unsigned)whole;
    else
        options->target_port = (uint16_t)whole;
    return true;
}

/* It goes into configurations and results as it is. */
static bool read_cipher(const struct reading *reading, const char *text) {
    for (const char *at = text; *at != '\0'; at++)
        if (*at <= ' ' || *at > '~')
            return wrong(reading->err, "--%s: '%s' is not a name", reading->name, text);
    reading->options->cipher = text;
    return true;
}

/* Options without a value, and those whose value is taken as it is. */
static void take_plain(struct bench_options *options, enum option_id id, const char *text) {
    const struct {
        enum option_id id;
        const char **to;
    } texts[] = {{OPT_BASE, &options->base}, {OPT_PEERS_FILE, &options->peers_file},
                 {OPT_JSON, &options->json}, {OPT_CSV, &options->csv},
                 {OPT_HTML, &options->html}, {OPT_PERCENTILES, &options->percentiles}};
    const struct {
        enum option_id id;
        bool *to;
    } switches[] = {{OPT_NO_NAMESPACES, &options->no_namespaces},
                    {OPT_KEEP, &options->keep},
                    {OPT_QUIET, &options->quiet},
                    {OPT_MARKDOWN, &options->markdown}};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (texts[i].id == id)
            *texts[i].to = text;
    for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++)
        if (switches[i].id == id)
            *switches[i].to = true;
    if (id >= OPT_QUICK && id <= OPT_SMOKE)
        options->size = id == OPT_QUICK ? SIZE_QUICK : id == OPT_SMOKE ? SIZE_SMOKE : SIZE_STANDARD;
}

static bool take(struct bench_options *options, enum option_id id, const char *text, FILE *err) {
    const struct reading reading = {options, err, table[id - OPT_QUICK].name};
    if ((table[id - OPT_QUICK].commands & IN(options->command)) == 0)
        return wrong(err, "--%s is not an option of '%s'", reading.name, command_names[options->command]);
    if (text != NULL && *text == '\0')
        return wrong(err, "--%s: its value is empty", reading.name);
    switch (id) {
    case OPT_PEERS:
        return read_peers(&reading, text);
    case OPT_PROGRAM:
        return read_program(&reading, text);
    case OPT_TUNNEL:
        return read_tunnel(&reading, text);
    case OPT_PIN:
        return read_pins(&reading, text);
    case OPT_CIPHER:
        return read_cipher(&reading, text);
    case OPT_RTT:
    case OPT_RATE:
    case OPT_LOSS:
    case OPT_TCP_BUFFERS:
    case OPT_CONGESTION:
        return read_link(&reading, id, text);
    case OPT_ROUNDS:
    case OPT_SECONDS:
    case OPT_SEED:
    case OPT_TARGET_PORT:
    case OPT_TOLERANCE:
        return read_measure(&reading, id, text);
    default:
        take_plain(options, id, text);
        return true;
    }
}

/* getopt(3) says what it did not like by '?' or ':' and `optopt`. */
static bool refused(int answer, char **argv, FILE *err) {
    if (optopt >= OPT_QUICK && answer == ':')
        return wrong(err, "--%s needs a value", table[optopt - OPT_QUICK].name);
    if (optopt >= OPT_QUICK)
        return wrong(err, "--%s takes no value", table[optopt - OPT_QUICK].name);
    if (optopt != 0)
        return wrong(err, "unknown option '-%c' (see --help)", optopt);
    return wrong(err, "unknown option '%s', or short for several (see --help)", argv[optind - 1]);
}

static bool read_options(struct bench_options *options, int argc, char **argv, FILE *err) {
    struct option longs[TABLE_COUNT + 1] = {{0}};
    int answer;
    for (size_t i = 0; i < TABLE_COUNT; i++)
        longs[i] = (struct option){table[i].name, table[i].has_value, NULL, (int)table[i].id};
    optind = 0; /* from the start, with GNU's order */
    opterr = 0;
    while ((answer = getopt_long(argc, argv, ":Vh", longs, NULL)) != -1) {
        if (answer == 'V' || answer == OPT_VERSION || answer == 'h' || answer == OPT_HELP) {
            options->command = answer == 'V' || answer == OPT_VERSION ? BENCH_VERSION : BENCH_HELP;
            return true;
        }
        if (answer == '?' || answer == ':')
            return refused(answer, argv, err);
        if (!take(options, (enum option_id)answer, optarg, err))
            return false;
    }
    options->words = argv + optind;
    options->word_count = (unsigned)(argc - optind);
    return true;
}

static bool check_words(const struct bench_options *options, FILE *err) {
    static const struct {
        unsigned least, most;
        const char *what;
    } wanted[] = {[BENCH_RUN] = {0, ~0u, ""},
                  [BENCH_COMPARE] = {2, 2, "two results: OLD NEW"},
                  [BENCH_REPORT] = {1, 1, "one file of results"},
                  [BENCH_LIST] = {0, 0, "nothing more"},
                  [BENCH_TARGET] = {0, 0, "nothing more"},
                  [BENCH_LOAD] = {3, 3, "down|up HOST:PORT BYTES"}};
    if (options->command >= BENCH_HELP)
        return true;
    if (options->word_count < wanted[options->command].least || options->word_count > wanted[options->command].most)
        return wrong(err, "'%s' takes %s", command_names[options->command], wanted[options->command].what);
    return true;
}

static bool check_link(const struct bench_options *options, FILE *err) {
    if (options->shape.loss > 0 && options->shape.rtt_ms <= 0 && options->shape.rate_mbit <= 0)
        return wrong(err, "--loss needs --rtt or --rate: without them there is no link to lose on");
    if (options->shape.loss > 0 && options->no_namespaces)
        return wrong(err, "--loss needs namespaces: a proxy of connections loses nothing");
    if (link_needs_namespaces(&options->shape) && options->no_namespaces)
        return wrong(err, "--tcp-buffers and --congestion are set in namespaces: a proxy of connections has none");
    return true;
}

int bench_options_read(struct bench_options *options, int argc, char **argv, FILE *err) {
    *options = (struct bench_options){
        .size = SIZE_STANDARD, .cipher = BENCH_DEFAULT_CIPHER, .tolerance = DEFAULT_TOLERANCE, .seed = 1};
    for (size_t i = 0; argc > 1 && i < sizeof(command_names) / sizeof(command_names[0]); i++) {
        if (strcmp(argv[1], command_names[i]) != 0)
            continue;
        options->command = (enum bench_command)i;
        argc--;
        argv++;
        break;
    }
    bool good = read_options(options, argc, argv, err) && check_words(options, err) && check_link(options, err);
    return good ? 0 : BENCH_USAGE;
}

void bench_options_deinit(struct bench_options *options) {
    for (unsigned i = 0; i < options->tunnel_count; i++)
        free(options->tunnels[i].name);
    free(options->client_pin.text);
    free(options->server_pin.text);
    free(options->load_pin.text);
    free(options->peers_text);
}
