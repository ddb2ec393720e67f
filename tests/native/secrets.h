/*
 * What a memory checker is told when it plays the attacker's oracle: secret memory counts as
 * undefined, so that every branch and every address that depends on it is reported. The kernel
 * includes this when it is built with LP_CHECK_SECRETS, and nowhere else.
 */
#ifndef LIGHTNING_PROXY_SECRETS_H
#define LIGHTNING_PROXY_SECRETS_H

#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#define LP_SECRET(memory, size) __msan_allocated_memory(memory, size)
#define LP_PUBLIC(memory, size) __msan_unpoison(memory, size)
#endif
#endif

#ifndef LP_SECRET
#include <valgrind/memcheck.h>
#define LP_SECRET(memory, size) (void)VALGRIND_MAKE_MEM_UNDEFINED(memory, size)
#define LP_PUBLIC(memory, size) (void)VALGRIND_MAKE_MEM_DEFINED(memory, size)
#endif

#endif
