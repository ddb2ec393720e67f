/* OpenSSL's EVP, of which only the library has to be there: the prototypes are its manual's.
 *
 * As fast as it gets: one context a direction, its key set once, and for each encryption only the
 * nonce. */
#include "direction.h"

typedef struct evp_cipher_ctx_st EVP_CIPHER_CTX;
typedef struct evp_cipher_st EVP_CIPHER;
typedef struct engine_st ENGINE;

/* The manual's EVP_CTRL_AEAD_GET_TAG and EVP_CTRL_AEAD_SET_TAG; OPENSSL_VERSION. */
enum { GET_TAG = 0x10, SET_TAG = 0x11, VERSION = 0 };

const char *OpenSSL_version(int type);
EVP_CIPHER_CTX *EVP_CIPHER_CTX_new(void);
const EVP_CIPHER *EVP_chacha20_poly1305(void);
int EVP_CipherInit_ex(EVP_CIPHER_CTX *context, const EVP_CIPHER *type, ENGINE *engine,
                      const unsigned char *key, const unsigned char *nonce, int encrypt);
int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *context, int type, int argument, void *pointer);
int EVP_EncryptUpdate(EVP_CIPHER_CTX *context, unsigned char *out, int *out_length,
                      const unsigned char *in, int length);
int EVP_EncryptFinal_ex(EVP_CIPHER_CTX *context, unsigned char *out, int *out_length);
int EVP_DecryptUpdate(EVP_CIPHER_CTX *context, unsigned char *out, int *out_length,
                      const unsigned char *in, int length);
int EVP_DecryptFinal_ex(EVP_CIPHER_CTX *context, unsigned char *out, int *out_length);

#include "loops.h"

EXPORTED const char *rival_version(void) { return OpenSSL_version(VERSION); }

static int set_key(direction *to)
{
    int encrypt = to != &receiver;

    if (to->cipher == NULL) to->cipher = EVP_CIPHER_CTX_new();
    return to->cipher != NULL &&
           EVP_CipherInit_ex(to->cipher, EVP_chacha20_poly1305(), NULL, to->key, NULL, encrypt);
}

static int set_nonce(EVP_CIPHER_CTX *context, uint64_t nonce)
{
    uint8_t bytes[LP_NONCE_SIZE];

    nonce_bytes(nonce, bytes);
    return EVP_CipherInit_ex(context, NULL, NULL, NULL, bytes, -1);
}

static int seal(EVP_CIPHER_CTX *context, uint64_t nonce, uint8_t *text, size_t length)
{
    int written;

    return set_nonce(context, nonce) &&
           EVP_EncryptUpdate(context, text, &written, text, (int)length) &&
           EVP_EncryptFinal_ex(context, text + length, &written) &&
           EVP_CIPHER_CTX_ctrl(context, GET_TAG, LP_TAG_SIZE, text + length);
}

static int open(EVP_CIPHER_CTX *context, uint64_t nonce, uint8_t *text, size_t length)
{
    int written;

    return set_nonce(context, nonce) &&
           EVP_CIPHER_CTX_ctrl(context, SET_TAG, LP_TAG_SIZE, text + length) &&
           EVP_DecryptUpdate(context, text, &written, text, (int)length) &&
           EVP_DecryptFinal_ex(context, text + length, &written) > 0;
}

static int seal_frame(direction *from, uint8_t *frame, size_t length)
{
    frame[0] = (uint8_t)(length >> 8);
    frame[1] = (uint8_t)length;
    return seal(from->cipher, from->nonce, frame, LP_LENGTH_SIZE) &&
           seal(from->cipher, from->nonce + 1, frame + LP_HEADER_SIZE, length);
}

static int open_frame(direction *to, uint8_t *frame, size_t length)
{
    return open(to->cipher, to->nonce, frame, LP_LENGTH_SIZE) &&
           (size_t)(frame[0] << 8 | frame[1]) == length &&
           open(to->cipher, to->nonce + 1, frame + LP_HEADER_SIZE, length);
}
