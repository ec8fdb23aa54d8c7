/* Administrative requests over the real socket: each is answered, with what was asked for or with
 * what is wrong about it, and the runtime goes on. Usage: admin_verbs SOCKET (an ingled with the
 * null engine) */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clients/c/ingle.h"

static struct ingle_client *client;

static void ask(const char *request, const char *want)
{
    static char reply[1 << 18];

    assert_int_equal(ingle_admin(client, request, reply, sizeof reply, NULL, NULL), 0);
    if (strstr(reply, want) == NULL) {
        fail_msg("%s: no %s in %s", request, want, reply);
    }
}

static void what_is_asked_for_is_given(void **state)
{
    (void)state;
    ask("{\"verb\":\"ps\"}", "\"budget\"");
    ask("{\"verb\":\"models\"}", "\"models\"");
    ask("{\"verb\":\"sessions\"}", "\"admin\"");
    ask("{\"verb\":\"logs\",\"lines\":3}", "\"lines\"");
    ask("{\"verb\":\"model\",\"slot\":1}", "\"null\"");
    ask("{\"verb\":\"model\",\"model\":\"null\"}", "\"slot\"");
    ask("{\"verb\":\"open\",\"model\":\"null\"}", "\"n_ctx\"");
    ask("{\"verb\":\"open\"}", "\"default\":true"); /* none named: the default one */
    ask("{\"verb\":\"reload\"}", "\"ok\"");
}

static void what_is_wrong_is_said(void **state)
{
    static const char *const wrong[] = {
        "{\"verb\":\"nonsense\"}",
        "{}",
        "{\"verb\":7}",
        "{\"verb\":\"open\",\"model\":\"nothing\"}",
        "{\"verb\":\"open\",\"model\":\"null\",\"options\":{\"kv_bits\":5}}",
        "{\"verb\":\"open\",\"model\":\"null\",\"options\":{\"activations\":9}}",
        "{\"verb\":\"open\",\"model\":\"null\",\"options\":{\"activations\":\"bf8\"}}",
        "{\"verb\":\"open\",\"model\":\"null\",\"options\":{\"activations\":8.5}}",
        "{\"verb\":\"open\",\"model\":\"null\",\"options\":{\"kernels\":\"fast\"}}",
        "{\"verb\":\"open\",\"model\":\"null\",\"options\":{\"context\":-1}}",
        "{\"verb\":\"model\",\"slot\":99}",
        "{\"verb\":\"model\",\"model\":\"nothing\"}",
        "{\"verb\":\"model\"}",
        "{\"verb\":\"unload\",\"slot\":7}",
        "{\"verb\":\"unload\",\"model\":\"nothing\"}",
        "{\"verb\":\"kill\"}",
        "{\"verb\":\"kill\",\"client\":4000000}",
        "{\"verb\":\"kill\",\"client\":\"me\"}",
        "{\"verb\":\"logs\",\"lines\":-1}",
        "{\"verb\":\"logs\",\"lines\":\"many\"}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ask(wrong[i], "\"ok\":false");
        ask(wrong[i], "\"error\":\"");
    }
}

static void a_model_goes_and_comes_again(void **state)
{
    (void)state;
    ask("{\"verb\":\"unload\",\"model\":\"null\"}", "\"unloaded\":1");
    ask("{\"verb\":\"unload\",\"model\":\"null\"}", "\"ok\":false");
    ask("{\"verb\":\"ps\"}", "\"ok\":true");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_asked_for_is_given),
        cmocka_unit_test(what_is_wrong_is_said),
        cmocka_unit_test(a_model_goes_and_comes_again),
    };
    struct ingle_attach_options options = {.name = "admin"};
    char err[256];
    int failed;

    if (argc != 2) {
        return 2;
    }
    options.socket_path = argv[1];
    if (ingle_attach(&options, &client, err, sizeof err) < 0) {
        return 1;
    }
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    ingle_detach(client);
    return failed;
}
