/* The syntax tree of a template. Nodes are uniform: an operation, a line, a constant or a name, and
 * children whose roles the operation defines. */
#ifndef INGLE_RUNTIME_MODEL_TEMPLATE_PARSER_H
#define INGLE_RUNTIME_MODEL_TEMPLATE_PARSER_H
#include "runtime/model/template_value.h"

enum ingle_tpl_op {
    /* Expressions. */
    TPL_CONST,     /* value */
    TPL_NAME,      /* name */
    TPL_TUPLE,     /* items */
    TPL_LIST,      /* items */
    TPL_DICT,      /* key, value, key, value, ... */
    TPL_NEG,       /* operand */
    TPL_POS,       /* operand */
    TPL_NOT,       /* operand */
    TPL_AND,       /* operands */
    TPL_OR,        /* operands */
    TPL_MATH,      /* operands, left to right; value: one letter per operator (ingle_tv_binary) */
    TPL_CONCAT,    /* operands */
    TPL_COMPARE,   /* operands; value: one letter per operator: = ! < l > g i n */
    TPL_COND,      /* test, then, [else] */
    TPL_ATTR,      /* object; value: the name */
    TPL_ITEM,      /* object, key */
    TPL_SLICE,     /* object, start, stop, step; absent ones are NULL */
    TPL_CALL,      /* callee, arguments... */
    TPL_FILTER,    /* input, arguments...; builtin */
    TPL_TEST,      /* input, arguments...; builtin */
    TPL_CAPTURED,  /* the text of the block that a filter or set block encloses */
    TPL_ARG_NAMED, /* argument only: value; value: its name */
    TPL_ARG_LIST,  /* argument only: *value */
    TPL_ARG_DICT,  /* argument only: **value */
    /* Statements. */
    TPL_BODY,         /* statements */
    TPL_DATA,         /* value */
    TPL_PRINT,        /* expressions */
    TPL_FOR,          /* target, iterable, filter or NULL, body, else or NULL */
    TPL_IF,           /* test, body, test, body, ..., [else] */
    TPL_SET,          /* target, expression */
    TPL_SET_BLOCK,    /* target, expression over TPL_CAPTURED, body */
    TPL_WITH,         /* target, expression, ..., body last */
    TPL_MACRO,        /* name; body, then per parameter a TPL_PARAM */
    TPL_PARAM,        /* name; default or NULL */
    TPL_CALL_BLOCK,   /* call expression, macro */
    TPL_FILTER_BLOCK, /* expression over TPL_CAPTURED, body */
    TPL_SCOPE,        /* body: {% generation %} */
    TPL_BREAK,
    TPL_CONTINUE,
    /* Targets of assignment beside TPL_NAME and TPL_TUPLE. */
    TPL_MEMBER /* name of the namespace; value: its member */
};

#define TPL_USES_CALLER  1u /* flags of TPL_MACRO */
#define TPL_USES_KWARGS  2u
#define TPL_USES_VARARGS 4u

struct ingle_tpl_node {
    uint8_t op, flags;
    uint32_t line;
    uint32_t name; /* index into program.names */
    uint32_t n;
    struct ingle_tpl_node **kid;
    struct ingle_tv value;
    const struct ingle_tpl_builtin *builtin;
    struct ingle_tv_list *hidden; /* TPL_BODY of a scope: names it hides from its start */
};

struct ingle_tpl_program {
    const struct ingle_tpl_node *body;
    struct ingle_tv_list *names; /* every identifier, once */
};

/* Lex and parse into the arena of run. What is not supported fails with line and construct. */
struct ingle_tpl_program ingle_tpl_parse(struct ingle_tpl_run *run, const char *source,
                                         uint64_t bytes);

/* Fill in `hidden` (template_names.c). */
void ingle_tpl_names(struct ingle_tpl_run *run, struct ingle_tpl_node *body, uint32_t n_names);

#endif
