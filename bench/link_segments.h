/* What a TUN device with offload gives: one frame that stands for many packets of one TCP flow (a "super-packet"). It
 * is looked at as the packets that would be on a wire, and any run of them can be taken out as a frame of its own. So a
 * line loses, queues and times real packets, while whole frames cost one system call. Pure. */
#ifndef BENCH_LINK_SEGMENTS_H
#define BENCH_LINK_SEGMENTS_H

#include <stddef.h>
#include <stdint.h>

/* Beyond an IPv4 packet: struct virtio_net_hdr. */
#define SEGMENTS_FRAME_MAX (65535u + 10u)

struct segments {
    const unsigned char *frame; /* borrowed */
    uint32_t frame_bytes;
    uint32_t count;         /* packets; 0: not IPv4, to be passed over */
    uint32_t ip_bytes;      /* of the IP header, when count > 1 */
    uint32_t headers_bytes; /* IP and TCP, when count > 1 */
    uint32_t payload_max;   /* of a packet, when count > 1 */
};

/* A frame as read: struct virtio_net_hdr and an IP packet. */
void segments_parse(struct segments *segments, const void *frame, size_t frame_bytes);
/* Bytes of the IP packet that packet `index` is on the wire. */
uint32_t segments_wire_bytes(const struct segments *segments, uint32_t index);
/* The size of a frame with `count` packets from `first` on, and the frame itself, which `frame` has room for. */
uint32_t segments_run_bytes(const struct segments *segments, uint32_t first, uint32_t count);
void segments_copy_run(const struct segments *segments, uint32_t first, uint32_t count, unsigned char *frame);

#endif
