/* SHA-256 (FIPS 180-4), HMAC (RFC 2104) and HKDF (RFC 5869), as far as key rotation needs them. */
#include <string.h>

#include "kernel.h"

enum { SHA256_SIZE = 32, SHA256_BLOCK = 64 };

void lp_wipe(void *memory, size_t size)
{
    memset(memory, 0, size);
    /* The compiler has to believe that somebody reads the zeros. */
    __asm__ __volatile__("" : : "r"(memory) : "memory");
}

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

int lp_use_cpu_sha;

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define SHA_TARGET __attribute__((target("sha,sse4.1,ssse3")))

int lp_has_cpu_sha(void)
{
    unsigned eax, ebx, ecx, edx;

    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return 0;
    if (!(ecx & bit_SSSE3) || !(ecx & bit_SSE4_1)) return 0;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & bit_SHA);
}

/* The instructions hold the state as two vectors, from the lowest lane f, e, b, a and h, g, d, c,
 * and do two rounds each. */
SHA_TARGET static void sha256_block_cpu(uint32_t state[8], const uint8_t block[SHA256_BLOCK])
{
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    uint32_t feba[4] = {state[5], state[4], state[1], state[0]};
    uint32_t hgdc[4] = {state[7], state[6], state[3], state[2]};
    __m128i s0 = _mm_loadu_si128((const __m128i *)feba);
    __m128i s1 = _mm_loadu_si128((const __m128i *)hgdc);
    __m128i w[4];

    for (int i = 0; i < 4; i++)
        w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)block + i), big_endian);
    for (int i = 0; i < 16; i++) {
        __m128i k = _mm_loadu_si128((const __m128i *)round_constants + i);
        __m128i sum = _mm_add_epi32(w[i % 4], k);

        s1 = _mm_sha256rnds2_epu32(s1, s0, sum);
        s0 = _mm_sha256rnds2_epu32(s0, s1, _mm_shuffle_epi32(sum, 0x0e));
        if (i < 12) {
            __m128i seventh = _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4);
            __m128i first = _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]);

            w[i % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(first, seventh), w[(i + 3) % 4]);
        }
    }
    _mm_storeu_si128((__m128i *)feba, s0);
    _mm_storeu_si128((__m128i *)hgdc, s1);
    state[0] += feba[3], state[1] += feba[2], state[4] += feba[1], state[5] += feba[0];
    state[2] += hgdc[3], state[3] += hgdc[2], state[6] += hgdc[1], state[7] += hgdc[0];
    lp_wipe(feba, sizeof feba);
    lp_wipe(hgdc, sizeof hgdc);
    lp_wipe(w, sizeof w);
}
#else
int lp_has_cpu_sha(void) { return 0; }

#define sha256_block_cpu sha256_block_plain
#endif

#define ROTATE_RIGHT(word, bits) ((word) >> (bits) | (word) << (32 - (bits)))

static void sha256_block_plain(uint32_t state[8], const uint8_t block[SHA256_BLOCK])
{
    uint32_t w[64], v[8];

    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        uint32_t s0 = ROTATE_RIGHT(w[i - 15], 7) ^ ROTATE_RIGHT(w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t s1 = ROTATE_RIGHT(w[i - 2], 17) ^ ROTATE_RIGHT(w[i - 2], 19) ^ w[i - 2] >> 10;

        w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    memcpy(v, state, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t s1 = ROTATE_RIGHT(v[4], 6) ^ ROTATE_RIGHT(v[4], 11) ^ ROTATE_RIGHT(v[4], 25);
        uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t t1 = v[7] + s1 + choice + round_constants[i] + w[i];
        uint32_t s0 = ROTATE_RIGHT(v[0], 2) ^ ROTATE_RIGHT(v[0], 13) ^ ROTATE_RIGHT(v[0], 22);
        uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);

        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + s0 + majority;
    }
    for (int i = 0; i < 8; i++) state[i] += v[i];
    lp_wipe(w, sizeof w);
    lp_wipe(v, sizeof v);
}

static void sha256_block(uint32_t state[8], const uint8_t block[SHA256_BLOCK])
{
    if (lp_use_cpu_sha)
        sha256_block_cpu(state, block);
    else
        sha256_block_plain(state, block);
}

/* HMAC-SHA256 of at most 33 bytes under a key of 32: two blocks inside, two outside. */
static void hmac_sha256(const uint8_t key[LP_KEY_SIZE], const uint8_t *message, size_t length,
                        uint8_t mac[SHA256_SIZE])
{
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint32_t state[8];
    uint8_t block[SHA256_BLOCK], digest[SHA256_SIZE];

    for (int outer = 0; outer < 2; outer++) {
        const uint8_t *text = outer ? digest : message;
        size_t size = outer ? SHA256_SIZE : length;
        size_t bits = 8 * (SHA256_BLOCK + size);

        memcpy(state, initial, sizeof state);
        memset(block, outer ? 0x5c : 0x36, sizeof block);
        for (int i = 0; i < LP_KEY_SIZE; i++) block[i] ^= key[i];
        sha256_block(state, block);
        memset(block, 0, sizeof block);
        memcpy(block, text, size);
        block[size] = 0x80;
        block[SHA256_BLOCK - 2] = (uint8_t)(bits >> 8);
        block[SHA256_BLOCK - 1] = (uint8_t)bits;
        sha256_block(state, block);
        for (int i = 0; i < SHA256_SIZE; i++)
            digest[i] = (uint8_t)(state[i / 4] >> (24 - i % 4 * 8));
    }
    memcpy(mac, digest, sizeof digest);
    lp_wipe(state, sizeof state);
    lp_wipe(block, sizeof block);
    lp_wipe(digest, sizeof digest);
}

void lp_rotate(uint8_t chaining_key[LP_KEY_SIZE], uint8_t key[LP_KEY_SIZE])
{
    uint8_t extracted[SHA256_SIZE], message[SHA256_SIZE + 1];

    hmac_sha256(chaining_key, key, LP_KEY_SIZE, extracted);
    message[0] = 1;
    hmac_sha256(extracted, message, 1, chaining_key);
    memcpy(message, chaining_key, SHA256_SIZE);
    message[SHA256_SIZE] = 2;
    hmac_sha256(extracted, message, sizeof message, key);
    lp_wipe(extracted, sizeof extracted);
    lp_wipe(message, sizeof message);
}
