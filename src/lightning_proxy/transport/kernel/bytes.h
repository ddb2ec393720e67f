/* Little-endian words in byte strings, whatever the machine's own order and alignment. */
#ifndef LIGHTNING_PROXY_BYTES_H
#define LIGHTNING_PROXY_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint64_t lp_load64(const uint8_t *bytes)
{
    uint64_t word;

    memcpy(&word, bytes, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

static inline void lp_store64(uint8_t *bytes, uint64_t word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    memcpy(bytes, &word, sizeof word);
}

#endif
