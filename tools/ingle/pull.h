/* The ways a model comes in; each prints what is wrong and leaves the model under its final name.
 */
#ifndef INGLE_TOOLS_PULL_H
#define INGLE_TOOLS_PULL_H
#include "tools/ingle/catalogue.h"
#include "tools/ingle/cli.h"

enum cli_exit pull_catalogue(const struct catalogue_model *model);
/* name: NULL takes it from the file. */
enum cli_exit pull_file(const char *path, const char *name);
enum cli_exit pull_url(const char *url, const char *sha256, const char *name);
/* spec: OWNER/REPO or OWNER/REPO/FILE */
enum cli_exit pull_hub(const char *spec, const char *sha256, const char *name);

/* The model name for a file name or path: without folder and ".gguf". */
enum cli_exit pull_name(const char *path, const char *name, char ret_name[201]);
/* Says where the model is, on stdout. */
enum cli_exit pull_done(const char *name);

#endif
