/*
 * Poly1305 (RFC 8439 section 2.5) for AVX2: short texts by poly1305.h, long ones in four lanes.
 *
 * Each lane sums every fourth block, h = h * r^4 + m, in limbs of 26 bits, whose products a
 * 32-bit multiplication gives whole. Before the text's last bytes each lane meets its own power
 * r^4 ... r, the lanes are added up, and poly1305.h goes on from there.
 */
#include <immintrin.h>

/* The scalar functions get other names here. */
#define poly1305 poly_scalar
#define poly_begin poly_scalar_begin
#define poly_begin_frame poly_scalar_begin_frame
#define poly_blocks poly_scalar_blocks
#define poly_xor_blocks poly_scalar_xor_blocks
#define poly_ad poly_scalar_ad
#define poly_end poly_scalar_end
#define poly_finish poly_scalar_finish
#include "poly1305.h"
#undef poly1305
#undef poly_begin
#undef poly_begin_frame
#undef poly_blocks
#undef poly_xor_blocks
#undef poly_ad
#undef poly_end
#undef poly_finish

/* From how many bytes on the lanes' powers are worth their making. */
enum { LONG_TEXT = 128 };

#define LIMB26 UINT64_C(0x3ffffff)

typedef uint64_t words_256 __attribute__((vector_size(32), may_alias));
typedef words_256 unaligned_words __attribute__((aligned(1)));

/* Four numbers, a limb of all a vector. */
typedef struct {
    words_256 h0, h1, h2, h3, h4;
} number_256;

typedef struct {
    words_256 r0, r1, r2, r3, r4;
    words_256 five_r1, five_r2, five_r3, five_r4;
} factor_256;

typedef struct {
    poly_scalar scalar; /* the text's ends, and all of a short one */
    number_256 h;
    factor_256 last;   /* r^4, r^2, r^3, r, lane by lane: where load_blocks() puts the blocks */
    factor_256 fourth; /* r^4 in every lane */
    factor_256 eighth; /* r^8 in every lane */
    int is_long, has_lanes;
} poly1305;

#define MULTIPLY_WORDS(a, b) ((words_256)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))

LP_INLINE factor_256 factor_of(number_256 n)
{
    return (factor_256){n.h0,
                        n.h1,
                        n.h2,
                        n.h3,
                        n.h4,
                        n.h1 + (n.h1 << 2),
                        n.h2 + (n.h2 << 2),
                        n.h3 + (n.h3 << 2),
                        n.h4 + (n.h4 << 2)};
}

/* As 2^130 = 5 modulo the prime, what passes the fifth limb comes back times 5. Limbs of n below
 * 2^28, of r below 2^27: the sum of two such products stays below 2^60. */
LP_INLINE number_256 multiply(number_256 n, const factor_256 *r)
{
    return (number_256){
        MULTIPLY_WORDS(n.h0, r->r0) + MULTIPLY_WORDS(n.h1, r->five_r4) +
            MULTIPLY_WORDS(n.h2, r->five_r3) + MULTIPLY_WORDS(n.h3, r->five_r2) +
            MULTIPLY_WORDS(n.h4, r->five_r1),
        MULTIPLY_WORDS(n.h0, r->r1) + MULTIPLY_WORDS(n.h1, r->r0) +
            MULTIPLY_WORDS(n.h2, r->five_r4) + MULTIPLY_WORDS(n.h3, r->five_r3) +
            MULTIPLY_WORDS(n.h4, r->five_r2),
        MULTIPLY_WORDS(n.h0, r->r2) + MULTIPLY_WORDS(n.h1, r->r1) + MULTIPLY_WORDS(n.h2, r->r0) +
            MULTIPLY_WORDS(n.h3, r->five_r4) + MULTIPLY_WORDS(n.h4, r->five_r3),
        MULTIPLY_WORDS(n.h0, r->r3) + MULTIPLY_WORDS(n.h1, r->r2) + MULTIPLY_WORDS(n.h2, r->r1) +
            MULTIPLY_WORDS(n.h3, r->r0) + MULTIPLY_WORDS(n.h4, r->five_r4),
        MULTIPLY_WORDS(n.h0, r->r4) + MULTIPLY_WORDS(n.h1, r->r3) + MULTIPLY_WORDS(n.h2, r->r2) +
            MULTIPLY_WORDS(n.h3, r->r1) + MULTIPLY_WORDS(n.h4, r->r0),
    };
}

LP_INLINE number_256 number_sum(number_256 a, number_256 b)
{
    return (number_256){a.h0 + b.h0, a.h1 + b.h1, a.h2 + b.h2, a.h3 + b.h3, a.h4 + b.h4};
}

/* Limbs a little above 2^26, by two chains of carries side by side. */
LP_INLINE number_256 carried(number_256 d)
{
    words_256 over;

    d.h1 += d.h0 >> 26, d.h0 &= LIMB26;
    d.h4 += d.h3 >> 26, d.h3 &= LIMB26;
    d.h2 += d.h1 >> 26, d.h1 &= LIMB26;
    over = d.h4 >> 26, d.h4 &= LIMB26;
    d.h0 += over + (over << 2);
    d.h3 += d.h2 >> 26, d.h2 &= LIMB26;
    d.h1 += d.h0 >> 26, d.h0 &= LIMB26;
    d.h4 += d.h3 >> 26, d.h3 &= LIMB26;
    return d;
}

/* From limbs of 44, 44 and 42 bits, of which the second may pass its size a little. */
LP_INLINE number_256 number_of(words_256 h0, words_256 h1, words_256 h2)
{
    return (number_256){h0 & LIMB26, h0 >> 26 | (h1 << 18 & LIMB26), h1 >> 8 & LIMB26,
                        (h1 >> 34) + (h2 << 10 & LIMB26), h2 >> 16};
}

/* Four whole blocks: the first, third, second and fourth. */
LP_INLINE number_256 load_blocks(const uint8_t *bytes)
{
    const words_256 first = *(const unaligned_words *)bytes;
    const words_256 second = *(const unaligned_words *)(bytes + 32);
    const words_256 low = __builtin_shufflevector(first, second, 0, 4, 2, 6);
    const words_256 high = __builtin_shufflevector(first, second, 1, 5, 3, 7);

    return (number_256){low & LIMB26, low >> 26 & LIMB26, (low >> 52 | high << 12) & LIMB26,
                        high >> 14 & LIMB26, high >> 40 | UINT64_C(1) << 24};
}

/* The powers in four lanes, if the text is long. */
LP_INLINE void poly_widen(poly1305 *mac, size_t length)
{
    const poly_power *r = mac->scalar.r;
    number_256 powers, fourth;

    mac->has_lanes = 0;
    mac->is_long = length >= LONG_TEXT;
    if (!mac->is_long) return;
    powers = number_of((words_256){r[3].r0, r[1].r0, r[2].r0, r[0].r0},
                       (words_256){r[3].r1, r[1].r1, r[2].r1, r[0].r1},
                       (words_256){r[3].r2, r[1].r2, r[2].r2, r[0].r2});
    mac->last = factor_of(powers);
    fourth = (number_256){__builtin_shufflevector(powers.h0, powers.h0, 0, 0, 0, 0),
                          __builtin_shufflevector(powers.h1, powers.h1, 0, 0, 0, 0),
                          __builtin_shufflevector(powers.h2, powers.h2, 0, 0, 0, 0),
                          __builtin_shufflevector(powers.h3, powers.h3, 0, 0, 0, 0),
                          __builtin_shufflevector(powers.h4, powers.h4, 0, 0, 0, 0)};
    mac->fourth = factor_of(fourth);
    mac->eighth = factor_of(carried(multiply(fourth, &mac->fourth)));
}

LP_INLINE void poly_begin(poly1305 *mac, const uint8_t key[32], size_t ad_length, size_t length)
{
    poly_scalar_begin(&mac->scalar, key, ad_length, length);
    poly_widen(mac, length);
}

LP_INLINE void poly_begin_frame(poly1305 *mac, const uint8_t key[32], size_t ad_length,
                                size_t length, const uint8_t header_key[32], uint16_t header,
                                uint64_t header_tag[2])
{
    poly_scalar_begin_frame(&mac->scalar, key, ad_length, length, header_key, header, header_tag);
    poly_widen(mac, length);
}

LP_INLINE void poly_ad(poly1305 *mac, const uint8_t *ad, size_t length)
{
    poly_scalar_ad(&mac->scalar, ad, length);
}

/* `count` times four blocks. */
LP_INLINE void poly_blocks(poly1305 *mac, const uint8_t *bytes, size_t count)
{
    number_256 h;

    if (!mac->is_long) {
        poly_scalar_blocks(&mac->scalar, bytes, count);
        return;
    }
    if (count == 0) return;
    if (mac->has_lanes) {
        h = mac->h;
    } else {
        /* What was summed until now stands before the first block. */
        const poly_number before = mac->scalar.h;

        h = number_sum(load_blocks(bytes),
                       number_of((words_256){before.h0, 0, 0, 0}, (words_256){before.h1, 0, 0, 0},
                                 (words_256){before.h2, 0, 0, 0}));
        mac->has_lanes = 1;
        bytes += BLOCK, count--;
    }
    /* One wait and one carry for two groups: h = (h * r^8 + m * r^4) + m'. */
    for (; count >= 2; bytes += 2 * BLOCK, count -= 2) {
        const number_256 products =
            number_sum(multiply(load_blocks(bytes), &mac->fourth), multiply(h, &mac->eighth));

        h = number_sum(carried(products), load_blocks(bytes + BLOCK));
    }
    if (count > 0) h = number_sum(carried(multiply(h, &mac->fourth)), load_blocks(bytes));
    mac->h = h;
}

/* XOR `count` times four blocks with the key stream, in place, and take the result: from where
 * the key stream was, because what was just stored across a cache line loads slowly. */
LP_INLINE void poly_xor_blocks(poly1305 *mac, uint8_t *text, uint8_t *stream, size_t count)
{
    for (size_t i = 0; i < BLOCK * count; i += VECTOR)
        *(unaligned_vector *)(text + i) = *(vector *)(stream + i) ^=
            *(const unaligned_vector *)(text + i);
    poly_blocks(mac, stream, count);
}

/* The sums of a's lanes and of b's, side by side. */
LP_INLINE lane64 lanes_sums(words_256 a, words_256 b)
{
    const words_256 pairs =
        __builtin_shufflevector(a, b, 0, 4, 2, 6) + __builtin_shufflevector(a, b, 1, 5, 3, 7);

    return __builtin_shufflevector(pairs, pairs, 0, 1) +
           __builtin_shufflevector(pairs, pairs, 2, 3);
}

/* The lanes' sum, back in three limbs: 44 bits, 44 and a little, 42 and a little. */
LP_INLINE poly_number poly_narrow(const poly1305 *mac)
{
    const number_256 sum = multiply(mac->h, &mac->last);
    const lane64 h01 = lanes_sums(sum.h0, sum.h1), h23 = lanes_sums(sum.h2, sum.h3);
    const lane64 h4x = lanes_sums(sum.h4, sum.h4);
    uint64_t h0 = h01[0], h1 = h01[1], h2 = h23[0], h3 = h23[1], h4 = h4x[0];

    h1 += h0 >> 26, h0 &= LIMB26;
    h4 += h3 >> 26, h3 &= LIMB26;
    h2 += h1 >> 26, h1 &= LIMB26;
    h0 += 5 * (h4 >> 26), h4 &= LIMB26;
    h3 += h2 >> 26, h2 &= LIMB26;
    h1 += h0 >> 26, h0 &= LIMB26;
    h4 += h3 >> 26, h3 &= LIMB26;
    return (poly_number){h0 | (h1 << 26 & LIMB44), (h1 >> 18) + (h2 << 8) + (h3 << 34 & LIMB44),
                         (h3 >> 10) + (h4 << 16)};
}

LP_INLINE void poly_end(poly1305 *mac, const tail_block *tail, size_t size, uint64_t ad_length,
                        uint64_t length)
{
    if (mac->has_lanes) mac->scalar.h = poly_narrow(mac);
    poly_scalar_end(&mac->scalar, tail, size, ad_length, length);
}

LP_INLINE void poly_finish(const poly1305 *mac, uint64_t tag[2])
{
    poly_scalar_finish(&mac->scalar, tag);
}
