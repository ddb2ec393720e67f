/* What the two AVX-512 kernels share: rows of two blocks in 256 bits for few blocks, which of all
 * widths has the shortest way, and columns of sixteen in 512 bits for many. */
#define VECTOR 64
#define MAX_BLOCKS 16

#include "lanes.h"
/* One store a block, so that whole blocks can be read back. */
#define STORE_BLOCK(out, first, second)                                                            \
    *(vector *)(out) = __builtin_shufflevector(first, second, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,    \
                                               11, 12, 13, 14, 15)
#define LANES 2
#include "columns.h"
#include "sets.h"

LP_INLINE size_t run_pass(const chacha20 *from, const block_lanes *lanes, size_t blocks,
                          uint8_t *stream)
{
    if (blocks <= 4) return run_sets(from, lanes, 2, stream);
    if (blocks <= 6) return run_sets(from, lanes, 3, stream);
    if (blocks <= 8) return run_sets(from, lanes, 4, stream);
    if (blocks <= 10) return run_sets(from, lanes, 5, stream);
    if (blocks <= 12) return run_sets(from, lanes, 6, stream);
    return run_columns(from, lanes, stream);
}
