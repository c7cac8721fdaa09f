#include "ssh/values.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <string.h>
#include <strings.h>

#define SERVICE_BYTES 8192 /* of one with all its other names */

bool value_flag(const char *text, bool *value) {
    bool yes = !strcasecmp(text, "yes") || !strcasecmp(text, "true");
    if (!yes && strcasecmp(text, "no") && strcasecmp(text, "false"))
        return false;
    *value = yes;
    return true;
}

/* Reads digits at *at and moves behind them. */
static bool digits_take(const char **at, uint64_t max, uint64_t *value) {
    const char *from = *at;
    uint64_t sum = 0;
    if (!isdigit((unsigned char)*from))
        return false;
    for (; isdigit((unsigned char)*from); from++) {
        uint64_t digit = (uint64_t)(*from - '0');
        if (digit > max || sum > (max - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *at = from;
    *value = sum;
    return true;
}

bool value_number(const char *text, uint64_t max, uint64_t *value) {
    uint64_t number;
    if (!digits_take(&text, max, &number) || *text)
        return false;
    *value = number;
    return true;
}

static uint64_t unit_seconds(char unit) {
    switch (tolower((unsigned char)unit)) {
    case 's':
        return 1;
    case 'm':
        return 60;
    case 'h':
        return 3600;
    case 'd':
        return 86400;
    case 'w':
        return 604800;
    default:
        return 0;
    }
}

bool value_seconds(const char *text, uint32_t *value) {
    uint64_t sum = 0, part;
    do {
        if (!digits_take(&text, INT32_MAX, &part))
            return false;
        uint64_t unit = *text ? unit_seconds(*text++) : 1;
        if (!unit || part > INT32_MAX / unit || (sum += part * unit) > INT32_MAX)
            return false;
    } while (*text);
    *value = (uint32_t)sum;
    return true;
}

bool value_size(const char *text, uint64_t *bytes) {
    static const char units[] = "KMGT";
    uint64_t number;
    if (!digits_take(&text, UINT64_MAX >> 1, &number))
        return false;
    unsigned shift = 0;
    if (*text) {
        const char *unit = strchr(units, toupper((unsigned char)*text));
        if (!unit || text[1])
            return false;
        shift = 10 * (unsigned)(unit - units + 1);
    }
    if (number > (UINT64_MAX >> 1) >> shift)
        return false;
    *bytes = number << shift;
    return true;
}

bool value_port(const char *text, uint16_t *port) {
    uint64_t number;
    if (value_number(text, UINT16_MAX, &number)) {
        *port = (uint16_t)number;
        return true;
    }
    if (!isalpha((unsigned char)*text))
        return false;
    char buffer[SERVICE_BYTES];
    struct servent space, *service;
    if (getservbyname_r(text, "tcp", &space, buffer, sizeof buffer, &service) != 0 || !service)
        return false;
    *port = ntohs((uint16_t)service->s_port);
    return true;
}
