/* Owns nothing. `ingle eval`: what a model says against a golden file (tests/model/golden/README.md
 * has the format): token ids, log-probabilities, the likeliest tokens, a greedy run.
 *
 * One request per prompt: its ids are fed, the runtime reports every prompt token with its
 * log-probability and the likeliest alternatives to it, then generates greedily. Record i belongs
 * to the distribution after ids[0..i-1]; the one after the last id is that of the first generated
 * token. Thread: main. */
#include <json-c/json.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shm/layout.h"
#include "tools/ingle/generate.h"
#include "tools/ingle/json.h"
#include "tools/ingle/paths.h"
#include "tools/ingle/runtime.h"
#include "tools/ingle/verbs.h"

#define FILE_BYTES_MAX (256u << 20)
#define ALTERNATIVES   63 /* as many as there are: few stored ids are missing among them */
#define GREEDY_MAX     64

struct distribution {
    int32_t ids[ALTERNATIVES];
    float logprobs[ALTERNATIVES];
    uint32_t n;
};

/* What the runtime said about one prompt. */
struct said {
    uint32_t n;                 /* ids fed */
    double *logprob;            /* [n]; of ids[i]; 0 for the first */
    struct distribution *after; /* [n]; after ids[0..i] */
    int32_t greedy[GREEDY_MAX];
    uint32_t n_greedy;
    struct distribution *current; /* where the alternatives that follow go; NULL: nowhere */
    uint32_t n_records;           /* prompt records seen */
};

/* Sums from which a line is made; those of all prompts add up. */
struct score {
    uint64_t n_ids_equal, n_ids;       /* prompts */
    uint64_t n_greedy_equal, n_greedy; /* prompts */
    uint64_t n_positions, n_top1;
    double sum_abs_dlogp, max_abs_dlogp, sum_logp;
    double sum_kl;
    uint64_t n_kl;
    uint32_t greedy_steps; /* compared */
};

static void take(void *arg, const struct ingle_event_info *event)
{
    struct said *s = arg;

    if (event->flags & INGLE_TOK_F_ALT) {
        struct distribution *d = s->current;

        if (d != NULL && d->n < ALTERNATIVES) {
            d->ids[d->n] = event->token;
            d->logprobs[d->n++] = event->logprob;
        }
    } else if (event->flags & INGLE_TOK_F_PROMPT) {
        uint32_t i = s->n_records++;

        s->current = i > 0 && i < s->n ? &s->after[i - 1] : NULL;
        if (i < s->n) {
            s->logprob[i] = (double)event->logprob;
        }
    } else {
        s->current = s->n_greedy == 0 ? &s->after[s->n - 1] : NULL;
        if (s->n_greedy < GREEDY_MAX) {
            s->greedy[s->n_greedy++] = event->token;
        }
    }
}

struct ids {
    int32_t *id;
    size_t n, room;
};

static void take_id(void *arg, const struct ingle_event_info *event)
{
    struct ids *t = arg;

    if (t->n < t->room) {
        t->id[t->n] = event->token;
    }
    t->n++;
}

/* An array of whole numbers. The caller frees; NULL when it is none. */
static int32_t *int_array(struct json_object *array, size_t *ret_n)
{
    int32_t *out;

    if (!json_object_is_type(array, json_type_array)) {
        return NULL;
    }
    *ret_n = json_count(array);
    out = malloc((*ret_n + 1) * sizeof *out);
    for (size_t i = 0; out != NULL && i < *ret_n; i++) {
        out[i] = json_object_get_int(json_object_array_get_idx(array, i));
    }
    return out;
}

static double number_at(struct json_object *array, size_t i)
{
    return json_object_get_double(json_object_array_get_idx(array, i));
}

/* The tokenizer's answer for text against the ids expected. */
static enum cli_exit compare_ids(struct ingle_client *client, uint16_t slot,
                                 struct json_object *text, bool special, bool bos,
                                 const int32_t *expected, size_t n, bool *ret_equal)
{
    struct ids ids = {.id = malloc((n + 1) * sizeof(int32_t)), .room = n + 1};
    struct request_result result;
    struct ingle_generate g;
    enum cli_exit e;

    if (ids.id == NULL) {
        return cli_fail(CLI_FAIL, "out of memory");
    }
    ingle_generate_init(&g);
    g.user_data = 1;
    g.model = slot;
    g.kind = INGLE_TEXT;
    g.payload = json_object_get_string(text);
    g.payload_bytes = (size_t)json_object_get_string_len(text);
    g.no_special = !special;
    g.no_bos = !bos;
    e = request_run(client, REQUEST_TOKENIZE, &g, take_id, &ids, &result);
    *ret_equal = ids.n == n && memcmp(ids.id, expected, n * sizeof *expected) == 0;
    free(ids.id);
    return e;
}

/* KL(reference || ours) over the stored ids that are among our alternatives, both renormalised to
 * sum to one over these. */
static double divergence(struct json_object *stored, const struct distribution *ours)
{
    double ref_mass = 0, our_mass = 0, kl = 0;

    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < json_count(stored); i++) {
            struct json_object *pair = json_object_array_get_idx(stored, i);
            int32_t id = json_object_get_int(json_object_array_get_idx(pair, 0));
            double ref = number_at(pair, 1);

            for (uint32_t k = 0; k < ours->n; k++) {
                if (ours->ids[k] != id) {
                    continue;
                }
                if (pass == 0) {
                    ref_mass += exp(ref);
                    our_mass += exp((double)ours->logprobs[k]);
                } else {
                    kl += exp(ref) / ref_mass *
                          (ref - log(ref_mass) - (double)ours->logprobs[k] + log(our_mass));
                }
            }
        }
    }
    return kl;
}

static void add_divergence(struct score *score, struct json_object *stored,
                           const struct distribution *ours)
{
    if (json_object_is_type(stored, json_type_array) && ours->n > 0) {
        score->sum_kl += divergence(stored, ours);
        score->n_kl++;
    }
}

static void score_prompt(struct json_object *prompt, const struct said *said, double near_tie,
                         struct score *score)
{
    struct json_object *next = json_get(prompt, "next_logprob");
    struct json_object *top1 = json_get(prompt, "top1");
    struct json_object *middle = json_get(prompt, "mid_topk");
    struct json_object *greedy = json_get(prompt, "greedy48");
    bool equal = true;

    for (uint32_t i = 0; i + 1 < said->n; i++) {
        double d = fabs(said->logprob[i + 1] - number_at(next, i));

        score->n_positions++;
        score->sum_abs_dlogp += d;
        score->max_abs_dlogp = fmax(score->max_abs_dlogp, d);
        score->sum_logp += said->logprob[i + 1];
        score->n_top1 +=
            said->after[i].n > 0 &&
            said->after[i].ids[0] == json_object_get_int(json_object_array_get_idx(top1, i));
    }
    add_divergence(score, json_get(prompt, "last_topk"), &said->after[said->n - 1]);
    for (size_t i = 0; i < json_count(middle); i++) {
        struct json_object *entry = json_object_array_get_idx(middle, i);
        int64_t pos = json_get_int(entry, "pos", -1);

        if (pos >= 0 && pos < (int64_t)said->n) {
            add_divergence(score, json_get(entry, "topk"), &said->after[pos]);
        }
    }
    for (size_t i = 0; i < json_count(greedy); i++) {
        struct json_object *step = json_object_array_get_idx(greedy, i);

        if (number_at(step, 1) < near_tie) {
            break;
        }
        if (i >= said->n_greedy ||
            said->greedy[i] != json_object_get_int(json_object_array_get_idx(step, 0))) {
            equal = false;
            break;
        }
        score->greedy_steps++;
    }
    score->n_greedy = 1;
    score->n_greedy_equal = equal;
}

static void score_add(struct score *all, const struct score *one)
{
    all->n_ids += one->n_ids;
    all->n_ids_equal += one->n_ids_equal;
    all->n_greedy += one->n_greedy;
    all->n_greedy_equal += one->n_greedy_equal;
    all->n_positions += one->n_positions;
    all->n_top1 += one->n_top1;
    all->sum_abs_dlogp += one->sum_abs_dlogp;
    all->max_abs_dlogp = fmax(all->max_abs_dlogp, one->max_abs_dlogp);
    all->sum_logp += one->sum_logp;
    all->sum_kl += one->sum_kl;
    all->n_kl += one->n_kl;
    all->greedy_steps += one->greedy_steps;
}

static double ratio(double sum, uint64_t n)
{
    return n > 0 ? sum / (double)n : (double)NAN;
}

static void score_json(struct json *j, const struct score *s)
{
    json_key(j, "ids_equal");
    json_boolean(j, s->n_ids_equal == s->n_ids);
    json_key(j, "mean_abs_dlogp");
    json_num(j, ratio(s->sum_abs_dlogp, s->n_positions));
    json_key(j, "max_abs_dlogp");
    json_num(j, s->max_abs_dlogp);
    json_key(j, "top1");
    json_num(j, ratio((double)s->n_top1, s->n_positions));
    json_key(j, "mean_kl");
    json_num(j, ratio(s->sum_kl, s->n_kl));
    json_key(j, "greedy_equal");
    json_boolean(j, s->n_greedy_equal == s->n_greedy);
    json_key(j, "ppl");
    json_num(j, exp(-ratio(s->sum_logp, s->n_positions)));
}

static void score_line(const char *name, uint64_t tokens, const struct score *s)
{
    (void)printf("%-16s %7llu  %-3s  %10.5f %10.5f  %7.2f %%  %10.6f  %-3s %5u  %10.4f\n", name,
                 (unsigned long long)tokens, s->n_ids_equal == s->n_ids ? "yes" : "NO",
                 ratio(s->sum_abs_dlogp, s->n_positions), s->max_abs_dlogp,
                 100 * ratio((double)s->n_top1, s->n_positions), ratio(s->sum_kl, s->n_kl),
                 s->n_greedy_equal == s->n_greedy ? "yes" : "NO", s->greedy_steps,
                 exp(-ratio(s->sum_logp, s->n_positions)));
}

struct eval {
    struct ingle_client *client;
    struct model_info model;
    double near_tie;
    bool as_json;
    struct json json;
    struct score all;
};

static enum cli_exit feed(struct eval *v, struct json_object *prompt, const int32_t *ids,
                          struct said *said)
{
    struct json_object *greedy = json_get(prompt, "greedy48");
    struct request_result result;
    struct ingle_generate g;
    enum cli_exit e;

    ingle_generate_init(&g);
    g.user_data = 1;
    g.model = v->model.slot;
    g.kind = INGLE_IDS;
    g.payload = ids;
    g.payload_bytes = said->n * sizeof *ids;
    g.n_prompt_logprobs = ALTERNATIVES + 1;
    g.n_logprobs = ALTERNATIVES;
    g.max_tokens = json_count(greedy) > 0 ? (uint32_t)json_count(greedy) : 1;
    g.ignore_eos = 1;
    e = request_run(v->client, REQUEST_GENERATE, &g, take, said, &result);
    if (e == CLI_OK && said->n_records != said->n) {
        e = cli_fail(CLI_FAIL, "eval: the runtime reported %u prompt tokens of %u", said->n_records,
                     said->n);
    }
    return e;
}

static enum cli_exit eval_ids(struct eval *v, struct json_object *prompt, const char *name,
                              const int32_t *ids, size_t n)
{
    struct said said = {.n = (uint32_t)n};
    struct score score = {.n_ids = 1};
    bool equal = false;
    enum cli_exit e;

    said.logprob = calloc(n, sizeof *said.logprob);
    said.after = calloc(n, sizeof *said.after);
    if (said.logprob == NULL || said.after == NULL) {
        free(said.logprob);
        free(said.after);
        return cli_fail(CLI_FAIL, "out of memory");
    }
    e = compare_ids(v->client, v->model.slot, json_get(prompt, "text"),
                    json_get_bool(prompt, "parse_special", true),
                    json_get_bool(prompt, "add_special", true), ids, n, &equal);
    if (e == CLI_OK) {
        e = feed(v, prompt, ids, &said);
    }
    if (e == CLI_OK) {
        score.n_ids_equal = equal;
        score_prompt(prompt, &said, v->near_tie, &score);
        score_add(&v->all, &score);
        if (v->as_json) {
            json_open(&v->json, '{');
            json_key(&v->json, "name");
            json_str(&v->json, name);
            json_key(&v->json, "n");
            json_u64(&v->json, n);
            score_json(&v->json, &score);
            json_key(&v->json, "greedy_steps");
            json_u64(&v->json, score.greedy_steps);
            json_close(&v->json, '}');
        } else {
            score_line(name, n, &score);
            (void)fflush(stdout);
        }
    }
    free(said.logprob);
    free(said.after);
    return e;
}

static enum cli_exit eval_prompt(struct eval *v, struct json_object *prompt, size_t index)
{
    const char *name = json_get_str(prompt, "name", "?");
    struct json_object *next = json_get(prompt, "next_logprob");
    struct json_object *top1 = json_get(prompt, "top1");
    enum cli_exit e;
    size_t n = 0;
    int32_t *ids = int_array(json_get(prompt, "ids"), &n);

    if (ids == NULL || n < 2 || n > UINT32_MAX / 2 ||
        !json_object_is_type(json_get(prompt, "text"), json_type_string) ||
        json_count(next) != n - 1 || json_count(top1) < n - 1) {
        free(ids);
        return cli_fail(CLI_USAGE,
                        "eval: prompt %zu (\"%s\") lacks text, ids, next_logprob or top1 "
                        "of matching lengths",
                        index, name);
    }
    e = eval_ids(v, prompt, name, ids, n);
    free(ids);
    return e;
}

static enum cli_exit eval_prompts(struct eval *v, struct json_object *prompts)
{
    enum cli_exit e = CLI_OK;

    if (v->as_json) {
        json_open(&v->json, '{');
        json_key(&v->json, "prompts");
        json_open(&v->json, '[');
    } else {
        (void)printf("%-16s %7s  %-3s  %10s %10s  %9s  %10s  %-3s %5s  %10s\n", "prompt", "tokens",
                     "ids", "mean |dlp|", "max |dlp|", "top-1", "mean KL", "run", "steps",
                     "perplexity");
    }
    for (size_t i = 0; e == CLI_OK && i < json_count(prompts); i++) {
        e = eval_prompt(v, json_object_array_get_idx(prompts, i), i);
    }
    if (v->as_json) {
        json_close(&v->json, ']');
        json_key(&v->json, "all");
        json_open(&v->json, '{');
        score_json(&v->json, &v->all);
        json_close(&v->json, '}');
        json_close(&v->json, '}');
    } else if (e == CLI_OK) {
        score_line("all", v->all.n_positions + v->all.n_ids, &v->all);
        (void)printf("|dlp|: |difference of log p| over %llu positions; KL over %llu stored top-k "
                     "lists, renormalised\nover the ids both have; run: greedy tokens equal up to "
                     "the first margin below %g\n",
                     (unsigned long long)v->all.n_positions, (unsigned long long)v->all.n_kl,
                     v->near_tie);
    }
    return e;
}

/* tokens-MODEL.json: strings with two id lists each, and nothing else to compare. */
static enum cli_exit eval_strings(struct eval *v, struct json_object *strings)
{
    size_t n_strings = json_count(strings), n_equal = 0;
    enum cli_exit e = CLI_OK;

    for (size_t i = 0; e == CLI_OK && i < n_strings; i++) {
        struct json_object *entry = json_object_array_get_idx(strings, i);
        bool equal[2] = {false, false};

        for (int special = 0; e == CLI_OK && special < 2; special++) {
            size_t n = 0;
            int32_t *ids = int_array(json_get(entry, special ? "special" : "plain"), &n);

            if (ids == NULL || !json_object_is_type(json_get(entry, "text"), json_type_string)) {
                e = cli_fail(CLI_USAGE, "eval: string %zu lacks text, special or plain", i);
            } else {
                e = compare_ids(v->client, v->model.slot, json_get(entry, "text"), special, false,
                                ids, n, &equal[special]);
            }
            free(ids);
        }
        n_equal += equal[0] && equal[1];
        if (e == CLI_OK && !(equal[0] && equal[1]) && !v->as_json) {
            (void)printf("string %zu differs: %s%s%s\n", i, equal[1] ? "" : "special ",
                         equal[0] ? "" : "plain ",
                         json_get_bool(entry, "forced", false) ? "(forced)" : "");
        }
    }
    if (e == CLI_OK && v->as_json) {
        json_open(&v->json, '{');
        json_key(&v->json, "strings");
        json_u64(&v->json, n_strings);
        json_key(&v->json, "equal");
        json_u64(&v->json, n_equal);
        json_key(&v->json, "all");
        json_open(&v->json, '{');
        json_key(&v->json, "ids_equal");
        json_boolean(&v->json, n_equal == n_strings);
        json_close(&v->json, '}');
        json_close(&v->json, '}');
    } else if (e == CLI_OK) {
        (void)printf("%zu of %zu strings have equal ids\n", n_equal, n_strings);
    }
    return e;
}

static enum cli_exit eval_file(struct eval *v, const struct cli_call *call,
                               struct json_object *golden)
{
    struct json_object *prompts = json_get(golden, "prompts");
    struct json_object *strings = json_get(golden, "strings");
    enum cli_exit e;

    if (!json_object_is_type(prompts, json_type_array) &&
        !json_object_is_type(strings, json_type_array)) {
        return cli_fail(CLI_USAGE, "eval: %s is JSON, but has no \"prompts\"", call->operands[0]);
    }
    e = runtime_attach(RUNTIME_MAY_START, 8u << 20, &v->client);
    if (e != CLI_OK) {
        return e;
    }
    interrupt_catch();
    e = runtime_open(v->client, call, &v->model);
    if (e == CLI_OK) {
        e = prompts != NULL ? eval_prompts(v, prompts) : eval_strings(v, strings);
    }
    ingle_detach(v->client);
    return e;
}

enum cli_exit verb_eval(const struct cli_call *call)
{
    struct eval v = {.as_json = cli_has(call, "json")};
    struct json_object *golden;
    int kernels = KERNELS_AUTO;
    enum cli_exit e = cli_choice(call, "kernels", &kernels);
    char *text, *report = NULL;
    size_t bytes;
    FILE *out;
    int r;

    if (e != CLI_OK) {
        return e;
    }
    v.near_tie = kernels == KERNELS_REF ? 0.1 : 0.5;
    r = file_read(call->operands[0], FILE_BYTES_MAX, &text, &bytes);
    if (r < 0) {
        return cli_fail(CLI_NOT_FOUND, "cannot read %s: %s", call->operands[0],
                        strerrordesc_np(-r));
    }
    golden = json_parse(text, bytes);
    free(text);
    if (golden == NULL) {
        return cli_fail(CLI_USAGE, "eval: %s is not JSON", call->operands[0]);
    }
    out = open_memstream(&report, &bytes); /* no half an object after a failure */
    if (out != NULL) {
        json_init(&v.json, out);
        e = eval_file(&v, call, golden);
    }
    json_object_put(golden);
    if (out == NULL || fclose(out) != 0) {
        e = cli_fail(CLI_FAIL, "out of memory");
    } else if (e == CLI_OK && v.as_json) {
        (void)puts(report);
    }
    free(report);
    return e;
}
