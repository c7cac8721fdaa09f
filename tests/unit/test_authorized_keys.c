#include "authorized_keys_rig.h"
#include "engine/limits.h"
#include "seed.h"
#include <time.h>

TestSuite(authorized_keys, .init = rig_log_init, .fini = rig_log_deinit);

struct line {
    const char *text;
    int result;
    const char *why; /* part of it; or, of a good line, its comment */
};

static const struct line lines[] = {
    /* blank, comment, plain */
    {"", 0, NULL},
    {" \t ", 0, NULL},
    {"\r", 0, NULL},
    {"# " RIG_KEY, 0, NULL},
    {"  # restrict", 0, NULL},
    {RIG_KEY, 1, ""},
    {"\t " RIG_KEY " miller@mill", 1, "miller@mill"},
    {RIG_KEY "  two words \t\r", 1, "two words"},
    {RIG_ED25519 "\t" RIG_ED25519_BLOB "\t# no comment sign here", 1, "# no comment sign here"},
    {RIG_KEY "\r", 1, ""},
    /* every option, and how it may be written */
    {"restrict " RIG_KEY, 1, ""},
    {"ReStRiCt,PORT-forwarding,No-Pty " RIG_KEY, 1, ""},
    {"agent-forwarding,no-agent-forwarding,X11-forwarding,no-X11-forwarding,pty,no-pty,user-rc,no-user-rc " RIG_KEY, 1,
     ""},
    {"command=\"echo \\\"a b\\\", c\" " RIG_KEY, 1, ""},
    {"command=\"\"\t" RIG_KEY, 1, ""},
    {"command=\"\\\\\",no-pty " RIG_KEY, ERR_CONFIG, "quote"},
    {"environment=\"A_1=b c\",environment=\"=x\" " RIG_KEY, 1, ""},
    {"tunnel=\"0\",tunnel=\"any\" " RIG_KEY, 1, ""},
    {"touch-required,no-verify-required,no-touch-required " RIG_KEY, 1, ""},
    {"from=\"192.0.2.0/24,!*.example.com\" " RIG_KEY, 1, ""},
    {"permitopen=\"[2001:db8::1]:80\",permitopen=\"h:*\",permitlisten=\"8080\",permitlisten=\"*:1\" " RIG_KEY, 1, ""},
    {"restrict, " RIG_KEY, 1, ""}, /* as sshd */
    /* malformed */
    {"restrict", ERR_CONFIG, "no key"},
    {"restrict,", ERR_CONFIG, "no key"},
    {"nonsense " RIG_KEY, ERR_CONFIG, "unknown key option"},
    {"restrict;pty " RIG_KEY, ERR_CONFIG, "unknown key option"},
    {"restrictive " RIG_KEY, ERR_CONFIG, "unknown key option"},
    {"restric " RIG_KEY, ERR_CONFIG, "unknown key option"},
    {"no-restrict " RIG_KEY, ERR_CONFIG, "unknown key option"},
    {"no- " RIG_KEY, ERR_CONFIG, "unknown key option"},
    {",restrict " RIG_KEY, ERR_CONFIG, "unknown key option"},
    {"restrict,,pty " RIG_KEY, ERR_CONFIG, "unknown key option"},
    {"restrict=\"x\" " RIG_KEY, ERR_CONFIG, "unknown key option"},
    {"command " RIG_KEY, ERR_CONFIG, "unknown key option"},
    {"command=x " RIG_KEY, ERR_CONFIG, "not in quotes"},
    {"command= \"x\" " RIG_KEY, ERR_CONFIG, "not in quotes"},
    {"command=\"x " RIG_KEY, ERR_CONFIG, "quote"},
    {"command=\"x\\\" " RIG_KEY, ERR_CONFIG, "quote"},
    {"command=\"x\"pty " RIG_KEY, ERR_CONFIG, "unknown key option"},
    {"command=\"x\",command=\"y\" " RIG_KEY, ERR_CONFIG, "more than one command="},
    {"from=\"a\",from=\"b\" " RIG_KEY, ERR_CONFIG, "more than one from="},
    {"cert-authority,principals=\"a\",principals=\"b\" " RIG_KEY, ERR_CONFIG, "more than one principals="},
    {"principals=\"a\" " RIG_KEY, ERR_CONFIG, "principals="}, /* as sshd, whatever its manual says */
    {"environment=\"1-a=b\" " RIG_KEY, ERR_CONFIG, "environment="},
    {"environment=\"a\" " RIG_KEY, ERR_CONFIG, "environment="},
    {"tunnel=\"x\" " RIG_KEY, ERR_CONFIG, "tunnel="},
    {"tunnel=\"\" " RIG_KEY, ERR_CONFIG, "tunnel="},
    {"tunnel=\"1x\" " RIG_KEY, ERR_CONFIG, "tunnel="},
    {"permitopen=\"h\" " RIG_KEY, ERR_CONFIG, ""},
    {"permitopen=\"80\" " RIG_KEY, ERR_CONFIG, ""},
    {"permitopen=\"h:0\" " RIG_KEY, ERR_CONFIG, ""},
    {"permitopen=\"none\" " RIG_KEY, ERR_CONFIG, ""},
    {"permitlisten=\"none\" " RIG_KEY, ERR_CONFIG, ""},
    {"ssh-ed25519", ERR_CONFIG, "not of the type"},
    {"ssh-ed25519 !!!!", ERR_CONFIG, "not base64"},
    {"ssh-ed25519 A", ERR_CONFIG, "not base64"},
    {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", ERR_CONFIG, "not of the type"},
    {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE", ERR_CONFIG, "not of the type"},
    {"ssh-rsa " RIG_ED25519_BLOB, ERR_CONFIG, "not of the type"},
    {"ssh-ed448 " RIG_ED25519_BLOB, ERR_CONFIG, "unknown key option"},
    {"restrict ssh-ed448 " RIG_ED25519_BLOB, ERR_CONFIG, "no key"},
    {RIG_ED25519_BLOB, ERR_CONFIG, "unknown key option"},
    /* known, and not served */
    {"cert-authority " RIG_KEY, ERR_UNSUPPORTED, "certificate authorities"},
    {"CERT-AUTHORITY,principals=\"a\" " RIG_KEY, ERR_UNSUPPORTED, "certificate authorities"},
};

Test(authorized_keys, lines) {
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        struct authorized_key key;
        const char *why = NULL;
        int result = authorized_key_parse(lines[i].text, &key, &why);
        cr_assert_eq(result, lines[i].result, "'%s': %d %s", lines[i].text, result, why ? why : "");
        if (result < 0)
            cr_assert(strstr(why, lines[i].why), "'%s': %s", lines[i].text, why);
        if (result != 1)
            continue;
        cr_assert_str_eq(key.type, RIG_ED25519);
        cr_assert_str_eq(key.blob, RIG_ED25519_BLOB);
        cr_assert_str_eq(key.comment, lines[i].why, "'%s'", lines[i].text);
        authorized_key_deinit(&key);
    }
}

struct typed {
    const char *type, *option;
    int result;
};
static const struct typed typed[] = {
    {"ssh-ed25519", "", 1},
    {"ecdsa-sha2-nistp256", "", 1},
    {"ecdsa-sha2-nistp384", "", 1},
    {"ecdsa-sha2-nistp521", "", 1},
    {"ssh-rsa", "", 1},
    {"ssh-dss", "", ERR_UNSUPPORTED},
    {"sk-ssh-ed25519@openssh.com", "", 1},
    {"sk-ecdsa-sha2-nistp256@openssh.com", "no-touch-required,verify-required ", 1},
    {"ssh-ed25519-cert-v01@openssh.com", "", ERR_UNSUPPORTED},
    {"ssh-rsa-cert-v01@openssh.com", "restrict ", ERR_UNSUPPORTED},
    {"rsa-sha2-256", "", ERR_CONFIG},
    {"-cert-v01@openssh.com", "", ERR_CONFIG},
};

Test(authorized_keys, types) {
    for (size_t i = 0; i < sizeof typed / sizeof *typed; i++) {
        char blob[BASE64_BYTES(RIG_BLOB_BYTES)], line[1024];
        snprintf(line, sizeof line, "%s%s %s", typed[i].option, typed[i].type, rig_blob(blob, typed[i].type, 7, 32));
        struct authorized_key key;
        const char *why = NULL;
        int result = authorized_key_parse(line, &key, &why);
        cr_assert_eq(result, typed[i].result, "%s: %d %s", line, result, why ? why : "");
        if (result == 1)
            authorized_key_deinit(&key);
    }
}

static void parse_well(const char *text, struct authorized_key *key) {
    const char *why = NULL;
    cr_assert_eq(authorized_key_parse(text, key, &why), 1, "'%s': %s", text, why ? why : "");
}

struct expiry {
    const char *text;
    int64_t when; /* 0: malformed */
};
static const struct expiry expiries[] = {
    {"20300102Z", 1893542400},
    {"20300102z", 1893542400},
    {"20300102utc", 1893542400},
    {"203001020304Z", 1893553440},
    {"20300102030405Z", 1893553445},
    {"20240229Z", 1709164800},
    {"20300231Z", 1898726400}, /* as sshd: the 3rd of March */
    {"99991231235959Z", 253402300799},
    {"19700101000001Z", 1},
    /* TZ is five hours west of UTC, four in summer */
    {"20300102", 1893542400 + 5 * 3600},
    {"203001020304", 1893553440 + 5 * 3600},
    {"20300702030405", 1909191845 + 4 * 3600},
    {"19700101Z", 0},
    {"19691231Z", 0},
    {"", 0},
    {"Z", 0},
    {"2030010", 0},
    {"203001020", 0},
    {"2030010203", 0},
    {"203001020304050", 0},
    {"20301301Z", 0},
    {"20300001Z", 0},
    {"20300100Z", 0},
    {"20300132Z", 0},
    {"203001022404Z", 0},
    {"203001020360Z", 0},
    {"20300102030461Z", 0},
    {"20300102ZZ", 0},
    {"2030 102Z", 0},
    {"2030-1-2", 0},
};

Test(authorized_keys, expiry_times) {
    cr_assert_eq(setenv("TZ", "EST5EDT,M3.2.0,M11.1.0", 1), 0);
    tzset();
    for (size_t i = 0; i < sizeof expiries / sizeof *expiries; i++) {
        char line[256];
        snprintf(line, sizeof line, "expiry-time=\"%s\" " RIG_KEY, expiries[i].text);
        struct authorized_key key;
        const char *why = NULL;
        int result = authorized_key_parse(line, &key, &why);
        cr_assert_eq(result, expiries[i].when ? 1 : ERR_CONFIG, "%s: %d %s", line, result, why ? why : "");
        if (result != 1)
            continue;
        cr_assert_eq(key.options.expiry_time, expiries[i].when, "%s: %ld", line, (long)key.options.expiry_time);
        authorized_key_deinit(&key);
    }
}

Test(authorized_keys, quotes_are_undone) {
    struct authorized_key key;
    parse_well("from=\"a\\\"b, c\\\\d\" " RIG_KEY, &key);
    cr_assert_str_eq(key.options.from, "a\"b, c\\\\d");
    authorized_key_deinit(&key);
}

Test(authorized_keys, permissions_are_limited) {
    char *line = calloc(1, 32 * (LIMIT_PERMISSIONS + 2) + sizeof RIG_KEY);
    for (uint32_t count = LIMIT_PERMISSIONS; count <= LIMIT_PERMISSIONS + 1; count++) {
        char *at = line;
        for (uint32_t i = 0; i < count; i++)
            at += sprintf(at, "%spermitopen=\"h:%u\"", i ? "," : "", i + 1);
        strcpy(at, " " RIG_KEY);
        struct authorized_key key;
        const char *why;
        cr_assert_eq(authorized_key_parse(line, &key, &why), count > LIMIT_PERMISSIONS ? ERR_LIMIT : 1);
        if (count > LIMIT_PERMISSIONS)
            continue;
        cr_assert_eq(key.options.permit_open.count, LIMIT_PERMISSIONS);
        authorized_key_deinit(&key);
    }
    free(line);
}

/* Random options in a row, against what each one does by itself. */
struct model {
    bool forwarding, from;
    uint32_t opens, listens;
    int64_t expiry;
    int result;
};

static void model_add(struct model *model, uint64_t *state, char **at) {
    static const char *const nothing[] = {"pty",         "no-x11-forwarding", "environment=\"A=b\\\" c,\"",
                                          "NO-PTY",      "user-rc",           "no-agent-forwarding",
                                          "tunnel=\"3\""};
    uint32_t n = random_below(state, 100);
    switch (random_below(state, 9)) {
    case 0:
        *at += sprintf(*at, "restrict");
        model->forwarding = false;
        return;
    case 1:
        *at += sprintf(*at, "Port-Forwarding");
        model->forwarding = true;
        return;
    case 2:
        *at += sprintf(*at, "no-port-forwarding");
        model->forwarding = false;
        return;
    case 3:
        *at += sprintf(*at, "permitopen=\"a host:%u\"", n + 1);
        model->opens++;
        return;
    case 4:
        *at += sprintf(*at, n & 1 ? "permitlisten=\"%u\"" : "permitlisten=\"[::1]:%u\"", n + 1);
        model->listens++;
        return;
    case 5:
        *at += sprintf(*at, "expiry-time=\"%u0101Z\"", 2000 + n);
        struct tm tm = {.tm_year = 100 + (int)n, .tm_mday = 1};
        model->expiry = timegm(&tm) < model->expiry ? timegm(&tm) : model->expiry;
        return;
    case 6:
        if (n < 10) {
            *at += sprintf(*at, "from=\"192.0.2.%u\"", n);
            model->result = model->from ? ERR_CONFIG : model->result;
            model->from = true;
            return;
        }
        /* fall through */
    default:
        *at += sprintf(*at, "%s", nothing[n % (sizeof nothing / sizeof *nothing)]);
    }
}

static void random_line(uint64_t *state) {
    char line[4096], *at = line;
    struct model model = {.forwarding = true, .expiry = INT64_MAX, .result = 1};
    uint32_t count = random_below(state, 12);
    for (uint32_t i = 0; i < count; i++) {
        if (i)
            *at++ = ',';
        model_add(&model, state, &at);
    }
    sprintf(at, "%s" RIG_KEY " end", count ? " " : "");
    struct authorized_key key;
    const char *why = NULL;
    int result = authorized_key_parse(line, &key, &why);
    cr_assert_eq(result, model.result, "'%s': %d %s", line, result, why ? why : "");
    if (result != 1)
        return;
    cr_assert_eq(key.options.forwarding, model.forwarding, "'%s'", line);
    cr_assert_eq(key.options.from != NULL, model.from, "'%s'", line);
    cr_assert_eq(key.options.permit_open.count, model.opens, "'%s'", line);
    cr_assert_eq(key.options.permit_listen.count, model.listens, "'%s'", line);
    cr_assert_eq(key.options.expiry_time, model.expiry, "'%s'", line);
    cr_assert_str_eq(key.comment, "end");
    authorized_key_deinit(&key);
}

Test(authorized_keys, random_options, .fini = seed_report) {
    seed_each(5000, random_line);
}

/* ── files, as streams ── */

#define NOW INT64_C(1900000000) /* 2030-03-17 */

static struct key_search search_for(const char *blob) {
    static struct sockaddr_storage address;
    return (struct key_search){.path = "/keys/miller",
                               .type = RIG_ED25519,
                               .blob = blob,
                               .address = rig_address(&address, "192.0.2.7"),
                               .host = "mill.example.com",
                               .now = NOW};
}

static int find_of(const struct key_search *search, const char *text, size_t len, struct key_options *options,
                   uint32_t *line) {
    FILE *stream = fmemopen((void *)(uintptr_t)text, len, "r");
    cr_assert(stream);
    int found = authorized_keys_find_stream(search, stream, options, line);
    fclose(stream);
    return found;
}

struct file {
    const char *text;
    uint32_t line;   /* 0: not found */
    const char *log; /* part of it; NULL: nothing is logged */
};
static const struct file files[] = {
    {"\n", 0, NULL},
    {RIG_KEY, 1, NULL},
    {"\n# x\n\n" RIG_KEY "\n", 4, NULL},
    {RIG_OTHER_KEY "\n" RIG_KEY "\n", 2, NULL},
    {RIG_OTHER_KEY "\n", 0, NULL},
    {RIG_KEY "\r\n", 1, NULL},
    {RIG_KEY "\n" RIG_KEY "\n", 1, NULL},
    {"nonsense " RIG_OTHER_KEY "\n" RIG_KEY "\n", 2, "/keys/miller:1: line passed over: unknown key option"},
    {"nonsense " RIG_KEY "\n" RIG_KEY "\n", 2, "/keys/miller:1: line passed over: unknown key option"},
    {"cert-authority " RIG_KEY "\n", 0, "/keys/miller:1: line passed over: certificate authorities"},
    {"from=\"192.0.2.0/24\" " RIG_KEY "\n", 1, NULL},
    {"from=\"192.0.2.7\" " RIG_KEY "\n", 1, NULL},
    {"from=\"*.example.com\" " RIG_KEY "\n", 1, NULL},
    {"from=\"198.51.100.0/24\" " RIG_KEY "\n", 0, "/keys/miller:1: the right key, but not from an address"},
    {"from=\"198.51.100.0/24\" " RIG_OTHER_KEY "\n", 0, NULL},
    {"from=\"*,!192.0.2.7\" " RIG_KEY "\n", 0, "not from an address"},
    {"from=\"192.0.2.7/24\" " RIG_KEY "\n", 0, "/keys/miller:1: line passed over"},
    {"from=\"198.51.100.0/24\" " RIG_KEY "\nrestrict " RIG_KEY "\n", 2, "/keys/miller:1: the right key"},
    {"expiry-time=\"20300317174640Z\" " RIG_KEY "\n", 1, NULL}, /* now: still good, as sshd */
    {"expiry-time=\"20300317174639Z\" " RIG_KEY "\n", 0, "/keys/miller:1: the right key, but it has expired"},
    {"expiry-time=\"20200101Z\" " RIG_OTHER_KEY "\n" RIG_KEY, 2, NULL},
    {"command=\"# " RIG_KEY "\" " RIG_OTHER_KEY "\n", 0, NULL},
    {"# " RIG_KEY "\n", 0, NULL},
    {RIG_OTHER_KEY " " RIG_ED25519_BLOB "\n", 0, NULL},
};

Test(authorized_keys, found_in_files) {
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct key_search search = search_for(RIG_ED25519_BLOB);
        struct key_options options;
        uint32_t line = 0;
        int found = find_of(&search, files[i].text, strlen(files[i].text), &options, &line);
        const char *log = rig_log();
        cr_assert_eq(found, files[i].line != 0, "'%s': %d", files[i].text, found);
        if (files[i].log)
            cr_assert(strstr(log, files[i].log), "'%s': '%s'", files[i].text, log);
        else
            cr_assert_str_eq(log, "", "'%s': '%s'", files[i].text, log);
        if (!found)
            continue;
        cr_assert_eq(line, files[i].line, "'%s': line %u", files[i].text, line);
        key_options_deinit(&options);
    }
}

Test(authorized_keys, options_are_those_of_the_line) {
    static const char text[] =
        "restrict,permitopen=\"a:1\" " RIG_OTHER_KEY "\n"
        "no-port-forwarding,permitlisten=\"2\",from=\"192.0.2.7\",expiry-time=\"20991231Z\" " RIG_KEY "\n" RIG_KEY "\n";
    struct key_search search = search_for(RIG_ED25519_BLOB);
    struct key_options options;
    uint32_t line;
    cr_assert_eq(find_of(&search, text, strlen(text), &options, &line), 1);
    cr_assert_eq(line, 2);
    cr_assert_not(options.forwarding);
    cr_assert_not(options.permit_open.restricted);
    cr_assert_eq(options.permit_listen.count, 1);
    cr_assert_str_eq(options.from, "192.0.2.7");
    cr_assert_eq(options.expiry_time, 4102358400);
    key_options_deinit(&options);
}

/* A key may be written with less padding, more of it, and with spare bits in its last digit: it is the same key. */
static bool found_as(const char *asked, const char *written) {
    char text[2 * BASE64_BYTES(RIG_BLOB_BYTES)];
    snprintf(text, sizeof text, RIG_ED25519 " %s comment\n", written);
    struct key_search search = search_for(asked);
    struct key_options options;
    uint32_t line;
    int found = find_of(&search, text, strlen(text), &options, &line);
    if (found == 1)
        key_options_deinit(&options);
    return found == 1;
}

Test(authorized_keys, spellings_of_base64) {
    for (size_t len = 30; len < 36; len++) {
        char blob[BASE64_BYTES(RIG_BLOB_BYTES)], other[sizeof blob];
        rig_blob(blob, RIG_ED25519, 'x', len);
        size_t digits = strcspn(blob, "=");
        cr_assert(found_as(blob, blob));
        snprintf(other, sizeof other, "%.*s", (int)digits, blob);
        cr_assert(found_as(blob, other), "without padding");
        cr_assert(found_as(other, blob), "asked without padding");
        snprintf(other, sizeof other, "%.*s====", (int)digits, blob);
        cr_assert(found_as(blob, other), "more padding");
        strcpy(other, blob);
        other[digits - 1] = (char)(other[digits - 1] + 1); /* 'x' ends in bits that leave room for one more */
        cr_assert_eq(found_as(blob, other), blob[digits] == '=', "spare bits of %s", blob);
        snprintf(other, sizeof other, "%.*s", (int)digits - 1, blob);
        cr_assert_not(found_as(blob, other), "cut");
        snprintf(other, sizeof other, "%.*sAAAA", (int)(digits & ~3u), blob);
        cr_assert_not(found_as(blob, other), "longer");
        other[5] = other[5] == 'A' ? 'B' : 'A';
        cr_assert_not(found_as(blob, other), "another");
        rig_log();
    }
}

Test(authorized_keys, what_is_no_key_is_in_no_file) {
    static const char *const wrong[] = {"", "=", "A", "!!!!", "AAAA"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_assert_not(found_as(wrong[i], RIG_ED25519_BLOB), "'%s'", wrong[i]);
    struct key_search search = search_for(RIG_ED25519_BLOB);
    search.type = "ssh-rsa";
    struct key_options options;
    uint32_t line;
    cr_assert_eq(find_of(&search, RIG_KEY, strlen(RIG_KEY), &options, &line), 0);
}

/* The line's limit: with the comment it may have so many bytes and no more. */
Test(authorized_keys, lines_have_a_limit) {
    size_t cap = LIMIT_AUTHORIZED_KEYS_LINE_BYTES + 2 + sizeof RIG_KEY;
    char *text = malloc(cap);
    for (size_t len = LIMIT_AUTHORIZED_KEYS_LINE_BYTES; len <= LIMIT_AUTHORIZED_KEYS_LINE_BYTES + 1; len++) {
        memset(text, 'c', len);
        memcpy(text, RIG_KEY " ", strlen(RIG_KEY " "));
        strcpy(text + len, "\n" RIG_KEY);
        struct key_search search = search_for(RIG_ED25519_BLOB);
        struct key_options options;
        uint32_t line;
        cr_assert_eq(find_of(&search, text, strlen(text), &options, &line), 1);
        bool fits = len == LIMIT_AUTHORIZED_KEYS_LINE_BYTES;
        cr_assert_eq(line, fits ? 1 : 2);
        cr_assert_eq(strstr(rig_log(), "too long") != NULL, !fits);
        key_options_deinit(&options);
    }
    free(text);
}

Test(authorized_keys, a_nul_spoils_its_line_only) {
    static const char text[] = RIG_KEY "\0 x\n" RIG_KEY "\n";
    struct key_search search = search_for(RIG_ED25519_BLOB);
    struct key_options options;
    uint32_t line;
    cr_assert_eq(find_of(&search, text, sizeof text - 1, &options, &line), 1);
    cr_assert_eq(line, 2);
    cr_assert(strstr(rig_log(), ":1: line passed over"));
    key_options_deinit(&options);
}

/* A stream that does not end is not read for ever. */
Test(authorized_keys, streams_have_a_limit) {
    size_t len = LIMIT_AUTHORIZED_KEYS_BYTES;
    char *text = malloc(len + sizeof RIG_KEY);
    memset(text, '\n', len);
    strcpy(text + len, RIG_KEY);
    struct key_search search = search_for(RIG_ED25519_BLOB);
    struct key_options options;
    uint32_t line;
    cr_assert_eq(find_of(&search, text, strlen(text), &options, &line), 0);
    cr_assert(strstr(rig_log(), "too large"));
    size_t last = len - strlen(RIG_KEY);
    memcpy(text + last, RIG_KEY, strlen(RIG_KEY));
    cr_assert_eq(find_of(&search, text, len, &options, &line), 1);
    cr_assert_eq(line, last + 1);
    key_options_deinit(&options);
    free(text);
}
