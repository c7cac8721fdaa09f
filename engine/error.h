#pragma once
/* The one error enum. Functions return 0 or a negative `enum err`, marked MUST_USE. errno, libssh and OpenSSL are
 * translated where they are called, once. Three classes: our bug → CHECK; the peer's or a person's fault → end that
 * flow, session or start-up with a reason; exhaustion → pause or refuse. */

#define MUST_USE __attribute__((warn_unused_result))

enum err {
    ERR_OK = 0,
    ERR_AGAIN = -1,        /* not now; state unchanged, call again after progress */
    ERR_NOMEM = -2,        /* the allocator or a pool is empty */
    ERR_LIMIT = -3,        /* a maximum of limits.h is reached */
    ERR_SYSTEM = -4,       /* a system call failed; errno was logged or kept by the caller */
    ERR_FULL = -5,         /* a bounded queue is full */
    ERR_CLOSED = -6,       /* the other side has closed */
    ERR_RESET = -7,        /* connection reset */
    ERR_REFUSED = -8,      /* connection or request refused */
    ERR_TIMEOUT = -9,      /* deadline passed */
    ERR_UNREACHABLE = -10, /* no route, no address */
    ERR_RESOLVE = -11,     /* name resolution failed */
    ERR_PROTOCOL = -12,    /* the peer broke RFC 4253/4254 */
    ERR_TAG = -13,         /* authentication tag mismatch */
    ERR_LENGTH = -14,      /* impossible packet or field length */
    ERR_CRYPTO = -15,      /* OpenSSL refused */
    ERR_KEX = -16,         /* key exchange failed (libssh's reason is logged) */
    ERR_HOSTKEY = -17,     /* host key unknown, changed or refused */
    ERR_AUTH = -18,        /* authentication failed */
    ERR_CONFIG = -19,      /* configuration or command line is wrong; file:line was reported */
    ERR_UNSUPPORTED = -20, /* known, and deliberately not done here */
    ERR_CANCELED = -21,    /* the operation was cancelled by its owner */
    ERR_ACCESS = -22,      /* permission denied */
    ERR_INUSE = -23,       /* address already in use */
    ERR_FILES = -24,       /* no descriptor is free */
};

/* Short lower-case text for a log line ("connection refused"); never NULL. */
const char *err_text(int err);

/* Translate a positive errno to an `enum err` (ECONNREFUSED → ERR_REFUSED …; what has no word of its own → ERR_SYSTEM).
 */
int err_from_errno(int error_number);
