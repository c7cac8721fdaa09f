#include "ssh/address_list.h"
#include "engine/resolve.h"
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

struct network {
    int family;
    uint8_t bytes[16];
    unsigned bits; /* of the mask */
    uint32_t scope;
};

/* The longest numeric address with its scope and mask; anything longer is a pattern. */
#define ENTRY_MAX 64

static unsigned family_bits(int family) {
    return family == AF_INET ? 32 : 128;
}

/* False: of no family that has numbers. Mapped addresses become IPv4 where asked for. */
static bool network_of(const struct sockaddr *addr, bool unmap, struct network *network) {
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)addr;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)addr;
    if (!addr || (addr->sa_family != AF_INET && addr->sa_family != AF_INET6))
        return false;
    *network = (struct network){.family = addr->sa_family};
    if (addr->sa_family == AF_INET) {
        memcpy(network->bytes, &v4->sin_addr, 4);
    } else if (unmap && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
        network->family = AF_INET;
        memcpy(network->bytes, &v6->sin6_addr.s6_addr[12], 4);
    } else {
        memcpy(network->bytes, &v6->sin6_addr, 16);
        network->scope = v6->sin6_scope_id;
    }
    network->bits = family_bits(network->family);
    return true;
}

/* An interface where links have addresses of their own, else a number; 0: neither. */
static uint32_t scope_parse(const struct in6_addr *address, const char *text) {
    char *end;
    bool of_link = IN6_IS_ADDR_LINKLOCAL(address) || IN6_IS_ADDR_MC_LINKLOCAL(address);
    unsigned index = of_link ? if_nametoindex(text) : 0;
    if (index != 0 || *text < '0' || *text > '9')
        return index;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    return *end || errno || number > UINT32_MAX ? 0 : (uint32_t)number;
}

/* As getaddrinfo(3), by which sshd reads them: with scopes, and "10.1" for 10.0.0.1. But that needs memory, without
 * which a number would be taken for a name, and an excluded network for none. */
static bool number_parse(char *text, struct network *network) {
    struct in_addr v4;
    struct in6_addr v6;
    *network = (struct network){.family = AF_INET, .bits = 32};
    if (!strpbrk(text, " \t") && inet_aton(text, &v4)) {
        memcpy(network->bytes, &v4, sizeof v4);
        return true;
    }
    char *scope = strchr(text, '%');
    if (scope)
        *scope++ = 0;
    if (inet_pton(AF_INET6, text, &v6) != 1 || (scope && !(network->scope = scope_parse(&v6, scope))))
        return false;
    network->family = AF_INET6;
    network->bits = 128;
    memcpy(network->bytes, &v6, sizeof v6);
    return true;
}

/* False: no number, or more than there are bits. */
static bool mask_parse(const char *text, unsigned most, unsigned *bits) {
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    unsigned long value = strtoul(text, &end, 10);
    *bits = (unsigned)value;
    return !*end && value <= most;
}

static bool bit_at(const uint8_t *bytes, unsigned at) {
    return bytes[at / 8] >> (7 - at % 8) & 1;
}

static bool host_part_is_zero(const struct network *network) {
    for (unsigned at = network->bits; at < family_bits(network->family); at++)
        if (bit_at(network->bytes, at))
            return false;
    return true;
}

/* A network that names no scope is meant on every link. */
static bool network_has(const struct network *network, const struct network *host) {
    if (host->family != network->family || (network->scope != 0 && network->scope != host->scope))
        return false;
    for (unsigned at = 0; at < network->bits; at++)
        if (bit_at(network->bytes, at) != bit_at(host->bytes, at))
            return false;
    return true;
}

enum entry { ENTRY_NETWORK, ENTRY_PATTERN, ENTRY_WRONG };

static enum entry entry_parse(const char *text, size_t len, struct network *network, const char **why) {
    char copy[ENTRY_MAX];
    if (len == 0) {
        *why = "an entry of the list is empty";
        return ENTRY_WRONG;
    }
    if (len >= sizeof copy)
        return ENTRY_PATTERN;
    memcpy(copy, text, len);
    copy[len] = 0;
    char *mask = strchr(copy, '/');
    if (mask)
        *mask++ = 0;
    if (!number_parse(copy, network))
        return ENTRY_PATTERN;
    if (mask && !mask_parse(mask, family_bits(network->family), &network->bits)) {
        *why = "the mask is no number that fits the address";
        return ENTRY_WRONG;
    }
    if (!host_part_is_zero(network)) {
        *why = "the address has bits set behind its mask";
        return ENTRY_WRONG;
    }
    return ENTRY_NETWORK;
}

static void outweigh(enum pattern_result *result, enum pattern_result by) {
    if (by == PATTERN_NEGATED || *result == PATTERN_NONE)
        *result = by;
}

/* Numbers only. host: NULL: the list is looked through for mistakes. */
static int networks_match(const struct network *host, const char *patterns, enum pattern_result *result,
                          const char **why) {
    for (;;) {
        struct network network;
        bool negated = *patterns == '!';
        patterns += negated;
        size_t len = strcspn(patterns, ",");
        enum entry entry = entry_parse(patterns, len, &network, why);
        if (entry == ENTRY_WRONG)
            return ERR_CONFIG;
        if (host && entry == ENTRY_NETWORK && network_has(&network, host))
            outweigh(result, negated ? PATTERN_NEGATED : PATTERN_MATCHED);
        if (!patterns[len])
            return 0;
        patterns += len + 1;
    }
}

/* As getnameinfo(3) writes it, which is what patterns are compared with. */
static const char *network_text(const struct network *network, const struct sockaddr *address, char *out, size_t cap) {
    if (network->family == address->sa_family)
        return address_host(address, out, cap);
    return inet_ntop(AF_INET, network->bytes, out, (socklen_t)cap);
}

int address_list_match(const struct sockaddr *address, const char *host, const char *patterns,
                       enum pattern_result *result, const char **why) {
    struct network number;
    char text[ENTRY_MAX];
    bool known = network_of(address, true, &number);
    *result = PATTERN_NONE;
    /* Match Host has names alone: what is no address there is no mistake. */
    if (known || !host) {
        int err = networks_match(known ? &number : NULL, patterns, result, why);
        if (err < 0)
            return err;
    }
    if (known)
        outweigh(result, pattern_list_match(network_text(&number, address, text, sizeof text), patterns, true));
    if (host)
        outweigh(result, pattern_list_match(host, patterns, true));
    return 0;
}
