#pragma once
/* authorized_keys of sshd(8): lines, and files with StrictModes. The file functions block: off the shards only. */
#include "engine/error.h"
#include "ssh/permission.h"
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>

/* What a key may do here; command=, environment=, pty and such grant nothing and are passed over. */
struct key_options {
    bool forwarding; /* port-forwarding: neither restrict alone nor no-port-forwarding */
    struct permission_list permit_open, permit_listen;
    char *from;          /* pattern list over addresses; NULL: anywhere */
    int64_t expiry_time; /* seconds since 1970; INT64_MAX: none */
    /* of a security key's signatures: need not have been touched; must have seen a PIN or the like */
    bool touch_waived, verify_required;
};
void key_options_init(struct key_options *options);
void key_options_deinit(struct key_options *options);

struct authorized_key {
    struct key_options options;
    char *type; /* "ssh-ed25519" */
    char *blob; /* base64, as written */
    char *comment;
};
/* One line, without its newline. 1: *key is the caller's (authorized_key_deinit); 0: blank or comment; ERR_CONFIG with
 * *why (static): malformed, or an option nobody knows (ERR_LIMIT: too many of one); ERR_UNSUPPORTED with *why: a
 * certificate authority, a key type that is not served, or a demand on the signature that cannot be checked; ERR_NOMEM.
 * Nothing is the caller's unless 1. Pure. */
MUST_USE int authorized_key_parse(const char *line, struct authorized_key *key, const char **why);
void authorized_key_deinit(struct authorized_key *key);
/* The key itself of its base64, padded or not; *blob is the caller's. ERR_LENGTH: not base64. ERR_NOMEM. */
MUST_USE int authorized_key_blob(const char *text, uint8_t **blob, size_t *len);

/* The owner of a file that is looked into: whose it must be under StrictModes. */
struct key_file_owner {
    bool known; /* the user exists on this system */
    uid_t uid;
    const char *home; /* NULL when not known */
};
/* Looks for the key in the file. 1: there, *options is the caller's, of the first line that fits and whose from= and
 * expiry-time= hold now for this client; *line_number tells which; 0: not there, or no such file; ERR_ACCESS: the file
 * was not looked into (StrictModes, unreadable, no regular file, too large): *why has the reason; ERR_NOMEM (or no
 * descriptor). Lines that
 * are malformed or unsupported are passed over with a line in the log: once per version of the file, and whenever it is
 * the line with this key. Times and addresses are the caller's so that tests can choose. */
struct key_search {
    const char *path;
    const char *type, *blob; /* of the key offered: "ssh-rsa" for every RSA signature; base64 */
    bool strict_modes;
    struct key_file_owner owner;
    const struct sockaddr *address; /* of the client */
    const char *host;
    int64_t now; /* seconds since 1970 */
};
MUST_USE int authorized_keys_find(const struct key_search *search, struct key_options *options, uint32_t *line_number,
                                  char *why, size_t why_cap);
/* The same on an open stream, without the checks of the file itself, and every bad line told; for the fuzzer and tests.
 */
MUST_USE int authorized_keys_find_stream(const struct key_search *search, FILE *stream, struct key_options *options,
                                         uint32_t *line_number);
