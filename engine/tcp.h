#pragma once
/* What every TCP socket of ours is set to, whoever made it. */
#include <stdbool.h>
#include <stdint.h>

/* How large buffers may become: by themselves (net.ipv4.tcp_wmem and tcp_rmem), and for whoever asks
 * (net.core.wmem_max and rmem_max). Once, in the main thread before there are others and while there is a /proc;
 * without one, nothing is asked for. */
void tcp_read_limits(void);

/* TCP_NODELAY; and on a leg that does not leave this machine Reno instead of the system's congestion control: with
 * nothing to be fair to, BBR's pacing is only timers. For a connected socket. Best effort: on other stream sockets it
 * changes nothing. */
void tcp_tune(int fd);
/* connect(2) takes any port of the local range that is free. By itself Linux keeps every other port for bind(2) as long
 * as it can: from some 14 000 connections to one address on it looks through all of those that are taken for each
 * further one, which takes it a millisecond. For a socket that is not connected. Best effort: before Linux 6.8, and on
 * other sockets, nothing changes. */
void tcp_take_any_port(int fd);
/* On a short path (LIMIT_SHORT_PATH_US) the receive buffer stays at LIMIT_SHORT_PATH_BYTES: it is more than such a path
 * holds, and what autotuning would add is only a queue, in which small messages stand behind megabytes of bulk. Not for
 * a sender that is slower the more often it has to wait for room, as OpenSSH is: autotuning serves that better. For a
 * connected socket, before bulk has come. Best effort, as above. */
void tcp_keep_receive_buffer(int fd);
/* On a long path (LIMIT_LONG_PATH_US) buffers of the size that one may ask for, where that is more than autotuning
 * gives in the end. For a connected socket of somebody who has proved who he is; best effort. */
void tcp_raise_buffers(int fd);
/* A connected socket with a round trip below LIMIT_SHORT_PATH_US. */
bool tcp_path_is_short(int fd);
/* Bytes that may be under way now (the congestion window); 0: on a path that is not long (LIMIT_LONG_PATH_US), or on no
 * TCP socket. */
uint64_t tcp_long_path_bytes(int fd);
