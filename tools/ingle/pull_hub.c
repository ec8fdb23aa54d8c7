/* Owns one libcurl handle per download. Downloads go on where they stopped (Range), follow
 * redirects and end in a checked rename. Thread: main. */
#include <curl/curl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "tools/ingle/conf.h"
#include "tools/ingle/json.h"
#include "tools/ingle/models.h"
#include "tools/ingle/part.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/progress.h"
#include "tools/ingle/pull.h"

#define HUB_DEFAULT   "https://huggingface.co"
#define ATTEMPTS      5
#define LISTING_BYTES (16u << 20)

struct download {
    CURL *curl;
    struct part *part;
    struct progress progress;
    uint64_t start; /* where this attempt began */
    bool begun;     /* the first bytes of this attempt are here */
    enum cli_exit error;
};

static CURL *new_handle(const char *url, bool hub)
{
    CURL *curl = curl_easy_init();
    const char *token = env_get("HF_TOKEN");

    if (curl == NULL) {
        return NULL;
    }
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 10L);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 30L);
    (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 60L);
    (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "ingle/" INGLE_VERSION);
    if (hub && token != NULL) { /* libcurl keeps it from other hosts on a redirect */
        (void)curl_easy_setopt(curl, CURLOPT_HTTPAUTH, (long)CURLAUTH_BEARER);
        (void)curl_easy_setopt(curl, CURLOPT_XOAUTH2_BEARER, token);
    }
    return curl;
}

static enum cli_exit http_error(const char *url, long status)
{
    if (status == 401 || status == 403) {
        return cli_fail(CLI_REFUSED,
                        "%s: the server wants an account (HTTP %ld). Accept the "
                        "model's terms there and set HF_TOKEN",
                        url, status);
    }
    return cli_fail(status == 404 ? CLI_NOT_FOUND : CLI_FAIL, "%s: HTTP %ld", url, status);
}

/* The first bytes of an answer say how many are to come. */
static enum cli_exit expect(struct download *d)
{
    curl_off_t left = -1;

    (void)curl_easy_getinfo(d->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &left);
    if (left > 0) {
        d->progress.total = d->part->bytes + (uint64_t)left;
        return part_room(d->part, (uint64_t)left);
    }
    return CLI_OK;
}

static size_t take_body(char *data, size_t unit, size_t n, void *arg)
{
    struct download *d = arg;
    long status = 0;

    (void)curl_easy_getinfo(d->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200 && status != 206) {
        return unit * n; /* the body of an error is dropped */
    }
    if (!d->begun) {
        d->begun = true;
        d->error = expect(d);
    }
    if (d->error == CLI_OK) {
        d->error = part_append(d->part, data, unit * n);
        progress_at(&d->progress, d->part->bytes);
    }
    return d->error == CLI_OK ? unit * n : CURL_WRITEFUNC_ERROR;
}

/* One attempt. *ret_again: worth another one. */
static enum cli_exit attempt(struct download *d, const char *url, bool *ret_again)
{
    long status = 0;
    CURLcode r;

    *ret_again = false;
    d->start = d->part->bytes;
    d->begun = false;
    (void)curl_easy_setopt(d->curl, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)d->start);
    r = curl_easy_perform(d->curl);
    (void)curl_easy_getinfo(d->curl, CURLINFO_RESPONSE_CODE, &status);
    if (d->error != CLI_OK) {
        return d->error;
    }
    if (status == 416 && d->start > 0) { /* nothing after what we have: the checksum decides */
        return CLI_OK;
    }
    if (status >= 400) {
        *ret_again = status >= 500;
        return http_error(url, status);
    }
    if (r == CURLE_RANGE_ERROR && d->start > 0) { /* a server without ranges */
        *ret_again = true;
        return part_truncate(d->part) != CLI_OK ? CLI_FAIL : CLI_UNREACHABLE;
    }
    if (r != CURLE_OK) {
        *ret_again = r != CURLE_COULDNT_RESOLVE_HOST && r != CURLE_COULDNT_CONNECT &&
                     r != CURLE_URL_MALFORMAT && r != CURLE_TOO_MANY_REDIRECTS;
        return cli_fail(CLI_FAIL, "%s: %s", url, curl_easy_strerror(r));
    }
    return CLI_OK;
}

static enum cli_exit download(struct part *part, const char *url, bool hub)
{
    struct download d = {.curl = new_handle(url, hub), .part = part};
    enum cli_exit e = CLI_FAIL;
    bool again = true;

    if (d.curl == NULL) {
        return cli_fail(CLI_FAIL, "out of memory");
    }
    (void)curl_easy_setopt(d.curl, CURLOPT_WRITEFUNCTION, take_body);
    (void)curl_easy_setopt(d.curl, CURLOPT_WRITEDATA, &d);
    progress_start(&d.progress, part->name, 0);
    if (part->bytes > 0) {
        char have[16];

        cli_note("%s: going on after %s", part->name, bytes_text(part->bytes, have));
    }
    for (int i = 0; i < ATTEMPTS && again; i++) {
        if (i > 0) {
            (void)sleep(1u << (i - 1));
        }
        e = attempt(&d, url, &again);
    }
    progress_end(&d.progress);
    curl_easy_cleanup(d.curl);
    return e;
}

/* Download url as model `name`; sha256 NULL: not known beforehand. */
static enum cli_exit fetch(const char *url, const char *sha256, const char *name, bool hub)
{
    char path[PATH_MAX], sha[SHA256_TEXT];
    struct part part;
    enum cli_exit e;

    model_own_path(name, path);
    if (access(path, F_OK) == 0) {
        e = sha256_file(path, name, sha);
        if (e != CLI_OK) {
            return e;
        }
        if (sha256 == NULL || strcasecmp(sha, sha256) == 0) {
            cli_note("%s is here, SHA-256 %s%s", name, sha, sha256 != NULL ? ", as expected" : "");
            return pull_done(name);
        }
        return cli_fail(CLI_REFUSED,
                        "there is another model \"%s\" already. Remove it (ingle rm %s) "
                        "or give a name with --name",
                        name, name);
    }
    e = part_open(&part, name);
    if (e != CLI_OK) {
        return e;
    }
    e = download(&part, url, hub);
    if (e == CLI_OK) {
        e = part_commit(&part, sha256, sha);
    }
    if (e != CLI_OK) {
        part_close(&part);
        return e;
    }
    if (sha256 == NULL) {
        cli_note("%s: SHA-256 %s (the server gave none to compare)", name, sha);
    }
    return pull_done(name);
}

enum cli_exit pull_url(const char *url, const char *sha256, const char *given_name)
{
    char name[201], path[PATH_MAX];
    enum cli_exit e;

    if (sha256 == NULL) {
        return cli_fail(CLI_USAGE, "pull: a URL needs --sha256 SUM, so that what arrives is what "
                                   "you meant");
    }
    path_format(path, "%.*s", (int)strcspn(url, "?#"), url);
    e = pull_name(path, given_name, name);
    return e == CLI_OK ? fetch(url, sha256, name, false) : e;
}

struct text {
    char *data;
    size_t bytes;
};

static size_t take_text(char *data, size_t unit, size_t n, void *arg)
{
    struct text *t = arg;
    char *more;

    if (t->bytes + unit * n > LISTING_BYTES) {
        return CURL_WRITEFUNC_ERROR;
    }
    more = realloc(t->data, t->bytes + unit * n + 1);
    if (more == NULL) {
        return CURL_WRITEFUNC_ERROR;
    }
    t->data = more;
    memcpy(t->data + t->bytes, data, unit * n);
    t->bytes += unit * n;
    t->data[t->bytes] = 0;
    return unit * n;
}

/* What the hub says of a repository; the caller puts it. */
static enum cli_exit listing(const char *base, const char *repo, struct json_object **ret)
{
    struct text text = {NULL, 0};
    char url[PATH_MAX];
    long status = 0;
    CURLcode r;
    CURL *curl;

    path_format(url, "%s/api/models/%s?blobs=true", base, repo);
    curl = new_handle(url, true);
    if (curl == NULL) {
        return cli_fail(CLI_FAIL, "out of memory");
    }
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_text);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, &text);
    r = curl_easy_perform(curl);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    if (r != CURLE_OK) {
        free(text.data);
        return cli_fail(CLI_FAIL, "%s: %s", url, curl_easy_strerror(r));
    }
    if (status != 200) {
        free(text.data);
        return http_error(url, status);
    }
    *ret = text.data != NULL ? json_parse(text.data, text.bytes) : NULL;
    free(text.data);
    return *ret != NULL ? CLI_OK : cli_fail(CLI_FAIL, "%s: the answer is not JSON", url);
}

/* A file of the repository that a model can be: *.gguf, but no image projector. */
static bool is_model_file(const char *file)
{
    size_t n = strlen(file);

    return n > 5 && strcasecmp(file + n - 5, ".gguf") == 0 && strcasestr(file, "mmproj") == NULL;
}

/* The file that is meant: the one named; the only one; or the only Q4_K_M. NULL after a message. */
static struct json_object *choose(struct json_object *files, const char *repo, const char *wanted)
{
    struct json_object *only = NULL, *usual = NULL;
    int n_models = 0, n_usual = 0;

    for (size_t i = 0; i < json_count(files); i++) {
        struct json_object *file = json_object_array_get_idx(files, i);
        const char *name = json_get_str(file, "rfilename", "");

        if (wanted != NULL && strcmp(name, wanted) == 0) {
            return file;
        }
        if (is_model_file(name)) {
            n_models++;
            only = file;
            if (strcasestr(name, "q4_k_m") != NULL) {
                n_usual++;
                usual = file;
            }
        }
    }
    if (wanted == NULL && n_models == 1) {
        return only;
    }
    if (wanted == NULL && n_usual == 1) {
        cli_note("%s has %d GGUF files; taking %s", repo, n_models,
                 json_get_str(usual, "rfilename", ""));
        return usual;
    }
    if (n_models == 0) {
        (void)cli_fail(CLI_NOT_FOUND, "%s has no GGUF file", repo);
        return NULL;
    }
    (void)cli_fail(CLI_NOT_FOUND, "%s%s%s; which of these?", repo,
                   wanted != NULL ? " has no " : " has several GGUF files",
                   wanted != NULL ? wanted : "");
    for (size_t i = 0; i < json_count(files); i++) {
        const char *name = json_get_str(json_object_array_get_idx(files, i), "rfilename", "");

        if (is_model_file(name)) {
            cli_note("  ingle pull hf:%s/%s", repo, name);
        }
    }
    return NULL;
}

enum cli_exit pull_hub(const char *spec, const char *sha256, const char *given_name)
{
    char base[1024] = HUB_DEFAULT, repo[256], url[PATH_MAX], name[201];
    struct json_object *info = NULL, *files, *file;
    const char *slash = strchr(spec, '/');
    const char *wanted = slash != NULL ? strchr(slash + 1, '/') : NULL;
    const char *known;
    enum cli_exit e;

    if (slash == NULL || slash == spec || slash[1] == 0 || slash[1] == '/' ||
        strspn(spec, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/ +") !=
            strlen(spec) ||
        strstr(spec, "..") != NULL) {
        return cli_fail(CLI_USAGE, "pull: \"hf:%s\" is not hf:OWNER/REPO or hf:OWNER/REPO/FILE",
                        spec);
    }
    (void)snprintf(repo, sizeof repo, "%.*s",
                   (int)(wanted != NULL ? (size_t)(wanted - spec) : strlen(spec)), spec);
    wanted = wanted != NULL ? wanted + 1 : NULL;
    (void)conf_get("hub", "base", base, sizeof base);
    base[strlen(base) - (base[0] != 0 && base[strlen(base) - 1] == '/')] = 0;
    e = listing(base, repo, &info);
    if (e != CLI_OK) {
        return e;
    }
    files = json_get(info, "siblings");
    if (!json_object_is_type(files, json_type_array)) {
        e = cli_fail(CLI_FAIL, "%s/api/models/%s lists no files", base, repo);
    } else {
        file = choose(files, repo, wanted);
        e = file == NULL ? CLI_NOT_FOUND
                         : pull_name(json_get_str(file, "rfilename", ""), given_name, name);
        if (e == CLI_OK) {
            known = json_get_str(json_get(file, "lfs"), "sha256", NULL);
            path_format(url, "%s/%s/resolve/main/%s", base, repo,
                        json_get_str(file, "rfilename", ""));
            e = fetch(url, sha256 != NULL ? sha256 : known, name, true);
        }
    }
    json_object_put(info);
    return e;
}
