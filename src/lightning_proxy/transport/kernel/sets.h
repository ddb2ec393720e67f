/*
 * ChaCha20 (RFC 8439 section 2.3) in row layout.
 *
 * A 128-bit lane of a vector holds one row of one block, so that a diagonal round is three shuffles
 * inside the lanes and no block is transposed. A set is four vectors, the rows of LANES blocks; a
 * pass runs several sets side by side to hide the latency of the one chain of operations that a
 * block is. Each lane has its own counter and nonce.
 *
 * LANES (1 or 2) and LP_TARGET are the including source's; so are ROTATE16 and ROTATE8, where
 * bytes are shuffled faster than bits are shifted.
 */
typedef uint32_t row __attribute__((vector_size(16 * LANES), may_alias));
typedef uint64_t row64 __attribute__((vector_size(16 * LANES), may_alias));

#if LANES == 1
#define IN_LANES(v, a, b, c, d) __builtin_shufflevector(v, v, a, b, c, d)
#define IN_ALL_LANES(one) (one)
#else
#define IN_LANES(v, a, b, c, d)                                                                    \
    __builtin_shufflevector(v, v, a, b, c, d, a + 4, b + 4, c + 4, d + 4)
#define IN_ALL_LANES(one) __builtin_shufflevector(one, one, 0, 1, 2, 3, 0, 1, 2, 3)
#endif

/* The blocks of one set, in order, to 64-byte aligned memory. */
LP_INLINE void store_blocks(row a, row b, row c, row d, uint8_t *out)
{
#if LANES == 1
    row *rows = (row *)__builtin_assume_aligned(out, BLOCK);

    rows[0] = a, rows[1] = b, rows[2] = c, rows[3] = d;
#else
    row ab0 = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11);
    row cd0 = __builtin_shufflevector(c, d, 0, 1, 2, 3, 8, 9, 10, 11);
    row ab1 = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
    row cd1 = __builtin_shufflevector(c, d, 4, 5, 6, 7, 12, 13, 14, 15);
#ifdef STORE_BLOCK
    STORE_BLOCK(out, ab0, cd0);
    STORE_BLOCK(out + BLOCK, ab1, cd1);
#else
    row *rows = (row *)__builtin_assume_aligned(out, BLOCK);

    rows[0] = ab0, rows[1] = cd0, rows[2] = ab1, rows[3] = cd1;
#endif
#endif
}

/* The four quarter rounds of all blocks, side by side. */
#define QUARTER_ROUNDS()                                                                           \
    EACH_SET(a[i] += b[i]; d[i] ^= a[i]);                                                          \
    EACH_SET(d[i] = ROTATE16(d[i]));                                                               \
    EACH_SET(c[i] += d[i]; b[i] ^= c[i]);                                                          \
    EACH_SET(b[i] = ROTATE(b[i], 12));                                                             \
    EACH_SET(a[i] += b[i]; d[i] ^= a[i]);                                                          \
    EACH_SET(d[i] = ROTATE8(d[i]));                                                                \
    EACH_SET(c[i] += d[i]; b[i] ^= c[i]);                                                          \
    EACH_SET(b[i] = ROTATE(b[i], 7))

/* LANES * sets blocks, which it returns; `sets` is a constant wherever this is inlined. */
LP_INLINE size_t run_sets(const chacha20 *from, const block_lanes *lanes, int sets, uint8_t *stream)
{
    const row64 *offsets = (const row64 *)lanes->rows;
    const row64 base = (row64)IN_ALL_LANES(((lane)(lane64){from->low, from->high}));
    const uint8_t *key = from->key;
    row a[6], b[6], c[6], d[6];

    EACH_SET(a[i] = IN_ALL_LANES(CONSTANTS); d[i] = (row)(base + offsets[i]));
    EACH_SET(b[i] = IN_ALL_LANES(load_lane(key)); c[i] = IN_ALL_LANES(load_lane(key + 16)));
    for (int round = 0; round < 20; round += 2) {
        QUARTER_ROUNDS();
        /* To the diagonals: b was written last and stays, the others turn beside it. */
        EACH_SET(a[i] = IN_LANES(a[i], 3, 0, 1, 2); c[i] = IN_LANES(c[i], 1, 2, 3, 0);
                 d[i] = IN_LANES(d[i], 2, 3, 0, 1));
        QUARTER_ROUNDS();
        EACH_SET(a[i] = IN_LANES(a[i], 1, 2, 3, 0); c[i] = IN_LANES(c[i], 3, 0, 1, 2);
                 d[i] = IN_LANES(d[i], 2, 3, 0, 1));
    }
    /* The key is read again: rows of it that wait for this place would be spilled to the stack. */
    key = hidden(key);
    EACH_SET(a[i] += IN_ALL_LANES(CONSTANTS); d[i] += (row)(base + offsets[i]));
    EACH_SET(b[i] += IN_ALL_LANES(load_lane(key)); c[i] += IN_ALL_LANES(load_lane(key + 16)));
    EACH_SET(store_blocks(a[i], b[i], c[i], d[i], stream + i * LANES * BLOCK));
    return (size_t)(LANES * sets);
}
