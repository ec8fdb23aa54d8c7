/* Chat templates: a Jinja subset, compiled once, rendered per request on the io thread with caps on
 * steps, depth and output. What it cannot do it says with line and construct.
 *
 * It behaves as Jinja2 does in the environment that transformers gives chat templates: the
 * immutable sandbox, trim_blocks and lstrip_blocks, break and continue, {% generation %},
 * raise_exception, strftime_now, and a tojson that escapes no HTML. Left out: recursive loops;
 * include, import, extends, block and autoescape; the filters filesizeformat, groupby, pprint,
 * random, striptags, urlencode, urlize, wordwrap and xmlattr; cycler, joiner and lipsum; str.format
 * and other methods of str that need tables; integers beyond 64 bits; names that are not ASCII. */
#ifndef INGLE_RUNTIME_MODEL_TEMPLATE_H
#define INGLE_RUNTIME_MODEL_TEMPLATE_H
#include <stdint.h>

#include "runtime/base/error.h"

struct ingle_template; /* opaque */

/* Compile. bos/eos: the values of bos_token and eos_token (NUL-terminated, copied). */
int ingle_template_create(const char *source, uint64_t bytes, const char *bos, const char *eos,
                          struct ingle_template **ret, struct ingle_error *err) INGLE_MUST_CHECK;
void ingle_template_free(struct ingle_template *tpl); /* NULL allowed */
const char *ingle_template_source(const struct ingle_template *tpl);

/* Render. json: one object; its members are the template's variables (messages, tools,
 * add_generation_prompt, documents, anything else), as UTF-8 JSON; now_s: what strftime_now sees.
 * On success *ret_text is new (ingle_mem_free), NUL-terminated. raise_exception and every limit are
 * errors with the template's line. */
int ingle_template_render(const struct ingle_template *tpl, const char *json, uint64_t json_bytes,
                          int64_t now_s, char **ret_text, uint64_t *ret_bytes,
                          struct ingle_error *err) INGLE_MUST_CHECK;

#endif
