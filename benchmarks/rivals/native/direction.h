/* One direction of a BOLT #8 session, for implementations in C: its keys, nonce and rotation. */
#ifndef DIRECTION_H
#define DIRECTION_H

/* clock_gettime is POSIX's, and every header asks for that at first. */
#define _POSIX_C_SOURCE 200809L

#include "kernel.h"
#include "rival.h"

typedef struct {
    uint8_t key[LP_KEY_SIZE], chaining_key[LP_KEY_SIZE];
    uint64_t nonce; /* of the next frame's header */
    void *cipher;   /* what an implementation keeps for the key, if it does */
} direction;

/* What an implementation has; each returns 0 where that failed. */

/* Take the direction's key, which is new. */
static int set_key(direction *to);
/* Seal in place; the body stands at frame + LP_HEADER_SIZE. */
static int seal_frame(direction *from, uint8_t *frame, size_t length);
/* Open in place a frame of that length. */
static int open_frame(direction *to, uint8_t *frame, size_t length);

/* A frame has been sealed or opened: two encryptions. BOLT #8: nonce 999 is the key's last. */
static inline int advance(direction *of)
{
    of->nonce += 2;
    if (of->nonce < 1000) return 1;
    lp_rotate(of->chaining_key, of->key);
    of->nonce = 0;
    return set_key(of);
}

/* 32 zero bits, then the counter, little-endian. */
static inline void nonce_bytes(uint64_t nonce, uint8_t bytes[LP_NONCE_SIZE])
{
    for (int i = 0; i < 4; i++) bytes[i] = 0;
    for (int i = 0; i < 8; i++) bytes[4 + i] = (uint8_t)(nonce >> (8 * i));
}

#endif
