#pragma once
/* Who may log in, and with which restrictions: NSS, Match, AllowUsers and its like, authorized_keys. Blocks (files,
 * NSS): off the shards only. Knows nothing of libssh. */
#include "ssh/authorized_keys.h"
#include "ssh/server_config.h"

struct login_request {
    const struct server_config *config;
    const char *user;
    const char *key_type, *key_blob; /* base64; "ssh-rsa" for every RSA signature; NULL: is the user allowed at all? */
    uint32_t key_bits;               /* for RequiredRSASize; 0: not RSA */
    const struct sockaddr *address, *local_address;
    const char *host;
    uint16_t local_port;
    int64_t now; /* seconds since 1970 */
};
struct login_result {
    bool allowed;
    char reason[256];               /* for the log, not for the client */
    struct server_options *options; /* of this user and address; the caller's reference; NULL only when out of memory */
    struct key_options key;         /* when allowed and a key was asked about */
    char key_place[256];            /* "file:line" it was found at */
};
/* Always fills in *result; ERR_NOMEM: refused for that reason. login_result_deinit afterwards. */
MUST_USE int login_check(const struct login_request *request, struct login_result *result);
void login_result_deinit(struct login_result *result);
/* %h %u %U %% of AuthorizedKeysFile into *path, the caller's. NULL: a token cannot be expanded (the user has no home,
 * no number), the path is not absolute then, or too long. ERR_NOMEM. */
MUST_USE int login_key_path(const char *pattern, const char *user, const struct key_file_owner *owner, char **path);
