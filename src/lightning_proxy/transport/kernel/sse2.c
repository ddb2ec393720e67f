/* SSE2, which every x86-64 CPU has: one block a vector, three sets in the sixteen registers. */
#include "kernel.h"

#if LP_X86_64
#define LP_KERNEL sse2
#define LP_TARGET
#define VECTOR 16
#define MAX_BLOCKS 3

#include "lanes.h"
#define LANES 1
#include "sets.h"

#include "poly1305.h"

LP_INLINE size_t run_pass(const chacha20 *from, const block_lanes *lanes, size_t blocks,
                          uint8_t *stream)
{
    if (blocks <= 1) return run_sets(from, lanes, 1, stream);
    if (blocks <= 2) return run_sets(from, lanes, 2, stream);
    return run_sets(from, lanes, 3, stream);
}

#include "frames.h"
#endif
