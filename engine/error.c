#include "engine/error.h"
#include <errno.h>

const char *err_text(int err) {
    switch ((enum err)err) {
    case ERR_OK:
        return "success";
    case ERR_AGAIN:
        return "not ready yet";
    case ERR_NOMEM:
        return "out of memory";
    case ERR_LIMIT:
        return "limit reached";
    case ERR_FILES:
        return "too many open files";
    case ERR_SYSTEM:
        return "system error";
    case ERR_FULL:
        return "queue full";
    case ERR_CLOSED:
        return "connection closed";
    case ERR_RESET:
        return "connection reset";
    case ERR_REFUSED:
        return "connection refused";
    case ERR_TIMEOUT:
        return "timed out";
    case ERR_UNREACHABLE:
        return "unreachable";
    case ERR_RESOLVE:
        return "name not resolved";
    case ERR_PROTOCOL:
        return "protocol error";
    case ERR_TAG:
        return "message authentication failed";
    case ERR_LENGTH:
        return "bad packet length";
    case ERR_CRYPTO:
        return "cryptography error";
    case ERR_KEX:
        return "key exchange failed";
    case ERR_HOSTKEY:
        return "host key verification failed";
    case ERR_AUTH:
        return "authentication failed";
    case ERR_CONFIG:
        return "bad configuration";
    case ERR_UNSUPPORTED:
        return "not supported";
    case ERR_CANCELED:
        return "canceled";
    case ERR_ACCESS:
        return "permission denied";
    case ERR_INUSE:
        return "address already in use";
    }
    return "unknown error";
}

int err_from_errno(int error_number) {
    switch (error_number) {
    case 0:
        return ERR_OK;
    case EAGAIN:
    case EINTR:
    case EINPROGRESS:
    case EALREADY:
        return ERR_AGAIN;
    case ENOMEM:
    case ENOBUFS:
        return ERR_NOMEM;
    case EMFILE:
    case ENFILE:
        return ERR_FILES;
    case EPIPE:
        return ERR_CLOSED;
    case ECONNRESET:
    case ECONNABORTED:
        return ERR_RESET;
    case ECONNREFUSED:
        return ERR_REFUSED;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
    case EADDRNOTAVAIL:
        return ERR_UNREACHABLE;
    case EPROTONOSUPPORT:
    case EAFNOSUPPORT:
    case EOPNOTSUPP:
    case ENOSYS:
        return ERR_UNSUPPORTED;
    case ECANCELED:
        return ERR_CANCELED;
    case EACCES:
    case EPERM:
        return ERR_ACCESS;
    case EADDRINUSE:
        return ERR_INUSE;
    default:
        return ERR_SYSTEM;
    }
}
