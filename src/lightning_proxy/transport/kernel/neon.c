/* NEON, which every 64-bit ARM CPU has: one block a vector, up to six sets in 32 registers. */
#include "kernel.h"

#if LP_AARCH64
#define LP_KERNEL neon
#define LP_TARGET
#define VECTOR 16
#define MAX_BLOCKS 6

typedef uint16_t halves __attribute__((vector_size(VECTOR)));
#define ROTATE16(v) ((row)__builtin_shufflevector((halves)(v), (halves)(v), 1, 0, 3, 2, 5, 4, 7, 6))
#define ROTATE8(v) ROTATE(v, 8)

#include "lanes.h"
#define LANES 1
#include "sets.h"

#include "poly1305.h"

LP_INLINE size_t run_pass(const chacha20 *from, const block_lanes *lanes, size_t blocks,
                          uint8_t *stream)
{
    switch (blocks) {
    case 1:
        return run_sets(from, lanes, 1, stream);
    case 2:
        return run_sets(from, lanes, 2, stream);
    case 3:
        return run_sets(from, lanes, 3, stream);
    case 4:
        return run_sets(from, lanes, 4, stream);
    case 5:
        return run_sets(from, lanes, 5, stream);
    default:
        return run_sets(from, lanes, 6, stream);
    }
}

#include "frames.h"
#endif
