/* The administrative verbs of CTL_ADMIN: JSON objects in, JSON objects out. docs/PROTOCOL.md lists
 * them. Thread: io. */
#ifndef INGLE_RUNTIME_SESSION_ADMIN_H
#define INGLE_RUNTIME_SESSION_ADMIN_H
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/error.h"

struct ingle_instance;
struct ingle_io;
struct ingle_session;
struct json_object;

/* models.c: answers to requests that had to wait. err NULL: the instance is ready. */
void ingle_admin_opened(struct ingle_session *session, uint64_t seq,
                        const struct ingle_instance *instance, const struct ingle_error *err);
void ingle_admin_unloaded(struct ingle_session *session, uint64_t seq, uint32_t n);
void ingle_admin_progress(struct ingle_session *session, uint64_t seq,
                          const struct ingle_instance *instance);

/* admin_show.c: what is there, as JSON. Each returns a new object (NULL: no memory). */
struct json_object *ingle_show_all(struct ingle_io *io);
struct json_object *ingle_show_models(struct ingle_io *io);
struct json_object *ingle_show_sessions(struct ingle_io *io);
struct json_object *ingle_show_model(const struct ingle_io *io,
                                     const struct ingle_instance *instance, bool everything);

#endif
