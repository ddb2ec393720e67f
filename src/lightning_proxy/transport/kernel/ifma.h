/*
 * Multiplication modulo 2^130 - 5 by AVX-512 IFMA: a template, included for 256 and for 512 bits.
 *
 * The upper half of a 52-bit product belongs 2^8 higher in the next limb, and what passes the
 * third limb is 2^132 = 20.
 */
#define NAMED_(name, width) name##_##width
#define NAMED(name, width) NAMED_(name, width)
#define INTRINSIC_(width, name) _mm##width##_##name
#define INTRINSIC(width, name) INTRINSIC_(width, name)
#define words NAMED(words, WIDTH)
#define number NAMED(number, WIDTH)
#define factor NAMED(factor, WIDTH)
#define factor_of NAMED(factor_of, WIDTH)
#define products NAMED(products, WIDTH)
#define accumulate NAMED(accumulate, WIDTH)
#define folded NAMED(folded, WIDTH)
#define multiply NAMED(multiply, WIDTH)
#define carried NAMED(carried, WIDTH)
#define MADD_LOW(sum, a, b) (words) INTRINSIC(WIDTH, madd52lo_epu64)((INT)(sum), (INT)(a), (INT)(b))
#define MADD_HIGH(sum, a, b)                                                                       \
    (words) INTRINSIC(WIDTH, madd52hi_epu64)((INT)(sum), (INT)(a), (INT)(b))
#define INT NAMED(INT, WIDTH)
#define INT_256 __m256i
#define INT_512 __m512i

typedef uint64_t words __attribute__((vector_size(WIDTH / 8)));

typedef struct {
    words h0, h1, h2;
} number;

typedef struct {
    words r0, r1, r2, twenty_r1, twenty_r2;
} factor;

LP_INLINE factor factor_of(number n)
{
    return (factor){n.h0, n.h1, n.h2, (n.h1 << 4) + (n.h1 << 2), (n.h2 << 4) + (n.h2 << 2)};
}

/* Sums of products, in limbs of which the upper halves stand apart. */
typedef struct {
    words low0, low1, low2, high0, high1, high2;
} products;

LP_INLINE products accumulate(products p, number n, factor r)
{
    p.low0 = MADD_LOW(p.low0, n.h0, r.r0), p.high0 = MADD_HIGH(p.high0, n.h0, r.r0);
    p.low1 = MADD_LOW(p.low1, n.h0, r.r1), p.high1 = MADD_HIGH(p.high1, n.h0, r.r1);
    p.low2 = MADD_LOW(p.low2, n.h0, r.r2), p.high2 = MADD_HIGH(p.high2, n.h0, r.r2);
    p.low0 = MADD_LOW(p.low0, n.h1, r.twenty_r2), p.high0 = MADD_HIGH(p.high0, n.h1, r.twenty_r2);
    p.low1 = MADD_LOW(p.low1, n.h1, r.r0), p.high1 = MADD_HIGH(p.high1, n.h1, r.r0);
    p.low2 = MADD_LOW(p.low2, n.h1, r.r1), p.high2 = MADD_HIGH(p.high2, n.h1, r.r1);
    p.low0 = MADD_LOW(p.low0, n.h2, r.twenty_r1), p.high0 = MADD_HIGH(p.high0, n.h2, r.twenty_r1);
    p.low1 = MADD_LOW(p.low1, n.h2, r.twenty_r2), p.high1 = MADD_HIGH(p.high1, n.h2, r.twenty_r2);
    p.low2 = MADD_LOW(p.low2, n.h2, r.r0), p.high2 = MADD_HIGH(p.high2, n.h2, r.r0);
    return p;
}

/* In limbs below 2^57, not carried. */
LP_INLINE number folded(products p)
{
    return (number){p.low0 + (p.high2 << 12) + (p.high2 << 10), p.low1 + (p.high0 << 8),
                    p.low2 + (p.high1 << 8)};
}

LP_INLINE number multiply(number n, factor r)
{
    return folded(accumulate((products){{0}, {0}, {0}, {0}, {0}, {0}}, n, r));
}

/* Limbs a little above 2^44, by one step in which no carry waits for another. */
LP_INLINE number carried(number d)
{
    const words carry = d.h2 >> 42;

    return (number){(d.h0 & LIMB44) + carry + (carry << 2), (d.h1 & LIMB44) + (d.h0 >> 44),
                    (d.h2 & LIMB42) + (d.h1 >> 44)};
}

#undef NAMED_
#undef NAMED
#undef INTRINSIC_
#undef INTRINSIC
#undef words
#undef number
#undef factor
#undef factor_of
#undef products
#undef accumulate
#undef folded
#undef multiply
#undef carried
#undef MADD_LOW
#undef MADD_HIGH
#undef INT
#undef INT_256
#undef INT_512
