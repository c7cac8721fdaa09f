/* libFuzzer: "[bind:]port:host:hostport" and the other texts that a command line holds: a destination, a jump. The
 * first byte says which.
 *
 *   clang -g -fsanitize=fuzzer,address,undefined … fuzz_forward_spec.c; ./fuzz_forward_spec corpus/forward_spec */
#include "engine/check.h"
#include "ssh/destination.h"
#include "ssh/options.h"
#include "ssh/text.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_forward(enum forward_kind kind, const char *text) {
    struct forward_spec spec;
    const char *why = NULL;
    int error = forward_spec_parse(kind, text, &spec, &why);
    if (error) {
        CHECK((error == ERR_CONFIG || error == ERR_UNSUPPORTED) && why && !spec.host && !spec.bind && !spec.text);
        return;
    }
    CHECK(spec.kind == kind && spec.host && *spec.host && spec.host_port && spec.text);
    CHECK(spec.port || kind == FORWARD_REMOTE);
    forward_spec_deinit(&spec);
}

static void parse_destination(const char *text, bool hop) {
    struct destination destination;
    const char *why = NULL;
    int error = hop ? destination_parse_hop(text, &destination, &why) : destination_parse(text, &destination, &why);
    if (error) {
        CHECK(error == ERR_CONFIG && why && !destination.host && !destination.user);
        return;
    }
    CHECK(destination_host_sound(destination.host));
    CHECK(!destination.user || destination_user_sound(destination.user));
    CHECK(!destination.port_given || destination.port);
    destination_deinit(&destination);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    char *text = text_copy_part((const char *)data + 1, size - 1);
    switch (data[0]) {
    case 'L':
        parse_forward(FORWARD_LOCAL, text);
        break;
    case 'R':
        parse_forward(FORWARD_REMOTE, text);
        break;
    default:
        parse_destination(text, data[0] == 'J');
        break;
    }
    free(text);
    return 0;
}
