#pragma once
/* One question of a server's authentication to login.h, asked off the shard: the job owns copies of all it needs, since
 * the connection may be gone before the answer is there. */
#include "engine/offload.h"
#include "ssh/login.h"
#include "ssh/userauth.h"

struct server_login;
typedef void server_login_fn(struct server_login *login); /* on the shard; the login is the owner's to destroy */

struct server_login_question {
    const struct server_config *config;
    const char *user;
    const struct userauth_request *key; /* NULL: is the user allowed at all? */
    const struct sockaddr *address, *local_address;
    bool wants_banner;
    server_login_fn *done;
    void *owner;
};
struct server_login {
    struct offload_job job; /* first */
    void *owner;
    server_login_fn *done;
    struct login_result result; /* the answer */
    char *banner;               /* text of the options' Banner; NULL: none, or not asked for */
    size_t banner_len;
    /* private */
    struct login_request request;
    struct sockaddr_storage address, local_address;
    struct server_config *config;
    char *user, *key_blob;
    char host[64];
    bool wants_banner;
};

/* ERR_NOMEM, ERR_LIMIT (too many questions at once): there is none, and done will not come. */
MUST_USE int server_login_start(const struct server_login_question *question, struct shard *shard,
                                struct server_login **login);
void server_login_abandon(struct server_login *login); /* before done: it frees itself */
void server_login_destroy(struct server_login *login); /* after done */
