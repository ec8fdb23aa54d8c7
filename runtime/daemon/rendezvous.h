/* Where clients find the runtime: the socket, its directory and the lock that makes this the only
 * runtime there. */
#ifndef INGLE_RUNTIME_DAEMON_RENDEZVOUS_H
#define INGLE_RUNTIME_DAEMON_RENDEZVOUS_H
#include <stdbool.h>
#include <sys/stat.h>

#include "runtime/base/error.h"
#include "shm/paths.h"

struct ingle_rendezvous {
    char path[INGLE_SOCKET_PATH_BYTES];
    int lock_fd;   /* -1: systemd owns the socket */
    int listen_fd; /* SEQPACKET, listening */
    bool inherited;
    struct stat bound; /* what we bound, to unlink that and nothing else */
};

/* path NULL: the default. On failure err says what is in the way and what to do. */
int ingle_rendezvous_open(struct ingle_rendezvous *r, const char *path,
                          struct ingle_error *err) INGLE_MUST_CHECK;
/* Unlink what was bound; the lock goes with its descriptor. */
void ingle_rendezvous_close(struct ingle_rendezvous *r);

#endif
