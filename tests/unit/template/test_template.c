/* Errors, limits and the interface of runtime/model/template.h. What templates mean is compared
 * with Jinja2 by oracle_jinja.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/model/template.h"
#include "runtime/model/template_run.h"

static const char *failure; /* of the last render() */
static struct ingle_error error;

/* The text of a template over JSON, or NULL with `failure` set. The caller frees. */
static char *render_bytes(const char *source, uint64_t source_bytes, const char *json,
                          uint64_t json_bytes)
{
    char *text = (char *)&error; /* to see that a failure leaves it alone */
    struct ingle_template *tpl = NULL;
    uint64_t bytes = 77;
    int r;

    memset(&error, 0, sizeof(error));
    failure = NULL;
    r = ingle_template_create(source, source_bytes, "<s>", "</s>", &tpl, &error);
    if (r < 0) {
        assert_null(tpl);
    } else {
        r = ingle_template_render(tpl, json, json_bytes, 0, &text, &bytes, &error);
        ingle_template_free(tpl);
    }
    if (r < 0) {
        assert_int_equal(r, error.code);
        assert_ptr_equal(text, &error);
        assert_int_equal(bytes, 77);
        failure = error.text;
        return NULL;
    }
    assert_int_equal(text[bytes], '\0');
    return text;
}

static char *render(const char *source, const char *json)
{
    return render_bytes(source, strlen(source), json, strlen(json));
}

static void gives(const char *source, const char *json, const char *want)
{
    char *text = render(source, json);

    if (text == NULL) {
        fail_msg("%s: %s", source, failure);
    }
    assert_string_equal(text, want);
    ingle_mem_free(text);
}

/* The template fails, and the message begins with its line and holds `what`. */
static void refuses(const char *source, const char *json, unsigned line, const char *what)
{
    char begin[40];
    char *text = render(source, json);

    if (text != NULL) {
        fail_msg("%s gave: %s", source, text);
    }
    (void)snprintf(begin, sizeof(begin), "template line %u: ", line);
    if (strncmp(failure, begin, strlen(begin)) != 0 || strstr(failure, what) == NULL) {
        fail_msg("%s: expected \"%s%s\", got \"%s\"", source, begin, what, failure);
    }
}

static void unknown_filter_and_test_name_their_line(void **state)
{
    (void)state;
    refuses("a\nb\n{{ x | blurb }}", "{}", 3, "filter 'blurb' is unknown");
    refuses("{{ x | urlize }}", "{}", 1, "filter 'urlize' is not supported");
    refuses("\n{{ x is blue }}", "{}", 2, "test 'blue' is unknown");
    refuses("\n\n{{ [1] | map('nope') | list }}", "{}", 3, "filter 'nope' is unknown");
}

static void construct_that_is_left_out_is_refused_by_name(void **state)
{
    (void)state;
    refuses("{% for x in y recursive %}{% endfor %}", "{}", 1, "recursive %} is not supported");
    refuses("\n{% include 'a' %}", "{}", 2, "{% include %} is not supported");
    refuses("{% extends 'a' %}", "{}", 1, "{% extends %} is not supported");
    refuses("{% import 'a' as b %}", "{}", 1, "{% import %} is not supported");
    refuses("{% block a %}{% endblock %}", "{}", 1, "{% block %} is not supported");
    refuses("{% autoescape true %}{% endautoescape %}", "{}", 1, "{% autoescape %}");
    refuses("{{ cycler('a') }}", "{}", 1, "the function cycler is not supported");
    refuses("{{ 'a'.encode() }}", "{}", 1, "attribute 'encode' of a str is not supported");
    refuses("{{ 'a'.__class__ }}", "{}", 1, "attribute '__class__' is not supported");
    refuses("{{ 'a\\N{DASH}' }}", "{}", 1, "\\N in a string is not supported");
    refuses("{{ \xc3\xa9t\xc3\xa9 }}", "{}", 1, "non-ASCII name is not supported");
}

static void block_that_is_not_closed_names_where_it_began(void **state)
{
    (void)state;
    refuses("a\n{% if x %}\nb", "{}", 2, "{% elif %} is missing");
    refuses("{% for x in y %}", "{}", 1, "{% endfor %} is missing");
    refuses("\n{{ x", "{}", 2, "{{ is not closed");
    refuses("\n{% set x = 1", "{}", 2, "{% is not closed");
    refuses("{# a", "{}", 1, "comment {# is not closed");
    refuses("{% raw %} {{", "{}", 1, "{% raw %} is not closed");
    refuses("\n\n{{ 'abc }}", "{}", 3, "string is not closed");
    refuses("{% endif %}", "{}", 1, "unknown tag 'endif'");
    refuses("{% frob %}", "{}", 1, "unknown tag 'frob'");
}

static void wrong_syntax_says_what_was_expected(void **state)
{
    (void)state;
    refuses("{{ 1 + }}", "{}", 1, "expected an expression, got '}}'");
    refuses("{{ (1 }}", "{}", 1, "unexpected '}', expected ')'");
    refuses("{{ 1) }}", "{}", 1, "unexpected ')'");
    refuses("{% for x of y %}", "{}", 1, "expected 'in', got 'of'");
    refuses("{{ a $ b }}", "{}", 1, "unexpected character '$'");
    refuses("{% break %}", "{}", 1, "{% break %} outside of a loop");
    refuses("{% for a in b %}{% set loop = 1 %}{% endfor %}", "{}", 1, "special variable loop");
    refuses("{{ f(a=1, 2) }}", "{}", 1, "behind named ones");
    refuses("{{ a is b is c }}", "{}", 1, "unknown");
    refuses("{% set none = 1 %}", "{}", 1, "cannot assign to none");
    refuses("{{ '\\x4' }}", "{}", 1, "truncated");
}

static void failing_expression_names_its_own_line(void **state)
{
    (void)state;
    refuses("{{ 1 }}\n{{ a.b }}", "{}", 2, "'a' is undefined");
    refuses("\n{{ a.b.c }}", "{\"a\": {}}", 2, "'dict object' has no attribute 'b'");
    refuses("{% if true %}\n{{ 1 / 0 }}{% endif %}", "{}", 2, "division by zero");
    refuses("{{ 'a' + 1 }}", "{}", 1, "unsupported operand types for +: 'str' and 'int'");
    refuses("{{ none + 1 }}", "{}", 1, "'NoneType' and 'int'");
    refuses("{{ [] < 1 }}", "{}", 1, "'<' not supported between instances of 'list' and 'int'");
    refuses("{{ [1] | tojson(1, 2, 3, 4, 5) }}", "{}", 1, "tojson takes at most 4 arguments");
    refuses("{{ 'a' | replace('b') }}", "{}", 1, "replace: argument 2 is missing");
    refuses("{{ {[1]: 2} }}", "{}", 1, "unhashable type: 'list'");
    refuses("{{ nums.append(1) }}", "{\"nums\": []}", 1, "not allowed");
}

static void raise_exception_is_an_error_with_its_text(void **state)
{
    (void)state;
    refuses("\n{{ raise_exception('roles must ' ~ 'alternate') }}", "{}", 2,
            "raise_exception: roles must alternate");
    refuses("{{ raise_exception('two\\nlines') }}", "{}", 1, "two lines");
}

static void message_cut_by_its_buffer_stays_valid_text(void **state)
{
    char source[900] = "{{ raise_exception('", *p = source + strlen(source);
    size_t n, i;

    (void)state;
    for (i = 0; i < 200; i++) {
        memcpy(p, "\xe2\x82\xac", 3);
        p += 3;
    }
    memcpy(p, "') }}", 6);
    assert_null(render(source, "{}"));
    n = strlen(failure);
    assert_true(n > 100 && n < sizeof(error.text));
    assert_memory_equal(failure + n - 3, "\xe2\x82\xac", 3);
}

static void endless_work_ends_at_the_step_limit(void **state)
{
    (void)state;
    refuses("{% for a in range(100000) %}\n{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{}", 2, "steps");
    refuses("{% for a in range(100000) %}{% if 'ab' in s * 200000 %}{% endif %}{% endfor %}",
            "{\"s\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}", 1, "");
}

static void endless_recursion_ends_at_the_depth_limit(void **state)
{
    (void)state;
    refuses("{% macro f(x) %}{{ f(x) }}{% endmacro %}\n{{ f(1) }}", "{}", 1, "deeper than");
    refuses("{% set ns = namespace(a=[]) %}{% for i in range(1000) %}{% set ns.a = [ns.a] %}"
            "{% endfor %}\n{{ ns.a }}",
            "{}", 2, "deeper than");
    refuses("{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}", "{}", 1, "deeper than");
}

static void deep_source_is_refused_when_compiled(void **state)
{
    enum {
        DEEP = 5000
    };
    char *source = calloc(1, DEEP * 16);
    size_t i;

    (void)state;
    assert_non_null(source);
    for (i = 0; i < DEEP; i++) {
        source[i] = '(';
    }
    memmove(source + 2, source, DEEP);
    memcpy(source, "{{", 2);
    assert_null(render(source, "{}"));
    assert_non_null(strstr(failure, "nested deeper than"));
    memset(source, 0, DEEP * 16);
    memcpy(source, "{{ a", 4);
    for (i = 0; i < 1000; i++) {
        memcpy(source + 4 + 2 * i, ".a", 2);
    }
    memcpy(source + 4 + 2000, "}}", 2);
    assert_null(render(source, "{}"));
    assert_non_null(strstr(failure, "chains more than"));
    memset(source, 0, DEEP * 16);
    for (i = 0; i < 1000; i++) {
        memcpy(source + 10 * i, "{% if 1 %}", 10);
    }
    assert_null(render(source, "{}"));
    assert_non_null(strstr(failure, "nested deeper than"));
    free(source);
}

static void long_flat_source_is_no_deep_source(void **state)
{
    enum {
        TERMS = 5000
    };
    char *source = calloc(1, TERMS * 4 + 16), *text;
    size_t i;

    (void)state;
    assert_non_null(source);
    memcpy(source, "{{ 1", 4);
    for (i = 0; i < TERMS; i++) {
        memcpy(source + 4 + 4 * i, " + 1", 4);
    }
    memcpy(source + 4 + 4 * TERMS, " }}", 3);
    text = render(source, "{}");
    assert_non_null(text);
    assert_string_equal(text, "5001");
    ingle_mem_free(text);
    free(source);
}

static void output_and_memory_are_bounded(void **state)
{
    (void)state;
    refuses("{{ 'abcdefgh' * 100000000 }}", "{}", 1, "MiB");
    refuses("{% set ns = namespace(s='0123456789') %}{% for i in range(40) %}\n"
            "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
            "{}", 2, "");
    refuses("{{ ([0] * 10000000) | length }}", "{}", 1, "");
    refuses("{{ range(100001) | list }}", "{}", 1, "more than 100000 items");
}

static void integers_beyond_64_bits_are_refused(void **state)
{
    (void)state;
    refuses("{{ 9223372036854775807 + 1 }}", "{}", 1, "beyond 64 bits");
    refuses("{{ 9223372036854775808 }}", "{}", 1, "beyond 64 bits");
    refuses("{{ 10 ** 19 }}", "{}", 1, "beyond 64 bits");
    refuses("{{ -n }}", "{\"n\": -9223372036854775808}", 1, "beyond 64 bits");
    refuses("{{ n // -1 }}", "{\"n\": -9223372036854775808}", 1, "beyond 64 bits");
    refuses("{{ 1 }}", "{\"n\": 18446744073709551615}", 1, "beyond");
    refuses("{{ 1 }}", "{\"n\": 99999999999999999999999}", 1, "JSON");
    gives("{{ n % -1 }} {{ n }}", "{\"n\": -9223372036854775808}", "0 -9223372036854775808");
}

static void variables_must_be_one_valid_json_object(void **state)
{
    (void)state;
    refuses("x", "", 1, "JSON at byte 0: unexpected end");
    refuses("x", "{\"a\": ", 1, "JSON at byte 6: unexpected end");
    refuses("x", "{\"a\": 1} x", 1, "JSON");
    refuses("x", "{\"a\": 1,}", 1, "JSON");
    refuses("x", "{a: 1}", 1, "JSON");
    refuses("x", "{/**/}", 1, "JSON");
    refuses("x", "[1]", 1, "one JSON object");
    refuses("x", "\"a\"", 1, "one JSON object");
    refuses("x", "1", 1, "JSON");
    refuses("x", "{\"a\": NaN}", 1, "JSON");
    refuses("x", "{\"a\": Infinity}", 1, "JSON");
    assert_null(render_bytes("x", 1, "{\"a\": \"\xff\"}", 10));
    assert_string_equal(failure, "template variables: byte 7 is not valid UTF-8");
}

static void json_deeper_than_its_limit_is_refused(void **state)
{
    char json[400] = "{\"a\": ";
    size_t i, n = strlen(json);

    (void)state;
    for (i = 0; i < 70; i++) {
        json[n++] = '[';
    }
    for (i = 0; i < 70; i++) {
        json[n++] = ']';
    }
    json[n] = '}';
    refuses("x", json, 1, "JSON");
}

static void source_that_is_not_utf8_is_refused_with_its_byte(void **state)
{
    (void)state;
    assert_null(render_bytes("ab\xff", 3, "{}", 2));
    assert_string_equal(failure, "template: byte 2 is not valid UTF-8");
    assert_null(render_bytes("\xed\xa0\x80", 3, "{}", 2));
    assert_string_equal(failure, "template: byte 0 is not valid UTF-8");
}

static void source_above_its_limit_is_refused(void **state)
{
    char *source = calloc(1, INGLE_TPL_SOURCE_BYTES_MAX + 1);

    (void)state;
    assert_non_null(source);
    assert_null(render_bytes(source, INGLE_TPL_SOURCE_BYTES_MAX + 1, "{}", 2));
    assert_non_null(strstr(failure, "the limit is"));
    free(source);
}

static void bos_and_eos_are_variables_that_a_request_may_replace(void **state)
{
    (void)state;
    gives("{{ bos_token }}|{{ eos_token }}", "{}", "<s>|</s>");
    gives("{{ bos_token }}|{{ eos_token }}", "{\"bos_token\": \"B\"}", "B|</s>");
}

static void order_of_json_keys_is_kept_and_the_last_of_equals_wins(void **state)
{
    (void)state;
    gives("{{ d | tojson }}", "{\"d\": {\"z\": 1, \"a\": 2, \"m\": 3, \"z\": 4}}",
          "{\"z\": 4, \"a\": 2, \"m\": 3}");
}

static void big_dicts_find_every_key(void **state)
{
    (void)state;
    gives("{% set ns = namespace(d={}) %}{% for i in range(500) %}"
          "{% set ns.d = dict(ns.d, **{'k' ~ i: i}) %}{% endfor %}"
          "{{ ns.d | length }} {{ ns.d.k0 + ns.d.k499 }} {{ 'k77' in ns.d }} {{ 'x' in ns.d }}",
          "{}", "500 499 True False");
}

static void zero_bytes_pass_through(void **state)
{
    char *text = render("[{{ s }}]{{ '\\x00' }}{{ s | length }}", "{\"s\": \"a\\u0000b\"}");

    (void)state;
    assert_non_null(text);
    assert_memory_equal(text, "[a\0b]\0003", 8);
    ingle_mem_free(text);
}

static void lone_surrogate_in_json_becomes_a_replacement_character(void **state)
{
    (void)state;
    gives("{{ s }}", "{\"s\": \"a\\ud83d\"}", "a\xef\xbf\xbd");
    gives("{{ s }}", "{\"s\": \"\\ud83d\\ude42\"}", "\xf0\x9f\x99\x82");
}

static void escaped_pair_that_json_c_loses_is_kept(void **state)
{
    (void)state;
    gives("{{ s }}", "{\"s\": \"\\uD876\\udc00\"}", "\xf0\xad\xa0\x80"); /* U+2D800 */
    gives("{{ s }}", "{\"s\": \"\\\\ud876\\ud876\\udc00\\ud876\"}",
          "\\ud876\xf0\xad\xa0\x80\xef\xbf\xbd");
}

static void template_renders_the_same_twice_and_keeps_its_source(void **state)
{
    static const char source[] = "{% set x = m | join('-') %}{{ x }}{% macro f(a) %}<{{ a }}>"
                                 "{% endmacro %}{{ f(x) }}";
    struct ingle_template *tpl = NULL;
    struct ingle_error err;
    uint64_t bytes, i;
    char *text;

    (void)state;
    assert_int_equal(ingle_template_create(source, strlen(source), "", "", &tpl, &err), 0);
    assert_string_equal(ingle_template_source(tpl), source);
    for (i = 0; i < 3; i++) {
        assert_int_equal(ingle_template_render(tpl, "{\"m\": [1, 2]}", 13, 0, &text, &bytes, &err),
                         0);
        assert_string_equal(text, "1-2<1-2>");
        assert_int_equal(bytes, 8);
        ingle_mem_free(text);
        assert_true(ingle_template_render(tpl, "{", 1, 0, &text, &bytes, NULL) < 0);
    }
    ingle_template_free(tpl);
    ingle_template_free(NULL);
}

static void clock_is_the_callers(void **state)
{
    struct ingle_template *tpl;
    struct ingle_error err;
    uint64_t bytes;
    char *text;

    (void)state;
    assert_int_equal(ingle_template_create("{{ strftime_now('%Y') }}", 24, "", "", &tpl, &err), 0);
    assert_int_equal(ingle_template_render(tpl, "{}", 2, 1764000000, &text, &bytes, &err), 0);
    assert_string_equal(text, "2025");
    ingle_mem_free(text);
    ingle_template_free(tpl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unknown_filter_and_test_name_their_line),
        cmocka_unit_test(construct_that_is_left_out_is_refused_by_name),
        cmocka_unit_test(block_that_is_not_closed_names_where_it_began),
        cmocka_unit_test(wrong_syntax_says_what_was_expected),
        cmocka_unit_test(failing_expression_names_its_own_line),
        cmocka_unit_test(raise_exception_is_an_error_with_its_text),
        cmocka_unit_test(message_cut_by_its_buffer_stays_valid_text),
        cmocka_unit_test(endless_work_ends_at_the_step_limit),
        cmocka_unit_test(endless_recursion_ends_at_the_depth_limit),
        cmocka_unit_test(deep_source_is_refused_when_compiled),
        cmocka_unit_test(long_flat_source_is_no_deep_source),
        cmocka_unit_test(output_and_memory_are_bounded),
        cmocka_unit_test(integers_beyond_64_bits_are_refused),
        cmocka_unit_test(variables_must_be_one_valid_json_object),
        cmocka_unit_test(json_deeper_than_its_limit_is_refused),
        cmocka_unit_test(source_that_is_not_utf8_is_refused_with_its_byte),
        cmocka_unit_test(source_above_its_limit_is_refused),
        cmocka_unit_test(bos_and_eos_are_variables_that_a_request_may_replace),
        cmocka_unit_test(order_of_json_keys_is_kept_and_the_last_of_equals_wins),
        cmocka_unit_test(big_dicts_find_every_key),
        cmocka_unit_test(zero_bytes_pass_through),
        cmocka_unit_test(lone_surrogate_in_json_becomes_a_replacement_character),
        cmocka_unit_test(escaped_pair_that_json_c_loses_is_kept),
        cmocka_unit_test(template_renders_the_same_twice_and_keeps_its_source),
        cmocka_unit_test(clock_is_the_callers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
