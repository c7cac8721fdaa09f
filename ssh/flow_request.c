/* CHANNEL_REQUEST (RFC 4254 §5.4) in both directions: the answers we owe, and the one request of ours. Few flows ever
 * see either, so an idle one pays a pointer for each. */
#include "engine/check.h"
#include "engine/limits.h"
#include "ssh/mux_internal.h"
#include <stdlib.h>

#define ANSWERS_MAX LIMIT_GLOBAL_REQUESTS_PENDING
_Static_assert(ANSWERS_MAX % 8 == 0, "whole bytes of answers");

/* A ring of bits; freed as soon as it is empty. */
struct flow_answers {
    uint32_t first, count;
    uint8_t success[ANSWERS_MAX / 8];
};

int flow_owe_answer(struct flow *flow) {
    struct flow_answers *answers = flow->answers;
    if (!answers) {
        answers = flow->answers = calloc(1, sizeof *answers);
        if (!answers)
            return ERR_NOMEM;
    }
    if (answers->count == ANSWERS_MAX)
        return ERR_LIMIT;
    uint32_t at = (answers->first + answers->count++) % ANSWERS_MAX;
    answers->success[at / 8] &= (uint8_t) ~(1u << at % 8);
    flow_touch(flow);
    return 0;
}

void flow_answer_success(struct flow *flow) {
    struct flow_answers *answers = flow->answers;
    CHECK(answers);
    uint32_t at = (answers->first + answers->count - 1) % ANSWERS_MAX;
    answers->success[at / 8] |= (uint8_t)(1u << at % 8);
}

bool flow_take_answer(struct flow *flow) {
    struct flow_answers *answers = flow->answers;
    uint32_t at = answers->first;
    bool success = answers->success[at / 8] >> at % 8 & 1;
    answers->first = (at + 1) % ANSWERS_MAX;
    if (--answers->count == 0)
        flow_drop_answers(flow);
    return success;
}

void flow_drop_answers(struct flow *flow) {
    free(flow->answers);
    flow->answers = NULL;
}

void flow_validate_answers(const struct flow *flow) {
    const struct flow_answers *answers = flow->answers;
    CHECK(!answers || (answers->count > 0 && answers->count <= ANSWERS_MAX && answers->first < ANSWERS_MAX));
}

int flow_request(struct flow *flow, const char *name, const void *data, uint32_t len) {
    if (flow->phase != FLOW_OPEN)
        return 0;
    CHECK(!flow->text);
    uint8_t packet[MUX_CONTROL_BYTES];
    struct writer writer;
    writer_init(&writer, packet, sizeof packet);
    writer_u8(&writer, MSG_CHANNEL_REQUEST);
    writer_u32(&writer, flow->peer_id);
    writer_text(&writer, name);
    writer_bool(&writer, false);
    writer_raw(&writer, data, len);
    if (!writer_ok(&writer))
        return ERR_LENGTH;
    int result = flow_set_text(flow, packet, writer_len(&writer));
    if (result == 0)
        flow_check_tail(flow);
    return result;
}
