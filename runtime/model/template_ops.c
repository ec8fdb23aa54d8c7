/* Owns arithmetic with Python's rules: floor division, true division, powers, repetition, text and
 * list concatenation. Integers have 64 bits; what leaves them is refused, never wrapped. Thread:
 * the caller's. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "runtime/model/template_text.h"

static _Noreturn void fail_overflow(struct ingle_tpl_run *run)
{
    ingle_tpl_fail(run, "an integer beyond 64 bits is not supported");
}

static const char *op_name(char op)
{
    static const char ops[] = "+-*/%FP";
    static const char *const names[] = {"+", "-", "*", "/", "%", "//", "** or pow()"};

    return names[strchr(ops, op) - ops];
}

static struct ingle_tv power(struct ingle_tpl_run *run, struct ingle_tv a, struct ingle_tv b)
{
    int64_t base, exponent, value = 1;
    double f;

    if (ingle_tv_is_whole(a) && ingle_tv_is_whole(b) && ingle_tv_whole(b) >= 0) {
        base = ingle_tv_whole(a);
        exponent = ingle_tv_whole(b);
        while (exponent > 0) {
            if ((exponent & 1) != 0 && __builtin_mul_overflow(value, base, &value)) {
                fail_overflow(run);
            }
            exponent >>= 1;
            if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) {
                fail_overflow(run);
            }
        }
        return ingle_tv_int(value);
    }
    if (ingle_tv_real(a) == 0.0 && ingle_tv_real(b) < 0.0) {
        ingle_tpl_fail(run, "0.0 cannot be raised to a negative power");
    }
    f = pow(ingle_tv_real(a), ingle_tv_real(b));
    if (isnan(f) && !isnan(ingle_tv_real(a)) && !isnan(ingle_tv_real(b))) {
        ingle_tpl_fail(run, "complex numbers are not supported");
    }
    if (isinf(f) && isfinite(ingle_tv_real(a)) && isfinite(ingle_tv_real(b))) {
        ingle_tpl_fail(run, "numerical result out of range");
    }
    return ingle_tv_float(f);
}

static struct ingle_tv whole_op(struct ingle_tpl_run *run, char op, int64_t a, int64_t b)
{
    int64_t r = 0;
    bool overflow = false;

    if (op == '+') {
        overflow = __builtin_add_overflow(a, b, &r);
    } else if (op == '-') {
        overflow = __builtin_sub_overflow(a, b, &r);
    } else if (op == '*') {
        overflow = __builtin_mul_overflow(a, b, &r);
    } else if (b == 0) {
        ingle_tpl_fail(run, "division by zero");
    } else if (b == -1) { /* INT64_MIN / -1 traps */
        overflow = op == 'F' && __builtin_sub_overflow(0, a, &r);
    } else {
        r = a % b;
        if (r != 0 && (r < 0) != (b < 0)) {
            r += b;
        }
        if (op == 'F') {
            r = a / b - (a % b != 0 && (a < 0) != (b < 0));
        }
    }
    if (overflow) {
        fail_overflow(run);
    }
    return ingle_tv_int(r);
}

static struct ingle_tv real_op(struct ingle_tpl_run *run, char op, double a, double b)
{
    double mod, div, floored;

    if (op == '+') {
        return ingle_tv_float(a + b);
    }
    if (op == '-') {
        return ingle_tv_float(a - b);
    }
    if (op == '*') {
        return ingle_tv_float(a * b);
    }
    if (b == 0.0) {
        ingle_tpl_fail(run, "float division by zero");
    }
    if (op == '/') {
        return ingle_tv_float(a / b);
    }
    mod = fmod(a, b);
    div = (a - mod) / b;
    if (mod != 0.0) {
        if ((b < 0) != (mod < 0)) {
            mod += b;
            div -= 1.0;
        }
    } else {
        mod = copysign(0.0, b);
    }
    if (op == '%') {
        return ingle_tv_float(mod);
    }
    if (div == 0.0) {
        return ingle_tv_float(copysign(0.0, a / b));
    }
    floored = floor(div);
    return ingle_tv_float(div - floored > 0.5 ? floored + 1.0 : floored);
}

static struct ingle_tv divide_whole(struct ingle_tpl_run *run, int64_t a, int64_t b)
{
    if (b == 0) {
        ingle_tpl_fail(run, "division by zero");
    }
    return ingle_tv_float((double)((long double)a / (long double)b));
}

static struct ingle_tv repeat(struct ingle_tpl_run *run, struct ingle_tv v, int64_t times)
{
    struct ingle_tpl_text text = {NULL, 0, 0};
    struct ingle_tv out;
    int64_t i;
    uint32_t k;

    times = times < 0 ? 0 : times;
    if (v.kind == TV_STR) {
        if (v.bytes > 0 && (uint64_t)times > INGLE_TPL_OUTPUT_BYTES_MAX / v.bytes) {
            ingle_tpl_fail(run, "makes a text of more than %llu MiB",
                           INGLE_TPL_OUTPUT_BYTES_MAX >> 20);
        }
        ingle_tpl_charge_bytes(run, v.bytes * (uint64_t)times);
        for (i = 0; i < times && v.bytes > 0; i++) {
            ingle_tpl_put(run, &text, v.u.text, v.bytes);
        }
        out = ingle_tv_text(&text);
        out.tag = v.tag;
        return out;
    }
    out = ingle_tv_list_new(run, v.kind, 0);
    for (i = 0; i < times && v.u.list->n > 0; i++) {
        ingle_tpl_charge(run, v.u.list->n);
        for (k = 0; k < v.u.list->n; k++) {
            ingle_tv_list_add(run, out.u.list, v.u.list->item[k]);
        }
    }
    return out;
}

static struct ingle_tv concat_str(struct ingle_tpl_run *run, struct ingle_tv a, struct ingle_tv b)
{
    uint8_t markup = a.tag | b.tag;
    struct ingle_tv out;
    char *p;

    if (markup) { /* Markup + str escapes the str, whichever side it is on */
        a = ingle_tv_escape(run, a);
        b = ingle_tv_escape(run, b);
    }
    if ((uint64_t)a.bytes + b.bytes > INGLE_TPL_OUTPUT_BYTES_MAX) {
        ingle_tpl_fail(run, "makes a text of more than %llu MiB", INGLE_TPL_OUTPUT_BYTES_MAX >> 20);
    }
    ingle_tpl_charge_bytes(run, (uint64_t)a.bytes + b.bytes);
    p = ingle_tpl_alloc(run, (uint64_t)a.bytes + b.bytes);
    memcpy(p, a.u.text, a.bytes);
    memcpy(p + a.bytes, b.u.text, b.bytes);
    out = ingle_tv_str(p, (uint64_t)a.bytes + b.bytes);
    out.tag = markup;
    return out;
}

static struct ingle_tv concat_lists(struct ingle_tpl_run *run, struct ingle_tv a, struct ingle_tv b)
{
    struct ingle_tv out = ingle_tv_list_new(run, a.kind, a.u.list->n + b.u.list->n);
    uint32_t i;

    ingle_tpl_charge(run, (uint64_t)a.u.list->n + b.u.list->n);
    for (i = 0; i < a.u.list->n; i++) {
        ingle_tv_list_add(run, out.u.list, a.u.list->item[i]);
    }
    for (i = 0; i < b.u.list->n; i++) {
        ingle_tv_list_add(run, out.u.list, b.u.list->item[i]);
    }
    return out;
}

static bool repeats(struct ingle_tv v)
{
    return v.kind == TV_STR || v.kind == TV_LIST || v.kind == TV_TUPLE;
}

struct ingle_tv ingle_tv_binary(struct ingle_tpl_run *run, char op, struct ingle_tv a,
                                struct ingle_tv b)
{
    if (ingle_tv_is_number(a) && ingle_tv_is_number(b)) {
        if (op == 'P') {
            return power(run, a, b);
        }
        if (a.kind == TV_FLOAT || b.kind == TV_FLOAT) {
            return real_op(run, op, ingle_tv_real(a), ingle_tv_real(b));
        }
        if (op == '/') {
            return divide_whole(run, ingle_tv_whole(a), ingle_tv_whole(b));
        }
        return whole_op(run, op, ingle_tv_whole(a), ingle_tv_whole(b));
    }
    if (a.kind == TV_STR && op == '%') {
        return ingle_tv_percent(run, a, b);
    }
    if (a.kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(run, a);
    }
    if (b.kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(run, b);
    }
    if (op == '+' && a.kind == b.kind && a.kind == TV_STR) {
        return concat_str(run, a, b);
    }
    if (op == '+' && a.kind == b.kind && (a.kind == TV_LIST || a.kind == TV_TUPLE)) {
        return concat_lists(run, a, b);
    }
    if (op == '*' && repeats(a) && ingle_tv_is_whole(b)) {
        return repeat(run, a, ingle_tv_whole(b));
    }
    if (op == '*' && repeats(b) && ingle_tv_is_whole(a)) {
        return repeat(run, b, ingle_tv_whole(a));
    }
    ingle_tpl_fail(run, "unsupported operand types for %s: '%s' and '%s'", op_name(op),
                   ingle_tv_type_name(a), ingle_tv_type_name(b));
}

struct ingle_tv ingle_tv_negate(struct ingle_tpl_run *run, struct ingle_tv v, bool minus)
{
    if (v.kind == TV_FLOAT) {
        return ingle_tv_float(minus ? -v.u.f : v.u.f);
    }
    if (ingle_tv_is_whole(v)) {
        return minus ? whole_op(run, '-', 0, ingle_tv_whole(v)) : ingle_tv_int(ingle_tv_whole(v));
    }
    if (v.kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(run, v);
    }
    ingle_tpl_fail(run, "bad operand type for unary %c: '%s'", minus ? '-' : '+',
                   ingle_tv_type_name(v));
}

/* round(v, digits): halves to even, decided on the exact decimal expansion as Python does. */
struct ingle_tv ingle_tv_round(struct ingle_tpl_run *run, struct ingle_tv v, int64_t digits)
{
    char text[700]; /* 309 digits before the point, up to 323 after it */
    int64_t unit = 1, half, rest, keep, i;
    bool up;

    if (ingle_tv_is_whole(v)) {
        i = ingle_tv_whole(v);
        if (digits >= 0) {
            return ingle_tv_int(i);
        }
        if (digits < -18) {
            return ingle_tv_int(0);
        }
        while (digits++ < 0) {
            unit *= 10;
        }
        rest = i % unit < 0 ? i % unit + unit : i % unit;
        half = unit / 2;
        i -= rest;
        if (rest > half || (rest == half && (i / unit) % 2 != 0)) {
            if (__builtin_add_overflow(i, unit, &i)) {
                fail_overflow(run);
            }
        }
        return ingle_tv_int(i);
    }
    if (v.kind == TV_UNDEFINED) {
        ingle_tv_fail_undefined(run, v);
    }
    if (v.kind != TV_FLOAT) {
        ingle_tpl_fail(run, "type %s cannot be rounded", ingle_tv_type_name(v));
    }
    if (!isfinite(v.u.f) || digits > 323) {
        return v;
    }
    if (digits >= 0) {
        (void)snprintf(text, sizeof(text), "%.*f", (int)digits, v.u.f);
        return ingle_tv_float(strtod(text, NULL));
    }
    if (digits < -308) {
        return ingle_tv_float(copysign(0.0, v.u.f));
    }
    /* printf rounds the exact value to so many digits in all: those before the point less the ones
     * to be zero. */
    (void)snprintf(text, sizeof(text), "%.17e", fabs(v.u.f));
    keep = strtol(strchr(text, 'e') + 1, NULL, 10) + 1 + digits;
    if (keep > 0) {
        (void)snprintf(text, sizeof(text), "%.*e", (int)keep - 1, v.u.f);
        return ingle_tv_float(strtod(text, NULL));
    }
    (void)snprintf(text, sizeof(text), "1e%d", (int)-digits);
    up = keep == 0 && fabs(v.u.f) > strtod(text, NULL) / 2; /* a half goes to the even zero */
    return ingle_tv_float(copysign(up ? strtod(text, NULL) : 0.0, v.u.f));
}
