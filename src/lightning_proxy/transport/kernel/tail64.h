/* The last bytes of a text in one vector, by AVX-512's masked loads and stores. */
#include <immintrin.h>

/* Less than a block of ciphertext, zeros behind it. */
typedef struct {
    __m512i bytes;
} tail_block;

LP_INLINE __mmask64 first_bytes(size_t size) { return ((__mmask64)1 << size) - 1; }

LP_INLINE tail_block load_tail(const uint8_t *text, size_t size)
{
    return (tail_block){_mm512_maskz_loadu_epi8(first_bytes(size), text)};
}

/* XOR in place, and return the result. */
LP_INLINE tail_block xor_tail(uint8_t *text, size_t size, const uint8_t *stream)
{
    __mmask64 mask = first_bytes(size);
    __m512i result = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, text),
                                      _mm512_maskz_loadu_epi8(mask, stream));

    _mm512_mask_storeu_epi8(text, mask, result);
    return (tail_block){result};
}
