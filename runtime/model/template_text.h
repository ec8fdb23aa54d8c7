/* Python's str over UTF-8: code points, white space, letter case, search. Offsets are in bytes
 * unless a name says chars. */
#ifndef INGLE_RUNTIME_MODEL_TEMPLATE_TEXT_H
#define INGLE_RUNTIME_MODEL_TEMPLATE_TEXT_H
#include "runtime/model/template_value.h"

/* Decode the code point at text[*at] of valid UTF-8 and step over it. */
static inline uint32_t ingle_tpl_cp(const char *text, uint64_t *at)
{
    const unsigned char *p = (const unsigned char *)text + *at;

    if (p[0] < 0x80) {
        *at += 1;
        return p[0];
    }
    if (p[0] < 0xe0) {
        *at += 2;
        return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    }
    if (p[0] < 0xf0) {
        *at += 3;
        return (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    }
    *at += 4;
    return (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 |
           (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
}
/* The start of the code point that ends before `at` (> 0). */
static inline uint64_t ingle_tpl_cp_before(const char *text, uint64_t at)
{
    do {
        at--;
    } while (((unsigned char)text[at] & 0xc0) == 0x80);
    return at;
}

uint64_t ingle_tpl_chars(const char *text, uint64_t bytes);
/* The byte offset of char number `chars`, or `bytes` beyond the end. */
uint64_t ingle_tpl_char_at(const char *text, uint64_t bytes, uint64_t chars);
bool ingle_tpl_is_space(uint32_t cp);    /* str.isspace of one code point; also \s of re */
bool ingle_tpl_is_line_end(uint32_t cp); /* where str.splitlines cuts */

#define INGLE_TPL_NOT_FOUND UINT64_MAX
/* First (or last) place of needle at or after `from`, in bytes. */
uint64_t ingle_tpl_find(struct ingle_tpl_run *run, struct ingle_tv hay, struct ingle_tv needle,
                        uint64_t from);
uint64_t ingle_tpl_rfind(struct ingle_tpl_run *run, struct ingle_tv hay, struct ingle_tv needle);

/* str.strip and its one-sided kin; chars: TV_STR, or anything else for white space. */
struct ingle_tv ingle_tpl_strip(struct ingle_tpl_run *run, struct ingle_tv s, struct ingle_tv chars,
                                bool left, bool right);
struct ingle_tv ingle_tpl_replace(struct ingle_tpl_run *run, struct ingle_tv s, struct ingle_tv old,
                                  struct ingle_tv new_text, int64_t max_count);
struct ingle_tv ingle_tpl_splitlines(struct ingle_tpl_run *run, struct ingle_tv s, bool keep);
/* `part` of s, with its Markup. */
static inline struct ingle_tv ingle_tpl_part(struct ingle_tv s, uint64_t from, uint64_t to)
{
    s.u.text += from;
    s.bytes = (uint32_t)(to - from);
    return s;
}

/* Letter case, with Python's full mappings (template_case.c). */
enum ingle_tpl_case {
    TPL_UPPER,
    TPL_LOWER,
    TPL_TITLE,
    TPL_CAPITALIZE,
    TPL_SWAP
};
struct ingle_tv ingle_tpl_recase(struct ingle_tpl_run *run, struct ingle_tv s,
                                 enum ingle_tpl_case to);
bool ingle_tpl_is_upper(uint32_t cp);
bool ingle_tpl_is_lower(uint32_t cp);
bool ingle_tpl_is_titlecase(uint32_t cp);
bool ingle_tpl_is_printable(uint32_t cp); /* repr leaves it as it is */

#endif
