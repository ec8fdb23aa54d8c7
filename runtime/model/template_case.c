/* Owns letter case: full upper, lower and title mappings as Python has them, and which characters
 * repr() shows. The tables are generated (template_case.py). Thread: any. */
#include "runtime/base/error.h"
#include "runtime/model/template_text.h"

struct case_map {
    uint32_t first, last;
    uint8_t stride;
    int32_t delta;
};
struct case_long {
    uint32_t cp;
    uint32_t to[3]; /* 0-terminated when shorter */
};
struct case_run {
    uint32_t first, last;
    uint8_t stride;
};

#include "runtime/model/template_case_table.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool in_runs(const struct case_run *runs, size_t n, uint32_t cp)
{
    size_t lo = 0, hi = n, mid;

    while (lo < hi) {
        mid = (lo + hi) / 2;
        if (runs[mid].first <= cp) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo > 0 && cp <= runs[lo - 1].last &&
           (cp - runs[lo - 1].first) % runs[lo - 1].stride == 0;
}

/* Maps of different distances interleave (Latin Extended): a short linear scan, tables of ~200. */
static bool map_one(const struct case_map *maps, size_t n, uint32_t cp, uint32_t *ret)
{
    size_t i;

    for (i = 0; i < n && maps[i].first <= cp; i++) {
        if (cp <= maps[i].last && (cp - maps[i].first) % maps[i].stride == 0) {
            *ret = (uint32_t)((int64_t)cp + maps[i].delta);
            return true;
        }
    }
    return false;
}

static const uint32_t *map_long(const struct case_long *maps, size_t n, uint32_t cp)
{
    size_t i;

    for (i = 0; i < n; i++) {
        if (maps[i].cp == cp) {
            return maps[i].to;
        }
    }
    return NULL;
}

static void put_mapped(struct ingle_tpl_run *run, struct ingle_tpl_text *text, uint32_t cp,
                       enum ingle_tpl_case to)
{
    const uint32_t *seq = NULL;
    uint32_t one = cp, i;
    bool mapped = false;

    if (cp < 0x80) {
        if (to == TPL_LOWER) {
            one = cp >= 'A' && cp <= 'Z' ? cp + 32 : cp;
        } else {
            one = cp >= 'a' && cp <= 'z' ? cp - 32 : cp;
        }
        ingle_tpl_putc(run, text, (char)one);
        return;
    }
    ingle_tpl_charge(run, 1);
    if (to == TPL_LOWER) {
        seq = map_long(long_lower, COUNT(long_lower), cp);
        mapped = seq != NULL || map_one(to_lower, COUNT(to_lower), cp, &one);
    } else if (to == TPL_TITLE) {
        seq = map_long(long_title, COUNT(long_title), cp);
        mapped = seq != NULL || map_one(to_title, COUNT(to_title), cp, &one);
    }
    if (to != TPL_LOWER && !mapped) {
        seq = map_long(long_upper, COUNT(long_upper), cp);
        if (seq == NULL) {
            (void)map_one(to_upper, COUNT(to_upper), cp, &one);
        }
    }
    for (i = 0; seq != NULL && i < 3 && seq[i] != 0; i++) {
        ingle_tpl_put_cp(run, text, seq[i]);
    }
    if (seq == NULL) {
        ingle_tpl_put_cp(run, text, one);
    }
}

static bool is_cased(uint32_t cp)
{
    return in_runs(cased, COUNT(cased), cp);
}

/* Greek capital sigma becomes the final form at the end of a word: a cased letter before it, none
 * after it, case-ignorable characters skipped. */
static bool sigma_is_final(struct ingle_tv s, uint64_t at, uint64_t after)
{
    bool before = false;
    uint32_t cp;

    while (at > 0) {
        uint64_t from = ingle_tpl_cp_before(s.u.text, at);

        at = from;
        cp = ingle_tpl_cp(s.u.text, &from);
        if (!in_runs(case_ignorable, COUNT(case_ignorable), cp)) {
            before = is_cased(cp);
            break;
        }
    }
    while (before && after < s.bytes) {
        cp = ingle_tpl_cp(s.u.text, &after);
        if (!in_runs(case_ignorable, COUNT(case_ignorable), cp)) {
            return !is_cased(cp);
        }
    }
    return before;
}

static void put_lower(struct ingle_tpl_run *run, struct ingle_tpl_text *text, struct ingle_tv s,
                      uint32_t cp, uint64_t from, uint64_t after)
{
    if (cp == 0x3a3) {
        ingle_tpl_charge_bytes(run, s.bytes);
        ingle_tpl_put_cp(run, text, sigma_is_final(s, from, after) ? 0x3c2 : 0x3c3);
        return;
    }
    put_mapped(run, text, cp, TPL_LOWER);
}

struct ingle_tv ingle_tpl_recase(struct ingle_tpl_run *run, struct ingle_tv s,
                                 enum ingle_tpl_case to)
{
    struct ingle_tpl_text text = {NULL, 0, 0};
    bool after_cased = false;
    struct ingle_tv done;
    uint64_t at = 0, from;
    uint32_t cp;

    ingle_tpl_charge_bytes(run, s.bytes);
    while (at < s.bytes) {
        from = at;
        cp = ingle_tpl_cp(s.u.text, &at);
        switch (to) {
        case TPL_UPPER:
            put_mapped(run, &text, cp, TPL_UPPER);
            break;
        case TPL_LOWER:
            put_lower(run, &text, s, cp, from, at);
            break;
        case TPL_TITLE:
            if (after_cased) {
                put_lower(run, &text, s, cp, from, at);
            } else {
                put_mapped(run, &text, cp, TPL_TITLE);
            }
            after_cased = is_cased(cp);
            break;
        case TPL_CAPITALIZE:
            if (from > 0) {
                put_lower(run, &text, s, cp, from, at);
            } else {
                put_mapped(run, &text, cp, TPL_TITLE);
            }
            break;
        case TPL_SWAP:
            if (ingle_tpl_is_upper(cp)) {
                put_lower(run, &text, s, cp, from, at);
            } else if (ingle_tpl_is_lower(cp)) {
                put_mapped(run, &text, cp, TPL_UPPER);
            } else {
                ingle_tpl_put_cp(run, &text, cp);
            }
            break;
        }
    }
    done = ingle_tv_text(&text);
    done.tag = s.tag;
    return done;
}

bool ingle_tpl_is_upper(uint32_t cp)
{
    return in_runs(uppercase, COUNT(uppercase), cp);
}

bool ingle_tpl_is_lower(uint32_t cp)
{
    return in_runs(lowercase, COUNT(lowercase), cp);
}

bool ingle_tpl_is_titlecase(uint32_t cp)
{
    return in_runs(titlecase, COUNT(titlecase), cp);
}

bool ingle_tpl_is_printable(uint32_t cp)
{
    if (cp < 0x7f) {
        return cp >= 0x20;
    }
    return !in_runs(unprintable, COUNT(unprintable), cp);
}
