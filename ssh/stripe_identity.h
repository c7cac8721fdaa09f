#pragma once
/* Which identities of lanes have been used. They count up, and come a little out of order, as each lane is joined over
 * an SSH connection of its own; what is further behind the newest than STRIPE_IDENTITIES_APART counts as used. Pure. */
#include <stdbool.h>
#include <stdint.h>

#define STRIPE_IDENTITIES_APART 64u

struct stripe_identities {
    uint32_t newest;
    uint64_t used; /* bit i: newest - i */
};

/* False: it was used already. From now on it is. */
static inline bool stripe_identity_use(struct stripe_identities *identities, uint32_t identity) {
    if (identity > identities->newest) {
        uint32_t further = identity - identities->newest;
        identities->used = further < STRIPE_IDENTITIES_APART ? identities->used << further : 0;
        identities->newest = identity;
    }
    uint32_t behind = identities->newest - identity;
    if (behind >= STRIPE_IDENTITIES_APART || (identities->used >> behind & 1) != 0)
        return false;
    identities->used |= UINT64_C(1) << behind;
    return true;
}
