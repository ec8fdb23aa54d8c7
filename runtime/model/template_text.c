/* Owns Python's str operations on UTF-8 that several built-ins share. Letter case is in
 * template_case.c. Invariant: input is valid UTF-8, so output cut at code points is too. Thread:
 * the caller's. */
#include "runtime/model/template_text.h"

uint64_t ingle_tpl_chars(const char *text, uint64_t bytes)
{
    uint64_t i, chars = 0;

    for (i = 0; i < bytes; i++) {
        chars += ((unsigned char)text[i] & 0xc0) != 0x80;
    }
    return chars;
}

uint64_t ingle_tpl_char_at(const char *text, uint64_t bytes, uint64_t chars)
{
    uint64_t at = 0;

    while (chars-- > 0 && at < bytes) {
        (void)ingle_tpl_cp(text, &at);
    }
    return at;
}

bool ingle_tpl_is_space(uint32_t cp)
{
    return (cp >= 0x09 && cp <= 0x0d) || (cp >= 0x1c && cp <= 0x20) || cp == 0x85 || cp == 0xa0 ||
           cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

bool ingle_tpl_is_line_end(uint32_t cp)
{
    return (cp >= 0x0a && cp <= 0x0d) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

uint64_t ingle_tpl_find(struct ingle_tpl_run *run, struct ingle_tv hay, struct ingle_tv needle,
                        uint64_t from)
{
    const char *found;

    if (from > hay.bytes || needle.bytes > hay.bytes - from) {
        return INGLE_TPL_NOT_FOUND;
    }
    if (needle.bytes == 0) {
        return from;
    }
    found = memmem(hay.u.text + from, hay.bytes - from, needle.u.text, needle.bytes);
    ingle_tpl_charge_bytes(run, found == NULL ? hay.bytes - from
                                              : (uint64_t)(found - hay.u.text) - from);
    return found == NULL ? INGLE_TPL_NOT_FOUND : (uint64_t)(found - hay.u.text);
}

uint64_t ingle_tpl_rfind(struct ingle_tpl_run *run, struct ingle_tv hay, struct ingle_tv needle)
{
    uint64_t at;

    if (needle.bytes > hay.bytes) {
        return INGLE_TPL_NOT_FOUND;
    }
    for (at = hay.bytes - needle.bytes + 1; at-- > 0;) {
        ingle_tpl_charge(run, (at % 16 == 0) + needle.bytes / 256);
        if (memcmp(hay.u.text + at, needle.u.text, needle.bytes) == 0) {
            return at;
        }
    }
    return INGLE_TPL_NOT_FOUND;
}

static bool strips(struct ingle_tv chars, uint32_t cp)
{
    uint64_t at = 0;

    if (chars.kind != TV_STR) {
        return ingle_tpl_is_space(cp);
    }
    while (at < chars.bytes) {
        if (ingle_tpl_cp(chars.u.text, &at) == cp) {
            return true;
        }
    }
    return false;
}

struct ingle_tv ingle_tpl_strip(struct ingle_tpl_run *run, struct ingle_tv s, struct ingle_tv chars,
                                bool left, bool right)
{
    uint64_t from = 0, to = s.bytes, at;
    uint64_t cost = chars.kind == TV_STR ? chars.bytes / 64 : 0;

    while (left && from < to) {
        ingle_tpl_charge(run, (from % 64 == 0) + cost);
        at = from;
        if (!strips(chars, ingle_tpl_cp(s.u.text, &at))) {
            break;
        }
        from = at;
    }
    while (right && to > from) {
        ingle_tpl_charge(run, (to % 64 == 0) + cost);
        at = ingle_tpl_cp_before(s.u.text, to);
        to = at;
        if (!strips(chars, ingle_tpl_cp(s.u.text, &at))) {
            to = at;
            break;
        }
    }
    return ingle_tpl_part(s, from, to);
}

struct ingle_tv ingle_tpl_replace(struct ingle_tpl_run *run, struct ingle_tv s, struct ingle_tv old,
                                  struct ingle_tv new_text, int64_t max_count)
{
    struct ingle_tpl_text text = {NULL, 0, 0};
    struct ingle_tv done;
    uint64_t at = 0, found;
    int64_t count = 0;

    ingle_tpl_charge_bytes(run, s.bytes);
    if (old.bytes == 0) { /* before every code point, and at the end */
        while (max_count < 0 || count < max_count) {
            found = at;
            ingle_tpl_charge(run, 1);
            ingle_tpl_put(run, &text, new_text.u.text, new_text.bytes);
            count++;
            if (at == s.bytes) {
                break;
            }
            (void)ingle_tpl_cp(s.u.text, &at);
            ingle_tpl_put(run, &text, s.u.text + found, at - found);
        }
    } else {
        while (max_count < 0 || count < max_count) {
            found = ingle_tpl_find(run, s, old, at);
            if (found == INGLE_TPL_NOT_FOUND) {
                break;
            }
            ingle_tpl_put(run, &text, s.u.text + at, found - at);
            ingle_tpl_put(run, &text, new_text.u.text, new_text.bytes);
            at = found + old.bytes;
            count++;
        }
        if (count == 0) {
            return s;
        }
    }
    ingle_tpl_put(run, &text, s.u.text + at, s.bytes - at);
    done = ingle_tv_text(&text);
    done.tag = s.tag;
    return done;
}

struct ingle_tv ingle_tpl_splitlines(struct ingle_tpl_run *run, struct ingle_tv s, bool keep)
{
    struct ingle_tv list = ingle_tv_list_new(run, TV_LIST, 0);
    uint64_t from = 0, at = 0, before;
    uint32_t cp;

    ingle_tpl_charge_bytes(run, s.bytes);
    while (at < s.bytes) {
        before = at;
        cp = ingle_tpl_cp(s.u.text, &at);
        if (ingle_tpl_is_line_end(cp)) {
            if (cp == '\r' && at < s.bytes && s.u.text[at] == '\n') {
                at++;
            }
            ingle_tpl_charge(run, 1);
            ingle_tv_list_add(run, list.u.list, ingle_tpl_part(s, from, keep ? at : before));
            from = at;
        }
    }
    if (from < s.bytes) {
        ingle_tv_list_add(run, list.u.list, ingle_tpl_part(s, from, s.bytes));
    }
    return list;
}
