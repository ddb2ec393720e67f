/*
 * Poly1305 (RFC 8439 section 2.5) eight blocks a step, by AVX-512 IFMA's 52-bit multiply-add.
 *
 * Each of eight lanes sums every eighth block, h = h * r^8 + m; at the end each lane meets its own
 * power r^8 ... r, and the lanes are added up. The message is led in by blocks of zeros, which
 * leave h = 0 as it is, so that its last block always falls in the last lane.
 */
#include <immintrin.h>

#include "limbs.h"
#include "tail64.h"

#define WIDTH 256
#include "ifma.h"
#undef WIDTH
#define WIDTH 512
#include "ifma.h"

typedef struct {
    number_512 h;
    factor_512 last;        /* r^8 ... r, lane by lane */
    factor_512 eighth;      /* r^8 in every lane */
    factor_512 sixteenth;   /* r^16, for long texts */
    words_512 before, half; /* the four blocks before, and the first half of a group */
    words_512 turn;         /* where in `before` and its successor four blocks stand in order */
    uint64_t s[2];
    uint64_t leading; /* blocks of zeros still to come */
    int has_half, has_group, is_long;
} poly1305;

/* From how many vectors on r^16 is worth its making. */
enum { LONG_VECTORS = 16 };

/* The blocks' numbers in the order in which two vectors of them interleave. */
#define LANE_ORDER ((words_512){0, 4, 1, 5, 2, 6, 3, 7})

/* One vector function for the three limbs. */
#define CHOOSE(type, a, b, ...)                                                                    \
    (type)                                                                                         \
    {                                                                                              \
        __builtin_shufflevector((a).h0, (b).h0, __VA_ARGS__),                                      \
            __builtin_shufflevector((a).h1, (b).h1, __VA_ARGS__),                                  \
            __builtin_shufflevector((a).h2, (b).h2, __VA_ARGS__)                                   \
    }

/* r of two one-time keys, the first in lanes 0 and 1, the second in lanes 2 and 3. */
LP_INLINE number_256 poly_load_r(const uint8_t first[32], const uint8_t second[32])
{
    const lane64 one = (lane64)load_lane(first), two = (lane64)load_lane(second);
    const words_256 low =
        __builtin_shufflevector(one, two, 0, 0, 2, 2) & UINT64_C(0x0ffffffc0fffffff);
    const words_256 high =
        __builtin_shufflevector(one, two, 1, 1, 3, 3) & UINT64_C(0x0ffffffc0ffffffc);

    return (number_256){low & LIMB44, (low >> 44 | high << 20) & LIMB44, high >> 24};
}

/* Begins a text's MAC, and makes the tag of a frame's header on the way, in lanes that are free:
 * `header` is its two encrypted bytes as they stand in memory. */
LP_INLINE void poly_begin_frame(poly1305 *mac, const uint8_t key[32], size_t ad_length,
                                size_t length, const uint8_t header_key[32], uint16_t header,
                                uint64_t header_tag[2])
{
    const size_t ad_blocks = (ad_length + 15) / 16, blocks = (length + 15) / 16 + 1;
    const size_t vectors = (ad_blocks + 3) / 4 + (blocks + 3) / 4;
    const size_t late = (4 - blocks % 4) % 4;
    const uint64_t header_s[2] = {lp_load64(header_key + 16), lp_load64(header_key + 24)};
    const uint64_t mark = UINT64_C(1) << 40;
    /* The header's two blocks: its bytes, and the lengths. */
    const number_256 header_blocks = {
        {0, 0, header, 0}, {0, 0, 0, LP_LENGTH_SIZE << 20}, {0, 0, mark, mark}};
    const number_256 r = poly_load_r(key, header_key);
    const number_256 square = carried_256(multiply_256(r, factor_of_256(r)));
    const number_256 r12 = CHOOSE(number_256, r, square, 0, 4, 2, 6);
    /* r * r^2, r^2 * r^2, and the header's first block times its r^2, its second times its r. */
    const number_256 product =
        multiply_256(CHOOSE(number_256, r12, header_blocks, 0, 1, 6, 7),
                     factor_of_256(CHOOSE(number_256, square, r, 0, 1, 2, 7)));
    const number_256 r34 = carried_256(product);
    const number_256 r21 = CHOOSE(number_256, r12, r12, 1, 0, 1, 0);
    const number_256 r43 = CHOOSE(number_256, r34, r34, 1, 0, 3, 2);
    const number_256 r4321 = CHOOSE(number_256, r43, r21, 0, 1, 6, 7);

    poly_tag(product.h0[2] + product.h0[3], product.h1[2] + product.h1[3],
             product.h2[2] + product.h2[3], header_s, header_tag);
    mac->s[0] = lp_load64(key + 16);
    mac->s[1] = lp_load64(key + 24);
    mac->is_long = vectors >= LONG_VECTORS;
    mac->eighth = mac->sixteenth = (factor_512){{0}, {0}, {0}, {0}, {0}};
    if (vectors > 1) {
        const number_256 r4 = CHOOSE(number_256, r34, r34, 1, 1, 1, 1);
        const number_256 r8765 = carried_256(multiply_256(r4321, factor_of_256(r4)));

        mac->last = factor_of_512(CHOOSE(number_512, r8765, r4321, 0, 4, 1, 5, 2, 6, 3, 7));
        if (vectors > 2) {
            const number_512 r8 = CHOOSE(number_512, r8765, r8765, 0, 0, 0, 0, 0, 0, 0, 0);

            mac->eighth = factor_of_512(r8);
            if (mac->is_long)
                mac->sixteenth = factor_of_512(carried_512(multiply_512(r8, mac->eighth)));
        }
    } else {
        mac->last = factor_of_512(CHOOSE(number_512, r4321, r4321, 0, 0, 1, 1, 2, 2, 3, 3));
    }
    mac->before = mac->half = mac->h.h0 = mac->h.h1 = mac->h.h2 = (words_512){0};
    mac->turn = (words_512){0, 1, 2, 3, 4, 5, 6, 7} + 2 * (4 - late);
    mac->has_half = vectors % 2;
    mac->has_group = 0;
    mac->leading = 4 * (vectors % 2) + late + (4 - ad_blocks % 4) % 4;
}

LP_INLINE void poly_begin(poly1305 *mac, const uint8_t key[32], size_t ad_length, size_t length)
{
    uint64_t unused[2];

    poly_begin_frame(mac, key, ad_length, length, key, 0, unused);
}

LP_INLINE number_512 poly_plus(number_512 a, number_512 b)
{
    return (number_512){a.h0 + b.h0, a.h1 + b.h1, a.h2 + b.h2};
}

/* Eight whole blocks as numbers, without the bit that marks their length. */
LP_INLINE number_512 poly_unmarked(words_512 first, words_512 second)
{
    const words_512 low = __builtin_shufflevector(first, second, 0, 8, 2, 10, 4, 12, 6, 14);
    const words_512 high = __builtin_shufflevector(first, second, 1, 9, 3, 11, 5, 13, 7, 15);

    return (number_512){low & LIMB44, (low >> 44 | high << 20) & LIMB44, high >> 24};
}

LP_INLINE number_512 poly_load(words_512 first, words_512 second)
{
    number_512 m = poly_unmarked(first, second);

    m.h2 |= UINT64_C(1) << 40;
    return m;
}

/* Eight blocks: h = h * r^8 + m. */
LP_INLINE void poly_group(poly1305 *mac, words_512 first, words_512 second)
{
    if (mac->has_group) {
        const number_512 h = carried_512(multiply_512(mac->h, mac->eighth));

        mac->h = poly_plus(h, poly_load(first, second));
    } else {
        const words_512 leading = (words_512){0} + mac->leading;

        mac->h = poly_unmarked(first, second);
        mac->h.h2 |= (words_512)(LANE_ORDER >= leading) & UINT64_C(1) << 40;
        /* Additional data and text may both be led in, by more than one group in all. */
        mac->has_group = mac->leading <= 8;
        mac->leading -= mac->has_group ? mac->leading : 8;
    }
}

/* Four blocks and the four before, from where the message is late. */
LP_INLINE words_512 poly_turned(poly1305 *mac, words_512 blocks)
{
    const __m512i turned =
        _mm512_permutex2var_epi64((__m512i)mac->before, (__m512i)mac->turn, (__m512i)blocks);

    mac->before = blocks;
    return (words_512)turned;
}

/* Four blocks, or at the end fewer. */
LP_INLINE void poly_vector(poly1305 *mac, words_512 blocks)
{
    const words_512 turned = poly_turned(mac, blocks);

    if (mac->has_half)
        poly_group(mac, mac->half, turned);
    else
        mac->half = turned;
    mac->has_half ^= 1;
}

LP_INLINE words_512 load_words(const uint8_t *bytes)
{
    return (words_512)_mm512_loadu_si512(bytes);
}

/* Sixteen blocks, with one wait and one carry for two groups: h = (h * r^16 + m * r^8) + m'. */
LP_INLINE void poly_two_groups(poly1305 *mac, const uint8_t *bytes)
{
    const words_512 first = poly_turned(mac, load_words(bytes));
    const words_512 second = poly_turned(mac, load_words(bytes + BLOCK));
    const words_512 third = poly_turned(mac, load_words(bytes + 2 * BLOCK));
    const words_512 fourth = poly_turned(mac, load_words(bytes + 3 * BLOCK));
    number_512 m = poly_load(first, second), next = poly_load(third, fourth);
    products_512 products;

    if (mac->has_half) {
        m = poly_load(mac->half, first), next = poly_load(second, third);
        mac->half = fourth;
    }
    products = accumulate_512((products_512){{0}, {0}, {0}, {0}, {0}, {0}}, m, mac->eighth);
    products = accumulate_512(products, mac->h, mac->sixteenth);
    mac->h = poly_plus(carried_512(folded_512(products)), next);
}

/* `count` times four blocks. */
LP_INLINE void poly_blocks(poly1305 *mac, const uint8_t *bytes, size_t count)
{
    if (mac->is_long && mac->has_group)
        for (; count >= 4; bytes += 4 * BLOCK, count -= 4) poly_two_groups(mac, bytes);
    for (; count > 0; bytes += BLOCK, count--) poly_vector(mac, load_words(bytes));
}

/* XOR `count` times four blocks with the key stream, in place, and take the result: in registers,
 * because what was just stored across a cache line loads slowly. */
LP_INLINE void poly_xor_blocks(poly1305 *mac, uint8_t *text, const uint8_t *stream, size_t count)
{
    for (size_t i = 0; i < BLOCK * count; i += BLOCK) {
        const words_512 block = load_words(text + i) ^ load_words(stream + i);

        _mm512_storeu_si512(text + i, (__m512i)block);
        poly_vector(mac, block);
    }
}

/* Additional data, so laid that its end falls on the end of a vector. */
LP_INLINE void poly_ad(poly1305 *mac, const uint8_t *ad, size_t length)
{
    size_t blocks = (length + 15) / 16, at = BLOCK * ((blocks + 3) / 4) - 16 * blocks;

    for (; length > 0; at = 0) {
        uint8_t padded[BLOCK] = {0};
        size_t size = length < BLOCK - at ? length : BLOCK - at;

        memcpy(padded + at, ad, size);
        poly_vector(mac, (words_512)_mm512_loadu_si512(padded));
        ad += size;
        length -= size;
    }
}

/* The text's last `size` < 64 bytes and the block of the two lengths (RFC 8439 section 2.8). */
LP_INLINE void poly_end(poly1305 *mac, const tail_block *tail, size_t size, uint64_t ad_length,
                        uint64_t length)
{
    const __m512i lengths =
        _mm512_broadcast_i64x2(_mm_set_epi64x((long long)length, (long long)ad_length));
    size_t blocks = (size + 15) / 16;
    __m512i last = tail->bytes;

    if (blocks == 4) {
        poly_vector(mac, (words_512)last);
        last = _mm512_setzero_si512();
        blocks = 0;
    }
    last = _mm512_mask_mov_epi64(last, (__mmask8)(3 << 2 * blocks), lengths);
    poly_vector(mac, (words_512)last);
}

LP_INLINE void poly_finish(const poly1305 *mac, uint64_t tag[2])
{
    const number_512 sum = multiply_512(mac->h, mac->last);
    /* All lanes of h0 and of h1 are added up side by side, h2's beside zeros. */
    const words_512 h01 = __builtin_shufflevector(sum.h0, sum.h1, 0, 8, 2, 10, 4, 12, 6, 14) +
                          __builtin_shufflevector(sum.h0, sum.h1, 1, 9, 3, 11, 5, 13, 7, 15);
    const words_256 h01_half = __builtin_shufflevector(h01, h01, 0, 1, 2, 3) +
                               __builtin_shufflevector(h01, h01, 4, 5, 6, 7);
    const words_256 h2_half = __builtin_shufflevector(sum.h2, sum.h2, 0, 1, 2, 3) +
                              __builtin_shufflevector(sum.h2, sum.h2, 4, 5, 6, 7);
    const lane64 h01_sum = __builtin_shufflevector(h01_half, h01_half, 0, 1) +
                           __builtin_shufflevector(h01_half, h01_half, 2, 3);
    const lane64 h2_sum = __builtin_shufflevector(h2_half, h2_half, 0, 1) +
                          __builtin_shufflevector(h2_half, h2_half, 2, 3);

    poly_tag(h01_sum[0], h01_sum[1], h2_sum[0] + h2_sum[1], mac->s, tag);
}
