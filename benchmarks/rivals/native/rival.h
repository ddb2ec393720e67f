/*
 * What each implementation in the frames benchmark exports, whatever language it is written in.
 *
 * All of them hold the two sides of one BOLT #8 session: the initiator seals, the responder opens.
 * A frame is sealed or opened whole, header and body, and keys rotate after each 500 frames. The
 * loops are inside, so that a call costs nothing. A body has 1 to 65535 bytes.
 */
#ifndef RIVAL_H
#define RIVAL_H

#include <stddef.h>
#include <stdint.h>

enum { RIVAL_KEY_SIZE = 32 };

/* Fixed for all, so that all seal to the same bytes: what goes into the handshake, for those that
 * shake hands by themselves, and for the others what comes out of it for the initiator to seal
 * with. */
typedef struct {
    uint8_t initiator_static[RIVAL_KEY_SIZE];
    uint8_t initiator_ephemeral[RIVAL_KEY_SIZE];
    uint8_t responder_static[RIVAL_KEY_SIZE];
    uint8_t responder_ephemeral[RIVAL_KEY_SIZE];
    uint8_t key[RIVAL_KEY_SIZE];
    uint8_t chaining_key[RIVAL_KEY_SIZE];
} rival_session;

enum {
    /* Bytes that rival_open seals before it opens them: what a fast core keeps near itself. */
    RIVAL_STREAM = 4 * (65535 + 34),
    /* And frames at most. */
    RIVAL_FRAMES = 256,
};

/* A language that declares what it exports by itself, without const, takes only what is above. */
#ifndef RIVAL_TYPES_ONLY

/* Which release of what; the string stays. */
const char *rival_version(void);

/* Begin at nonce 0 again, all of the functions below; 1, or 0 where that failed. */
int rival_start(const rival_session *session);

/* Seal `count` frames with bodies of `length` bytes, each over the one before; nanoseconds. */
int64_t rival_seal(size_t length, size_t count);

/* Open `count` frames; nanoseconds, without those for sealing them. -1 on a wrong tag. */
int64_t rival_open(size_t length, size_t count);

/* For the check against others: seal `count` bodies that stand one behind the other, into frames
 * that do; 1, or 0 where that failed. */
int rival_sealed(uint8_t *frames, const uint8_t *bodies, size_t length, size_t count);

/* The inverse, which begins where the one before ended; 0 on a wrong tag. */
int rival_opened(uint8_t *bodies, const uint8_t *frames, size_t length, size_t count);

#endif
#endif
