/* libsodium, of which only the library has to be there: the prototypes are its manual's. */
#include "direction.h"

const char *sodium_version_string(void);
int sodium_init(void);
int crypto_aead_chacha20poly1305_ietf_encrypt(unsigned char *c, unsigned long long *c_length,
                                              const unsigned char *m, unsigned long long m_length,
                                              const unsigned char *ad, unsigned long long ad_length,
                                              const unsigned char *secret_nonce,
                                              const unsigned char *nonce, const unsigned char *key);
int crypto_aead_chacha20poly1305_ietf_decrypt(unsigned char *m, unsigned long long *m_length,
                                              unsigned char *secret_nonce, const unsigned char *c,
                                              unsigned long long c_length, const unsigned char *ad,
                                              unsigned long long ad_length,
                                              const unsigned char *nonce, const unsigned char *key);

#include "loops.h"

EXPORTED const char *rival_version(void) { return sodium_version_string(); }

/* Chooses the fastest code for this CPU; it may be called again. */
static int set_key(direction *to)
{
    (void)to;
    return sodium_init() >= 0;
}

static void seal(const direction *from, uint64_t nonce, uint8_t *text, size_t length)
{
    uint8_t bytes[LP_NONCE_SIZE];

    nonce_bytes(nonce, bytes);
    crypto_aead_chacha20poly1305_ietf_encrypt(text, NULL, text, length, NULL, 0, NULL, bytes,
                                              from->key);
}

static int open(const direction *to, uint64_t nonce, uint8_t *text, size_t length)
{
    uint8_t bytes[LP_NONCE_SIZE];

    nonce_bytes(nonce, bytes);
    return crypto_aead_chacha20poly1305_ietf_decrypt(text, NULL, NULL, text, length + LP_TAG_SIZE,
                                                     NULL, 0, bytes, to->key) == 0;
}

static int seal_frame(direction *from, uint8_t *frame, size_t length)
{
    frame[0] = (uint8_t)(length >> 8);
    frame[1] = (uint8_t)length;
    seal(from, from->nonce, frame, LP_LENGTH_SIZE);
    seal(from, from->nonce + 1, frame + LP_HEADER_SIZE, length);
    return 1;
}

static int open_frame(direction *to, uint8_t *frame, size_t length)
{
    return open(to, to->nonce, frame, LP_LENGTH_SIZE) &&
           (size_t)(frame[0] << 8 | frame[1]) == length &&
           open(to, to->nonce + 1, frame + LP_HEADER_SIZE, length);
}
