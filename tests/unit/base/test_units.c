#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/base/units.h"

static uint64_t parse(const char *text)
{
    uint64_t bytes = 12345;

    assert_int_equal(ingle_units_parse_bytes(text, &bytes), 0);
    return bytes;
}

static void bytes_with_every_unit_are_read(void **state)
{
    (void)state;
    assert_true(parse("0") == 0);
    assert_true(parse("4096") == 4096);
    assert_true(parse("12b") == 12);
    assert_true(parse("64 KiB") == 64 << 10);
    assert_true(parse("64k") == 64 << 10);
    assert_true(parse("64KB") == 64 << 10);
    assert_true(parse("512MiB") == 512 << 20);
    assert_true(parse("1.5GiB") == UINT64_C(3) << 29);
    assert_true(parse(" 2 T") == UINT64_C(2) << 40);
}

static void what_is_no_byte_count_is_refused(void **state)
{
    static const char *const wrong[] = {"",    "GiB", "-1",     "+1",  "0x10",  "inf",
                                        "nan", "1 X", "1 GiB2", "1ib", "1 K iB"};
    uint64_t bytes = 7;

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(ingle_units_parse_bytes(wrong[i], &bytes), -EINVAL);
    }
    assert_int_equal(ingle_units_parse_bytes("99999999999 TiB", &bytes), -ERANGE);
    assert_true(bytes == 7);
}

static void bytes_are_shown_in_the_largest_unit(void **state)
{
    (void)state;
    assert_string_equal(ingle_units_bytes(0).s, "0 B");
    assert_string_equal(ingle_units_bytes(1023).s, "1023 B");
    assert_string_equal(ingle_units_bytes(1024).s, "1.0 KiB");
    assert_string_equal(ingle_units_bytes(UINT64_C(5476083302)).s, "5.1 GiB");
    assert_string_equal(ingle_units_bytes(UINT64_MAX).s, "16777216.0 TiB");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_with_every_unit_are_read),
        cmocka_unit_test(what_is_no_byte_count_is_refused),
        cmocka_unit_test(bytes_are_shown_in_the_largest_unit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
