/* Without libsystemd: nobody to tell. */
#include "runtime/daemon/notify.h"

int ingle_notify_listen_fd(void)
{
    return -1;
}

void ingle_notify_ready(void)
{
}

void ingle_notify_reloading(void)
{
}

void ingle_notify_stopping(void)
{
}

uint64_t ingle_notify_watchdog_ns(void)
{
    return 0;
}

void ingle_notify_alive(void)
{
}
