#pragma once
/* Bulk through pairs, away from the test: each carries what it can, near to far, unchecked. One at a time. */
#include "pair.h"

/* The pairs stay the caller's, and are left alone until pump_stop. */
void pump_start(const struct pair *pairs, unsigned count);
/* Nothing where none runs. */
void pump_stop(void);
