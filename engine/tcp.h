#pragma once
/* What every TCP socket of ours is set to, whoever made it. */

/* TCP_NODELAY; and on a leg that does not leave this machine Reno instead of the system's congestion control: with
 * nothing to be fair to, BBR's pacing is only timers. Best effort: on other stream sockets it changes nothing. */
void tcp_tune(int fd);
