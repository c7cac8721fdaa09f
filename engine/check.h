#pragma once
/* Assertions: on in every build, constant time, for our own bugs only. Never on peer bytes or on what a system call
 * returns. A failed check logs the expression and place, then aborts. DCHECK is for the costly ones (debug builds). */

_Noreturn void check_failed(const char *expr, const char *file, int line);

#define CHECK(expr) ((expr) ? (void)0 : check_failed(#expr, __FILE__, __LINE__))

#ifdef LEAT_DEBUG_CHECKS
#define DCHECK(expr) CHECK(expr)
#else
#define DCHECK(expr) ((void)sizeof((expr) ? 1 : 0))
#endif
