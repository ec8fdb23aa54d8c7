/* Owns the cutting of template source into tokens. Knows white-space control, raw blocks, comments
 * and literals; no grammar. Invariant: source is valid UTF-8. Thread: the caller's. */
#include "runtime/model/template_lexer.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "runtime/model/template_text.h"

#define BRACKETS_MAX 256u

struct lexer {
    struct ingle_tpl_run *run;
    const char *src;
    uint32_t n, at;
    bool line_starting; /* the last piece ended with a newline */
    struct ingle_tpl_token *token;
    uint32_t n_tokens, room;
    char brackets[BRACKETS_MAX]; /* closing brackets that are awaited */
    uint32_t n_brackets;
};

static void add_token(struct lexer *lx, enum ingle_tpl_token_type type, struct ingle_tv value)
{
    struct ingle_tpl_token *bigger;

    if (lx->n_tokens == lx->room) {
        lx->room = lx->room == 0 ? 256 : lx->room * 2;
        bigger = ingle_tpl_alloc(lx->run, (uint64_t)lx->room * sizeof(bigger[0]));
        if (lx->n_tokens > 0) {
            memcpy(bigger, lx->token, (uint64_t)lx->n_tokens * sizeof(bigger[0]));
        }
        lx->token = bigger;
    }
    lx->token[lx->n_tokens++] =
        (struct ingle_tpl_token){.type = (uint8_t)type, .line = lx->run->line, .value = value};
}

/* Move on, counting lines. */
static void step_to(struct lexer *lx, uint32_t at)
{
    lx->line_starting = at > 0 && lx->src[at - 1] == '\n';
    for (; lx->at < at; lx->at++) {
        lx->run->line += lx->src[lx->at] == '\n';
    }
}

static bool has(const struct lexer *lx, uint32_t at, const char *z)
{
    size_t n = strlen(z);

    return at <= lx->n && lx->n - at >= n && memcmp(lx->src + at, z, n) == 0;
}

static uint32_t skip_space(const struct lexer *lx, uint32_t at)
{
    uint64_t next = at;

    while (next < lx->n) {
        at = (uint32_t)next;
        if (!ingle_tpl_is_space(ingle_tpl_cp(lx->src, &next))) {
            return at;
        }
    }
    return lx->n;
}

/* The end of a closing tag at `at`, its own white-space control included; 0 = it is not there.
 * trim: a plain closing tag takes one newline with it. */
static uint32_t closing(const struct lexer *lx, uint32_t at, const char *tag, bool plus, bool trim)
{
    if (has(lx, at, "-") && has(lx, at + 1, tag)) {
        return skip_space(lx, at + 3);
    }
    if (plus && has(lx, at, "+") && has(lx, at + 1, tag)) {
        return at + 3;
    }
    if (has(lx, at, tag)) {
        return at + 2 + (trim && has(lx, at + 2, "\n"));
    }
    return 0;
}

/* Text before a tag, cut as the tag's sign and lstrip_blocks ask. */
static void add_data(struct lexer *lx, uint32_t from, uint32_t to, char sign, bool is_print)
{
    struct ingle_tv text = ingle_tv_str(lx->src + from, to - from);
    const char *newline;
    uint32_t tail = 0;

    if (sign == '-') {
        text = ingle_tpl_strip(lx->run, text, ingle_tv_none(), false, true);
    } else if (sign != '+' && !is_print) {
        newline = text.bytes == 0 ? NULL : memrchr(text.u.text, '\n', text.bytes);
        tail = newline == NULL ? 0 : (uint32_t)(newline - text.u.text) + 1;
        if ((tail > 0 || lx->line_starting) && skip_space(lx, from + tail) >= to) {
            text.bytes = tail;
        }
    }
    if (text.bytes > 0) {
        add_token(lx, TPL_T_DATA, text);
    }
}

/* The white-space sign behind an opening tag: '-', '+', or ' ' for none. */
static char sign_at(const struct lexer *lx, uint32_t at)
{
    if (has(lx, at, "-") || has(lx, at, "+")) {
        return lx->src[at];
    }
    return ' ';
}

/* {% raw %} at `at`: its end, or 0. */
static uint32_t raw_begin(const struct lexer *lx, uint32_t at, const char *word, bool plus,
                          bool trim, char *ret_sign)
{
    uint32_t p = at + 2;

    *ret_sign = sign_at(lx, p);
    p = skip_space(lx, p + (*ret_sign != ' '));
    if (!has(lx, p, word)) {
        return 0;
    }
    p = skip_space(lx, p + (uint32_t)strlen(word));
    return closing(lx, p, "%}", plus, trim);
}

static void lex_raw(struct lexer *lx, uint32_t body)
{
    uint32_t at, end = 0;
    char sign = ' ';

    step_to(lx, body);
    for (at = body; at < lx->n; at++) {
        if (has(lx, at, "{%") && (end = raw_begin(lx, at, "endraw", true, true, &sign)) != 0) {
            add_data(lx, body, at, sign, false);
            step_to(lx, end);
            return;
        }
    }
    if (body < lx->n) { /* Jinja2 lets one stand at the very end */
        ingle_tpl_fail(lx->run, "{%% raw %%} is not closed");
    }
}

static void lex_comment(struct lexer *lx, uint32_t body)
{
    uint32_t at, end;

    for (at = body; at < lx->n; at++) {
        end = closing(lx, at, "#}", true, true);
        if (end != 0) {
            step_to(lx, end);
            return;
        }
    }
    if (body < lx->n) {
        ingle_tpl_fail(lx->run, "comment {# is not closed");
    }
    step_to(lx, body);
}

static uint32_t scan_digits(const struct lexer *lx, uint32_t at)
{
    uint32_t from = at;

    while (at < lx->n && (isdigit((unsigned char)lx->src[at]) ||
                          (lx->src[at] == '_' && at > from && lx->src[at - 1] != '_' &&
                           at + 1 < lx->n && isdigit((unsigned char)lx->src[at + 1])))) {
        at++;
    }
    return at;
}

/* Copy without underscores, for strtod and strtoull. */
static const char *plain_number(struct lexer *lx, uint32_t from, uint32_t to)
{
    char *p = ingle_tpl_alloc(lx->run, (uint64_t)(to - from) + 1);
    uint32_t n = 0, i;

    for (i = from; i < to; i++) {
        if (lx->src[i] != '_') {
            p[n++] = lx->src[i];
        }
    }
    return p;
}

static bool lex_float(struct lexer *lx)
{
    uint32_t digits = scan_digits(lx, lx->at), frac = digits, end, exp;

    if (lx->at > 0 && lx->src[lx->at - 1] == '.') {
        return false; /* x.0.1 is two subscripts */
    }
    if (has(lx, digits, ".") && scan_digits(lx, digits + 1) > digits + 1) {
        frac = scan_digits(lx, digits + 1);
    }
    end = frac;
    if (has(lx, frac, "e") || has(lx, frac, "E")) {
        exp = frac + 1;
        exp += has(lx, exp, "+") || has(lx, exp, "-");
        if (scan_digits(lx, exp) > exp) {
            end = scan_digits(lx, exp);
        }
    }
    if (end == digits) {
        return false;
    }
    add_token(lx, TPL_T_FLOAT, ingle_tv_float(strtod(plain_number(lx, lx->at, end), NULL)));
    step_to(lx, end);
    return true;
}

static void lex_int(struct lexer *lx)
{
    static const struct {
        char x;
        int base;
        const char *digits;
    } prefixes[] = {{'b', 2, "01"}, {'o', 8, "01234567"}, {'x', 16, "0123456789abcdefABCDEF"}};
    uint32_t at = lx->at, end = at + 1, i, p;
    const char *number;
    uint64_t value;
    int base = 10;

    if (lx->src[at] != '0') {
        end = scan_digits(lx, at);
    } else {
        while (has(lx, end, "0") || has(lx, end, "_0")) {
            end += lx->src[end] == '_' ? 2 : 1;
        }
        for (i = 0; i < 3 && at + 1 < lx->n; i++) {
            if ((lx->src[at + 1] | 32) != prefixes[i].x) {
                continue;
            }
            p = at + 2;
            while (p < lx->n) {
                uint32_t q = p + (lx->src[p] == '_');

                if (q >= lx->n || lx->src[q] == '\0' ||
                    strchr(prefixes[i].digits, lx->src[q]) == NULL) {
                    break;
                }
                p = q + 1;
            }
            if (p > at + 2) {
                end = p;
                base = prefixes[i].base;
            }
        }
    }
    number = plain_number(lx, at, end) + (base == 10 ? 0 : 2);
    errno = 0;
    value = strtoull(number, NULL, base);
    if (errno == ERANGE || value > INT64_MAX) {
        ingle_tpl_fail(lx->run, "an integer beyond 64 bits is not supported");
    }
    add_token(lx, TPL_T_INT, ingle_tv_int((int64_t)value));
    step_to(lx, end);
}

static uint32_t read_hex(struct lexer *lx, uint32_t at, uint32_t end, uint32_t digits)
{
    uint32_t cp = 0, i;

    for (i = 0; i < digits; i++) {
        if (at + i >= end || !isxdigit((unsigned char)lx->src[at + i])) {
            ingle_tpl_fail(lx->run, "truncated \\x, \\u or \\U escape in a string");
        }
        cp = cp * 16 + (uint32_t)(isdigit((unsigned char)lx->src[at + i])
                                      ? lx->src[at + i] - '0'
                                      : (lx->src[at + i] | 32) - 'a' + 10);
    }
    if (cp > 0x10ffff) {
        ingle_tpl_fail(lx->run, "illegal Unicode character in a string");
    }
    if (cp >= 0xd800 && cp < 0xe000) {
        ingle_tpl_fail(lx->run, "a surrogate escape in a string is not supported");
    }
    return cp;
}

/* One escape; at points behind the backslash. Returns where it ends. */
static uint32_t put_escape(struct lexer *lx, struct ingle_tpl_text *text, uint32_t at, uint32_t end)
{
    static const char plain[] = "\\'\"abfnrtv", meaning[] = "\\'\"\a\b\f\n\r\t\v";
    char c = lx->src[at];
    const char *found = c == '\0' ? NULL : strchr(plain, c);
    uint64_t next = at;
    uint32_t cp = 0, i, digits;

    if (found != NULL) {
        ingle_tpl_putc(lx->run, text, meaning[found - plain]);
        return at + 1;
    }
    if (c == '\n') {
        return at + 1;
    }
    if (c >= '0' && c <= '7') {
        for (i = 0; i < 3 && at < end && lx->src[at] >= '0' && lx->src[at] <= '7'; i++) {
            cp = cp * 8 + (uint32_t)(lx->src[at++] - '0');
        }
        ingle_tpl_put_cp(lx->run, text, cp);
        return at;
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        ingle_tpl_put_cp(lx->run, text, read_hex(lx, at + 1, end, digits));
        return at + 1 + digits;
    }
    if (c == 'N') {
        ingle_tpl_fail(lx->run, "the escape \\N in a string is not supported");
    }
    ingle_tpl_putc(lx->run, text, '\\');
    cp = ingle_tpl_cp(lx->src, &next);
    if (cp < 0x80) {
        ingle_tpl_putc(lx->run, text, c);
    } else { /* Jinja2 goes through ASCII with escapes: the backslash eats the escape's own */
        ingle_tpl_putf(lx->run, text, cp < 0x100 ? "x%02x" : cp < 0x10000 ? "u%04x" : "U%08x", cp);
    }
    return (uint32_t)next;
}

static void lex_string(struct lexer *lx)
{
    struct ingle_tpl_text text = {NULL, 0, 0};
    char quote = lx->src[lx->at];
    uint32_t from = lx->at + 1, end, at;

    for (end = from; end < lx->n && lx->src[end] != quote; end++) {
        end += lx->src[end] == '\\';
    }
    if (end >= lx->n) {
        ingle_tpl_fail(lx->run, "string is not closed");
    }
    for (at = from; at < end;) {
        uint32_t start = at;

        while (at < end && lx->src[at] != '\\') {
            at++;
        }
        ingle_tpl_put(lx->run, &text, lx->src + start, at - start);
        if (at < end) {
            at = put_escape(lx, &text, at + 1, end);
        }
    }
    add_token(lx, TPL_T_STR, ingle_tv_text(&text));
    step_to(lx, end + 1);
}

static void track_bracket(struct lexer *lx, char c)
{
    static const char open[] = "([{", close[] = ")]}";
    const char *found = strchr(open, c);

    if (found != NULL) {
        if (lx->n_brackets == BRACKETS_MAX) {
            ingle_tpl_fail(lx->run, "is nested deeper than %u brackets", BRACKETS_MAX);
        }
        lx->brackets[lx->n_brackets++] = close[found - open];
    } else if (strchr(close, c) != NULL) {
        if (lx->n_brackets == 0) {
            ingle_tpl_fail(lx->run, "unexpected '%c'", c);
        }
        if (lx->brackets[--lx->n_brackets] != c) {
            ingle_tpl_fail(lx->run, "unexpected '%c', expected '%c'", c,
                           lx->brackets[lx->n_brackets]);
        }
    }
}

static void lex_op(struct lexer *lx)
{
    static const char *const twos[] = {"//", "**", "==", "!=", ">=", "<="};
    char c = lx->src[lx->at];
    uint32_t n = 1, i;

    for (i = 0; i < 6; i++) {
        n = has(lx, lx->at, twos[i]) ? 2 : n;
    }
    if (c == '\0' || (n == 1 && strchr("+-/*%~[](){}><=.:|,;", c) == NULL)) {
        ingle_tpl_fail(lx->run,
                       (unsigned char)c < 0x80 ? "unexpected character '%c'"
                                               : "a non-ASCII name is not supported",
                       c);
    }
    if (n == 1) {
        track_bracket(lx, c);
    }
    add_token(lx, TPL_T_OP, ingle_tv_none());
    memcpy(lx->token[lx->n_tokens - 1].op, lx->src + lx->at, n);
    step_to(lx, lx->at + n);
}

static bool is_name_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* What stands inside {{ }} or {% %}. */
static void lex_tag(struct lexer *lx, bool is_print)
{
    uint32_t end, opened = lx->run->line;

    lx->n_brackets = 0;
    while (lx->at < lx->n) {
        char c = lx->src[lx->at];

        end = lx->n_brackets > 0 ? 0
              : is_print         ? closing(lx, lx->at, "}}", false, false)
                                 : closing(lx, lx->at, "%}", true, true);
        if (end != 0) {
            add_token(lx, is_print ? TPL_T_PRINT_END : TPL_T_BLOCK_END, ingle_tv_none());
            step_to(lx, end);
            return;
        }
        end = skip_space(lx, lx->at);
        if (end > lx->at) {
            step_to(lx, end);
        } else if (isdigit((unsigned char)c)) {
            if (!lex_float(lx)) {
                lex_int(lx);
            }
        } else if (is_name_byte(c)) {
            for (end = lx->at; end < lx->n && is_name_byte(lx->src[end]); end++) {
            }
            add_token(lx, TPL_T_NAME, ingle_tv_str(lx->src + lx->at, end - lx->at));
            step_to(lx, end);
        } else if (c == '\'' || c == '"') {
            lex_string(lx);
        } else {
            lex_op(lx);
        }
    }
    lx->run->line = opened;
    ingle_tpl_fail(lx->run, "%s is not closed", is_print ? "{{" : "{%");
}

static void lex_root(struct lexer *lx)
{
    uint32_t from = lx->at, at = from, end;
    char kind, sign;

    while (at + 1 < lx->n &&
           (lx->src[at] != '{' ||
            (lx->src[at + 1] != '{' && lx->src[at + 1] != '%' && lx->src[at + 1] != '#'))) {
        at++;
    }
    if (at + 1 >= lx->n) {
        add_token(lx, TPL_T_DATA, ingle_tv_str(lx->src + from, lx->n - from));
        step_to(lx, lx->n);
        return;
    }
    kind = lx->src[at + 1];
    end = kind == '%' ? raw_begin(lx, at, "raw", false, false, &sign) : 0;
    sign = sign_at(lx, at + 2);
    add_data(lx, from, at, sign, kind == '{');
    step_to(lx, at);
    if (end != 0) {
        lex_raw(lx, end);
        return;
    }
    at += 2 + (sign != ' ');
    if (kind == '#') {
        lex_comment(lx, at);
        return;
    }
    add_token(lx, kind == '{' ? TPL_T_PRINT_BEGIN : TPL_T_BLOCK_BEGIN, ingle_tv_none());
    step_to(lx, at);
    lex_tag(lx, kind == '{');
}

/* Every kind of line break becomes \n, and one at the end goes. */
static struct ingle_tv normal_lines(struct ingle_tpl_run *run, const char *source, uint64_t bytes)
{
    char *p = ingle_tpl_alloc(run, bytes + 1);
    uint64_t i, n = 0;

    for (i = 0; i < bytes; i++) {
        if (source[i] == '\r') {
            i += i + 1 < bytes && source[i + 1] == '\n';
            p[n++] = '\n';
        } else {
            p[n++] = source[i];
        }
    }
    n -= n > 0 && p[n - 1] == '\n';
    return ingle_tv_str(p, n);
}

const struct ingle_tpl_token *ingle_tpl_lex(struct ingle_tpl_run *run, const char *source,
                                            uint64_t bytes)
{
    struct ingle_tv text = normal_lines(run, source, bytes);
    struct lexer lx = {.run = run, .src = text.u.text, .n = text.bytes, .line_starting = true};

    run->line = 1;
    while (lx.at < lx.n) {
        lex_root(&lx);
    }
    add_token(&lx, TPL_T_EOF, ingle_tv_none());
    return lx.token;
}
