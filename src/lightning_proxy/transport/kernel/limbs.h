/*
 * Numbers modulo 2^130 - 5 in limbs of 44, 44 and 42 bits, for Poly1305 (RFC 8439 section 2.5).
 *
 * As 2^132 = 20 modulo the prime, what a product carries past the third limb comes back times 20;
 * each power of r keeps those multiples beside it.
 */
#define LIMB44 UINT64_C(0xfffffffffff)
#define LIMB42 UINT64_C(0x3ffffffffff)

typedef unsigned __int128 uint128;

/* The tag as two little-endian words: h modulo the prime, plus s. Limbs below 2^60. */
LP_INLINE void poly_tag(uint64_t h0, uint64_t h1, uint64_t h2, const uint64_t s[2], uint64_t tag[2])
{
    uint64_t g0, g1, g2, carry, keep, low, high;
    uint128 sum;

    /* Carries that wait for none, then what they leave to carry, which is little. */
    carry = h2 >> 42;
    h2 = (h2 & LIMB42) + (h1 >> 44);
    h1 = (h1 & LIMB44) + (h0 >> 44);
    h0 = (h0 & LIMB44) + 5 * carry;
    h1 += h0 >> 44, h0 &= LIMB44;
    h2 += h1 >> 44, h1 &= LIMB44;
    h0 += 5 * (h2 >> 42), h2 &= LIMB42;
    h1 += h0 >> 44, h0 &= LIMB44;
    /* Take h - p where that is not negative, by mask. */
    g0 = h0 + 5;
    g1 = h1 + (g0 >> 44), g0 &= LIMB44;
    g2 = h2 + (g1 >> 44) - (UINT64_C(1) << 42), g1 &= LIMB44;
    keep = 0 - (g2 >> 63);
    h0 = (h0 & keep) | (g0 & ~keep);
    h1 = (h1 & keep) | (g1 & ~keep);
    h2 = (h2 & keep) | (g2 & ~keep);

    low = h0 | h1 << 44;
    high = h1 >> 20 | h2 << 24;
    sum = (uint128)low + s[0];
    tag[0] = (uint64_t)sum;
    tag[1] = high + s[1] + (uint64_t)(sum >> 64);
}
