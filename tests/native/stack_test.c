/*
 * Does a kernel leave a key behind on the stack? Paints the stack below, seals and opens, and looks
 * for the transport key's halves.
 */
#include <stdio.h>
#include <string.h>

#include "kernel.h"

enum { DEPTH = 16384, PIECE = 16 };

static uint8_t key[LP_KEY_SIZE], frame[LP_MAX_FRAME];

/* Both functions have the same frame at the same place: what one paints the other reads. */
static __attribute__((noinline)) void paint(void)
{
    uint8_t memory[DEPTH];

    memset(memory, 0xaa, sizeof memory);
    __asm__ __volatile__("" : : "r"(memory) : "memory");
}

static __attribute__((noinline)) int contains(const uint8_t *piece)
{
    uint8_t memory[DEPTH];
    int found = 0;

    /* The compiler has to believe that somebody filled it. */
    __asm__ __volatile__("" : : "r"(memory) : "memory");
    for (int at = 0; at + PIECE <= DEPTH; at++) found |= memcmp(memory + at, piece, PIECE) == 0;
    return found;
}

static int leaves(const lp_kernel *kernel, size_t length)
{
    size_t got = length;
    int found = 0;

    paint();
    kernel->seal(key, 4, frame, length);
    found |= contains(key) | contains(key + PIECE);
    paint();
    kernel->seal_many(key, 4, frame, (const size_t[]){150, 150}, 2);
    found |= contains(key) | contains(key + PIECE);
    kernel->seal(key, 4, frame, length);
    paint();
    kernel->open(key, 4, frame, length + LP_OVERHEAD, &got);
    return found | contains(key) | contains(key + PIECE);
}

/* The control: a function that leaves the key where it was. */
static __attribute__((noinline)) void careless(void)
{
    uint8_t copy[LP_KEY_SIZE];

    memcpy(copy, key, sizeof copy);
    __asm__ __volatile__("" : : "r"(copy) : "memory");
}

int main(void)
{
    static const size_t lengths[] = {0, 20, 150, 300, 450, 1500, 65535};
    const lp_kernel *kernel;
    int failed = 0;

    for (int i = 0; i < LP_KEY_SIZE; i++) key[i] = (uint8_t)(0x51 + 7 * i);
    paint();
    careless();
    if (!contains(key)) {
        puts("the control finds nothing");
        return 1;
    }
    for (size_t i = 0; (kernel = lp_kernel_at(i)) != NULL; i++)
        for (size_t j = 0; j < sizeof lengths / sizeof *lengths; j++)
            if (leaves(kernel, lengths[j])) {
                printf("%s leaves a key on the stack, %zu bytes\n", kernel->name, lengths[j]);
                failed = 1;
            }
    return failed;
}
