/* A frame of many packets, and the runs of packets taken out of it. Sums and numbers are checked by other means than
 * they are made. */
#include "bench/link_segments.h"
#include "seed.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <linux/virtio_net.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <string.h>

#define PREFIX sizeof(struct virtio_net_hdr)
#define SEQUENCE 0xfffffc00u /* wraps within a frame */
#define IP_ID 65530

struct shape {
    uint32_t ip_bytes, tcp_bytes, payload_bytes, segment_bytes;
    uint8_t flags;
};

static uint32_t frame_bytes(const struct shape *shape) {
    return (uint32_t)PREFIX + shape->ip_bytes + shape->tcp_bytes + shape->payload_bytes;
}

static unsigned char content(uint32_t at) {
    return (unsigned char)(at * 7 + at / 251);
}

/* A frame in memory of exactly its size, so that a step beyond it is seen. */
static unsigned char *make_frame(const struct shape *shape) {
    unsigned char *frame = calloc(1, frame_bytes(shape)), *packet = frame + PREFIX;
    struct virtio_net_hdr prefix = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                                    .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                    .gso_size = (uint16_t)shape->segment_bytes,
                                    .csum_start = (uint16_t)shape->ip_bytes,
                                    .csum_offset = offsetof(struct tcphdr, check)};
    struct iphdr ip = {.version = 4,
                       .ihl = shape->ip_bytes / 4 & 15,
                       .ttl = 64,
                       .protocol = IPPROTO_TCP,
                       .id = htons(IP_ID),
                       .saddr = htonl(0x0a4d0001),
                       .daddr = htonl(0x0a4dfffe)};
    struct tcphdr tcp = {.seq = htonl(SEQUENCE), .doff = shape->tcp_bytes / 4 & 15};
    cr_assert_not_null(frame);
    ip.tot_len = htons((uint16_t)(frame_bytes(shape) - PREFIX));
    tcp.th_flags = shape->flags;
    memcpy(frame, &prefix, sizeof(prefix));
    memcpy(packet, &ip, sizeof(ip));
    memset(packet + sizeof(ip), 1, shape->ip_bytes - sizeof(ip)); /* options: no operation */
    memcpy(packet + shape->ip_bytes, &tcp, sizeof(tcp));
    memset(packet + shape->ip_bytes + sizeof(tcp), 1, shape->tcp_bytes - sizeof(tcp));
    for (uint32_t i = 0; i < shape->payload_bytes; i++)
        packet[shape->ip_bytes + shape->tcp_bytes + i] = content(i);
    return frame;
}

/* The sum of RFC 1071, the slow way: with carries added at once. */
static uint32_t add(uint32_t sum, const unsigned char *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        sum += i % 2 == 0 ? (uint32_t)data[i] << 8 : data[i];
        sum = sum > 0xffff ? sum - 0xffff : sum;
    }
    return sum;
}

/* What is in the field is to be the pseudo-header's sum, which the device finishes. */
static uint32_t pseudo_sum(const unsigned char *packet, uint32_t tcp_bytes) {
    unsigned char rest[4] = {0, IPPROTO_TCP, (unsigned char)(tcp_bytes >> 8), (unsigned char)tcp_bytes};
    return add(add(0, packet + 12, 8), rest, 4);
}

static void check_run(const struct shape *shape, uint32_t total, uint32_t first, uint32_t count,
                      const unsigned char *frame, uint32_t bytes) {
    uint32_t headers = shape->ip_bytes + shape->tcp_bytes, from = first * shape->segment_bytes;
    uint32_t to = first + count == total ? shape->payload_bytes : from + count * shape->segment_bytes;
    uint8_t flags = shape->flags;
    struct virtio_net_hdr prefix;
    struct iphdr ip;
    struct tcphdr tcp;
    memcpy(&prefix, frame, sizeof(prefix));
    memcpy(&ip, frame + PREFIX, sizeof(ip));
    memcpy(&tcp, frame + PREFIX + shape->ip_bytes, sizeof(tcp));
    cr_assert_eq(bytes, PREFIX + headers + to - from);
    cr_assert_eq(prefix.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    cr_assert_eq(prefix.gso_type, count > 1 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_NONE);
    cr_assert_eq(prefix.gso_size, count > 1 ? shape->segment_bytes : 0);
    cr_assert_eq(ntohs(ip.tot_len), bytes - PREFIX);
    cr_assert_eq(ntohs(ip.id), (IP_ID + first) & 0xffff);
    cr_assert_eq(add(0, frame + PREFIX, shape->ip_bytes), 0xffff, "sum of the IP header");
    cr_assert_eq(ntohl(tcp.seq), SEQUENCE + from);
    cr_assert_eq(ntohs(tcp.check), pseudo_sum(frame + PREFIX, bytes - (uint32_t)PREFIX - shape->ip_bytes));
    flags &= (uint8_t)(first + count < total ? ~(TH_FIN | TH_PUSH) : 0xff);
    flags &= (uint8_t)(first > 0 ? ~0x80 : 0xff);
    cr_assert_eq(tcp.th_flags, flags);
    for (uint32_t i = from; i < to; i++)
        cr_assert_eq(frame[PREFIX + headers + i - from], content(i));
}

static void cut_at_random(uint64_t *state) {
    struct shape shape = {.ip_bytes = 20 + 4 * random_below(state, 11),
                          .tcp_bytes = 20 + 4 * random_below(state, 11),
                          .segment_bytes = 1 + random_below(state, 1500),
                          .flags = (uint8_t)random_u32(state)};
    struct segments segments;
    unsigned char *frame;
    uint32_t wire = 0, first = 0;
    shape.payload_bytes = shape.segment_bytes + 1 + random_below(state, 65000 - 120 - shape.segment_bytes);
    frame = make_frame(&shape);
    segments_parse(&segments, frame, frame_bytes(&shape));
    cr_assert_eq(segments.count, (shape.payload_bytes + shape.segment_bytes - 1) / shape.segment_bytes);
    for (uint32_t i = 0; i < segments.count; i++)
        wire += segments_wire_bytes(&segments, i);
    cr_assert_eq(wire, shape.payload_bytes + segments.count * (shape.ip_bytes + shape.tcp_bytes));
    while (first < segments.count) {
        uint32_t count = 1 + random_below(state, random_chance(state, 2) ? 2 : segments.count - first);
        uint32_t bytes;
        unsigned char *run;
        count = count > segments.count - first ? segments.count - first : count;
        bytes = segments_run_bytes(&segments, first, count);
        run = malloc(bytes);
        cr_assert_not_null(run);
        segments_copy_run(&segments, first, count, run);
        if (count == segments.count)
            cr_assert_arr_eq(run, frame, bytes, "a whole frame is not touched");
        else
            check_run(&shape, segments.count, first, count, run, bytes);
        free(run);
        first += count;
    }
    free(frame);
}

Test(segments, random_frames_in_random_runs, .fini = seed_report) {
    seed_each(200, cut_at_random);
}

static uint32_t count_of(const unsigned char *frame, uint32_t bytes) {
    struct segments segments;
    unsigned char *copy = malloc(bytes), *out;
    cr_assert_not_null(copy);
    memcpy(copy, frame, bytes);
    segments_parse(&segments, copy, bytes);
    if (segments.count == 1) {
        cr_assert_eq(segments_wire_bytes(&segments, 0), bytes - PREFIX);
        cr_assert_eq(segments_run_bytes(&segments, 0, 1), bytes);
        out = malloc(bytes);
        cr_assert_not_null(out);
        segments_copy_run(&segments, 0, 1, out);
        cr_assert_arr_eq(out, copy, bytes);
        free(out);
    }
    free(copy);
    return segments.count;
}

Test(segments, what_cannot_be_cut_is_one_packet_or_none) {
    struct shape shape = {.ip_bytes = 20, .tcp_bytes = 32, .payload_bytes = 3000, .segment_bytes = 1448};
    unsigned char *frame = make_frame(&shape), *packet = frame + PREFIX;
    uint32_t bytes = frame_bytes(&shape);
    cr_assert_eq(count_of(frame, bytes), 3);
    cr_assert_eq(count_of(frame, PREFIX + 52), 1, "no payload");
    cr_assert_eq(count_of(frame, PREFIX + 53), 1, "one packet of one byte");
    for (uint32_t shorter = 1; shorter < PREFIX + 52; shorter++)
        cr_assert_eq(count_of(frame, shorter), shorter < PREFIX + 20 ? 0 : 1, "%u bytes", shorter);
    packet[20 + 12] = 4 << 4;
    cr_assert_eq(count_of(frame, bytes), 1, "a TCP header too short");
    packet[20 + 12] = 8 << 4;
    packet[0] = 4 << 4 | 4;
    cr_assert_eq(count_of(frame, bytes), 1, "an IP header too short");
    packet[0] = 6 << 4 | 5;
    cr_assert_eq(count_of(frame, bytes), 0, "IPv6");
    packet[0] = 4 << 4 | 5;
    packet[9] = IPPROTO_UDP;
    cr_assert_eq(count_of(frame, bytes), 1, "UDP");
    packet[9] = IPPROTO_TCP;
    frame[offsetof(struct virtio_net_hdr, gso_type)] = VIRTIO_NET_HDR_GSO_NONE;
    cr_assert_eq(count_of(frame, bytes), 1, "not to be cut");
    free(frame);
}
