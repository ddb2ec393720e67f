/* The last bytes of a text, in pieces of 16 bytes, for kernels without masked loads and stores. */

/* Less than a block of ciphertext, zeros behind it. */
typedef struct {
    uint8_t bytes[BLOCK] __attribute__((aligned(BLOCK)));
} tail_block;

LP_INLINE lane first_bytes(size_t size)
{
    static const uint8_t mask[32] = {255, 255, 255, 255, 255, 255, 255, 255,
                                     255, 255, 255, 255, 255, 255, 255, 255};

    return load_lane(mask + 16 - (size < 16 ? size : 16));
}

LP_INLINE tail_block load_tail(const uint8_t *text, size_t size)
{
    tail_block tail = {{0}};

    /* Reads up to 15 bytes of the tag that stands behind the text. */
    for (size_t at = 0; at < size; at += 16)
        *(lane *)(tail.bytes + at) = load_lane(text + at) & first_bytes(size - at);
    return tail;
}

/* XOR in place, and return the result. Writes up to 15 bytes over the tag's place. */
LP_INLINE tail_block xor_tail(uint8_t *text, size_t size, const uint8_t *stream)
{
    tail_block tail = {{0}};

    for (size_t at = 0; at < size; at += 16) {
        lane piece = load_lane(text + at) ^ *(const lane *)(stream + at);

        *(unaligned_lane *)(text + at) = piece;
        *(lane *)(tail.bytes + at) = piece & first_bytes(size - at);
    }
    return tail;
}
