/* Errors and assertions. An error is filled once, at its origin; a bug of ours stops the runtime.
 */
#ifndef INGLE_RUNTIME_BASE_ERROR_H
#define INGLE_RUNTIME_BASE_ERROR_H
#include <stdint.h>

#define INGLE_MUST_CHECK __attribute__((warn_unused_result))

/* What the command line turns into its exit status (ECOSYSTEM exit codes). */
enum ingle_error_kind {
    INGLE_ERR_NONE = 0,
    INGLE_ERR_OTHER = 1,
    INGLE_ERR_USAGE = 2,
    INGLE_ERR_UNREACHABLE = 3,
    INGLE_ERR_NOT_FOUND = 4,
    INGLE_ERR_REFUSED = 5, /* quota, budget, context length */
    INGLE_ERR_BAD_MODEL = 6
};

struct ingle_error {
    int code; /* -errno */
    enum ingle_error_kind kind;
    const char *file;
    int line;
    char text[400]; /* one line: what, why, what to do */
};

/* Fill err (NULL allowed) and return code, so that an origin reads `return ingle_fail(...)`. */
int ingle_fail_at(struct ingle_error *err, const char *file, int line, enum ingle_error_kind kind,
                  int code, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
#define ingle_fail(err, code, ...) \
    ingle_fail_at(err, __FILE__, __LINE__, INGLE_ERR_OTHER, code, __VA_ARGS__)
#define ingle_fail_kind(err, kind, code, ...) \
    ingle_fail_at(err, __FILE__, __LINE__, kind, code, __VA_ARGS__)

/* On in every build: our own bug. Never on data from a peer, a file or the environment. */
#define ingle_assert(cond) ((cond) ? (void)0 : ingle_assert_failed(#cond, __FILE__, __LINE__))
_Noreturn void ingle_assert_failed(const char *cond, const char *file, int line);

#endif
