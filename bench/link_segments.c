#include "bench/link_segments.h"
#include <arpa/inet.h>
#include <assert.h>
#include <linux/virtio_net.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <string.h>

#define PREFIX_BYTES ((uint32_t)sizeof(struct virtio_net_hdr))
#define FLAG_CWR 0x80

static_assert(sizeof(struct virtio_net_hdr) + 65535 == SEGMENTS_FRAME_MAX, "frame of the largest packet");

static uint32_t payload_bytes(const struct segments *segments) {
    return segments->frame_bytes - PREFIX_BYTES - segments->headers_bytes;
}

/* Finds the TCP payload of a frame that is to be cut in pieces. What makes no sense stays one packet. */
static void parse_tcp(struct segments *segments, const struct virtio_net_hdr *prefix) {
    uint32_t bytes = segments->frame_bytes - PREFIX_BYTES, headers;
    struct iphdr ip;
    struct tcphdr tcp;
    memcpy(&ip, segments->frame + PREFIX_BYTES, sizeof(ip));
    if (ip.protocol != IPPROTO_TCP || ip.ihl < 5 || bytes < ip.ihl * 4u + sizeof(tcp))
        return;
    memcpy(&tcp, segments->frame + PREFIX_BYTES + ip.ihl * 4u, sizeof(tcp));
    headers = ip.ihl * 4u + tcp.doff * 4u;
    if (tcp.doff < 5 || bytes <= headers)
        return;
    segments->ip_bytes = ip.ihl * 4u;
    segments->headers_bytes = headers;
    segments->payload_max = prefix->gso_size;
    segments->count = (bytes - headers + segments->payload_max - 1) / segments->payload_max;
}

void segments_parse(struct segments *segments, const void *frame, size_t frame_bytes) {
    struct virtio_net_hdr prefix;
    assert(frame_bytes <= SEGMENTS_FRAME_MAX);
    *segments = (struct segments){.frame = frame, .frame_bytes = (uint32_t)frame_bytes};
    if (frame_bytes < PREFIX_BYTES + sizeof(struct iphdr) || segments->frame[PREFIX_BYTES] >> 4 != IPVERSION)
        return;
    segments->count = 1;
    memcpy(&prefix, frame, sizeof(prefix));
    if (prefix.gso_type == VIRTIO_NET_HDR_GSO_TCPV4 && prefix.gso_size > 0)
        parse_tcp(segments, &prefix);
}

static uint32_t run_payload(const struct segments *segments, uint32_t first, uint32_t count) {
    uint32_t rest = payload_bytes(segments) - first * segments->payload_max, whole = count * segments->payload_max;
    return rest < whole ? rest : whole;
}

uint32_t segments_wire_bytes(const struct segments *segments, uint32_t index) {
    if (segments->count == 1)
        return segments->frame_bytes - PREFIX_BYTES;
    return segments->headers_bytes + run_payload(segments, index, 1);
}

uint32_t segments_run_bytes(const struct segments *segments, uint32_t first, uint32_t count) {
    if (count == segments->count)
        return segments->frame_bytes;
    return PREFIX_BYTES + segments->headers_bytes + run_payload(segments, first, count);
}

static uint32_t sum_words(const void *data, size_t bytes) {
    const unsigned char *at = data;
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < bytes; i += 2)
        sum += (uint32_t)at[i] << 8 | at[i + 1];
    return sum;
}

static uint16_t fold(uint32_t sum) {
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* What the kernel does when it cuts a frame itself: numbers count on, FIN and PSH are the last packet's, CWR is the
 * first one's. The checksum of TCP stays as far as the device is to have made it: the sum of the pseudo-header. */
static void fix_headers(const struct segments *segments, uint32_t first, uint32_t count, unsigned char *packet,
                        uint32_t packet_bytes) {
    struct iphdr ip;
    struct tcphdr tcp;
    memcpy(&ip, packet, sizeof(ip));
    memcpy(&tcp, packet + segments->ip_bytes, sizeof(tcp));
    ip.tot_len = htons((uint16_t)packet_bytes);
    ip.id = htons((uint16_t)(ntohs(ip.id) + first));
    ip.check = 0;
    memcpy(packet, &ip, sizeof(ip));
    ip.check = htons((uint16_t)~fold(sum_words(packet, segments->ip_bytes)));
    tcp.seq = htonl(ntohl(tcp.seq) + first * segments->payload_max);
    if (first + count < segments->count)
        tcp.th_flags &= (uint8_t) ~(TH_FIN | TH_PUSH);
    if (first > 0)
        tcp.th_flags &= (uint8_t)~FLAG_CWR;
    tcp.check = htons(fold(sum_words(&ip.saddr, 8) + IPPROTO_TCP + packet_bytes - segments->ip_bytes));
    memcpy(packet, &ip, sizeof(ip));
    memcpy(packet + segments->ip_bytes, &tcp, sizeof(tcp));
}

void segments_copy_run(const struct segments *segments, uint32_t first, uint32_t count, unsigned char *frame) {
    uint32_t payload, headers_end = PREFIX_BYTES + segments->headers_bytes;
    struct virtio_net_hdr prefix;
    assert(count > 0 && first + count <= segments->count);
    if (count == segments->count) {
        memcpy(frame, segments->frame, segments->frame_bytes);
        return;
    }
    payload = run_payload(segments, first, count);
    memcpy(frame, segments->frame, headers_end);
    memcpy(frame + headers_end, segments->frame + headers_end + first * segments->payload_max, payload);
    if (count == 1) {
        memcpy(&prefix, frame, sizeof(prefix));
        prefix.gso_type = VIRTIO_NET_HDR_GSO_NONE;
        prefix.gso_size = 0;
        memcpy(frame, &prefix, sizeof(prefix));
    }
    fix_headers(segments, first, count, frame + PREFIX_BYTES, segments->headers_bytes + payload);
}
