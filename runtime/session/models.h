/* The instances of models: which are loaded, which are being loaded or dropped, who waits for it.
 * Thread: io. */
#ifndef INGLE_RUNTIME_SESSION_MODELS_H
#define INGLE_RUNTIME_SESSION_MODELS_H
#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/list.h"
#include "runtime/base/reactor.h"
#include "runtime/session/ledger.h"
#include "runtime/session/loader.h"

struct ingle_io;
struct ingle_session;

#define INGLE_MODEL_SPECS_MAX 33u /* of the configuration, and the null engine */

struct ingle_model_spec { /* a name that `open` knows */
    struct ingle_model_want want;
    bool keep; /* load at start */
};

enum ingle_instance_state {
    INGLE_INSTANCE_NONE,
    INGLE_INSTANCE_LOADING, /* a job is with the load thread, to estimate or to load */
    INGLE_INSTANCE_READY,   /* step has it */
    INGLE_INSTANCE_LEAVING, /* step is ending its requests, or load is freeing it */
};

struct ingle_instance { /* models.all[slot]; slot 0 is never used: it means the default */
    enum ingle_instance_state state;
    uint16_t slot;
    bool keep, doomed; /* doomed: unload it as soon as its load is over */
    struct ingle_model_want want;
    struct ingle_load job; /* load's while LOADING or freeing */
    struct ingle_engine *engine;
    const struct ingle_model *model; /* NULL: the null engine, or not loaded */
    uint32_t context_tokens, n_vocab;
    struct ingle_pool *weights, *tokenizer, *kv, *scratch;
    uint32_t n_kept, n_promised; /* contexts in clients' tables and behind tokens; those to come */
    uint64_t n_requests, begin_ns, ready_ns; /* the load's begin and end */
};

enum ingle_wait_kind {
    INGLE_WAIT_OPEN,  /* until the instance is ready or failed */
    INGLE_WAIT_UNLOAD /* until every instance in slots is gone */
};
struct ingle_wait { /* one administrative request that is not answered yet */
    struct ingle_list link;
    enum ingle_wait_kind kind;
    struct ingle_session *session;
    uint64_t seq;
    uint32_t slots; /* bit s: waits for instance s */
    uint32_t n_unloaded;
};

struct ingle_models {
    struct ingle_instance all[INGLE_MODEL_SLOTS];
    uint16_t default_slot; /* 0: none */
    struct ingle_model_spec specs[INGLE_MODEL_SPECS_MAX];
    uint32_t n_specs;
    char default_name[512]; /* empty: the first that is opened */
    char dir[512];          /* of NAME.gguf and its image */
    char images_dir[512];   /* of the images of files elsewhere */
    bool images;            /* read and keep packed images */
    uint64_t kv_bytes;      /* of each instance */
    struct ingle_list waits;
    struct ingle_timer progress;
    struct ingle_loader loader;
};

void ingle_models_init(struct ingle_models *models);

/* What NAME stands for: a spec, NAME.gguf in the directory, or an absolute path of a .gguf file;
 * empty: the default. NOT_FOUND says where was looked. */
int ingle_models_find(const struct ingle_models *models, const char *name,
                      struct ingle_model_want *ret, struct ingle_error *err) INGLE_MUST_CHECK;
/* The instance that is `want`, or a new one whose load begins. */
int ingle_models_open(struct ingle_io *io, const struct ingle_model_want *want, bool keep,
                      struct ingle_instance **ret, struct ingle_error *err) INGLE_MUST_CHECK;
/* Begin to unload. */
void ingle_models_close(struct ingle_io *io, struct ingle_instance *instance);
/* Load what is marked keep and the default; failures are logged. */
void ingle_models_open_kept(struct ingle_io *io);

/* Park an administrative request until its instances have changed; answered through admin.c.
 * -ENOMEM, -EBUSY at INGLE_OPENS_WAITING_MAX. */
int ingle_models_wait(struct ingle_io *io, enum ingle_wait_kind kind, struct ingle_session *session,
                      uint64_t seq, uint32_t slots) INGLE_MUST_CHECK;
/* The session is gone: forget its waits; a load that nobody waits for any more is given up. */
void ingle_models_forget(struct ingle_io *io, const struct ingle_session *session);

/* The loop: take what the load thread has finished; what step has let go of. */
void ingle_models_take_loaded(struct ingle_io *io);
void ingle_models_dropped(struct ingle_io *io, uint16_t slot);

/* For requests: the instance that serves slot (0: the default), or a -errno: -ENODEV none there,
 * -EAGAIN still loading. */
int ingle_models_serving(struct ingle_models *models, uint16_t slot,
                         struct ingle_instance **ret) INGLE_MUST_CHECK;

/* After step and load have ended: free every engine. */
void ingle_models_fini(struct ingle_models *models);

#endif
