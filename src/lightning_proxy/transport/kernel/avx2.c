/* AVX2: rows of two blocks a vector, three sets in the sixteen registers; columns of eight blocks.
 */
#include "kernel.h"

#if LP_X86_64
#define LP_KERNEL avx2
#define LP_TARGET __attribute__((target("avx2,bmi2")))
#define VECTOR 32
#define MAX_BLOCKS 8

/* One byte shuffle, where shifting takes three operations. */
typedef uint8_t bytes __attribute__((vector_size(VECTOR)));
#define BYTES(v, ...) ((vector)__builtin_shufflevector((bytes)(v), (bytes)(v), __VA_ARGS__))
#define ROTATE16(v)                                                                                \
    BYTES(v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, 18, 19, 16, 17, 22, 23, 20, 21, \
          26, 27, 24, 25, 30, 31, 28, 29)
#define ROTATE8(v)                                                                                 \
    BYTES(v, 3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14, 19, 16, 17, 18, 23, 20, 21, 22, \
          27, 24, 25, 26, 31, 28, 29, 30)

#include "lanes.h"
#define LANES 2
#include "columns.h"
#include "sets.h"

#include "poly1305_avx2.h"

LP_INLINE size_t run_pass(const chacha20 *from, const block_lanes *lanes, size_t blocks,
                          uint8_t *stream)
{
    if (blocks <= 2) return run_sets(from, lanes, 1, stream);
    if (blocks <= 4) return run_sets(from, lanes, 2, stream);
    if (blocks <= 6) return run_sets(from, lanes, 3, stream);
    return run_columns(from, lanes, stream);
}

#include "frames.h"
#endif
