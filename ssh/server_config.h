#pragma once
/* sshd_config(5) for leatd: files and -o statements, checked whole when read, then asked per connection for the options
 * that apply to it. Immutable after reading; shared by reference count, since a reload replaces it while connections
 * still ask the old one.
 *
 *   statements (with place, with the Match block they stand in) ──server_config_resolve(subject)──► server_options
 *
 * Reading reports each wrong statement in one line with file:line (ERROR) and gives ERR_CONFIG; what is accepted and
 * does nothing is one warning line. Any thread may resolve. */
#include "ssh/server_options.h"
#include <netinet/in.h>
#include <sys/socket.h>

struct server_config;

/* What Match is asked about. NULL or AF_UNSPEC where it is not known yet: such a criterion does not hold. */
struct match_subject {
    const char *user;
    const struct string_list *groups; /* names of the user's groups; NULL: not known */
    const struct sockaddr *address;   /* the client's; a numeric text for -C is parsed by the caller */
    const char *host;                 /* its name where known, else the numeric address */
    const struct sockaddr *local_address;
    uint16_t local_port;
    bool invalid_user;
};

struct server_command_line {
    const char *config_file;                                           /* -f; default /etc/leat/leatd_config */
    struct string_list host_keys;                                      /* -h */
    struct string_list statements;                                     /* -o, -p, -g … as "Keyword value", in order */
    int family;                                                        /* -4 -6 */
    bool foreground, to_stderr, test_only, print, inetd, version_only; /* -D -e -t -T -i -V */
    uint32_t debug;                                                    /* -d, counted */
    bool quiet;                                                        /* -q */
    const char *log_file;                                              /* -E */
    struct string_list connection;                                     /* -C keyword=value … */
    char *directory; /* where the program was started: relative paths keep their meaning in a reload */
};
/* 0; ERR_CONFIG: usage was printed. */
MUST_USE int server_command_line_parse(struct server_command_line *line, int argc, char **argv);
void server_command_line_deinit(struct server_command_line *line);
/* -C "user=,addr=,laddr=,lport=,host=" into a subject that points into *storage. */
struct match_storage {
    struct sockaddr_storage address, local_address;
    char *user, *host;
};
MUST_USE int server_command_line_subject(const struct server_command_line *line, struct match_storage *storage,
                                         struct match_subject *subject);
void match_storage_deinit(struct match_storage *storage);

/* ERR_CONFIG: reported. The default file may be missing, one that was named may not. */
MUST_USE int server_config_read(const struct server_command_line *line, struct server_config **config);
/* The same from a stream, for tests and the fuzzer; name stands for the file in messages. */
MUST_USE int server_config_read_stream(FILE *stream, const char *name, struct server_config **config);
struct server_config *server_config_ref(const struct server_config *config);
void server_config_unref(struct server_config *config);

/* The options of a connection; subject NULL: the global section alone. The caller's reference. NULL: out of memory, or
 * of what else it takes to read them once more (reported). */
struct server_options *server_config_resolve(const struct server_config *config, const struct match_subject *subject);
/* Does any Match look at the user's groups? Then they must be looked up before resolving. */
bool server_config_needs_groups(const struct server_config *config);
