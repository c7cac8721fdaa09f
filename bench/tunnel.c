#include "bench/peer_data.h"
#include <arpa/inet.h>
#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define START_S 30.0
#define TAIL_LINES 5u
#define PATH_BYTES 512u

/* A tunnel that is being started, and the texts that words stand for. */
struct launch {
    struct world *world;
    const struct peer_data *data;
    const struct tunnel_options *options;
    struct tunnel *tunnel;
    bool tells;
    uint16_t listen_port, server_port;
    struct in_addr listen_address, server_address;
    struct words words;
    char dir[PATH_BYTES], listen_host[INET_ADDRSTRLEN], server_host[INET_ADDRSTRLEN], target_host[INET_ADDRSTRLEN];
    char numbers[WORD_COUNT][16];
    char *host_public_key, *user_public_key;
    char *why;
    size_t why_bytes;
};

static bool __attribute__((format(printf, 2, 3))) fail(const struct launch *launch, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(launch->why, launch->why_bytes, format, args);
    va_end(args);
    return false;
}

static const json_t *part(const struct launch *launch, const char *key) {
    return json_object_get(launch->data->json, key);
}

static void set_number(struct launch *launch, enum word word, unsigned number) {
    snprintf(launch->numbers[word], sizeof launch->numbers[word], "%u", number);
    launch->words.values[word] = launch->numbers[word];
}

static void set_host(struct launch *launch, enum word word, char *text, struct in_addr address) {
    inet_ntop(AF_INET, &address, text, INET_ADDRSTRLEN);
    launch->words.values[word] = text;
}

/* Type and text of a public key; what follows is a comment. */
static char *read_public_key(const struct world *world, const char *name) {
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", world_dir(world), name);
    char *text = world_read(path), *space = text != NULL ? strchr(text, ' ') : NULL;
    if (space != NULL)
        space[1 + strcspn(space + 1, " \n")] = '\0';
    return text;
}

static bool read_keys(struct launch *launch) {
    if (!launch->data->uses_keys && !launch->data->peer.is_ssh)
        return true;
    if (!world_keys(launch->world, launch->why, launch->why_bytes))
        return false;
    launch->host_public_key = read_public_key(launch->world, "host_key.pub");
    launch->user_public_key = read_public_key(launch->world, "user_key.pub");
    launch->words.values[WORD_HOST_PUBLIC_KEY] = launch->host_public_key;
    launch->words.values[WORD_USER_PUBLIC_KEY] = launch->user_public_key;
    return (launch->host_public_key != NULL && launch->user_public_key != NULL) ||
           fail(launch, "the throwaway keys: %s", strerror(errno));
}

/* Without a client it is the server that listens for the load. */
static bool choose_ports(struct launch *launch) {
    const struct tunnel_options *options = launch->options;
    const struct in_addr loopback = {htonl(INADDR_LOOPBACK)};
    bool has_client = launch->data->peer.has_client;
    launch->server_address = options->server_address.s_addr != 0 ? options->server_address : loopback;
    launch->listen_address = has_client ? loopback : launch->server_address;
    launch->listen_port = world_free_port();
    launch->server_port = has_client && options->server_port != 0 ? options->server_port : world_free_port();
    return (launch->listen_port != 0 && launch->server_port != 0) || fail(launch, "no free port: %s", strerror(errno));
}

static void set_words(struct launch *launch) {
    const struct tunnel_options *options = launch->options;
    const struct passwd *user = getpwuid(geteuid());
    launch->words.values[WORD_DIR] = launch->dir;
    launch->words.values[WORD_KEYS] = world_dir(launch->world);
    launch->words.values[WORD_CIPHER] = options->cipher;
    launch->words.values[WORD_REKEY] = options->rekey;
    launch->words.values[WORD_LIMIT] = options->limit;
    launch->words.values[WORD_BIN] = words_bin();
    set_host(launch, WORD_LISTEN_HOST, launch->listen_host, launch->listen_address);
    set_host(launch, WORD_SERVER_HOST, launch->server_host, launch->server_address);
    set_host(launch, WORD_TARGET_HOST, launch->target_host, options->target.sin_addr);
    set_number(launch, WORD_LISTEN_PORT, launch->listen_port);
    set_number(launch, WORD_SERVER_PORT, launch->server_port);
    set_number(launch, WORD_CONNECT_PORT,
               options->server_port_seen != 0 ? options->server_port_seen : launch->server_port);
    set_number(launch, WORD_TARGET_PORT, ntohs(options->target.sin_port));
    set_number(launch, WORD_UID, geteuid());
    set_number(launch, WORD_GID, getegid());
    launch->words.values[WORD_USER] = user != NULL ? user->pw_name : launch->numbers[WORD_UID];
    launch->words.programs = launch->data->programs;
    launch->words.program_count = launch->data->program_count;
}

static char **strings_of(const struct launch *launch, const json_t *array) {
    return peer_strings(array, &launch->words, launch->why, launch->why_bytes);
}

/* 0: it succeeded; else it failed and `output` (free it) says how, or −1 with `why`. */
static int run(const struct launch *launch, const json_t *command, char **output) {
    char **argv = strings_of(launch, command);
    *output = NULL;
    if (argv == NULL)
        return -1;
    int status = world_run((const char *const *)argv, output);
    if (status < 0)
        fail(launch, "%s: %s", argv[0], strerror(errno));
    peer_strings_free(argv);
    return status;
}

static bool write_line(const struct launch *launch, const json_t *line, FILE *out) {
    char unknown[64], *output;
    const json_t *condition = json_object_get(line, "if");
    if (condition != NULL) {
        int status = run(launch, condition, &output);
        free(output);
        if (status != 0)
            return status > 0;
        line = json_object_get(line, "line");
    }
    char *text = words_expand(&launch->words, json_string_value(line), unknown, sizeof unknown);
    if (text == NULL)
        return fail(launch, "unknown word %s", unknown);
    fprintf(out, "%s\n", text);
    free(text);
    return true;
}

static bool write_file(const struct launch *launch, const char *name, const json_t *lines) {
    char path[PATH_BYTES], *text = NULL;
    size_t len;
    bool ok = true;
    FILE *out = open_memstream(&text, &len);
    for (size_t i = 0; out != NULL && ok && i < json_array_size(lines); i++)
        ok = write_line(launch, json_array_get(lines, i), out);
    if (out == NULL || fclose(out) != 0)
        ok = fail(launch, "out of memory");
    snprintf(path, sizeof path, "%s/%s", launch->tunnel->folder, name);
    ok = ok && (world_write(launch->world, path, text) || fail(launch, "%s: %s", path, strerror(errno)));
    free(text);
    return ok;
}

static bool make_folders(const struct launch *launch) {
    const json_t *folders = part(launch, "folders");
    for (size_t i = 0; geteuid() == 0 && i < json_array_size(folders); i++) {
        const char *path = json_string_value(json_array_get(folders, i));
        if (!world_borrow_dir(launch->world, path))
            return fail(launch, "%s: %s", path, strerror(errno));
    }
    return world_make_dir(launch->world, launch->tunnel->folder) ||
           fail(launch, "%s: %s", launch->dir, strerror(errno));
}

static bool prepare(const struct launch *launch) {
    const json_t *commands = part(launch, "prepare");
    const char *name;
    json_t *lines;
    json_object_foreach(json_object_get(launch->data->json, "files"), name, lines) {
        if (!write_file(launch, name, lines))
            return false;
    }
    for (size_t i = 0; i < json_array_size(commands); i++) {
        char *output;
        int status = run(launch, json_array_get(commands, i), &output);
        if (status > 0)
            fail(launch, "%s", output);
        free(output);
        if (status != 0)
            return false;
    }
    return true;
}

/* Puts strings behind the program's name. Takes both, whatever comes. */
static char **insert(char **argv, char **more) {
    size_t count = 0, more_count = 0;
    while (argv != NULL && argv[count] != NULL)
        count++;
    while (more != NULL && more[more_count] != NULL)
        more_count++;
    char **all = argv != NULL && more != NULL ? calloc(count + more_count + 1, sizeof *all) : NULL;
    if (all == NULL) {
        peer_strings_free(argv);
        peer_strings_free(more);
        return NULL;
    }
    all[0] = argv[0];
    memcpy(all + 1, more, more_count * sizeof *all);
    memcpy(all + 1 + more_count, argv + 1, (count - 1) * sizeof *all);
    free(argv);
    free(more);
    return all;
}

static char **side_argv(const struct launch *launch, const char *side) {
    char **argv = strings_of(launch, part(launch, side));
    if (launch->options->limit != NULL && part(launch, "limit") != NULL)
        argv = insert(argv, strings_of(launch, part(launch, "limit")));
    return argv;
}

static char **client_argv(const struct launch *launch) {
    char **argv = side_argv(launch, "client");
    if (launch->options->rekey != NULL && part(launch, "rekey") != NULL)
        argv = insert(argv, strings_of(launch, part(launch, "rekey")));
    if (launch->tells)
        argv = insert(argv, strings_of(launch, json_object_get(part(launch, "negotiated"), "arguments")));
    return argv;
}

/* Starts one side and waits until it listens. Takes argv. */
static bool start_side(const struct launch *launch, const char *side, char **argv, struct process *process,
                       uint16_t port) {
    const struct tunnel_options *options = launch->options;
    bool is_client = process == &launch->tunnel->client, ok = false;
    char name[64], **environment = strings_of(launch, part(launch, "environment"));
    snprintf(name, sizeof name, "%s/%s", launch->tunnel->folder, side);
    if (argv != NULL && environment != NULL) {
        ok = world_start(launch->world, process, name, argv, environment,
                         is_client ? &options->client_place : &options->server_place);
        if (!ok)
            fail(launch, "%s: %s: %s", side, argv[0], strerror(errno));
    }
    peer_strings_free(argv);
    peer_strings_free(environment);
    if (!ok || world_wait_listening(process, port, START_S))
        return ok;
    char *tail = process_tail(process, TAIL_LINES);
    fail(launch, "the %s %s: %s", side,
         world_interrupted()      ? "was interrupted"
         : process_alive(process) ? "does not listen"
                                  : "ended",
         tail != NULL && tail[0] != '\0' ? tail : "it said nothing");
    free(tail);
    return false;
}

static bool start_both(const struct launch *launch) {
    struct tunnel *tunnel = launch->tunnel;
    const struct peer *peer = &launch->data->peer;
    return (!peer->has_server || start_side(launch, "server", side_argv(launch, "server"), &tunnel->server,
                                            peer->has_client ? launch->server_port : launch->listen_port)) &&
           (!peer->has_client ||
            start_side(launch, "client", client_argv(launch), &tunnel->client, launch->listen_port));
}

static bool start(struct launch *launch) {
    struct tunnel *tunnel = launch->tunnel;
    static unsigned started;
    snprintf(tunnel->folder, sizeof tunnel->folder, "tunnel-%u", ++started);
    snprintf(launch->dir, sizeof launch->dir, "%s/%s", world_dir(launch->world), tunnel->folder);
    if (!choose_ports(launch) || !read_keys(launch) || !make_folders(launch))
        return false;
    set_words(launch);
    tunnel->address = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr = launch->listen_address, .sin_port = htons(launch->listen_port)};
    tunnel->server_port =
        launch->options->server_port_seen != 0 ? launch->options->server_port_seen : launch->server_port;
    return prepare(launch) && start_both(launch);
}

bool tunnel_launch(struct world *world, const struct peer *peer, const struct tunnel_options *options, bool tells,
                   struct tunnel *tunnel, char *why, size_t why_bytes) {
    struct launch launch = {.world = world,
                            .data = peer_data_of(peer),
                            .options = options,
                            .tunnel = tunnel,
                            .tells = tells,
                            .why = why,
                            .why_bytes = why_bytes};
    *tunnel = (struct tunnel){.peer = peer, .address = options->target};
    if (peer->missing != NULL)
        return fail(&launch, "%s is not installed", peer->missing);
    if (!peer->has_client && !peer->has_server) {
        tunnel->is_reached_directly = true;
        return true;
    }
    bool ok = start(&launch);
    if (!ok)
        tunnel_stop(world, tunnel);
    free(launch.host_public_key);
    free(launch.user_public_key);
    return ok;
}

bool tunnel_start(struct world *world, const struct peers *peers, const struct peer *peer,
                  const struct tunnel_options *options, struct tunnel *tunnel, char *why, size_t why_bytes) {
    (void)peers;
    return tunnel_launch(world, peer, options, false, tunnel, why, why_bytes);
}

/* Both at once: an sshd that loses its client ends sessions in its own order, and leaves orphans. */
void tunnel_stop(struct world *world, struct tunnel *tunnel) {
    world_stop_both(world, &tunnel->client, &tunnel->server);
    if (tunnel->folder[0] != '\0')
        world_remove_dir(world, tunnel->folder);
    tunnel->folder[0] = '\0';
}
