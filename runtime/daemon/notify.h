/* What a service manager is told, and the socket it may hand over: notify_systemd.c with
 * libsystemd, notify_none.c without; the build chooses. Thread: main, io. */
#ifndef INGLE_RUNTIME_DAEMON_NOTIFY_H
#define INGLE_RUNTIME_DAEMON_NOTIFY_H
#include <stdint.h>

int ingle_notify_listen_fd(void); /* -1: none was handed over */
void ingle_notify_ready(void);
void ingle_notify_reloading(void);
void ingle_notify_stopping(void);
/* Between two signs of life at most; 0: nobody waits for any. */
uint64_t ingle_notify_watchdog_ns(void);
void ingle_notify_alive(void);

#endif
