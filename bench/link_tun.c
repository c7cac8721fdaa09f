/* The real link: devices of two network namespaces, and the loop that carries packets between them. Runs in the
 * carrier's process, one thread. Frames are carried with offload (link_segments.h), each real packet timed, queued and
 * lost by itself; what was one frame stays one as long as nothing in it is missing and it is not longer than RUN_NS on
 * the line. */
#include "bench/link_carrier.h"
#include "bench/link_segments.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEVICE_NAME "leat0"
/* Frames that may wait for us in the device, whose drops nobody counts: the first windows of thousands of flows. */
#define DEVICE_QUEUE 20000
/* A frame arrives as a whole with its last packet: longer ones are cut, so that none comes in lumps. */
#define RUN_NS 1000000u
#define FLIGHT_BYTES_MAX (256u << 20)
#define FRAMES_PER_TURN 64

static bool fail(char *why, size_t why_bytes, const char *what) {
    snprintf(why, why_bytes, "%s: %s", what, strerror(errno));
    return false;
}

static bool write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t wrote;
    if (fd < 0)
        return false;
    wrote = write(fd, text, strlen(text));
    close(fd);
    return wrote == (ssize_t)strlen(text);
}

/* Users keep their ids, so that what runs in there is still theirs and finds its files. */
static bool unshare_as_user(void) {
    char users[32], groups[32];
    snprintf(users, sizeof(users), "%u %u 1", geteuid(), geteuid());
    snprintf(groups, sizeof(groups), "%u %u 1", getegid(), getegid());
    return unshare(CLONE_NEWUSER) == 0 && write_text("/proc/self/setgroups", "deny") &&
           write_text("/proc/self/uid_map", users) && write_text("/proc/self/gid_map", groups) &&
           unshare(CLONE_NEWNET) == 0;
}

static bool unshare_network(int *userns) {
    if (unshare(CLONE_NEWNET) == 0)
        return true;
    if (errno != EPERM || !unshare_as_user())
        return false;
    *userns = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
    return *userns >= 0;
}

static void set_address(struct ifreq *request, struct in_addr address) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = address};
    memcpy(&request->ifr_addr, &in, sizeof(in));
}

static bool bring_up(int socket_fd, const char *name) {
    struct ifreq request = {.ifr_flags = IFF_UP};
    strcpy(request.ifr_name, name);
    return ioctl(socket_fd, SIOCSIFFLAGS, &request) == 0;
}

/* By netlink, as the ioctl is refused to those who are root of their user namespace alone. */
static bool set_queue_length(void) {
    struct {
        struct nlmsghdr header;
        struct ifinfomsg link;
        struct rtattr attribute;
        uint32_t length;
    } request = {
        .header = {.nlmsg_len = sizeof(request), .nlmsg_type = RTM_NEWLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
        .link = {.ifi_index = (int)if_nametoindex(DEVICE_NAME)},
        .attribute = {.rta_len = RTA_LENGTH(sizeof(uint32_t)), .rta_type = IFLA_TXQLEN},
        .length = DEVICE_QUEUE};
    struct {
        struct nlmsghdr header;
        struct nlmsgerr error;
        char rest[sizeof(request)];
    } reply;
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    bool heard = netlink >= 0 && send(netlink, &request, sizeof(request), 0) == (ssize_t)sizeof(request) &&
                 recv(netlink, &reply, sizeof(reply), 0) >= (ssize_t)offsetof(typeof(reply), rest);
    if (heard)
        errno = -reply.error.error;
    if (netlink >= 0)
        close(netlink);
    return heard && reply.error.error == 0;
}

/* Loopback and device of the namespace we are in, by a socket of it. */
static bool configure(int socket_fd, struct in_addr address) {
    struct ifreq request = {.ifr_name = DEVICE_NAME};
    set_address(&request, address);
    if (ioctl(socket_fd, SIOCSIFADDR, &request) != 0)
        return false;
    set_address(&request, (struct in_addr){htonl(0xffffff00)});
    if (ioctl(socket_fd, SIOCSIFNETMASK, &request) != 0)
        return false;
    return set_queue_length() && bring_up(socket_fd, DEVICE_NAME) && bring_up(socket_fd, "lo");
}

static int make_device(void) {
    struct ifreq request = {.ifr_name = DEVICE_NAME, .ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (ioctl(fd, TUNSETIFF, &request) == 0 && ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4) == 0)
        return fd;
    close(fd);
    return -1;
}

static bool make_end(struct tun_ends *ends, unsigned end, const struct link_shape *shape, char *why, size_t why_bytes) {
    int socket_fd;
    bool ok;
    ends->netns[end] = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (ends->netns[end] < 0)
        return fail(why, why_bytes, "/proc/self/ns/net");
    ends->device[end] = make_device();
    if (ends->device[end] < 0)
        return fail(why, why_bytes, "/dev/net/tun");
    socket_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ok = socket_fd >= 0 && configure(socket_fd, tun_address(end));
    if (!ok)
        fail(why, why_bytes, "configuring " DEVICE_NAME);
    close(socket_fd);
    return ok && link_tcp_set(shape, why, why_bytes);
}

/* Any will do: nothing else is in there. */
struct in_addr tun_address(unsigned end) {
    return (struct in_addr){htonl(0x0a4d0001 + end)}; /* 10.77.0.1 and 10.77.0.2 */
}

bool tun_make(struct tun_ends *ends, const struct link_shape *shape, char *why, size_t why_bytes) {
    ends->userns = -1;
    for (unsigned end = 0; end < 2; end++) {
        if (end == 0 ? !unshare_network(&ends->userns) : unshare(CLONE_NEWNET) != 0)
            return fail(why, why_bytes, "network namespace");
        if (!make_end(ends, end, shape, why, why_bytes))
            return false;
    }
    return true;
}

struct frame {
    struct shaper_packet packet; /* first; bytes on the wire */
    uint32_t packets, frame_bytes;
    unsigned char data[];
};

struct direction {
    int from, to;
    struct shaper shaper;
    struct shaper_flight flight;
    struct link_counters *counters;
    bool is_cut;
};

static void send_run(struct direction *direction, const struct segments *segments, uint32_t first, uint32_t count,
                     uint64_t due_ns) {
    uint32_t bytes = segments_run_bytes(segments, first, count);
    struct frame *frame = malloc(sizeof(*frame) + bytes);
    if (frame == NULL) {
        direction->counters->queue_drops += count;
        return;
    }
    segments_copy_run(segments, first, count, frame->data);
    frame->frame_bytes = bytes;
    frame->packets = count;
    frame->packet = (struct shaper_packet){.due_ns = due_ns};
    for (uint32_t i = first; i < first + count; i++)
        frame->packet.bytes += segments_wire_bytes(segments, i);
    shaper_flight_add(&direction->flight, &frame->packet);
}

/* Each packet of the frame meets its fate; those that pass travel in as few runs as they can. */
static void shape(struct direction *direction, const struct segments *segments, uint64_t now_ns) {
    uint32_t first = 0, run = 0;
    uint64_t run_ends_ns = 0, run_began_ns = 0, due_ns = 0;
    for (uint32_t i = 0; i < segments->count; i++) {
        enum shaper_fate fate = shaper_offer(&direction->shaper, now_ns, segments_wire_bytes(segments, i), &due_ns);
        if (run > 0 && (fate != SHAPER_PASSES || due_ns - run_began_ns > RUN_NS)) {
            send_run(direction, segments, first, run, run_ends_ns);
            run = 0;
        }
        if (fate == SHAPER_IS_LOST)
            direction->counters->lost++;
        else if (fate == SHAPER_FINDS_NO_ROOM)
            direction->counters->queue_drops++;
        if (fate != SHAPER_PASSES)
            continue;
        if (run++ == 0) {
            first = i;
            run_began_ns = due_ns;
        }
        run_ends_ns = due_ns;
    }
    if (run > 0)
        send_run(direction, segments, first, run, run_ends_ns);
}

/* Takes what the sending kernel has for us, a bounded part. False: the device is gone. */
static bool collect(struct direction *direction) {
    static unsigned char frame[SEGMENTS_FRAME_MAX];
    struct segments segments;
    uint64_t now_ns = carrier_now_ns();
    for (unsigned i = 0; i < FRAMES_PER_TURN; i++) {
        ssize_t bytes = read(direction->from, frame, sizeof(frame));
        if (bytes < 0)
            return errno == EAGAIN || errno == EINTR;
        segments_parse(&segments, frame, (size_t)bytes);
        if (direction->is_cut)
            direction->counters->lost += segments.count;
        else if (direction->flight.bytes > FLIGHT_BYTES_MAX)
            direction->counters->queue_drops += segments.count;
        else
            shape(direction, &segments, now_ns);
    }
    return true;
}

static void deliver(struct direction *direction, uint64_t now_ns) {
    struct shaper_packet *packet;
    while ((packet = shaper_flight_take(&direction->flight, now_ns)) != NULL) {
        struct frame *frame = (struct frame *)packet;
        if (write(direction->to, frame->data, frame->frame_bytes) == (ssize_t)frame->frame_bytes) {
            direction->counters->packets += frame->packets;
            direction->counters->bytes += packet->bytes;
        } else {
            direction->counters->queue_drops += frame->packets;
        }
        if (now_ns - packet->due_ns > CARRIER_LATE_NS)
            direction->counters->late += frame->packets;
        free(frame);
    }
}

static void cut(struct direction *direction, bool is_cut) {
    struct shaper_packet *packet;
    direction->is_cut = is_cut;
    while ((packet = shaper_flight_take(&direction->flight, SHAPER_NEVER)) != NULL) {
        direction->counters->lost += ((struct frame *)packet)->packets;
        free(packet);
    }
}

/* Comes after collect: what was sent before an order has met the link as it was then. */
static bool obey(const struct carrier *carrier, struct direction directions[2]) {
    struct carrier_request request;
    bool ended = false;
    while (carrier_request(carrier, &request, &ended)) {
        for (unsigned i = 0; i < 2 && request.order != CARRIER_PORT; i++)
            cut(&directions[i], request.order == CARRIER_CUT);
        carrier_reply(carrier, request.order == CARRIER_PORT ? EOPNOTSUPP : 0, 0);
    }
    return !ended;
}

static void wait_for(struct pollfd *polls, struct direction directions[2]) {
    uint64_t next_ns = shaper_flight_next_ns(&directions[0].flight),
             other_ns = shaper_flight_next_ns(&directions[1].flight);
    bool is_idle = next_ns == SHAPER_NEVER && other_ns == SHAPER_NEVER;
    struct timespec timeout = carrier_time_until(next_ns < other_ns ? next_ns : other_ns);
    polls[0].revents = polls[1].revents = polls[2].revents = 0;
    ppoll(polls, 3, is_idle ? NULL : &timeout, NULL);
}

void tun_carry(const struct carrier *carrier, const struct tun_ends *ends) {
    struct direction directions[2] = {{.from = ends->device[0], .to = ends->device[1], .counters = carrier->counters},
                                      {.from = ends->device[1], .to = ends->device[0], .counters = carrier->counters}};
    struct pollfd polls[3] = {{.fd = ends->device[0], .events = POLLIN},
                              {.fd = ends->device[1], .events = POLLIN},
                              {.fd = carrier->control, .events = POLLIN}};
    for (unsigned i = 0; i < 2; i++) {
        shaper_flight_init(&directions[i].flight);
        if (!carrier_shaper(carrier, i, true, &directions[i].shaper))
            return;
    }
    for (;;) {
        wait_for(polls, directions);
        for (unsigned i = 0; i < 2; i++) {
            deliver(&directions[i], carrier_now_ns());
            if (polls[i].revents != 0 && !collect(&directions[i]))
                return;
        }
        if (polls[2].revents != 0 && !obey(carrier, directions))
            return;
    }
}
