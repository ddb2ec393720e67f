/* Which kernel runs: chosen once, at import, and refused if it gives a wrong answer. */
#include <string.h>

#include "kernel.h"

#if LP_X86_64
static int has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
}

static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

static int has_avx512ifma(void) { return has_avx512() && __builtin_cpu_supports("avx512ifma"); }
#endif

static int always(void) { return 1; }

static const struct {
    const lp_kernel *kernel;
    int (*is_supported)(void);
} kernels[] = {
#if LP_X86_64
    {&lp_kernel_avx512ifma, has_avx512ifma},
    {&lp_kernel_avx512, has_avx512},
    {&lp_kernel_avx2, has_avx2},
    {&lp_kernel_sse2, always},
#elif LP_AARCH64
    {&lp_kernel_neon, always},
#endif
    {&lp_kernel_scalar, always},
};

const lp_kernel *lp_kernel_at(size_t index)
{
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        if (kernels[i].is_supported() && index-- == 0) return kernels[i].kernel;
    return NULL;
}

const lp_kernel *lp_kernel_find(const char *name)
{
    const lp_kernel *kernel;

    for (size_t i = 0; (kernel = lp_kernel_at(i)) != NULL; i++)
        if (name == NULL || strcmp(name, kernel->name) == 0) break;
    return kernel;
}

/* RFC 8439 section 2.8.2: the plaintext, the tag and the first bytes of the ciphertext. */
static int answers_rfc8439(const lp_kernel *kernel)
{
    static const char plaintext[] =
        "Ladies and Gentlemen of the class of '99: If I could offer you "
        "only one tip for the future, sunscreen would be it.";
    static const uint8_t nonce[LP_NONCE_SIZE] = {0x07, 0,    0,    0,    0x40, 0x41,
                                                 0x42, 0x43, 0x44, 0x45, 0x46, 0x47};
    static const uint8_t ad[12] = {0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1,
                                   0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7};
    static const uint8_t tag[LP_TAG_SIZE] = {0x1a, 0xe1, 0x0b, 0x59, 0x4f, 0x09, 0xe2, 0x6a,
                                             0x7e, 0x90, 0x2e, 0xcb, 0xd0, 0x60, 0x06, 0x91};
    enum { LENGTH = sizeof plaintext - 1 };
    uint8_t key[LP_KEY_SIZE], text[LENGTH + LP_TAG_SIZE];

    for (int i = 0; i < LP_KEY_SIZE; i++) key[i] = (uint8_t)(0x80 + i);
    memcpy(text, plaintext, LENGTH);
    kernel->aead_seal(key, nonce, ad, sizeof ad, text, LENGTH);
    if (memcmp(text, "\xd3\x1a\x8d\x34", 4) != 0) return 0;
    if (memcmp(text + LENGTH, tag, sizeof tag) != 0) return 0;
    if (kernel->aead_open(key, nonce, ad, sizeof ad, text, LENGTH) != LP_OPENED) return 0;
    if (memcmp(text, plaintext, LENGTH) != 0) return 0;
    kernel->aead_seal(key, nonce, ad, sizeof ad, text, LENGTH);
    text[0] ^= 1;
    return kernel->aead_open(key, nonce, ad, sizeof ad, text, LENGTH) == LP_BAD_TAG;
}

/* BOLT #8 appendix A: the first "hello" under the vectors' sending key. */
static int answers_bolt8(const lp_kernel *kernel)
{
    static const uint8_t key[LP_KEY_SIZE] = {0x96, 0x9a, 0xb3, 0x1b, 0x4d, 0x28, 0x8c, 0xed,
                                             0xf6, 0x21, 0x88, 0x39, 0xb2, 0x7a, 0x3e, 0x21,
                                             0x40, 0x82, 0x70, 0x47, 0xf2, 0xc0, 0xf0, 0x1b,
                                             0xf5, 0xc0, 0x44, 0x35, 0xd4, 0x35, 0x11, 0xa9};
    static const uint8_t sealed[] = {0xcf, 0x2b, 0x30, 0xdd, 0xf0, 0xcf, 0x3f, 0x80, 0xe7, 0xc3,
                                     0x5a, 0x6e, 0x67, 0x30, 0xb5, 0x9f, 0xe8, 0x02, 0x47, 0x31,
                                     0x80, 0xf3, 0x96, 0xd8, 0x8a, 0x8f, 0xb0, 0xdb, 0x8c, 0xbc,
                                     0xf2, 0x5d, 0x2f, 0x21, 0x4c, 0xf9, 0xea, 0x1d, 0x95};
    enum { LENGTH = sizeof sealed - LP_OVERHEAD };
    uint8_t frame[sizeof sealed] = {0};
    size_t length = 0;

    memcpy(frame + LP_HEADER_SIZE, "hello", LENGTH);
    kernel->seal(key, 0, frame, LENGTH);
    if (memcmp(frame, sealed, sizeof sealed) != 0) return 0;
    if (kernel->open(key, 0, frame, sizeof frame - 1, &length) != LP_INCOMPLETE) return 0;
    if (kernel->open(key, 0, frame, sizeof frame, &length) != LP_OPENED) return 0;
    if (length != LENGTH || memcmp(frame + LP_HEADER_SIZE, "hello", LENGTH) != 0) return 0;
    memcpy(frame, sealed, sizeof sealed);
    frame[sizeof sealed - 1] ^= 1;
    return kernel->open(key, 0, frame, sizeof frame, &length) == LP_BAD_TAG;
}

int lp_kernel_self_test(const lp_kernel *kernel)
{
    return answers_rfc8439(kernel) && answers_bolt8(kernel);
}
