/* The way to the runtime: find it, start it, attach to it. */
#ifndef INGLE_TOOLS_RUNTIME_H
#define INGLE_TOOLS_RUNTIME_H
#include <limits.h>
#include <stdbool.h>

/* The ingled that belongs to this ingle: beside it, else in PATH. */
bool runtime_program(char ret_path[PATH_MAX]);

#endif
