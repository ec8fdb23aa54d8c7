/* Owns compiled templates and the entry points; everything that can fail inside jumps back here.
 * Invariant: a compiled template is never written again, so renders may share it. Thread: any for
 * rendering (io), the creator's for create and free. */
#include "runtime/model/template.h"

#include <errno.h>

#include "runtime/base/mem.h"
#include "runtime/model/template_eval.h"
#include "runtime/model/tokenizer.h"

#define COMPILE_BYTES_MAX (256ull << 20)

struct ingle_template {
    char *source;
    char *bos, *eos;
    struct ingle_tpl_arena arena; /* the tree */
    struct ingle_tpl_program program;
};

static void run_init(struct ingle_tpl_run *run, struct ingle_error *err, uint64_t limit_bytes,
                     uint32_t depth_max)
{
    memset(run, 0, sizeof(*run));
    run->err = err;
    run->line = 1;
    run->depth_max = depth_max;
    run->steps_left = INGLE_TPL_STEPS_MAX;
    run->arena.limit_bytes = limit_bytes;
}

/* The jump target lives in a frame of its own, so that no local changes between set and jump. */
static int compile(struct ingle_tpl_run *run, struct ingle_template *tpl, uint64_t bytes)
{
    if (setjmp(run->out) != 0) {
        return run->code;
    }
    tpl->program = ingle_tpl_parse(run, tpl->source, bytes);
    return 0;
}

int ingle_template_create(const char *source, uint64_t bytes, const char *bos, const char *eos,
                          struct ingle_template **ret, struct ingle_error *err)
{
    struct ingle_template *tpl;
    struct ingle_tpl_run run;
    int r;

    if (bytes > INGLE_TPL_SOURCE_BYTES_MAX) {
        return ingle_fail(err, -E2BIG, "template of %llu bytes: the limit is %u",
                          (unsigned long long)bytes, INGLE_TPL_SOURCE_BYTES_MAX);
    }
    if (ingle_utf8_check(source, bytes) >= 0) {
        return ingle_fail(err, -EINVAL, "template: byte %lld is not valid UTF-8",
                          (long long)ingle_utf8_check(source, bytes));
    }
    if (ingle_utf8_check(bos, strlen(bos)) >= 0 || ingle_utf8_check(eos, strlen(eos)) >= 0) {
        return ingle_fail(err, -EINVAL, "template: bos or eos token is not valid UTF-8");
    }
    tpl = ingle_mem_alloc(sizeof(*tpl));
    if (tpl == NULL) {
        return ingle_fail(err, -ENOMEM, "template: out of memory");
    }
    tpl->source = ingle_mem_alloc(bytes + 1);
    tpl->bos = ingle_mem_strdup(bos);
    tpl->eos = ingle_mem_strdup(eos);
    if (tpl->source == NULL || tpl->bos == NULL || tpl->eos == NULL) {
        ingle_template_free(tpl);
        return ingle_fail(err, -ENOMEM, "template: out of memory");
    }
    memcpy(tpl->source, source, bytes);
    run_init(&run, err, COMPILE_BYTES_MAX, INGLE_TPL_NEST_MAX);
    r = compile(&run, tpl, bytes);
    tpl->arena = run.arena;
    if (r < 0) {
        ingle_template_free(tpl);
        return r;
    }
    *ret = tpl;
    return 0;
}

void ingle_template_free(struct ingle_template *tpl)
{
    if (tpl == NULL) {
        return;
    }
    ingle_tpl_arena_free(&tpl->arena);
    ingle_mem_free(tpl->source);
    ingle_mem_free(tpl->bos);
    ingle_mem_free(tpl->eos);
    ingle_mem_free(tpl);
}

const char *ingle_template_source(const struct ingle_template *tpl)
{
    return tpl->source;
}

/* bos_token and eos_token, then the request's own members, which win. */
static struct ingle_tv variables(struct ingle_tpl_run *run, const struct ingle_template *tpl,
                                 struct ingle_tv json)
{
    struct ingle_tv all = ingle_tv_dict_new(run, TV_DICT);
    uint32_t i;

    if (json.kind != TV_DICT) {
        ingle_tpl_fail(run, "the variables must be one JSON object, not a %s",
                       ingle_tv_type_name(json));
    }
    ingle_tv_dict_put(run, all.u.dict, ingle_tv_strz("bos_token"), ingle_tv_strz(tpl->bos));
    ingle_tv_dict_put(run, all.u.dict, ingle_tv_strz("eos_token"), ingle_tv_strz(tpl->eos));
    for (i = 0; i < json.u.dict->n; i++) {
        ingle_tv_dict_put(run, all.u.dict, json.u.dict->pair[i].key, json.u.dict->pair[i].value);
    }
    return all;
}

static int render(struct ingle_tpl_run *run, const struct ingle_template *tpl, const char *json,
                  uint64_t json_bytes, struct ingle_tv *ret)
{
    struct ingle_tv all;

    if (setjmp(run->out) != 0) {
        if (run->foreign != NULL) {
            run->foreign_free(run->foreign);
        }
        return run->code;
    }
    all = variables(run, tpl, ingle_tv_from_json(run, json, json_bytes));
    *ret = ingle_tpl_eval(run, &tpl->program, all.u.dict);
    return 0;
}

int ingle_template_render(const struct ingle_template *tpl, const char *json, uint64_t json_bytes,
                          int64_t now_s, char **ret_text, uint64_t *ret_bytes,
                          struct ingle_error *err)
{
    struct ingle_tpl_run run;
    struct ingle_tv text = {0};
    char *copy;
    int r;

    if (ingle_utf8_check(json, json_bytes) >= 0) {
        return ingle_fail(err, -EINVAL, "template variables: byte %lld is not valid UTF-8",
                          (long long)ingle_utf8_check(json, json_bytes));
    }
    run_init(&run, err, INGLE_TPL_ARENA_BYTES_MAX, INGLE_TPL_DEPTH_MAX);
    run.now_s = now_s;
    r = render(&run, tpl, json, json_bytes, &text);
    if (r == 0) {
        copy = ingle_mem_alloc((uint64_t)text.bytes + 1);
        if (copy == NULL) {
            r = ingle_fail(err, -ENOMEM, "template: out of memory");
        } else {
            memcpy(copy, text.u.text, text.bytes);
            *ret_text = copy;
            *ret_bytes = text.bytes;
        }
    }
    ingle_tpl_arena_free(&run.arena);
    return r;
}
