/*
 * ChaCha20 (RFC 8439 section 2.3) in column layout: sixteen blocks, one word of all a vector.
 *
 * No shuffles between the rounds, a transpose at the end: the faster layout where there are enough
 * blocks. Rows (sets.h) have the shorter way for fewer.
 */
#include <immintrin.h>

typedef uint32_t column __attribute__((vector_size(64), may_alias));

#define FOUR_QUARTERS(a0, b0, c0, d0, a1, b1, c1, d1, a2, b2, c2, d2, a3, b3, c3, d3)              \
    do {                                                                                           \
        HALF(a0, b0, d0, 16);                                                                      \
        HALF(a1, b1, d1, 16);                                                                      \
        HALF(a2, b2, d2, 16);                                                                      \
        HALF(a3, b3, d3, 16);                                                                      \
        HALF(c0, d0, b0, 12);                                                                      \
        HALF(c1, d1, b1, 12);                                                                      \
        HALF(c2, d2, b2, 12);                                                                      \
        HALF(c3, d3, b3, 12);                                                                      \
        HALF(a0, b0, d0, 8);                                                                       \
        HALF(a1, b1, d1, 8);                                                                       \
        HALF(a2, b2, d2, 8);                                                                       \
        HALF(a3, b3, d3, 8);                                                                       \
        HALF(c0, d0, b0, 7);                                                                       \
        HALF(c1, d1, b1, 7);                                                                       \
        HALF(c2, d2, b2, 7);                                                                       \
        HALF(c3, d3, b3, 7);                                                                       \
    } while (0)
#define HALF(a, b, d, bits) x[a] += x[b], x[d] ^= x[a], x[d] = ROTATE(x[d], bits)

/* Words 4 * row ... 4 * row + 3 of each block, as 128-bit lanes: lane j of vector i is block
 * 4 * j + i. */
LP_INLINE void transpose_words(const column *x, __m512i out[4])
{
    __m512i low01 = _mm512_unpacklo_epi32((__m512i)x[0], (__m512i)x[1]);
    __m512i high01 = _mm512_unpackhi_epi32((__m512i)x[0], (__m512i)x[1]);
    __m512i low23 = _mm512_unpacklo_epi32((__m512i)x[2], (__m512i)x[3]);
    __m512i high23 = _mm512_unpackhi_epi32((__m512i)x[2], (__m512i)x[3]);

    out[0] = _mm512_unpacklo_epi64(low01, low23);
    out[1] = _mm512_unpackhi_epi64(low01, low23);
    out[2] = _mm512_unpacklo_epi64(high01, high23);
    out[3] = _mm512_unpackhi_epi64(high01, high23);
}

LP_INLINE uint32_t load_word(const uint8_t *bytes)
{
    uint32_t word;

    memcpy(&word, bytes, sizeof word);
    return word;
}

/* Sixteen blocks; returns their number, as run_sets does. */
LP_INLINE size_t run_columns(const chacha20 *from, const block_lanes *lanes, uint8_t *stream)
{
    const column zero = {0};
    column x[16], counter, nonce_low, nonce_high;
    __m512i rows[4][4];
    const uint8_t *key = from->key;

    counter = zero + (uint32_t)from->low + *(const column *)lanes->counters;
    nonce_low = zero + (uint32_t)from->high + *(const column *)lanes->nonces;
    nonce_high =
        zero + (uint32_t)(from->high >> 32) - (column)(nonce_low < *(const column *)lanes->nonces);
    for (int i = 0; i < 4; i++) x[i] = zero + CONSTANTS[i];
    for (int i = 0; i < 8; i++) x[4 + i] = zero + load_word(key + 4 * i);
    x[12] = counter, x[13] = zero + (uint32_t)(from->low >> 32);
    x[14] = nonce_low, x[15] = nonce_high;
    for (int round = 0; round < 20; round += 2) {
        FOUR_QUARTERS(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        FOUR_QUARTERS(0, 5, 10, 15, 1, 6, 11, 12, 2, 7, 8, 13, 3, 4, 9, 14);
    }
    for (int i = 0; i < 4; i++) x[i] += CONSTANTS[i];
    key = hidden(key);
    for (int i = 0; i < 8; i++) x[4 + i] += load_word(key + 4 * i);
    x[12] += counter, x[13] += (uint32_t)(from->low >> 32);
    x[14] += nonce_low, x[15] += nonce_high;
    for (int i = 0; i < 4; i++) transpose_words(x + 4 * i, rows[i]);
    for (int i = 0; i < 4; i++) {
        __m512i ab01 = _mm512_shuffle_i64x2(rows[0][i], rows[1][i], 0x44);
        __m512i ab23 = _mm512_shuffle_i64x2(rows[0][i], rows[1][i], 0xee);
        __m512i cd01 = _mm512_shuffle_i64x2(rows[2][i], rows[3][i], 0x44);
        __m512i cd23 = _mm512_shuffle_i64x2(rows[2][i], rows[3][i], 0xee);

        _mm512_store_si512(stream + BLOCK * i, _mm512_shuffle_i64x2(ab01, cd01, 0x88));
        _mm512_store_si512(stream + BLOCK * (i + 4), _mm512_shuffle_i64x2(ab01, cd01, 0xdd));
        _mm512_store_si512(stream + BLOCK * (i + 8), _mm512_shuffle_i64x2(ab23, cd23, 0x88));
        _mm512_store_si512(stream + BLOCK * (i + 12), _mm512_shuffle_i64x2(ab23, cd23, 0xdd));
    }
    return 16;
}
