#pragma once
/* An authenticated client that says whatever the test wants: packets of the connection protocol, right or wrong, on a
 * real connection to the world's server. Blocking. */
#include "world.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct raw_client;
/* Connects and authenticates as the world's user; a failure ends the test. */
struct raw_client *raw_connect(const struct world *world);
struct raw_client *raw_connect_as(const struct world *world, const char *user);
void raw_close(struct raw_client *client); /* the socket is closed without a word */

/* One packet: its message number first. False when the server has closed. */
bool raw_send(struct raw_client *client, const void *payload, size_t len);
/* The next packet of that type, others passed over; its payload is valid until the next call. NULL: the server has
 * ended the connection, or so many seconds went by. */
const uint8_t *raw_wait(struct raw_client *client, uint8_t type, size_t *len, double seconds);
/* The server ends the connection within so many seconds; its reason ("" without DISCONNECT), else NULL. */
const char *raw_wait_end(struct raw_client *client, double seconds);
int raw_fd(const struct raw_client *client);
/* A channel to 127.0.0.1:port: its number there. A refusal ends the test. */
uint32_t raw_open(struct raw_client *client, uint16_t port);
/* What comes as data, on any channel, is put behind one another into out from now on, and counted in *len. */
void raw_collect(struct raw_client *client, uint8_t *out, size_t cap, size_t *len);
/* So many zeros. */
bool raw_data(struct raw_client *client, uint32_t channel, uint32_t len);
