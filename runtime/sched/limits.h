/* Every bound of the scheduler in one table. */
#ifndef INGLE_RUNTIME_SCHED_LIMITS_H
#define INGLE_RUNTIME_SCHED_LIMITS_H
#include "runtime/sched/sched.h"

#define INGLE_SEQUENCES_MAX  64u   /* running at once */
#define INGLE_CONTEXTS_MAX   128u  /* per engine, kept ones included */
#define INGLE_BATCH_TOKENS   1024u /* rows of one step, at most */
#define INGLE_SHARED_TOKENS  256u  /* .. where somebody waits for a token; of a worker elsewhere */
#define INGLE_QUEUE_MESSAGES 8192u /* each way between io and step */
#define INGLE_HANDLES_MAX    2048u /* contexts that have an id, over all engines */
#define INGLE_EOG_MAX        32u
#define INGLE_NULL_VOCAB     1024u
#define INGLE_NULL_CONTEXT   8192u
#define INGLE_PARKED_POLL_NS \
    500000 /* how often a full token ring is looked at when nothing else runs */

/* Of the layers: a model of so many weights takes long enough for a step of 256 rows. */
#define INGLE_LARGE_WEIGHTS (1u << 30)

/* options (NULL: none) with every zero field replaced by its default. */
static inline struct ingle_sched_options ingle_sched_limits(
    const struct ingle_sched_options *options)
{
    struct ingle_sched_options o = options != NULL ? *options : (struct ingle_sched_options){0};

    o.sequences_max = o.sequences_max != 0 ? o.sequences_max : INGLE_SEQUENCES_MAX;
    o.contexts_max = o.contexts_max != 0 ? o.contexts_max : INGLE_CONTEXTS_MAX;
    o.batch_tokens = o.batch_tokens != 0 ? o.batch_tokens : INGLE_BATCH_TOKENS;
    o.queue_messages = o.queue_messages != 0 ? o.queue_messages : INGLE_QUEUE_MESSAGES;
    return o;
}

#endif
