/* Peers as data: how to start a server and a client, and which forward they make. From a JSON file over built-in ones
 * (bench/peers.json, compiled in): an array with an object for each peer.
 *
 *   {"name": "leat→leatd", "about": "…", "needs": ["leat", "leatd"],
 *    "files":  {"leatd_config": ["Port {server_port}", …]},
 *    "server": ["{leatd}", "-D", "-e", "-f", "{dir}/leatd_config"],
 *    "client": ["{leat}", …, "-N", "-L", "{listen_host}:{listen_port}:{target_host}:{target_port}", "{server_host}"],
 *    "environment": ["NAME=value"], "ssh": true, "rekey": ["-o", "RekeyLimit={rekey}"], "version": [["{leat}", "-V"]]}
 *
 * "server" and "client" may each be absent: without a client the server itself listens on {listen_port} (a relay);
 * without both the load goes straight to the target (`direct`). "ssh": SSH clients may log in at {server_port} with the
 * throwaway key (jumps, idle connections). Further keys:
 *   "like": "NAME"            what this object does not say is as in that peer, which stands before it or is built in
 *   "programs": {"ssh": "/opt/openssh/bin/ssh"}   for this peer alone
 *   "prepare": [[command], …] run before the server, after the files are written
 *   "folders": ["/run/sshd"]  made for root if they are not there, and removed at the end
 *   "rekey", "negotiated": {"arguments": ["-v"], "lines": ["kex: ", …]}   arguments go behind the client's program;
 *                             lines: what its output tells about cipher and keys, from there to the end of the line
 *   "limit": ["-o", "MemoryLimit={limit}"]   behind both programs, when a scenario limits their memory
 * A line of a file may be {"line": "…", "if": [command]}: it stands where the command succeeds. A name in "needs" may
 * have alternatives ("stunnel|stunnel4": the word is the first), or be a library to preload ("libnss_wrapper.so").
 *
 * In strings: {dir} (the tunnel's own folder), {keys} (world's), {host_public_key} {user_public_key} (their type and
 * text), {listen_host} {listen_port} {server_host} {server_port} (where the server listens) {connect_port} (where the
 * client finds it: the same, but for a proxy between) {target_host} {target_port} {cipher} {rekey} {limit} {user} {uid}
 * {gid} {bin} and {PROGRAM} for each name in "needs": its path, from the command line (--program NAME=PATH), beside
 * leat-bench, or in PATH and the sbin folders. "{{" is a brace. An unknown {word} is an error with file, peer and key
 * named. */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include "bench/usage.h"
#include "bench/world.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

struct peers;

struct peer {
    const char *name, *about;
    bool is_ssh, can_rekey, can_limit, has_client, has_server;
    const char *missing; /* the program that is not installed, or NULL */
};

struct peers_options {
    const char *file;            /* NULL: built-in ones alone */
    const char *const *programs; /* "NAME=PATH", NULL-terminated, or NULL */
};

/* All peers, those of the file in place of built-in ones of the same name. NULL: `why` names file, line and peer. */
struct peers *peers_load(const struct peers_options *options, char *why, size_t why_bytes);
void peers_free(struct peers *peers);
size_t peers_count(const struct peers *peers);
const struct peer *peers_at(const struct peers *peers, size_t index);
const struct peer *peers_find(const struct peers *peers, const char *name);

struct tunnel_options {
    const char *cipher; /* SSH's name */
    const char *rekey;  /* RekeyLimit's value, or NULL: never */
    const char *limit;  /* MemoryLimit's value at both ends, or NULL: their own */
    struct sockaddr_in target;
    struct in_addr server_address; /* where the server listens and the client connects (default: loopback) */
    /* Of the server of a peer that has a client too; 0: a free one. To reach it over a proxy, this port is to be known
     * before anything listens there. */
    uint16_t server_port;
    uint16_t server_port_seen; /* 0: the client connects to the server itself; else to this port there (the proxy's) */
    struct place client_place, server_place;
};

/* A peer that runs: its forward is up. */
struct tunnel {
    const struct peer *peer;
    struct process client, server;
    struct sockaddr_in address; /* where to send the load */
    uint16_t server_port;       /* where SSH clients find it, at the server's address */
    bool is_reached_directly;   /* no process of its own */
    char folder[32];            /* its name in the world's; gone with the tunnel */
};

/* Starts both and waits until the forward listens (and, through SSH, works: the caller's load finds out). False: `why`
 * has the end of their output. */
bool tunnel_start(struct world *world, const struct peers *peers, const struct peer *peer,
                  const struct tunnel_options *options, struct tunnel *tunnel, char *why, size_t why_bytes);
void tunnel_stop(struct world *world, struct tunnel *tunnel);
/* The program's own word on what it is ("OpenSSH_9.2p1 …"), a line per "version"; and what an SSH tunnel negotiated
 * (cipher, key exchange, host key), from a short verbose run. Free both; NULL when there is none. */
char *peer_versions(const struct peers *peers, const struct peer *peer);
char *peer_negotiated(struct world *world, const struct peers *peers, const struct peer *peer,
                      const struct tunnel_options *options);

#endif
