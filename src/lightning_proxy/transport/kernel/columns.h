/*
 * ChaCha20 (RFC 8439 section 2.3) in column layout: as many blocks as a vector has words, sixteen
 * or eight, and one word of all a vector.
 *
 * No shuffles between the rounds, a transpose at the end: the faster layout where there are enough
 * blocks. Rows (sets.h) have the shorter way for fewer.
 */
#include <immintrin.h>

enum { COLUMN_BLOCKS = VECTOR / 4 };

#define HALF(a, b, d, bits) x[a] += x[b], x[d] ^= x[a], x[d] = ROTATE##bits(x[d])
#define ROTATE12(v) ROTATE(v, 12)
#define ROTATE7(v) ROTATE(v, 7)
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

#if VECTOR == 64
#define UNPACK(half, bits, a, b)                                                                   \
    (vector) _mm512_unpack##half##_epi##bits((__m512i)(a), (__m512i)(b))
#else
#define UNPACK(half, bits, a, b)                                                                   \
    (vector) _mm256_unpack##half##_epi##bits((__m256i)(a), (__m256i)(b))
#endif

/* Four words of each block, as 128-bit lanes: lane j of vector i is of block 4 * j + i. */
LP_INLINE void transpose_words(vector x[4])
{
    const vector low01 = UNPACK(lo, 32, x[0], x[1]), high01 = UNPACK(hi, 32, x[0], x[1]);
    const vector low23 = UNPACK(lo, 32, x[2], x[3]), high23 = UNPACK(hi, 32, x[2], x[3]);

    x[0] = UNPACK(lo, 64, low01, low23), x[1] = UNPACK(hi, 64, low01, low23);
    x[2] = UNPACK(lo, 64, high01, high23), x[3] = UNPACK(hi, 64, high01, high23);
}

/* Blocks 4 * j + i of all lanes j, by their four rows in those lanes. */
LP_INLINE void store_lanes(vector a, vector b, vector c, vector d, uint8_t *stream)
{
#if VECTOR == 64
    const __m512i ab01 = _mm512_shuffle_i64x2((__m512i)a, (__m512i)b, 0x44);
    const __m512i ab23 = _mm512_shuffle_i64x2((__m512i)a, (__m512i)b, 0xee);
    const __m512i cd01 = _mm512_shuffle_i64x2((__m512i)c, (__m512i)d, 0x44);
    const __m512i cd23 = _mm512_shuffle_i64x2((__m512i)c, (__m512i)d, 0xee);

    _mm512_store_si512(stream, _mm512_shuffle_i64x2(ab01, cd01, 0x88));
    _mm512_store_si512(stream + 4 * BLOCK, _mm512_shuffle_i64x2(ab01, cd01, 0xdd));
    _mm512_store_si512(stream + 8 * BLOCK, _mm512_shuffle_i64x2(ab23, cd23, 0x88));
    _mm512_store_si512(stream + 12 * BLOCK, _mm512_shuffle_i64x2(ab23, cd23, 0xdd));
#else
    vector *first = (vector *)__builtin_assume_aligned(stream, BLOCK);
    vector *second = (vector *)__builtin_assume_aligned(stream + 4 * BLOCK, BLOCK);

    first[0] = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
    first[1] = __builtin_shufflevector(c, d, 0, 1, 2, 3, 8, 9, 10, 11);
    second[0] = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
    second[1] = __builtin_shufflevector(c, d, 4, 5, 6, 7, 12, 13, 14, 15);
#endif
}

LP_INLINE uint32_t load_word(const uint8_t *bytes)
{
    uint32_t word;

    memcpy(&word, bytes, sizeof word);
    return word;
}

/* COLUMN_BLOCKS blocks; returns their number, as run_sets does. */
LP_INLINE size_t run_columns(const chacha20 *from, const block_lanes *lanes, uint8_t *stream)
{
    const vector zero = {0};
    vector x[16], counter, nonce_low, nonce_high;
    const uint8_t *key = from->key;

    counter = zero + (uint32_t)from->low + *(const vector *)lanes->counters;
    nonce_low = zero + (uint32_t)from->high + *(const vector *)lanes->nonces;
    nonce_high =
        zero + (uint32_t)(from->high >> 32) - (vector)(nonce_low < *(const vector *)lanes->nonces);
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
    for (int i = 0; i < 16; i += 4) transpose_words(x + i);
    for (int i = 0; i < 4; i++)
        store_lanes(x[i], x[i + 4], x[i + 8], x[i + 12], stream + BLOCK * i);
    return COLUMN_BLOCKS;
}
