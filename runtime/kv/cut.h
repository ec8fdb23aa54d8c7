/* Where chunks end: a causal function of the token ids, so that the same text is cut the same way
 * whoever computes it and however its prefill was cut. KV.md 2.2: always before a structural token
 * (once a chunk has CUT_STRUCT_MIN tokens), otherwise by gear content-defined chunking
 * (Xia et al., FastCDC, 2016) between CUT_MIN and CUT_MAX tokens. Any thread, no state of its own.
 */
#ifndef INGLE_RUNTIME_KV_CUT_H
#define INGLE_RUNTIME_KV_CUT_H
#include <stdbool.h>
#include <stdint.h>

#define INGLE_CUT_STRUCT_MIN 16u /* bounds the pages of a text made of markers only */
#define INGLE_CUT_MIN        48u
#define INGLE_CUT_NORMAL     128u /* below: 8 bits must be zero, above: 6 (normalised chunking) */
#define INGLE_CHUNK_TOKENS   256u /* forced cut */

struct ingle_cut {
    uint64_t gear;     /* 0 at each cut */
    uint32_t n_tokens; /* of the chunk so far */
};

/* Does the chunk end before the next token? */
static inline bool ingle_cut_before(const struct ingle_cut *cut, bool structural)
{
    return structural && cut->n_tokens >= INGLE_CUT_STRUCT_MIN;
}

static inline void ingle_cut_reset(struct ingle_cut *cut)
{
    *cut = (struct ingle_cut){0};
}

/* Take a token into the chunk; true: the chunk ends after it (the caller resets). The per-token
 * constants are the finaliser of splitmix64, so no table as long as the vocabulary is needed. */
static inline bool ingle_cut_after(struct ingle_cut *cut, int32_t token)
{
    uint64_t g =
        (uint64_t)(uint32_t)token * UINT64_C(0x9e3779b97f4a7c15) + UINT64_C(0x1f83d9abfb41bd6b);

    g = (g ^ (g >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    g = (g ^ (g >> 27)) * UINT64_C(0x94d049bb133111eb);
    g ^= g >> 31;
    cut->gear = (cut->gear << 1) + g;
    cut->n_tokens++;
    if (cut->n_tokens >= INGLE_CHUNK_TOKENS) {
        return true;
    }
    if (cut->n_tokens < INGLE_CUT_MIN) {
        return false;
    }
    return (cut->gear >> (cut->n_tokens < INGLE_CUT_NORMAL ? 56 : 58)) == 0;
}

#endif
