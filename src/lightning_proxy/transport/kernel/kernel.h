/*
 * The frame kernel: ChaCha20-Poly1305 (RFC 8439) over BOLT #8 frames, with no Python in it.
 *
 * A frame is a 2-byte big-endian length, its 16-byte tag, the body, its 16-byte tag: two
 * encryptions under one key, with the nonces n (header) and n + 1 (body), no associated data.
 * A nonce is 32 zero bits, then the counter as 64 bits little-endian.
 *
 * Each instruction set is one source that fills one `lp_kernel`; dispatch.c picks one at import.
 * No function branches or indexes on bytes of a key, a plaintext or a tag.
 */
#ifndef LIGHTNING_PROXY_KERNEL_H
#define LIGHTNING_PROXY_KERNEL_H

#include <stddef.h>
#include <stdint.h>

enum {
    LP_KEY_SIZE = 32,
    LP_NONCE_SIZE = 12,
    LP_TAG_SIZE = 16,
    LP_LENGTH_SIZE = 2,
    LP_HEADER_SIZE = LP_LENGTH_SIZE + LP_TAG_SIZE,
    LP_OVERHEAD = LP_HEADER_SIZE + LP_TAG_SIZE,
    LP_MAX_BODY = 65535,
    LP_MAX_FRAME = LP_MAX_BODY + LP_OVERHEAD,
};

/* What the opening functions return. */
enum {
    LP_BAD_TAG = -1,
    LP_INCOMPLETE = 0,
    LP_OPENED = 1,
};

typedef struct lp_kernel {
    const char *name;

    /* Seal the `length` bytes of plaintext at frame + LP_HEADER_SIZE, in place;
     * `frame` has room for length + LP_OVERHEAD bytes. */
    void (*seal)(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *frame, size_t length);

    /* Open a frame in place, of which `available` >= LP_HEADER_SIZE bytes are there.
     * LP_OPENED: the plaintext stands at frame + LP_HEADER_SIZE, *length bytes.
     * LP_INCOMPLETE: the header is authentic, *length is the body's, nothing was changed.
     * LP_BAD_TAG: header or body is forged; what is in `frame` is not to be used. */
    int (*open)(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *frame, size_t available,
                size_t *length);

    /* Open a body in place, `length` bytes and the tag behind them, whose header was opened
     * before; `nonce` is the body's own. */
    int (*open_body)(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *body, size_t length);

    /* RFC 8439 section 2.8 as it stands, in place: for the self-test and the public vectors. */
    void (*aead_seal)(const uint8_t key[LP_KEY_SIZE], const uint8_t nonce[LP_NONCE_SIZE],
                      const uint8_t *ad, size_t ad_length, uint8_t *text, size_t length,
                      uint8_t tag[LP_TAG_SIZE]);
    int (*aead_open)(const uint8_t key[LP_KEY_SIZE], const uint8_t nonce[LP_NONCE_SIZE],
                     const uint8_t *ad, size_t ad_length, uint8_t *text, size_t length,
                     const uint8_t tag[LP_TAG_SIZE]);
} lp_kernel;

extern const lp_kernel lp_kernel_scalar;

/* The kernel by name, or with NULL the best one that this CPU has; NULL where there is none. */
const lp_kernel *lp_kernel_find(const char *name);

/* Known answers (RFC 8439 section 2.8.2, BOLT #8 appendix A): 1 where the kernel gives them. */
int lp_kernel_self_test(const lp_kernel *kernel);

/* BOLT #8's key rotation: (ck', k') = HKDF-SHA256(salt ck, k), no info, 64 bytes; in place. */
void lp_rotate(uint8_t chaining_key[LP_KEY_SIZE], uint8_t key[LP_KEY_SIZE]);

/* Overwrite with zeros by a store that the compiler can't drop. */
void lp_wipe(void *memory, size_t size);

#endif
