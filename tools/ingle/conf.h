/* The configuration file as the command reads it; the runtime owns the schema. */
#ifndef INGLE_TOOLS_CONF_H
#define INGLE_TOOLS_CONF_H
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/* $XDG_CONFIG_HOME/ingle/ingle.conf */
void conf_path(char ret[PATH_MAX]);
/* Is there a section [model "name"]? */
bool conf_has_model(const char *name);
/* The value of [section] key: true when the file has it. */
bool conf_get(const char *section, const char *key, char *ret_value, size_t value_bytes);

#endif
