/* Rendering: a walk over the syntax tree. */
#ifndef INGLE_RUNTIME_MODEL_TEMPLATE_EVAL_H
#define INGLE_RUNTIME_MODEL_TEMPLATE_EVAL_H
#include "runtime/model/template_parser.h"

/* The text of the template over `variables` (a dict). Lives in the arena of run. */
struct ingle_tv ingle_tpl_eval(struct ingle_tpl_run *run, const struct ingle_tpl_program *program,
                               const struct ingle_tv_dict *variables);

#endif
