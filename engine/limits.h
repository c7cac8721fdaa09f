#pragma once
/* Every maximum of the program, in one place. When one is reached the program pauses reading, refuses with a reason, or
 * closes the one at fault; it never grows without end and never drops a byte silently. */
#include <stdint.h>

/* SSH wire (RFC 4253 §6). */
#define LIMIT_PACKET_BYTES 262144u    /* packet_length we accept; OpenSSH's PACKET_MAX_SIZE is 256 KiB */
#define LIMIT_VERSION_LINE_BYTES 255u /* RFC 4253 §4.2, with CR LF */
#define LIMIT_VERSION_LINES 1024u     /* lines a server may send before its version */
#define LIMIT_REKEY_PACKETS (UINT64_C(1) << 31)
#define LIMIT_REKEY_AES_BLOCKS (UINT64_C(1) << 32) /* RFC 4344 §3.2 for 128-bit blocks */
#define LIMIT_REKEY_CHACHA_BYTES (UINT64_C(1) << 30)

/* Channels (RFC 4254 §5). */
#define LIMIT_FLOWS_PER_SESSION 16384u
#define LIMIT_CHANNEL_PACKET_BYTES 32768u /* our "maximum packet size"; also the payload of one slot */
#define LIMIT_WINDOW_START_BYTES (2u << 20)
#define LIMIT_WINDOW_OPENSSH_BYTES (15u << 20) /* OpenSSH's input buffer caps at 16 MiB and collapses above it */
#define LIMIT_WINDOW_LEATD_BYTES (64u << 20)
#define LIMIT_WINDOW_BUDGET_BYTES (UINT64_C(1) << 30) /* default MemoryLimit: all granted windows of the process */
#define LIMIT_GLOBAL_REQUESTS_PENDING 1024u
#define LIMIT_HELLO_FEATURES 256u
#define LIMIT_REMOTE_FORWARDS 1024u
#define LIMIT_LOCAL_FORWARDS 1024u
#define LIMIT_FORWARDS_EVER 4096u /* of one client, those that a reload took away included */
#define LIMIT_RELOADS_KEPT 1024u  /* reloads that changed forwards */

/* Data path. */
#define LIMIT_FLOW_QUEUE_BYTES (512u << 10) /* read from an app and not yet sealed, per flow */
#define LIMIT_SLOTS_PER_SHARD 4096u         /* 32 KiB each: 128 MiB of address space, touched lazily */
#define LIMIT_SLOTS_PER_RECV 8u             /* a hot flow's vectored receive */
#define LIMIT_SEND_BATCH_BYTES (256u << 10) /* sealed for one send */
#define LIMIT_SEND_BATCH_PACKETS 256u
/* One session's receive ring: a full window towards OpenSSH and one receive more, so that a flow alone never has to be
 * moved out of it. Memory is touched as far as it is used; a ring that has drained starts again at its base. */
#define LIMIT_RING_BYTES (16u << 20)
#define LIMIT_RINGS_PER_SHARD 256u
#define LIMIT_SLICES_PER_RING 8192u
#define LIMIT_SEND_IOV 64u
#define LIMIT_SPILL_CHUNK_BYTES 65536u

/* Shards and names. */
#define LIMIT_SHARDS 256u
#define LIMIT_MAILBOX_MESSAGES 4096u
#define LIMIT_ANY_PORT_FLOWS 256u /* of a shard: below, the ports that the kernel keeps for bind(2) are left alone */
#define LIMIT_ADDRESSES_PER_NAME 32u
#define LIMIT_CONFIG_INCLUDE_DEPTH 16u /* as ssh_config(5) */
#define LIMIT_CONFIG_LINE_BYTES 65536u

/* A session's receive and send. */
#define LIMIT_RECV_BATCH_BYTES (1u << 20) /* one receive from the SSH socket */
#define LIMIT_RECV_LOW_BYTES (256u << 10) /* bulk: wake up for this much */
#define LIMIT_BULK_BYTES (256u << 10)     /* so much without a pause is bulk */
#define LIMIT_LULL_NS UINT64_C(500000)    /* what the last bytes of a batch wait at most */
/* The same while one flow has the connection to itself: nobody else waits. */
#define LIMIT_RECV_LOW_ALONE_BYTES (1u << 20)
#define LIMIT_LULL_ALONE_NS UINT64_C(2000000)
#define LIMIT_SHARED_NS UINT64_C(100000000) /* after anything else has come, it is not alone for so long */
/* And while a sparse flow shares it with bulk: what may be ahead of its next packet, on its way and at either end. */
#define LIMIT_AWAITED_RECV_BYTES (64u << 10)
#define LIMIT_AWAITED_SEND_BYTES (64u << 10)
#define LIMIT_AWAITED_NOTSENT_BYTES (64u << 10)
#define LIMIT_AWAITED_GRANT_BYTES (128u << 10) /* each flow, on a short path */
#define LIMIT_SPARSE_PACKET_BYTES 4096u        /* a sparse flow's are no larger, */
#define LIMIT_SPARSE_BYTES (32u << 10)         /* and all that it moves is no more in two windows */
#define LIMIT_SPARSE_WINDOW_NS UINT64_C(64000000)
#define LIMIT_RECV_MIN_BYTES 65536u      /* less room than this in the ring: spill the oldest slices first */
#define LIMIT_CONTROL_BYTES 65536u       /* sealed control packets in one batch */
#define LIMIT_CONTROL_PACKET_BYTES 4096u /* payload of one */
#define LIMIT_NOTSENT_BYTES (256u << 10) /* TCP_NOTSENT_LOWAT: what is queued beyond this stays ours to schedule */
/* On a long path, of what may be under way: a half for a flow that has the connection to itself, else an eighth. */
#define LIMIT_NOTSENT_ALONE_PART 2u
#define LIMIT_NOTSENT_ALONE_BYTES (16u << 20)
#define LIMIT_NOTSENT_SHARED_PART 8u
#define LIMIT_NOTSENT_SHARED_BYTES (4u << 20)
#define LIMIT_LONG_PATH_US 5000u            /* a round trip above this makes a long path */
#define LIMIT_PATH_BUFFER_BYTES (128 << 20) /* TCP's, each way, on a long path where the system allows so much */
#define LIMIT_PATH_LOOK_BYTES (1u << 20)    /* sent from one look at the path to the next */
#define LIMIT_TRIM_NS UINT64_C(1000000000)  /* memory that was not used for so long goes back to the system */
#define LIMIT_IDLE_TURNS 16u                /* of a shard in that time: it has next to nothing to do */
#define LIMIT_SHORT_PATH_US 500u            /* a round trip below this makes a short path */
#define LIMIT_SHORT_PATH_BYTES (1u << 20)   /* the kernel's receive buffer there: 1 GB/s and more, and little queue */
#define LIMIT_QUIET_NS UINT64_C(1000000000) /* without input for so long, a session gives its buffers back */
#define LIMIT_REKEY_RETRY_NS UINT64_C(10000000)   /* a rekey that is due and did not begin is asked for again */
#define LIMIT_LINGER_NS UINT64_C(2000000000)      /* an ending session waits so long for its last bytes to leave */
#define LIMIT_DIAL_NS UINT64_C(120000000000)      /* connecting to a forward's target, all its addresses together */
#define LIMIT_DIAL_STAGGER_NS UINT64_C(250000000) /* RFC 8305 §5: before the next address is tried beside the last */
#define LIMIT_DIAL_RETRY_NS UINT64_C(10000000)    /* a Unix socket's full backlog is tried again: first wait, doubled */

/* leatd. */
#define LIMIT_CONNECTIONS_PER_SHARD 16384u     /* SSH connections, handshakes included */
#define LIMIT_AUTH_REQUESTS 256u               /* USERAUTH_REQUESTs of one connection, queries for keys included */
#define LIMIT_AUTHORIZED_KEYS_BYTES (8u << 20) /* of one file */
#define LIMIT_AUTHORIZED_KEYS_LINE_BYTES 65536u
#define LIMIT_PERMISSIONS 1024u             /* PermitOpen and the like, each list */
#define LIMIT_LISTENERS_PER_CONNECTION 256u /* remote forwards of one client */
#define LIMIT_SESSION_CHANNELS 64u          /* MaxSessions is never more */
#define LIMIT_OFFLOAD_THREADS 6u
#define LIMIT_OFFLOAD_REMOTE 4u          /* of them at once in jobs that wait for other machines (name servers) */
#define LIMIT_OFFLOAD_QUEUE 4096u        /* local and remote jobs each */
#define LIMIT_LOG_QUEUE_BYTES (4u << 20) /* lines that wait for a slow log */
#define LIMIT_CONFIG_STATEMENTS 65536u   /* of leatd's configuration, all its files together */
#define LIMIT_CONFIG_ERRORS 100u         /* reported before the rest is not looked at any more */
#define LIMIT_LISTEN_ADDRESSES 256u      /* addresses of ListenAddress times their ports; Relays */
#define LIMIT_HANDSHAKE_BYTES 36864u     /* of a client's packet before it is authenticated (RFC 4253 §6.1: 35000) */
#define LIMIT_KEXINIT_WAIT_NS UINT64_C(300000000) /* a client that says no KEXINIT after its version waits for ours */
#define LIMIT_BANNER_BYTES 16384u
#define LIMIT_USER_NAME_BYTES 255u
#define LIMIT_KEY_BLOB_BYTES 8192u       /* a client's public key: RSA of 16384 bits takes a quarter of it */
#define LIMIT_USER_GROUPS 65536u         /* NGROUPS_MAX */
#define LIMIT_NSS_ENTRY_BYTES (4u << 20) /* one user or group with all its members */

/* How busy a shard is, and `Connections auto`. */
#define LIMIT_SATURATION_WINDOW_NS UINT64_C(250000000) /* looked at so often */
#define LIMIT_SATURATION_QUIET_NS UINT64_C(1000000000) /* … while nothing is busy: seen so much later when it is */
#define LIMIT_SATURATION_SAMPLES 4u                    /* so many windows are judged together */
#define LIMIT_IDLE_PERCENT 10u                         /* less is no work: who only looks waits for a processor, too */
#define LIMIT_IDLE_WINDOWS 8u                          /* … in so many: one that waits long is not idle */
#define LIMIT_SATURATED_PERCENT 90u                    /* busy */
#define LIMIT_UNSATURATED_PERCENT 75u                  /* saturated no more */
#define LIMIT_AUTO_BULK_BYTES (256u << 10)             /* several flows' in one of them are worth another connection */
#define LIMIT_AUTO_PAUSE_NS UINT64_C(1000000000)       /* from one connection that was added to the next */
#define LIMIT_AUTO_IDLE_NS UINT64_C(15000000000)       /* without flows for so long: closed */
#define LIMIT_AUTO_BACKOFF_NS UINT64_C(5000000000)     /* after a failure, doubled with each that follows */
#define LIMIT_AUTO_BACKOFF_MAX_NS UINT64_C(300000000000)
#define LIMIT_AUTO_NEW_NS UINT64_C(60000000000) /* one that is lost sooner after it was made has not stood */
#define LIMIT_UNATTENDED_HANDSHAKE_S 30u        /* all of it: nobody is asked */

/* Striped connections: one forwarded connection on several SSH connections. */
#define LIMIT_STRIPE_JOIN_BYTES (1u << 20)              /* moved before it is worth more lanes than one */
#define LIMIT_LANES_ASKED 32u                           /* of one SSH connection, and not answered: it is silent */
#define LIMIT_STRIPE_LANE_BYTES (256u << 10)            /* queued for one lane before it is asked again */
#define LIMIT_STRIPE_WINDOW_BYTES (64u << 20)           /* under way, and kept until it was taken, each way */
#define LIMIT_STRIPE_CHUNKS 4096u                       /* records that were sent and not taken, each way */
#define LIMIT_STRIPE_RETRY_NS UINT64_C(1000000000)      /* before another lane is tried after one was not to be had */
#define LIMIT_STRIPE_RETRY_MAX_NS UINT64_C(64000000000) /* twice as long each time that it was refused, up to this */
#define LIMIT_STRIPE_LINGER_NS UINT64_C(30000000000)    /* without progress, once it or its application has ended */
#define LIMIT_STRIPE_SOCKET_BYTES (128u << 10)          /* SO_SNDBUF of a lane's: what waits in it is on no other */
#define LIMIT_STRIPE_LOST 64u                           /* lanes that were lost last, said on each that is left */
#define LIMIT_STRIPES 4096u                             /* that can be joined, of one process */

/* Plain relays. */
#define LIMIT_SPLICE_PIPES_PER_SHARD 1024u
#define LIMIT_SPLICE_PIPES_SPARE 8u        /* stay open unused */
#define LIMIT_SPLICE_PIPES_LARGE 8u        /* enlarged, per shard */
#define LIMIT_SPLICE_PIPE_BYTES (1u << 20) /* to this */
#define LIMIT_SPLICE_COPY_BYTES 65536u     /* copied at once without a pipe; and less makes no useful pipe */
#define LIMIT_SPLICE_AGAIN_BYTES 65536     /* who got so much at once may find more at once */
#define LIMIT_SPLICE_TURN_BYTES (1 << 20)  /* one direction's in one turn */
#define LIMIT_SPLICE_STALL_NS                                                                                          \
    UINT64_C(200000000) /* so long, to twice as long, before a stalled relay's source is watched */
