/* sd_notify and socket activation. Owns nothing: systemd names its sockets in the environment. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "runtime/base/clock.h"
#include "runtime/daemon/notify.h"

int ingle_notify_listen_fd(void)
{
    int fd = SD_LISTEN_FDS_START;

    return sd_listen_fds(1) == 1 && sd_is_socket_unix(fd, SOCK_SEQPACKET, 1, NULL, 0) > 0 ? fd : -1;
}

void ingle_notify_ready(void)
{
    (void)sd_notify(0, "READY=1");
}

void ingle_notify_reloading(void)
{
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, ingle_clock_ns() / INGLE_NS_PER_US);
}

void ingle_notify_stopping(void)
{
    (void)sd_notify(0, "STOPPING=1");
}

uint64_t ingle_notify_watchdog_ns(void)
{
    uint64_t us;

    return sd_watchdog_enabled(0, &us) > 0 ? us * INGLE_NS_PER_US / 2 : 0;
}

void ingle_notify_alive(void)
{
    (void)sd_notify(0, "WATCHDOG=1");
}
