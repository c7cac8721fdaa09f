#pragma once
/* What this CPU is fast at. */
#include <stdbool.h>

bool cpu_has_aes(void); /* instructions for AES: else chacha20 is the faster cipher */
