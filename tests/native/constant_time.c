/*
 * Does any branch or address of a kernel depend on a key, a plaintext or a tag?
 *
 * Run under valgrind's memcheck or built with MemorySanitizer: key and plaintext are marked as
 * undefined, and the checker reports what depends on them. Public, and so declassified inside the
 * kernel, are only a frame's length (its bytes on the wire tell it) and whether a tag was right.
 * With a kernel's name as the argument it is the control: it branches on a tag that was not
 * declassified, which the checker must report, or it follows that kernel's instructions badly.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"
#include "secrets.h"

static const size_t lengths[] = {0, 1, 16, 63, 64, 150, 320, 450, 833, 1500, 4096, 65535};

static void fill(uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)(31 * i + size);
    LP_SECRET(bytes, size);
}

static int check(const lp_kernel *kernel)
{
    uint8_t key[LP_KEY_SIZE], chaining_key[LP_KEY_SIZE];
    uint8_t *frame = malloc(LP_MAX_FRAME);

    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t length = lengths[i], got = i % 2 ? length : 0;

        fill(key, sizeof key);
        fill(frame + LP_HEADER_SIZE, length);
        kernel->seal(key, 998, frame, length);
        /* What goes to the wire is public. */
        LP_PUBLIC(frame, length + LP_OVERHEAD);
        if (kernel->open(key, 998, frame, length + LP_OVERHEAD, &got) != LP_OPENED) return 1;
        fill(frame + LP_HEADER_SIZE, length);
        kernel->seal(key, 998, frame, length);
        LP_PUBLIC(frame, length + LP_OVERHEAD);
        if (kernel->open_body(key, 999, frame + LP_HEADER_SIZE, length) != LP_OPENED) return 1;
        fill(frame + LP_HEADER_SIZE, length);
        kernel->seal(key, 998, frame, length);
        LP_PUBLIC(frame, length + LP_OVERHEAD);
        frame[length + LP_OVERHEAD - 1] ^= 1;
        if (kernel->open(key, 998, frame, length + LP_OVERHEAD, &got) != LP_BAD_TAG) return 1;
    }
    fill(key, sizeof key);
    fill(frame, 3 * (150 + LP_OVERHEAD));
    kernel->seal_many(key, 0, frame, (const size_t[]){150, 150, 150}, 3);
    fill(chaining_key, sizeof chaining_key);
    lp_rotate(chaining_key, key);
    free(frame);
    printf("%s\n", kernel->name);
    return 0;
}

static int leak(const lp_kernel *kernel)
{
    uint8_t key[LP_KEY_SIZE], frame[100 + LP_OVERHEAD];

    fill(key, sizeof key);
    memset(frame, 0, sizeof frame);
    kernel->seal(key, 0, frame, 100);
    return frame[sizeof frame - 1] & 1 ? puts("odd") : puts("even");
}

int main(int argc, char **argv)
{
    const lp_kernel *kernel;

    for (size_t i = 0; (kernel = lp_kernel_at(i)) != NULL; i++) {
        if (argc == 2 && strcmp(argv[1], kernel->name) == 0) return leak(kernel);
        if (argc == 2) continue;
        lp_use_cpu_sha = lp_has_cpu_sha() && strcmp(kernel->name, "scalar") != 0;
        if (check(kernel)) {
            printf("%s gives a wrong answer\n", kernel->name);
            return 1;
        }
    }
    return argc == 2;
}
