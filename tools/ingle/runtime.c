/* Owns nothing. Finds the runtime. Thread: main. */
#include "tools/ingle/runtime.h"

#include <string.h>
#include <unistd.h>

#include "tools/ingle/paths.h"

static bool beside(char ret_path[PATH_MAX])
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash;

    if (n <= 0) {
        return false;
    }
    self[n] = 0;
    slash = strrchr(self, '/');
    if (slash == NULL) {
        return false;
    }
    *slash = 0;
    path_format(ret_path, "%s/ingled", self);
    return access(ret_path, X_OK) == 0;
}

bool runtime_program(char ret_path[PATH_MAX])
{
    const char *search = env_get("PATH");

    if (beside(ret_path)) {
        return true;
    }
    while (search != NULL && *search != 0) {
        size_t n = strcspn(search, ":");

        path_format(ret_path, "%.*s/ingled", (int)n, search);
        if (n > 0 && search[0] == '/' && access(ret_path, X_OK) == 0) {
            return true;
        }
        search += n + (search[n] == ':');
    }
    return false;
}
