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

/* What is secret no more: tests/native/secrets.h tells a memory checker so. */
#ifdef LP_CHECK_SECRETS
#include "secrets.h"
#else
#define LP_PUBLIC(memory, size) ((void)(memory))
#endif

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

    /* Seal `count` frames that stand one behind the other, as `seal` does each: of `lengths` bytes,
     * from `nonce` on by two. */
    void (*seal_many)(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *frames,
                      const size_t *lengths, size_t count);

    /* Open a frame in place, of which `available` >= LP_HEADER_SIZE bytes are there.
     * On entry *length is the body's as the caller expects it; a right guess is faster.
     * LP_OPENED: the plaintext stands at frame + LP_HEADER_SIZE, *length bytes; the tag behind it
     * is not kept.
     * LP_INCOMPLETE: the header is authentic, *length is the body's, nothing was changed.
     * LP_BAD_TAG: header or body is forged; what is in `frame` is not to be used. */
    int (*open)(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *frame, size_t available,
                size_t *length);

    /* Open a body in place, `length` bytes and the tag behind them, whose header was opened
     * before; `nonce` is the body's own. */
    int (*open_body)(const uint8_t key[LP_KEY_SIZE], uint64_t nonce, uint8_t *body, size_t length);

    /* RFC 8439 section 2.8 as it stands, in place, the tag behind the text: for the self-test and
     * the public vectors. */
    void (*aead_seal)(const uint8_t key[LP_KEY_SIZE], const uint8_t nonce[LP_NONCE_SIZE],
                      const uint8_t *ad, size_t ad_length, uint8_t *text, size_t length);
    int (*aead_open)(const uint8_t key[LP_KEY_SIZE], const uint8_t nonce[LP_NONCE_SIZE],
                     const uint8_t *ad, size_t ad_length, uint8_t *text, size_t length);
} lp_kernel;

/* The vector kernels are written with vector types of gcc 12 and clang; an older gcc gets scalar.
 */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#if defined(__x86_64__)
#define LP_X86_64 1
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LP_AARCH64 1
#endif
#endif
#endif

extern const lp_kernel lp_kernel_scalar;
extern const lp_kernel lp_kernel_sse2;
extern const lp_kernel lp_kernel_avx2;
extern const lp_kernel lp_kernel_avx512;
extern const lp_kernel lp_kernel_avx512ifma;
extern const lp_kernel lp_kernel_neon;

/* The kernels that this CPU has, best first; NULL past the last. */
const lp_kernel *lp_kernel_at(size_t index);

/* The kernel of that name, or with NULL the best; NULL where there is none. */
const lp_kernel *lp_kernel_find(const char *name);

/* Known answers (RFC 8439 section 2.8.2, BOLT #8 appendix A): 1 where the kernel gives them. */
int lp_kernel_self_test(const lp_kernel *kernel);

/* BOLT #8's key rotation: (ck', k') = HKDF-SHA256(salt ck, k), no info, 64 bytes; in place. */
void lp_rotate(uint8_t chaining_key[LP_KEY_SIZE], uint8_t key[LP_KEY_SIZE]);

/* One block of SHA-256 (FIPS 180-4): plain, and by the CPU's own instructions where it has them.
 * lp_rotate takes the latter, if `lp_use_cpu_sha` (which lp_has_cpu_sha may set) is not 0. */
extern int lp_use_cpu_sha;
int lp_has_cpu_sha(void);

/* Overwrite with zeros by a store that the compiler can't drop. */
void lp_wipe(void *memory, size_t size);

#endif
