/* Owns nothing. `ingle version`. Thread: main. */
#include <stdio.h>

#include "shm/layout.h"
#include "tools/ingle/json.h"
#include "tools/ingle/verbs.h"

enum cli_exit verb_version(const struct cli_call *call)
{
    struct json j;

    if (!cli_has(call, "json")) {
        (void)printf("ingle " INGLE_VERSION " (protocol %u)\n", INGLE_PROTO_VER);
        return CLI_OK;
    }
    json_init(&j, stdout);
    json_open(&j, '{');
    json_key(&j, "ingle");
    json_str(&j, INGLE_VERSION);
    json_key(&j, "protocol");
    json_u64(&j, INGLE_PROTO_VER);
    json_close(&j, '}');
    (void)putchar('\n');
    return CLI_OK;
}
