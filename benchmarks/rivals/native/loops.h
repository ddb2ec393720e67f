/* The functions of rival.h, for an implementation that has those of direction.h. */
#include "direction.h"

#include <string.h>
#include <time.h>

#define EXPORTED __attribute__((visibility("default")))

/* `sealing` only seals; what `sender` seals, `receiver` opens. */
static direction sealing, sender, receiver;
static uint8_t stream[RIVAL_STREAM];

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static int seal_next(direction *from, uint8_t *frame, size_t length)
{
    return seal_frame(from, frame, length) && advance(from);
}

static int open_next(direction *to, uint8_t *frame, size_t length)
{
    return open_frame(to, frame, length) && advance(to);
}

static int start(direction *of, const rival_session *session)
{
    memcpy(of->key, session->key, sizeof of->key);
    memcpy(of->chaining_key, session->chaining_key, sizeof of->chaining_key);
    of->nonce = 0;
    return set_key(of);
}

EXPORTED int rival_start(const rival_session *session)
{
    lp_use_cpu_sha = lp_has_cpu_sha();
    return start(&sealing, session) && start(&sender, session) && start(&receiver, session);
}

EXPORTED int64_t rival_seal(size_t length, size_t count)
{
    int64_t started = now();

    for (size_t i = 0; i < count; i++)
        if (!seal_next(&sealing, stream, length)) return -1;
    return now() - started;
}

EXPORTED int64_t rival_open(size_t length, size_t count)
{
    size_t frame = length + LP_OVERHEAD, frames = sizeof stream / frame;
    int64_t total = 0;

    if (frames > RIVAL_FRAMES) frames = RIVAL_FRAMES;
    for (; count > 0; count -= frames) {
        int64_t started;

        if (frames > count) frames = count;
        for (size_t i = 0; i < frames; i++)
            if (!seal_next(&sender, stream + frame * i, length)) return -1;
        started = now();
        for (size_t i = 0; i < frames; i++)
            if (!open_next(&receiver, stream + frame * i, length)) return -1;
        total += now() - started;
    }
    return total;
}

EXPORTED int rival_sealed(uint8_t *frames, const uint8_t *bodies, size_t length, size_t count)
{
    for (; count > 0; count--, bodies += length, frames += length + LP_OVERHEAD) {
        memcpy(frames + LP_HEADER_SIZE, bodies, length);
        if (!seal_next(&sender, frames, length)) return 0;
    }
    return 1;
}

EXPORTED int rival_opened(uint8_t *bodies, const uint8_t *frames, size_t length, size_t count)
{
    size_t frame = length + LP_OVERHEAD;

    for (; count > 0; count--, bodies += length, frames += frame) {
        memcpy(stream, frames, frame);
        if (!open_next(&receiver, stream, length)) return 0;
        memcpy(bodies, stream + LP_HEADER_SIZE, length);
    }
    return 1;
}
