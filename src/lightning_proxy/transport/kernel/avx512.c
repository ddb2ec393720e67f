/* AVX-512 without IFMA, as the first server CPUs that had it. */
#include "kernel.h"

#if LP_X86_64
#define LP_KERNEL avx512
#define LP_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,bmi2")))

#include "avx512.h"

#include "poly1305.h"

#include "frames.h"
#endif
