/* From template source to tokens, with Jinja2's rules for white space: trim_blocks and
 * lstrip_blocks are on, one trailing newline of the source is dropped. */
#ifndef INGLE_RUNTIME_MODEL_TEMPLATE_LEXER_H
#define INGLE_RUNTIME_MODEL_TEMPLATE_LEXER_H
#include "runtime/model/template_value.h"

enum ingle_tpl_token_type {
    TPL_T_EOF,
    TPL_T_DATA,
    TPL_T_PRINT_BEGIN, /* {{ */
    TPL_T_PRINT_END,
    TPL_T_BLOCK_BEGIN, /* {% */
    TPL_T_BLOCK_END,
    TPL_T_NAME,
    TPL_T_STR,
    TPL_T_INT,
    TPL_T_FLOAT,
    TPL_T_OP
};

struct ingle_tpl_token {
    uint8_t type;
    char op[3]; /* TPL_T_OP: "+", "//", "==", ... */
    uint32_t line;
    struct ingle_tv value; /* text of DATA and NAME, constant of STR, INT, FLOAT */
};

/* The last token is EOF. */
const struct ingle_tpl_token *ingle_tpl_lex(struct ingle_tpl_run *run, const char *source,
                                            uint64_t bytes);

#endif
