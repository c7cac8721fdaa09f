#include "ssh/base64.h"
#include "ssh/hostname_hash.h"
#include "ssh/known_hosts.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEY_A "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define KEY_B "AAAAC3NzaC1lZDI1NTE5AAAAIBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"
#define ED "ssh-ed25519"

static char dir[] = "/tmp/leat-known-XXXXXX";
static char first[64], second[64], third[64];
static char *user_items[2] = {first, second}, *global_items[1] = {third};
static const struct string_list user = {.items = user_items, .count = 2}, global = {.items = global_items, .count = 1};

static void set_up(void) {
    cr_assert(mkdtemp(dir));
    snprintf(first, sizeof first, "%s/first", dir);
    snprintf(second, sizeof second, "%s/second", dir);
    snprintf(third, sizeof third, "%s/third", dir);
}

static void remove_all(const char *path) {
    DIR *entries = opendir(path);
    for (struct dirent *entry; entries && (entry = readdir(entries)) != NULL;) {
        char inner[512];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (unlink(inner) < 0)
            remove_all(inner);
    }
    if (entries)
        closedir(entries);
    rmdir(path);
}

static void tear_down(void) {
    remove_all(dir);
}

TestSuite(known_hosts, .init = set_up, .fini = tear_down);

static void put(const char *file, const char *text) {
    FILE *out = fopen(file, "w");
    cr_assert(out);
    cr_assert_geq(fputs(text, out), 0);
    fclose(out);
}

static const char *get(const char *file) {
    static char text[4096];
    FILE *in = fopen(file, "r");
    size_t len = in ? fread(text, 1, sizeof text - 1, in) : 0;
    if (in)
        fclose(in);
    text[len] = '\0';
    return text;
}

static struct known_hosts_answer find(const char *name, const char *type, const char *key) {
    struct known_hosts_answer answer;
    known_hosts_find(&user, &global, name, type, key, &answer);
    return answer;
}

static enum known_host verdict(const char *name) {
    return find(name, ED, KEY_A).verdict;
}

Test(known_hosts, names) {
    char name[KNOWN_HOSTS_NAME_BYTES], long_host[KNOWN_HOSTS_NAME_BYTES + 1];
    cr_assert_eq(known_hosts_name(name, "Host.Example", 22, NULL), 0);
    cr_assert_str_eq(name, "host.example");
    cr_assert_eq(known_hosts_name(name, "::1", 2222, NULL), 0);
    cr_assert_str_eq(name, "[::1]:2222");
    cr_assert_eq(known_hosts_name(name, "host", 2222, "Alias"), 0);
    cr_assert_str_eq(name, "alias", "HostKeyAlias has no port");
    memset(long_host, 'x', sizeof long_host);
    long_host[KNOWN_HOSTS_NAME_BYTES - 1] = '\0';
    cr_assert_eq(known_hosts_name(name, long_host, 22, NULL), 0);
    long_host[KNOWN_HOSTS_NAME_BYTES - 1] = 'x';
    long_host[KNOWN_HOSTS_NAME_BYTES] = '\0';
    cr_assert_eq(known_hosts_name(name, long_host, 22, NULL), ERR_LENGTH);
}

Test(known_hosts, no_files_hold_nothing) {
    cr_assert_eq(verdict("host"), KNOWN_HOST_NEW);
    cr_assert_null(find("host", ED, KEY_A).file);
}

Test(known_hosts, patterns) {
    static const struct {
        const char *hosts, *name;
        bool matches;
    } cases[] = {
        {"host", "host", true},
        {"HOST", "host", true},
        {"host", "hosts", false},
        {"hosts", "host", false},
        {"a,host,b", "host", true},
        {"*", "host", true},
        {"*.example", "host.example", true},
        {"*.example", ".example", true},
        {"*.example", "example", false},
        {"h?st", "host", true},
        {"h?st", "hst", false},
        {"*a*b*c", "xxaxxbxxc", true},
        {"*a*b*c", "xxaxxcxxb", false},
        {"*,!host", "host", false},
        {"!host,*", "host", false},
        {"!host,*", "other", true},
        {"!host", "other", false},
        {"[host]:2222", "[host]:2222", true},
        {"[host]:2222", "host", false},
        {"host", "[host]:2222", false},
        {"[*]:2222", "[host]:2222", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[256];
        snprintf(line, sizeof line, "%s " ED " " KEY_A " comment\n", cases[i].hosts);
        put(first, line);
        cr_assert_eq(verdict(cases[i].name), cases[i].matches ? KNOWN_HOST_SAME : KNOWN_HOST_NEW, "%s against %s",
                     cases[i].hosts, cases[i].name);
    }
}

Test(known_hosts, verdicts_and_places) {
    put(first, "# host " ED " " KEY_A "\n\n\n  \thost\t" ED "   " KEY_B "\r\n");
    struct known_hosts_answer answer = find("host", ED, KEY_A);
    cr_assert_eq(answer.verdict, KNOWN_HOST_CHANGED);
    cr_assert_str_eq(answer.file, first);
    cr_assert_eq(answer.line, 4);
    cr_assert_eq(find("host", "ssh-rsa", KEY_A).verdict, KNOWN_HOST_OTHER_TYPE);
    cr_assert_eq(find("host", "ecdsa-sha2-nistp256", "x").verdict, KNOWN_HOST_OTHER_TYPE);
    put(third, "host " ED " " KEY_A);
    answer = find("host", ED, KEY_A);
    cr_assert_eq(answer.verdict, KNOWN_HOST_SAME, "one matching key in any file is enough");
    cr_assert_str_eq(answer.file, third);
    cr_assert_eq(answer.line, 1);
}

Test(known_hosts, curves_are_one_type) {
    put(first, "host ecdsa-sha2-nistp384 AAAA\n");
    cr_assert_eq(find("host", "ecdsa-sha2-nistp256", "BBBB").verdict, KNOWN_HOST_CHANGED);
}

Test(known_hosts, markers) {
    put(first, "@cert-authority * " ED " " KEY_A "\n");
    cr_assert_eq(verdict("host"), KNOWN_HOST_NEW, "a CA's key is not a host's");
    put(second, "host " ED " " KEY_A "\n");
    cr_assert_eq(verdict("host"), KNOWN_HOST_SAME);
    put(third, "@revoked * " ED " " KEY_B "\n");
    cr_assert_eq(verdict("host"), KNOWN_HOST_SAME, "another key is revoked");
    put(third, "@revoked\t* " ED " " KEY_A "\n");
    cr_assert_eq(verdict("host"), KNOWN_HOST_REVOKED, "stronger than any record");
}

Test(known_hosts, lines_that_make_no_sense_are_passed_over) {
    char *long_line = calloc(1, 100000);
    memset(long_line, 'x', 99998);
    strcat(long_line, "\n");
    put(first, long_line);
    free(long_line);
    FILE *out = fopen(first, "a");
    fputs("host\nhost " ED "\n@revoked\n|1|\n|1||\n|1|AAAA|BBBB " ED " " KEY_B "\n,,, " ED " " KEY_B "\nhost " ED
          " " KEY_A,
          out);
    fclose(out);
    cr_assert_eq(verdict("host"), KNOWN_HOST_SAME);
}

/* Made with `ssh-keygen -H`. */
Test(known_hosts, hashed_names) {
    char hash[HOSTNAME_HASH_BYTES], again[HOSTNAME_HASH_BYTES];
    cr_assert(
        hostname_hash_matches("|1|zpR000op7aRw6FhJ+ONKa7q2DV4=|Hh2oW47hll52ssdlPG9yfIi0pk4=", "[127.0.0.1]:57529"));
    cr_assert_not(hostname_hash_matches("|1|zpR000op7aRw6FhJ+ONKa7q2DV4=|Hh2oW47hll52ssdlPG9yfIi0pk4=", "127.0.0.1"));
    cr_assert_eq(hostname_hash_make(hash, "host"), 0);
    cr_assert_eq(hostname_hash_make(again, "host"), 0);
    cr_assert_str_neq(hash, again, "salted");
    cr_assert(hostname_hash_matches(hash, "host"));
    cr_assert_not(hostname_hash_matches(hash, "hos"));
    cr_assert_not(hostname_hash_matches("|2|AAAA|AAAA", "host"));
    hash[strlen(hash) - 1] = '\0';
    cr_assert_not(hostname_hash_matches(hash, "host"));
}

Test(known_hosts, order_puts_known_types_first) {
    static const char all[] = "ssh-ed25519,ecdsa-sha2-nistp256,rsa-sha2-512,rsa-sha2-256";
    char out[128];
    cr_assert_eq(known_hosts_order(&user, &global, "host", all, out, sizeof out), 0);
    cr_assert_str_eq(out, all);
    put(second, "host ssh-rsa AAAA\n@revoked host ecdsa-sha2-nistp256 AAAA\nother ecdsa-sha2-nistp256 AAAA\n");
    cr_assert_eq(known_hosts_order(&user, &global, "host", all, out, sizeof out), 0);
    cr_assert_str_eq(out, "rsa-sha2-512,rsa-sha2-256,ssh-ed25519,ecdsa-sha2-nistp256");
    cr_assert_eq(known_hosts_order(&user, &global, "host", all, out, sizeof all), 0);
    cr_assert_eq(known_hosts_order(&user, &global, "host", all, out, sizeof all - 1), ERR_LENGTH);
}

Test(known_hosts, added_lines_are_found) {
    char deep[96];
    struct stat status;
    put(first, "other " ED " " KEY_B); /* without the end of its line */
    cr_assert_eq(known_hosts_add(first, "host", ED, KEY_A, false), 0);
    cr_assert_str_eq(get(first), "other " ED " " KEY_B "\nhost " ED " " KEY_A "\n");
    cr_assert_eq(known_hosts_add(first, "[hidden]:1", ED, KEY_A, true), 0);
    cr_assert_null(strstr(get(first), "hidden"));
    cr_assert_eq(find("[hidden]:1", ED, KEY_A).line, 3);
    snprintf(deep, sizeof deep, "%s/new/known_hosts", dir);
    cr_assert_eq(known_hosts_add(deep, "host", ED, KEY_A, false), 0);
    cr_assert_eq(stat(deep, &status), 0);
    cr_assert_eq(status.st_mode & 0777, 0600);
    *strrchr(deep, '/') = '\0';
    cr_assert_eq(stat(deep, &status), 0);
    cr_assert_eq(status.st_mode & 0777, 0700);
}

Test(known_hosts, what_cannot_be_written_says_so) {
    cr_assert_eq(known_hosts_add("/dev/full", "host", ED, KEY_A, false), ERR_SYSTEM);
    cr_assert_eq(known_hosts_add(dir, "host", ED, KEY_A, false), ERR_SYSTEM);
    cr_assert_eq(known_hosts_add("/nonexistent/a/b", "host", ED, KEY_A, false), ERR_SYSTEM);
}

Test(base64, rfc_4648_vectors) {
    static const char *const vectors[][2] = {{"", ""},
                                             {"f", "Zg=="},
                                             {"fo", "Zm8="},
                                             {"foo", "Zm9v"},
                                             {"foob", "Zm9vYg=="},
                                             {"fooba", "Zm9vYmE="},
                                             {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        char text[BASE64_BYTES(6)];
        uint8_t bytes[6];
        size_t len = strlen(vectors[i][0]);
        base64_encode(text, vectors[i][0], len);
        cr_assert_str_eq(text, vectors[i][1]);
        cr_assert_eq(base64_decode(bytes, len, text, strlen(text)), (int)len);
        cr_assert_arr_eq(bytes, vectors[i][0], len);
        if (len)
            cr_assert_eq(base64_decode(bytes, len - 1, text, strlen(text)), ERR_LENGTH);
    }
}

Test(base64, what_is_not_base64) {
    static const char *const bad[] = {"Z", "Zg", "Zg=", "Z===", "====", "Zg==Zg==", "Zm9\n", "Zm9-", "Z=9v", "Zg=v"};
    uint8_t bytes[16];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_eq(base64_decode(bytes, sizeof bytes, bad[i], strlen(bad[i])), ERR_LENGTH, "%s", bad[i]);
}

Test(base64, every_byte_comes_back) {
    uint8_t bytes[256], back[256];
    char text[BASE64_BYTES(256)];
    for (size_t len = 0; len <= 256; len++) {
        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)(i * 7 + len);
        base64_encode(text, bytes, len);
        cr_assert_eq(strlen(text) + 1, BASE64_BYTES(len));
        cr_assert_eq(base64_decode(back, sizeof back, text, strlen(text)), (int)len);
        cr_assert_arr_eq(back, bytes, len);
    }
}
