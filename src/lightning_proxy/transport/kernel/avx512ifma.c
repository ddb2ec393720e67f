/* AVX-512 with IFMA: Poly1305 by 52-bit multiply-add. */
#include "kernel.h"

#if LP_X86_64
#define LP_KERNEL avx512ifma
#define LP_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512ifma,bmi2")))

#include "avx512.h"

#include "poly1305_ifma.h"

#include "frames.h"
#endif
