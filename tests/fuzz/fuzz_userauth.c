/* libFuzzer: what a server reads of a client that nobody knows yet: its KEXINIT, and its authentication requests.
 *
 *   clang -g -fsanitize=fuzzer,address,undefined … fuzz_userauth.c; ./fuzz_userauth corpus/userauth
 */
#include "engine/check.h"
#include "ssh/kexinit.h"
#include "ssh/userauth.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(struct bytes bytes, const uint8_t *data, size_t size) {
    CHECK(bytes.len <= size && bytes.at >= data && bytes.at + bytes.len <= data + size);
}

static void check_kexinit(const uint8_t *data, uint32_t size) {
    struct kexinit kexinit;
    if (kexinit_parse(data, size, &kexinit))
        return;
    for (int i = 0; i < KEXINIT_LISTS; i++) {
        within(kexinit.lists[i], data, size);
        CHECK(*kexinit_offer_ciphers(kexinit.lists[i], i % 2));
    }
}

static void check_publickey(const struct userauth_request *request, const uint8_t *data, uint32_t size) {
    within(request->algorithm, data, size);
    within(request->blob, data, size);
    if (request->has_signature)
        within(request->signature_algorithm, data, size);
    CHECK(request->has_signature || !request->security_key);
    CHECK(!request->key_type || (strcmp(request->key_type, "ssh-rsa") == 0) == (request->rsa_bits > 0));
    CHECK(request->rsa_bits <= request->blob.len * 8);
    bool any = userauth_accepts("*", request), usual = userauth_accepts(NULL, request);
    CHECK(any || !usual);
    CHECK(!any || request->key_type);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct userauth_request request;
    if (size > 65536)
        return 0;
    check_kexinit(data, (uint32_t)size);
    if (userauth_parse(data, (uint32_t)size, &request))
        return 0;
    within(request.user, data, size);
    within(request.service, data, size);
    within(request.method_name, data, size);
    CHECK(!memchr(request.user.at, 0, request.user.len));
    if (request.method == USERAUTH_PUBLICKEY)
        check_publickey(&request, data, (uint32_t)size);
    return 0;
}
