/* One client as step sees it: where its tokens go. io creates it and keeps it until step has
 * replied to DETACH; between the two, `step` fields belong to step and the rest does not change. */
#ifndef INGLE_RUNTIME_SCHED_PORT_H
#define INGLE_RUNTIME_SCHED_PORT_H
#include <stdbool.h>
#include <stdint.h>

#include "shm/ring.h"

struct ingle_port {
    uint32_t slot; /* board bit; 1.. */
    uint32_t client_id;
    uint32_t tenant; /* index of (uid, label): salts the chunk hashes */
    uint8_t tenant_secret[32];
    struct ingle_tok_writer tok; /* step is its only user after the first SUBMIT */
    struct {
        bool bad;            /* nothing more into its rings: it broke their rules, or is leaving */
        bool bad_told;       /* io knows */
        bool published;      /* records since the last publish */
        uint32_t n_reserved; /* records promised to scored prompt rows of the step being built */
        uint32_t n_requests, n_contexts;
        uint64_t n_tokens, n_stalls;
    } step;
};

#endif
