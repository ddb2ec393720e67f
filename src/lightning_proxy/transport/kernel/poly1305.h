/*
 * Poly1305 (RFC 8439 section 2.5) for the vector kernels, four blocks a step.
 *
 * The plain recurrence h = (h + m) * r waits for each product in turn. Four blocks at once,
 * h = (h + m0) * r^4 + m1 * r^3 + m2 * r^2 + m3 * r, have one wait in four, and one reduction.
 */
#include "limbs.h"
#include "tail16.h"

typedef struct {
    uint64_t r0, r1, r2;
    uint64_t twenty_r1, twenty_r2;
} poly_power;

typedef struct {
    uint64_t h0, h1, h2;
} poly_number;

typedef struct {
    poly_power r[4]; /* r, r^2, r^3, r^4 */
    poly_number h;
    uint64_t s[2];
} poly1305;

LP_INLINE poly_power poly_power_of(poly_number n)
{
    return (poly_power){n.h0, n.h1, n.h2, 20 * n.h1, 20 * n.h2};
}

typedef struct {
    uint128 d0, d1, d2;
} poly_product;

LP_INLINE poly_product poly_multiply(poly_number n, const poly_power *r)
{
    return (poly_product){
        (uint128)n.h0 * r->r0 + (uint128)n.h1 * r->twenty_r2 + (uint128)n.h2 * r->twenty_r1,
        (uint128)n.h0 * r->r1 + (uint128)n.h1 * r->r0 + (uint128)n.h2 * r->twenty_r2,
        (uint128)n.h0 * r->r2 + (uint128)n.h1 * r->r1 + (uint128)n.h2 * r->r0,
    };
}

LP_INLINE poly_product poly_sum(poly_product a, poly_product b)
{
    return (poly_product){a.d0 + b.d0, a.d1 + b.d1, a.d2 + b.d2};
}

LP_INLINE poly_number poly_reduce(poly_product p)
{
    poly_number n;

    p.d1 += (uint64_t)(p.d0 >> 44);
    p.d2 += (uint64_t)(p.d1 >> 44);
    n.h0 = ((uint64_t)p.d0 & LIMB44) + 5 * (uint64_t)(p.d2 >> 42);
    n.h1 = ((uint64_t)p.d1 & LIMB44) + (n.h0 >> 44);
    n.h0 &= LIMB44;
    n.h2 = (uint64_t)p.d2 & LIMB42;
    return n;
}

LP_INLINE poly_number poly_limbs(uint64_t low, uint64_t high)
{
    return (poly_number){low & LIMB44, (low >> 44 | high << 20) & LIMB44, high >> 24};
}

/* A whole block, with the bit that marks its length. */
LP_INLINE poly_number poly_block(uint64_t low, uint64_t high)
{
    poly_number n = poly_limbs(low, high);

    n.h2 |= UINT64_C(1) << 40;
    return n;
}

LP_INLINE poly_number poly_load(const uint8_t block[16])
{
    return poly_block(lp_load64(block), lp_load64(block + 8));
}

LP_INLINE poly_number poly_add(poly_number a, poly_number b)
{
    return (poly_number){a.h0 + b.h0, a.h1 + b.h1, a.h2 + b.h2};
}

LP_INLINE void poly_begin(poly1305 *mac, const uint8_t key[32], size_t ad_length, size_t length)
{
    poly_number r = poly_limbs(lp_load64(key) & UINT64_C(0x0ffffffc0fffffff),
                               lp_load64(key + 8) & UINT64_C(0x0ffffffc0ffffffc));
    poly_number square;

    mac->h = (poly_number){0, 0, 0};
    mac->s[0] = lp_load64(key + 16);
    mac->s[1] = lp_load64(key + 24);
    mac->r[0] = poly_power_of(r);
    square = poly_reduce(poly_multiply(r, &mac->r[0]));
    mac->r[1] = poly_power_of(square);
    mac->r[2] = mac->r[3] = mac->r[1];
    if (ad_length + length > 16) {
        mac->r[2] = poly_power_of(poly_reduce(poly_multiply(square, &mac->r[0])));
        mac->r[3] = poly_power_of(poly_reduce(poly_multiply(square, &mac->r[1])));
    }
}

/* One to four blocks in one step. */
LP_INLINE void poly_step(poly1305 *mac, const poly_number *blocks, int count)
{
    poly_product sum = poly_multiply(poly_add(mac->h, blocks[0]), &mac->r[count - 1]);

    if (count > 1) sum = poly_sum(sum, poly_multiply(blocks[1], &mac->r[count - 2]));
    if (count > 2) sum = poly_sum(sum, poly_multiply(blocks[2], &mac->r[count - 3]));
    if (count > 3) sum = poly_sum(sum, poly_multiply(blocks[3], &mac->r[count - 4]));
    mac->h = poly_reduce(sum);
}

/* `count` times four blocks. */
LP_INLINE void poly_blocks(poly1305 *mac, const uint8_t *bytes, size_t count)
{
    for (; count > 0; count--, bytes += BLOCK) {
        const poly_number blocks[4] = {poly_load(bytes), poly_load(bytes + 16),
                                       poly_load(bytes + 32), poly_load(bytes + 48)};
        poly_step(mac, blocks, 4);
    }
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

/* The text's last `size` < 64 bytes and the block of the two lengths (RFC 8439 section 2.8). */
LP_INLINE void poly_end(poly1305 *mac, const tail_block *tail, size_t size, uint64_t ad_length,
                        uint64_t length)
{
    const poly_number lengths = poly_block(ad_length, length);
    poly_number blocks[4];
    int count = 0;

    if (size > 0) blocks[count++] = poly_load(tail->bytes);
    if (size > 16) blocks[count++] = poly_load(tail->bytes + 16);
    if (size > 32) blocks[count++] = poly_load(tail->bytes + 32);
    if (size > 48) {
        blocks[count++] = poly_load(tail->bytes + 48);
        poly_step(mac, blocks, 4);
        count = 0;
    }
    blocks[count++] = lengths;
    switch (count) {
    case 1:
        poly_step(mac, blocks, 1);
        break;
    case 2:
        poly_step(mac, blocks, 2);
        break;
    case 3:
        poly_step(mac, blocks, 3);
        break;
    default:
        poly_step(mac, blocks, 4);
    }
}

/* Additional data, each block in a step of its own: frames have none. */
LP_INLINE void poly_ad(poly1305 *mac, const uint8_t *ad, size_t length)
{
    poly_number block;

    for (; length >= 16; ad += 16, length -= 16) {
        block = poly_load(ad);
        poly_step(mac, &block, 1);
    }
    if (length > 0) {
        uint8_t last[16] = {0};

        memcpy(last, ad, length);
        block = poly_load(last);
        poly_step(mac, &block, 1);
    }
}

LP_INLINE void poly_finish(const poly1305 *mac, uint64_t tag[2])
{
    poly_tag(mac->h.h0, mac->h.h1, mac->h.h2, mac->s, tag);
}

/* Begins a text's MAC, and makes the tag of a frame's header: `header` is its two encrypted bytes
 * as they stand in memory. */
LP_INLINE void poly_begin_frame(poly1305 *mac, const uint8_t key[32], size_t ad_length,
                                size_t length, const uint8_t header_key[32], uint16_t header,
                                uint64_t header_tag[2])
{
    const poly_number blocks[2] = {poly_block(header, 0), poly_block(0, LP_LENGTH_SIZE)};
    poly1305 first;

    poly_begin(&first, header_key, 0, LP_LENGTH_SIZE);
    poly_step(&first, blocks, 2);
    poly_finish(&first, header_tag);
    poly_begin(mac, key, ad_length, length);
}
