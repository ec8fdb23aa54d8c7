/* Owns nothing. Formats errors at their origin; ends the process on a bug. Any thread. */
#include "runtime/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int ingle_fail_at(struct ingle_error *err, const char *file, int line, enum ingle_error_kind kind,
                  int code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list ap;

        err->code = code;
        err->kind = kind;
        err->file = file;
        err->line = line;
        va_start(ap, fmt);
        (void)vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
    }
    return code;
}

_Noreturn void ingle_assert_failed(const char *cond, const char *file, int line)
{
    (void)fprintf(stderr, "ingled: bug: %s:%d: assertion failed: %s\n", file, line, cond);
    abort();
}
