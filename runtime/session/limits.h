/* Every limit that io holds a client to, in one table. What each is for stands beside it; a value
 * that a client can see is also in WELCOME. */
#ifndef INGLE_RUNTIME_SESSION_LIMITS_H
#define INGLE_RUNTIME_SESSION_LIMITS_H
#include "runtime/sched/limits.h"

/* Connections. A session holds five descriptors (socket, pidfd, two memfds, eventfd). */
#define INGLE_SESSIONS_MAX     1023u /* board slots 1.. */
#define INGLE_SESSIONS_PER_UID 64u
#define INGLE_FDS_PER_SESSION  5u
#define INGLE_FDS_RESERVED     64u   /* accept pauses when fewer than these are left */
#define INGLE_HANDSHAKE_MS     2000u /* from accept to READY */
#define INGLE_GRACE_MS         5000u /* a lost socket may come back with its resume token */
#define INGLE_TENANTS_MAX      4096u
#define INGLE_STOCK_MS         5u /* after an attach, until the next one's kit is made */
#define INGLE_ACCEPT_RETRY_MS  100u

/* Traffic of one session. */
#define INGLE_SQES_PER_TURN      16u   /* taken from one ring before the next one's turn */
#define INGLE_WAKE_HZ            2000u /* doorbells a second, burst of one second's worth */
#define INGLE_BELL_MASK_MS       10u   /* how long the bell of a session over wake_hz is unheard */
#define INGLE_STALL_RETRY_MS     1u    /* look again at a completion ring that was full */
#define INGLE_REPLIES_QUEUED_MAX 64u
#define INGLE_TEXT_RECORD_BYTES  4096u /* of DETOKENIZE and TEMPLATE answers */

/* Contexts that outlive their request. A model has INGLE_CONTEXTS_MAX; what running requests may
 * need is never given away for keeping. */
#define INGLE_CONTEXTS_KEPT        (INGLE_CONTEXTS_MAX - INGLE_SEQUENCES_MAX) /* of one model */
#define INGLE_CONTEXTS_PER_SESSION 32u

/* Capability tokens of contexts: each holds one. */
#define INGLE_CAPS_PER_SESSION 16u
#define INGLE_CAPS_MAX         1024u
#define INGLE_CAP_TTL_S_MAX    86400u

/* Administration. */
#define INGLE_OPENS_WAITING_MAX 64u /* clients that wait for one model */
#define INGLE_PROGRESS_MS       100u
#define INGLE_LOG_LINES_MAX     512u

#endif
