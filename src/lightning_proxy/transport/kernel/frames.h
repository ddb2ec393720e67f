/*
 * The template of the vector kernels: a whole frame, header and body, in as few passes of ChaCha20
 * as it needs. Lanes 0 and 1 of a frame are the header's Poly1305 key and its key stream, lane 2 is
 * the body's Poly1305 key, the others are the body's key stream.
 *
 * The source that includes this has defined
 *   LP_KERNEL    the kernel's name, as an identifier
 *   MAX_BLOCKS   the blocks of its longest pass, and run_pass() for them by sets.h
 * and has Poly1305, by poly1305.h or by another header with the same functions.
 *
 * What reads and writes memory here never loads more bytes at once than were stored at once
 * before, because such a load has to wait until the stores have left the store buffer.
 */

enum { HEADER_BLOCKS = 2 };

/* The blocks of each of two short frames (lanes.h: pair_lanes): a body of up to 192 bytes. */
#define PAIRED_BLOCKS 6

/* The key stream of one call; what is left of it is wiped at the end. */
typedef uint8_t blocks_memory[BLOCK * MAX_BLOCKS] __attribute__((aligned(BLOCK)));

/* A text's key stream: the blocks that a pass made and that are not used yet. */
typedef struct {
    chacha20 from; /* at the counter of the next pass */
    uint8_t *blocks;
    size_t at, count, most; /* the next one, how many, and how many any pass made */
} key_stream;

LP_INLINE void wipe_blocks(const key_stream *stream)
{
    for (size_t i = 0; i < stream->most; i++) wipe(stream->blocks + BLOCK * i, BLOCK);
}

LP_INLINE size_t blocks_of(size_t length) { return (length + BLOCK - 1) / BLOCK; }

LP_INLINE void store_tag(uint8_t *tag, const uint64_t words[2])
{
    lp_store64(tag, words[0]);
    lp_store64(tag + 8, words[1]);
}

LP_INLINE int is_tag(const uint8_t *tag, const uint64_t words[2])
{
    uint64_t difference = (lp_load64(tag) ^ words[0]) | (lp_load64(tag + 8) ^ words[1]);
    int same = difference == 0;

    LP_PUBLIC(&same, sizeof same);
    return same;
}

/* ---- The AEAD construction, RFC 8439 section 2.8 ---- */

/* XOR a text with its key stream, in place; `mac`, if there is one, takes the ciphertext on the
 * way. Returns the last bytes' ciphertext. */
LP_INLINE tail_block xor_text(key_stream *stream, uint8_t *text, size_t length, poly1305 *mac)
{
    for (;;) {
        size_t whole = stream->count - stream->at;

        if (whole > length / BLOCK) whole = length / BLOCK;
        if (mac)
            poly_xor_blocks(mac, text, stream->blocks + BLOCK * stream->at, whole);
        else
            xor_blocks(text, stream->blocks + BLOCK * stream->at, whole);
        text += BLOCK * whole;
        length -= BLOCK * whole;
        stream->at += whole;
        if (length == 0 || stream->at < stream->count) break;
        stream->count = run_pass(&stream->from, &text_lanes, blocks_of(length), stream->blocks);
        if (stream->count > stream->most) stream->most = stream->count;
        stream->from.low += stream->count;
        stream->at = 0;
    }
    return xor_tail(text, length, stream->blocks + BLOCK * stream->at);
}

LP_INLINE void seal_text(key_stream *stream, poly1305 *mac, uint8_t *text, size_t length,
                         size_t ad_length)
{
    /* A long text is authenticated afterwards: passes that wait for nothing else overlap. */
    size_t whole = length / BLOCK;
    int is_ready = whole <= stream->count - stream->at;
    tail_block tail = xor_text(stream, text, length, is_ready ? mac : NULL);
    uint64_t tag[2];

    if (!is_ready) poly_blocks(mac, text, whole);
    poly_end(mac, &tail, length % BLOCK, ad_length, length);
    poly_finish(mac, tag);
    store_tag(text + length, tag);
}

LP_INLINE int open_text(key_stream *stream, poly1305 *mac, uint8_t *text, size_t length,
                        size_t ad_length)
{
    size_t whole = length / BLOCK;
    tail_block tail = load_tail(text + BLOCK * whole, length % BLOCK);
    uint64_t tag[2];

    poly_blocks(mac, text, whole);
    poly_end(mac, &tail, length % BLOCK, ad_length, length);
    poly_finish(mac, tag);
    /* The plaintext is released only after its tag was checked. */
    if (!is_tag(text + length, tag)) return LP_BAD_TAG;
    xor_text(stream, text, length, NULL);
    return LP_OPENED;
}

/* ---- Frames, BOLT #8 ---- */

/* A frame's first pass: both Poly1305 keys, the header's key stream, and the body's as far as
 * there is room. */
LP_INLINE key_stream begin_frame(const uint8_t *key, uint64_t nonce, size_t length, uint8_t *blocks)
{
    key_stream stream = {.from = {key, 0, nonce}, .blocks = blocks, .at = HEADER_BLOCKS + 1};

    stream.count = run_pass(&stream.from, &frame_lanes, stream.at + blocks_of(length), blocks);
    stream.most = stream.count;
    stream.from.low = stream.count - HEADER_BLOCKS;
    stream.from.high = nonce + 1;
    return stream;
}

/* The first pass of one text: its Poly1305 key and its key stream. */
LP_INLINE key_stream begin_text(chacha20 from, size_t length, uint8_t *blocks)
{
    key_stream stream = {.from = from, .blocks = blocks, .at = 1};

    stream.count = run_pass(&from, &text_lanes, stream.at + blocks_of(length), blocks);
    stream.most = stream.count;
    stream.from.low += stream.count;
    return stream;
}

/* The length as it stands in memory on either side of the XOR with its key stream. */
LP_INLINE uint16_t xor_length(uint16_t length, const uint8_t *blocks)
{
    uint16_t stream;

    memcpy(&stream, blocks + BLOCK, sizeof stream);
    return length ^ stream;
}

/* Seals a frame by the blocks of its first pass: the header's two, the body's Poly1305 key, and
 * where `stream` stands. */
LP_INLINE void seal_with(key_stream *stream, const uint8_t *blocks, uint8_t *frame, size_t length)
{
    uint16_t header = xor_length(__builtin_bswap16((uint16_t)length), blocks);
    uint64_t tag[2];
    poly1305 mac;

    poly_begin_frame(&mac, blocks + BLOCK * HEADER_BLOCKS, 0, length, blocks, header, tag);
    memcpy(frame, &header, sizeof header);
    store_tag(frame + LP_LENGTH_SIZE, tag);
    seal_text(stream, &mac, frame + LP_HEADER_SIZE, length, 0);
}

LP_TARGET static void seal(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *frame,
                           size_t length)
{
    blocks_memory blocks;
    key_stream stream = begin_frame(key, nonce, length, blocks);

    seal_with(&stream, blocks, frame, length);
    wipe_blocks(&stream);
}

#if MAX_BLOCKS >= 2 * PAIRED_BLOCKS
/* Two short frames, one behind the other, side by side in one pass. */
LP_TARGET static void seal_pair(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *frame,
                                const size_t lengths[2])
{
    blocks_memory blocks;
    const chacha20 from = {key, 0, nonce};
    key_stream first = {from, blocks, HEADER_BLOCKS + 1, PAIRED_BLOCKS, 2 * PAIRED_BLOCKS};
    key_stream second = {from, blocks, PAIRED_BLOCKS + HEADER_BLOCKS + 1, 2 * PAIRED_BLOCKS, 0};

    run_pass(&from, &pair_lanes, 2 * PAIRED_BLOCKS, blocks);
    seal_with(&first, blocks, frame, lengths[0]);
    seal_with(&second, blocks + BLOCK * PAIRED_BLOCKS, frame + lengths[0] + LP_OVERHEAD,
              lengths[1]);
    wipe_blocks(&first);
}
#endif

LP_TARGET static void seal_many(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *frames,
                                const size_t *lengths, size_t count)
{
    size_t i = 0;

    while (i < count) {
#if MAX_BLOCKS >= 2 * PAIRED_BLOCKS
        const size_t most = BLOCK * (PAIRED_BLOCKS - HEADER_BLOCKS - 1);

        if (count - i >= 2 && lengths[i] <= most && lengths[i + 1] <= most) {
            seal_pair(key, nonce + 2 * i, frames, lengths + i);
            frames += lengths[i] + lengths[i + 1] + 2 * LP_OVERHEAD;
            i += 2;
            continue;
        }
#endif
        seal(key, nonce + 2 * i, frames, lengths[i]);
        frames += lengths[i] + LP_OVERHEAD;
        i += 1;
    }
}

LP_TARGET static int open_frame(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *frame,
                                size_t available, size_t *length)
{
    blocks_memory blocks;
    size_t body = available > LP_OVERHEAD ? available - LP_OVERHEAD : 0;
    key_stream stream = begin_frame(key, nonce, body < *length ? body : *length, blocks);
    int status = LP_BAD_TAG;
    uint64_t tag[2];
    uint16_t header;
    poly1305 mac;
    size_t size;

    memcpy(&header, frame, sizeof header);
    /* Not authentic yet: until the tag was checked, it decides nothing but the MAC's first step. */
    size = __builtin_bswap16(xor_length(header, blocks));
    LP_PUBLIC(&size, sizeof size);
    poly_begin_frame(&mac, blocks + BLOCK * HEADER_BLOCKS, 0, size, blocks, header, tag);
    if (is_tag(frame + LP_LENGTH_SIZE, tag)) {
        *length = size;
        status = available < size + LP_OVERHEAD
                     ? LP_INCOMPLETE
                     : open_text(&stream, &mac, frame + LP_HEADER_SIZE, size, 0);
    }
    wipe_blocks(&stream);
    return status;
}

LP_TARGET static int open_body(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *body,
                               size_t length)
{
    blocks_memory blocks;
    key_stream stream = begin_text((chacha20){key, 0, nonce}, length, blocks);
    poly1305 mac;
    int status;

    poly_begin(&mac, blocks, 0, length);
    status = open_text(&stream, &mac, body, length, 0);
    wipe_blocks(&stream);
    return status;
}

/* ---- RFC 8439 as it stands ---- */

LP_INLINE chacha20 rfc8439_state(const uint8_t *key, const uint8_t nonce[LP_NONCE_SIZE])
{
    return (chacha20){key, lp_load64(nonce) << 32, lp_load64(nonce + 4)};
}

LP_TARGET static void aead_seal(const uint8_t key[LP_KEY_SIZE], const uint8_t nonce[LP_NONCE_SIZE],
                                const uint8_t *ad, size_t ad_length, uint8_t *text, size_t length)
{
    blocks_memory blocks;
    key_stream stream = begin_text(rfc8439_state(key, nonce), length, blocks);
    poly1305 mac;

    poly_begin(&mac, blocks, ad_length, length);
    poly_ad(&mac, ad, ad_length);
    seal_text(&stream, &mac, text, length, ad_length);
    wipe_blocks(&stream);
}

LP_TARGET static int aead_open(const uint8_t key[LP_KEY_SIZE], const uint8_t nonce[LP_NONCE_SIZE],
                               const uint8_t *ad, size_t ad_length, uint8_t *text, size_t length)
{
    blocks_memory blocks;
    key_stream stream = begin_text(rfc8439_state(key, nonce), length, blocks);
    poly1305 mac;
    int status;

    poly_begin(&mac, blocks, ad_length, length);
    poly_ad(&mac, ad, ad_length);
    status = open_text(&stream, &mac, text, length, ad_length);
    wipe_blocks(&stream);
    return status;
}

#define KERNEL_(kernel) lp_kernel_##kernel
#define KERNEL(kernel) KERNEL_(kernel)
#define STRING_(name) #name
#define STRING(name) STRING_(name)

const lp_kernel KERNEL(LP_KERNEL) = {
    .name = STRING(LP_KERNEL),
    .seal = seal,
    .seal_many = seal_many,
    .open = open_frame,
    .open_body = open_body,
    .aead_seal = aead_seal,
    .aead_open = aead_open,
};
