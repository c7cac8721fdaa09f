#include "ssh/options.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

struct good {
    enum forward_kind kind;
    const char *text, *bind;
    uint16_t port;
    const char *host;
    uint16_t host_port;
};

#define L FORWARD_LOCAL
#define R FORWARD_REMOTE

static const struct good good[] = {
    {L, "10000:lan-host:80", NULL, 10000, "lan-host", 80},
    {L, "1:h:1", NULL, 1, "h", 1},
    {L, "65535:h:65535", NULL, 65535, "h", 65535},
    {L, ":10000:lan-host:80", "", 10000, "lan-host", 80},
    {L, "*:10000:lan-host:80", "*", 10000, "lan-host", 80},
    {L, "localhost:10000:lan-host:80", "localhost", 10000, "lan-host", 80},
    {L, "127.0.0.2:10000:10.0.0.1:80", "127.0.0.2", 10000, "10.0.0.1", 80},
    {L, "[::1]:10000:lan-host:80", "::1", 10000, "lan-host", 80},
    {L, "[::1]:10000:[fe80::2%eth0]:80", "::1", 10000, "fe80::2%eth0", 80},
    {L, "10000:[2001:db8::1]:80", NULL, 10000, "2001:db8::1", 80},
    {L, "[127.0.0.1]:10000:[lan-host]:80", "127.0.0.1", 10000, "lan-host", 80},
    {L, "[]:10000:lan-host:80", "", 10000, "lan-host", 80},
    {L, "[*]:10000:lan-host:80", "*", 10000, "lan-host", 80},
    {L, "http:lan-host:ssh", NULL, 80, "lan-host", 22},
    {L, " \t10000:lan-host:80", NULL, 10000, "lan-host", 80},
    {L, "10000:a\\:b:80", NULL, 10000, "a:b", 80},
    {R, "10000:workstation:22", NULL, 10000, "workstation", 22},
    {R, "0:workstation:22", NULL, 0, "workstation", 22},
    {R, ":0:workstation:22", "", 0, "workstation", 22},
    {R, "[::]:0:[::1]:22", "::", 0, "::1", 22},
};

static bool same(const char *a, const char *b) {
    return a == b || (a && b && strcmp(a, b) == 0);
}

Test(forward_spec, spellings) {
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        const struct good *g = &good[i];
        struct forward_spec spec;
        const char *why = "";
        cr_assert_eq(forward_spec_parse(g->kind, g->text, &spec, &why), 0, "'%s': %s", g->text, why);
        cr_assert(same(spec.bind, g->bind), "'%s': bind %s", g->text, spec.bind);
        cr_assert(same(spec.host, g->host), "'%s': host %s", g->text, spec.host);
        cr_assert_eq(spec.port, g->port, "'%s': port %u", g->text, spec.port);
        cr_assert_eq(spec.host_port, g->host_port, "'%s': host port %u", g->text, spec.host_port);
        cr_assert_eq(spec.kind, g->kind);
        cr_assert(same(spec.text, g->text + strspn(g->text, " \t")));
        forward_spec_deinit(&spec);
        cr_assert_null(spec.host);
    }
}

struct bad {
    enum forward_kind kind;
    const char *text;
    int error;
    const char *why; /* part of it */
};

static const struct bad bad[] = {
    {L, "", ERR_CONFIG, "must be"},
    {L, ":", ERR_CONFIG, "must be"},
    {L, "10000", ERR_CONFIG, "must be"},
    {L, "10000:80", ERR_CONFIG, "must be"},
    {L, "::", ERR_CONFIG, "listening port"},
    {L, "0:h:80", ERR_CONFIG, "port 0"},
    {L, "65536:h:80", ERR_CONFIG, "listening port"},
    {L, "-1:h:80", ERR_CONFIG, "listening port"},
    {L, "+80:h:80", ERR_CONFIG, "listening port"},
    {L, "80 :h:80", ERR_CONFIG, "listening port"},
    {L, "0x50:h:80", ERR_CONFIG, "listening port"},
    {L, "no-such-service:h:80", ERR_CONFIG, "listening port"},
    {L, "99999999999999999999:h:80", ERR_CONFIG, "listening port"},
    {L, "10000:h:0", ERR_CONFIG, "target port"},
    {L, "10000:h:65536", ERR_CONFIG, "target port"},
    {L, "10000:h:", ERR_CONFIG, "target port"},
    {R, "0:h:0", ERR_CONFIG, "target port"},
    {L, "10000::80", ERR_CONFIG, "no target host"},
    {L, "10000: h:80", ERR_CONFIG, "bad host"},
    {L, "a b:10000:h:80", ERR_CONFIG, "bad host"},
    {L, "10000:h\n:80", ERR_CONFIG, "bad host"},
    {L, "::1:10000:h:80", ERR_CONFIG, "too many fields"},
    {L, "10000:2001:db8::1:80", ERR_CONFIG, "too many fields"},
    {L, "a:1:h:80:", ERR_CONFIG, "too many fields"},
    {L, "[::1:10000:h:80", ERR_CONFIG, "without ']'"},
    {L, "[::1]x:10000:h:80", ERR_CONFIG, "between ']'"},
    {L, "10000:[::1]80", ERR_CONFIG, "between ']'"},
    {L, "10000:/run/s.sock", ERR_UNSUPPORTED, "Unix-domain"},
    {L, "/run/s.sock:h:80", ERR_UNSUPPORTED, "Unix-domain"},
    {L, "/a:/b", ERR_UNSUPPORTED, "Unix-domain"},
    {L, "127.0.0.1/10000/h/80", ERR_UNSUPPORTED, "Unix-domain"},
    {R, "10000:/run/s.sock", ERR_UNSUPPORTED, "Unix-domain"},
    {R, "10000", ERR_UNSUPPORTED, "SOCKS"},
    {R, "0", ERR_UNSUPPORTED, "SOCKS"},
    {R, "*:10000", ERR_UNSUPPORTED, "SOCKS"},
    {R, "[::1]:10000", ERR_UNSUPPORTED, "SOCKS"},
    {R, "10000:h", ERR_CONFIG, "must be"},
    {R, "", ERR_CONFIG, "must be"},
};

Test(forward_spec, bad_ones_say_why) {
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct forward_spec spec;
        const char *why = NULL;
        int error = forward_spec_parse(bad[i].kind, bad[i].text, &spec, &why);
        cr_assert_eq(error, bad[i].error, "'%s': %d (%s)", bad[i].text, error, why);
        cr_assert(why && strstr(why, bad[i].why), "'%s': %s", bad[i].text, why);
        cr_assert_null(spec.host);
        cr_assert_null(spec.text);
    }
}

Test(forward_spec, a_name_may_be_no_longer_than_the_resolver_takes) {
    char text[2048], host[1100];
    memset(host, 'a', sizeof host);
    for (unsigned len = 1023; len <= 1026; len++) {
        struct forward_spec spec;
        const char *why;
        snprintf(text, sizeof text, "1:%.*s:1", (int)len, host);
        int error = forward_spec_parse(L, text, &spec, &why);
        cr_assert_eq(error, len < 1025 ? 0 : ERR_CONFIG, "%u: %d", len, error);
        forward_spec_deinit(&spec);
    }
}

/* Whatever the bytes are, the answer is a whole specification or a reason. */
Test(forward_spec, random_text) {
    static const char alphabet[] = "0189:[]*/\\ ah.%";
    srand(7);
    for (unsigned round = 0; round < 200000; round++) {
        char text[24];
        unsigned len = (unsigned)rand() % (sizeof text - 1);
        for (unsigned i = 0; i < len; i++)
            text[i] = alphabet[(unsigned)rand() % (sizeof alphabet - 1)];
        text[len] = 0;
        struct forward_spec spec;
        const char *why = NULL;
        enum forward_kind kind = round & 1 ? L : R;
        if (forward_spec_parse(kind, text, &spec, &why) == 0) {
            cr_assert(spec.host && *spec.host && spec.host_port && spec.text, "'%s'", text);
            cr_assert(spec.port || kind == R, "'%s'", text);
        } else {
            cr_assert(why && *why, "'%s'", text);
        }
        forward_spec_deinit(&spec);
    }
}
