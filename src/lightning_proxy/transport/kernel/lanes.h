/*
 * What the templates of a vector kernel share: types, tables and small functions.
 *
 * The source that includes this has defined LP_TARGET, the function attribute that allows its
 * instructions, and VECTOR, the bytes that it loads and stores at once.
 */
#include "bytes.h"
#include "kernel.h"

#define LP_INLINE static inline __attribute__((always_inline)) LP_TARGET

enum { BLOCK = 64 };

typedef uint32_t lane __attribute__((vector_size(16), may_alias));
typedef uint64_t lane64 __attribute__((vector_size(16), may_alias));
typedef lane unaligned_lane __attribute__((aligned(1)));
typedef uint32_t vector __attribute__((vector_size(VECTOR), may_alias));
typedef vector unaligned_vector __attribute__((aligned(1)));

/* What ChaCha20 blocks start from. The last row of the state, as two 64-bit words, is
 * `low`: the counter, and above it the nonce's first word; `high`: the nonce's other two. */
typedef struct {
    const uint8_t *key;
    uint64_t low, high;
} chacha20;

/* By how much the last row differs from block to block of a pass: in pairs of 64-bit words for
 * rows, word by word for columns. */
typedef struct {
    uint64_t rows[32];
    uint32_t counters[16], nonces[16];
} __attribute__((aligned(64))) block_lanes;

/* A frame, from counter 0 and the header's nonce: the header has two blocks. */
static const block_lanes frame_lanes = {
    {0, 0, 1, 0, 0, 1, 1, 1, 2,  1, 3,  1, 4,  1, 5,  1,
     6, 1, 7, 1, 8, 1, 9, 1, 10, 1, 11, 1, 12, 1, 13, 1},
    {0, 1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13},
    {0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
};
/* Two frames of six blocks each, the second with the nonces that follow. */
static const block_lanes pair_lanes __attribute__((unused)) = {
    {0, 0, 1, 0, 0, 1, 1, 1, 2, 1, 3, 1, 0, 2, 1, 2, 0, 3, 1, 3, 2, 3, 3, 3},
    {0, 1, 0, 1, 2, 3, 0, 1, 0, 1, 2, 3},
    {0, 0, 1, 1, 1, 1, 2, 2, 3, 3, 3, 3},
};
/* One text, from any counter. */
static const block_lanes text_lanes = {
    {0, 0, 1, 0, 2,  0, 3,  0, 4,  0, 5,  0, 6,  0, 7,  0,
     8, 0, 9, 0, 10, 0, 11, 0, 12, 0, 13, 0, 14, 0, 15, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {0},
};

/* "expand 32-byte k" */
#define CONSTANTS ((lane){0x61707865, 0x3320646e, 0x79622d32, 0x6b206574})

/* A statement once for every set `i`, unrolled, so that the sets' operations alternate. */
#define FOR_SET(number, statement)                                                                 \
    if (sets > number) {                                                                           \
        enum { i = number };                                                                       \
        statement;                                                                                 \
    }
#define EACH_SET(statement)                                                                        \
    FOR_SET(0, statement)                                                                          \
    FOR_SET(1, statement)                                                                          \
    FOR_SET(2, statement)                                                                          \
    FOR_SET(3, statement)                                                                          \
    FOR_SET(4, statement)                                                                          \
    FOR_SET(5, statement)

#define ROTATE(v, bits) ((v) << (bits) | (v) >> (32 - (bits)))
#ifndef ROTATE16
#define ROTATE16(v) ROTATE(v, 16)
#define ROTATE8(v) ROTATE(v, 8)
#endif

LP_INLINE lane load_lane(const uint8_t *bytes) { return *(const unaligned_lane *)bytes; }

/* The same address, of which the compiler does not know that it read there before. */
LP_INLINE const uint8_t *hidden(const uint8_t *address)
{
    __asm__("" : "+r"(address));
    return address;
}

/* XOR with the key stream, in place; `count` blocks. */
LP_INLINE void xor_blocks(uint8_t *text, const uint8_t *stream, size_t count)
{
    for (size_t i = 0; i < BLOCK * count; i += VECTOR)
        *(unaligned_vector *)(text + i) ^= *(const vector *)(stream + i);
}

/* As lp_wipe, inlined: what is wiped here is mostly a few vectors. */
LP_INLINE void wipe(void *memory, size_t size)
{
    memset(memory, 0, size);
    __asm__ __volatile__("" : : "r"(memory) : "memory");
}
