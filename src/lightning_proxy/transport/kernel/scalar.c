/*
 * The portable kernel: one ChaCha20 block at a time, Poly1305 in three 44-bit limbs.
 * Meant to be read against RFC 8439; the other kernels are tested against it.
 */
#include <string.h>

#include "kernel.h"

static uint32_t load32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static uint64_t load64(const uint8_t *bytes)
{
    return (uint64_t)load32(bytes) | (uint64_t)load32(bytes + 4) << 32;
}

static void store32(uint8_t *bytes, uint32_t word)
{
    for (int i = 0; i < 4; i++) bytes[i] = (uint8_t)(word >> 8 * i);
}

static void store64(uint8_t *bytes, uint64_t word)
{
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(word >> 8 * i);
}

/* ---- ChaCha20, RFC 8439 sections 2.1 to 2.4 ---- */

enum { BLOCK = 64 };

#define ROTATE(word, bits) ((word) << (bits) | (word) >> (32 - (bits)))
#define QUARTER_ROUND(a, b, c, d)                                                                  \
    a += b, d = ROTATE(d ^ a, 16), c += d, b = ROTATE(b ^ c, 12), a += b, d = ROTATE(d ^ a, 8),    \
            c += d, b = ROTATE(b ^ c, 7)

/* The initial state: constants, key, block counter, nonce. */
static void chacha20_init(uint32_t state[16], const uint8_t key[LP_KEY_SIZE],
                          const uint8_t nonce[LP_NONCE_SIZE])
{
    static const uint32_t constants[4] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};

    memcpy(state, constants, sizeof constants);
    for (int i = 0; i < 8; i++) state[4 + i] = load32(key + 4 * i);
    state[12] = 0;
    for (int i = 0; i < 3; i++) state[13 + i] = load32(nonce + 4 * i);
}

/* The block at the state's counter, which then points to the next. */
static void chacha20_block(uint32_t state[16], uint8_t block[BLOCK])
{
    uint32_t x[16];

    memcpy(x, state, sizeof x);
    for (int round = 0; round < 20; round += 2) {
        QUARTER_ROUND(x[0], x[4], x[8], x[12]);
        QUARTER_ROUND(x[1], x[5], x[9], x[13]);
        QUARTER_ROUND(x[2], x[6], x[10], x[14]);
        QUARTER_ROUND(x[3], x[7], x[11], x[15]);
        QUARTER_ROUND(x[0], x[5], x[10], x[15]);
        QUARTER_ROUND(x[1], x[6], x[11], x[12]);
        QUARTER_ROUND(x[2], x[7], x[8], x[13]);
        QUARTER_ROUND(x[3], x[4], x[9], x[14]);
    }
    for (int i = 0; i < 16; i++) store32(block + 4 * i, x[i] + state[i]);
    state[12]++;
    lp_wipe(x, sizeof x);
}

static void chacha20_xor(uint32_t state[16], uint8_t *text, size_t length)
{
    uint8_t block[BLOCK];

    while (length > 0) {
        size_t size = length < BLOCK ? length : BLOCK;

        chacha20_block(state, block);
        for (size_t i = 0; i < size; i++) text[i] ^= block[i];
        text += size;
        length -= size;
    }
    lp_wipe(block, sizeof block);
}

/* ---- Poly1305, RFC 8439 section 2.5: numbers modulo 2^130 - 5 in limbs of 44, 44, 42 bits ---- */

#define LIMB44 UINT64_C(0xfffffffffff)
#define LIMB42 UINT64_C(0x3ffffffffff)

typedef unsigned __int128 uint128;

typedef struct {
    uint64_t r[3];
    uint64_t h[3];
    uint8_t s[16];
} poly1305;

static void poly1305_init(poly1305 *mac, const uint8_t key[32])
{
    uint64_t low = load64(key) & UINT64_C(0x0ffffffc0fffffff);
    uint64_t high = load64(key + 8) & UINT64_C(0x0ffffffc0ffffffc);

    mac->r[0] = low & LIMB44;
    mac->r[1] = (low >> 44 | high << 20) & LIMB44;
    mac->r[2] = high >> 24;
    memset(mac->h, 0, sizeof mac->h);
    memcpy(mac->s, key + 16, sizeof mac->s);
}

/* h = (h + block + 2^128) * r. As 2^132 = 20 modulo the prime, what a product carries past the
 * third limb comes back times 20. */
static void poly1305_block(poly1305 *mac, const uint8_t block[16])
{
    uint64_t low = load64(block), high = load64(block + 8);
    uint64_t r0 = mac->r[0], r1 = mac->r[1], r2 = mac->r[2];
    uint64_t s1 = 20 * r1, s2 = 20 * r2;
    uint64_t h0 = mac->h[0] + (low & LIMB44);
    uint64_t h1 = mac->h[1] + ((low >> 44 | high << 20) & LIMB44);
    uint64_t h2 = mac->h[2] + (high >> 24) + (UINT64_C(1) << 40);

    uint128 d0 = (uint128)h0 * r0 + (uint128)h1 * s2 + (uint128)h2 * s1;
    uint128 d1 = (uint128)h0 * r1 + (uint128)h1 * r0 + (uint128)h2 * s2;
    uint128 d2 = (uint128)h0 * r2 + (uint128)h1 * r1 + (uint128)h2 * r0;

    d1 += (uint64_t)(d0 >> 44);
    d2 += (uint64_t)(d1 >> 44);
    h0 = ((uint64_t)d0 & LIMB44) + 5 * (uint64_t)(d2 >> 42);
    mac->h[0] = h0 & LIMB44;
    mac->h[1] = ((uint64_t)d1 & LIMB44) + (h0 >> 44);
    mac->h[2] = (uint64_t)d2 & LIMB42;
}

/* Whole blocks, the last one filled with zeros: RFC 8439 section 2.8 pads each part so. */
static void poly1305_padded(poly1305 *mac, const uint8_t *bytes, size_t length)
{
    uint8_t last[16] = {0};

    for (; length >= 16; bytes += 16, length -= 16) poly1305_block(mac, bytes);
    if (length > 0) {
        memcpy(last, bytes, length);
        poly1305_block(mac, last);
    }
}

static void poly1305_finish(poly1305 *mac, uint8_t tag[LP_TAG_SIZE])
{
    uint64_t h0 = mac->h[0], h1 = mac->h[1], h2 = mac->h[2], carry;
    uint64_t g0, g1, g2, keep, low, high;
    uint128 sum;

    /* Two passes: a carry out of the top limb comes in again at the bottom. */
    for (int pass = 0; pass < 2; pass++) {
        carry = h1 >> 44, h1 &= LIMB44;
        h2 += carry, carry = h2 >> 42, h2 &= LIMB42;
        h0 += 5 * carry, carry = h0 >> 44, h0 &= LIMB44;
        h1 += carry;
    }
    /* Take h - p where that is not negative, by mask. */
    g0 = h0 + 5, carry = g0 >> 44, g0 &= LIMB44;
    g1 = h1 + carry, carry = g1 >> 44, g1 &= LIMB44;
    g2 = h2 + carry - (UINT64_C(1) << 42);
    keep = 0 - (g2 >> 63);
    h0 = (h0 & keep) | (g0 & ~keep);
    h1 = (h1 & keep) | (g1 & ~keep);
    h2 = (h2 & keep) | (g2 & ~keep);

    low = h0 | h1 << 44;
    high = h1 >> 20 | h2 << 24;
    sum = (uint128)low + load64(mac->s);
    store64(tag, (uint64_t)sum);
    store64(tag + 8, high + load64(mac->s + 8) + (uint64_t)(sum >> 64));
    lp_wipe(mac, sizeof *mac);
}

/* ---- The AEAD construction, RFC 8439 section 2.8 ---- */

/* Block 0 keys Poly1305; the state then stands at block 1, where the key stream begins. */
static void aead_begin(uint32_t state[16], poly1305 *mac, const uint8_t key[LP_KEY_SIZE],
                       const uint8_t nonce[LP_NONCE_SIZE])
{
    uint8_t block[BLOCK];

    chacha20_init(state, key, nonce);
    chacha20_block(state, block);
    poly1305_init(mac, block);
    lp_wipe(block, sizeof block);
}

static void aead_tag(poly1305 *mac, const uint8_t *ad, size_t ad_length, const uint8_t *text,
                     size_t length, uint8_t tag[LP_TAG_SIZE])
{
    uint8_t lengths[16];

    poly1305_padded(mac, ad, ad_length);
    poly1305_padded(mac, text, length);
    store64(lengths, ad_length);
    store64(lengths + 8, length);
    poly1305_block(mac, lengths);
    poly1305_finish(mac, tag);
}

static void aead_seal(const uint8_t key[LP_KEY_SIZE], const uint8_t nonce[LP_NONCE_SIZE],
                      const uint8_t *ad, size_t ad_length, uint8_t *text, size_t length)
{
    uint32_t state[16];
    poly1305 mac;

    aead_begin(state, &mac, key, nonce);
    chacha20_xor(state, text, length);
    aead_tag(&mac, ad, ad_length, text, length, text + length);
    lp_wipe(state, sizeof state);
}

static int aead_open(const uint8_t key[LP_KEY_SIZE], const uint8_t nonce[LP_NONCE_SIZE],
                     const uint8_t *ad, size_t ad_length, uint8_t *text, size_t length)
{
    uint32_t state[16];
    poly1305 mac;
    uint8_t wanted[LP_TAG_SIZE], difference = 0;

    aead_begin(state, &mac, key, nonce);
    aead_tag(&mac, ad, ad_length, text, length, wanted);
    for (int i = 0; i < LP_TAG_SIZE; i++) difference |= (uint8_t)(wanted[i] ^ text[length + i]);
    LP_PUBLIC(&difference, sizeof difference);
    /* The plaintext is released only after its tag was checked. */
    if (difference == 0) chacha20_xor(state, text, length);
    lp_wipe(state, sizeof state);
    lp_wipe(wanted, sizeof wanted);
    return difference == 0 ? LP_OPENED : LP_BAD_TAG;
}

/* ---- Frames, BOLT #8 ---- */

static void frame_nonce(uint8_t bytes[LP_NONCE_SIZE], uint64_t nonce)
{
    memset(bytes, 0, 4);
    store64(bytes + 4, nonce);
}

static void seal(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *frame, size_t length)
{
    uint8_t bytes[LP_NONCE_SIZE];
    uint8_t *body = frame + LP_HEADER_SIZE;

    frame[0] = (uint8_t)(length >> 8);
    frame[1] = (uint8_t)length;
    frame_nonce(bytes, nonce);
    aead_seal(key, bytes, NULL, 0, frame, LP_LENGTH_SIZE);
    frame_nonce(bytes, nonce + 1);
    aead_seal(key, bytes, NULL, 0, body, length);
}

static void seal_many(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *frames,
                      const size_t *lengths, size_t count)
{
    for (size_t i = 0; i < count; i++, nonce += 2) {
        seal(key, nonce, frames, lengths[i]);
        frames += lengths[i] + LP_OVERHEAD;
    }
}

static int open_body(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *body, size_t length)
{
    uint8_t bytes[LP_NONCE_SIZE];

    frame_nonce(bytes, nonce);
    return aead_open(key, bytes, NULL, 0, body, length);
}

static int open_frame(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *frame,
                      size_t available, size_t *length)
{
    uint8_t bytes[LP_NONCE_SIZE], header[LP_HEADER_SIZE];

    memcpy(header, frame, sizeof header);
    frame_nonce(bytes, nonce);
    if (aead_open(key, bytes, NULL, 0, header, LP_LENGTH_SIZE) != LP_OPENED) return LP_BAD_TAG;
    LP_PUBLIC(header, LP_LENGTH_SIZE);
    *length = (size_t)header[0] << 8 | header[1];
    if (available < *length + LP_OVERHEAD) return LP_INCOMPLETE;
    return open_body(key, nonce + 1, frame + LP_HEADER_SIZE, *length);
}

const lp_kernel lp_kernel_scalar = {
    .name = "scalar",
    .seal = seal,
    .seal_many = seal_many,
    .open = open_frame,
    .open_body = open_body,
    .aead_seal = aead_seal,
    .aead_open = aead_open,
};
