/*
 * Every kernel of this CPU against the scalar one: all short lengths, some long ones, all ways to
 * call it, in memory that ends where the frame does (a sanitizer sees each byte too many).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("%s, %zu bytes: line %d: %s\n", kernel->name, length, __LINE__, #condition);    \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static uint8_t *filled(size_t size, size_t seed)
{
    uint8_t *memory = malloc(size ? size : 1);

    for (size_t i = 0; i < size; i++) memory[i] = (uint8_t)(seed + 37 * i + (i >> 8));
    return memory;
}

static uint8_t *copy(const uint8_t *from, size_t size)
{
    uint8_t *memory = malloc(size ? size : 1);

    memcpy(memory, from, size);
    return memory;
}

static void check_frame(const lp_kernel *kernel, const uint8_t *key, uint64_t nonce, size_t length)
{
    const size_t size = length + LP_OVERHEAD;
    const size_t guesses[] = {length, 0, 16, 700, LP_MAX_BODY};
    uint8_t *plain = filled(size, length), *sealed = copy(plain, size), *ours = copy(plain, size);
    uint8_t *again;
    size_t got;

    lp_kernel_scalar.seal(key, nonce, sealed, length);
    kernel->seal(key, nonce, ours, length);
    CHECK(memcmp(ours, sealed, size) == 0);
    for (size_t i = 0; i < sizeof guesses / sizeof *guesses; i++) {
        again = copy(sealed, size);
        got = guesses[i];
        CHECK(kernel->open(key, nonce, again, size, &got) == LP_OPENED && got == length);
        CHECK(memcmp(again + LP_HEADER_SIZE, plain + LP_HEADER_SIZE, length) == 0);
        free(again);
    }
    for (size_t available = LP_HEADER_SIZE; available < size; available += 1 + size / 9) {
        again = copy(sealed, available);
        got = length;
        CHECK(kernel->open(key, nonce, again, available, &got) == LP_INCOMPLETE && got == length);
        CHECK(memcmp(again, sealed, available) == 0);
        free(again);
    }
    again = copy(sealed + LP_HEADER_SIZE, length + LP_TAG_SIZE);
    CHECK(kernel->open_body(key, nonce + 1, again, length) == LP_OPENED);
    CHECK(memcmp(again, plain + LP_HEADER_SIZE, length) == 0);
    free(again);
    for (size_t at = 0; at < size; at += 1 + size / 19) {
        again = copy(sealed, size);
        again[at] ^= (uint8_t)(1 << at % 8);
        got = length;
        CHECK(kernel->open(key, nonce, again, size, &got) == LP_BAD_TAG);
        free(again);
    }
    free(plain), free(sealed), free(ours);
}

/* Runs of frames, short and long mixed, in one call. */
static void check_many(const lp_kernel *kernel, const uint8_t *key)
{
    for (size_t count = 0; count < 12; count++)
        for (size_t seed = 0; seed < 40; seed++) {
            size_t lengths[12], size = 0, length = count, at = 0;
            uint8_t *frames, *ours;

            for (size_t i = 0; i < count; i++) {
                lengths[i] = (seed * 29 + i * 83) % (seed % 3 ? 193 : 400);
                size += lengths[i] + LP_OVERHEAD;
            }
            frames = filled(size, seed);
            ours = copy(frames, size);
            for (size_t i = 0; i < count; i++) {
                lp_kernel_scalar.seal(key, 2 * (seed + i), frames + at, lengths[i]);
                at += lengths[i] + LP_OVERHEAD;
            }
            kernel->seal_many(key, 2 * seed, ours, lengths, count);
            CHECK(memcmp(ours, frames, size) == 0);
            free(frames), free(ours);
        }
}

static void check_aead(const lp_kernel *kernel, const uint8_t *key, size_t ad_length, size_t length)
{
    uint8_t *ad = filled(ad_length, 7), *nonce = filled(LP_NONCE_SIZE, length);
    uint8_t *plain = filled(length + LP_TAG_SIZE, ad_length);
    uint8_t *sealed = copy(plain, length + LP_TAG_SIZE), *ours = copy(plain, length + LP_TAG_SIZE);

    lp_kernel_scalar.aead_seal(key, nonce, ad, ad_length, sealed, length);
    kernel->aead_seal(key, nonce, ad, ad_length, ours, length);
    CHECK(memcmp(ours, sealed, length + LP_TAG_SIZE) == 0);
    CHECK(kernel->aead_open(key, nonce, ad, ad_length, ours, length) == LP_OPENED);
    CHECK(memcmp(ours, plain, length) == 0);
    free(ad), free(nonce), free(plain), free(sealed), free(ours);
}

/* One bit in each limb's corners: keys of which Poly1305's r and s are extreme are rare by chance,
 * so take many keys. */
static void check_rotation(const lp_kernel *kernel)
{
    uint8_t plain[2][LP_KEY_SIZE] = {{0}}, by_cpu[2][LP_KEY_SIZE] = {{0}};
    size_t length = 0;

    for (; length < 200; length++) {
        lp_use_cpu_sha = 0;
        lp_rotate(plain[0], plain[1]);
        lp_use_cpu_sha = lp_has_cpu_sha();
        lp_rotate(by_cpu[0], by_cpu[1]);
        CHECK(memcmp(plain, by_cpu, sizeof plain) == 0);
    }
}

int main(void)
{
    static const uint64_t nonces[] = {0, 998, 0xfffffffe, 0xffffffff, 0x123456789abcdef0};
    const lp_kernel *kernel;

    for (size_t i = 0; (kernel = lp_kernel_at(i)) != NULL; i++) {
        uint8_t key[LP_KEY_SIZE];
        size_t length = 0;

        CHECK(lp_kernel_self_test(kernel));
        for (; length < 1100; length += length < 340 ? 1 : 7) {
            memset(key, (int)(length & 0xff), sizeof key);
            key[length % sizeof key] ^= (uint8_t)(length >> 3);
            check_frame(kernel, key, nonces[length % 5], length);
        }
        for (; length < LP_MAX_BODY; length += 8191) check_frame(kernel, key, 2 * length, length);
        check_frame(kernel, key, 0, LP_MAX_BODY);
        for (size_t ad_length = 0; ad_length < 90; ad_length++)
            for (length = 0; length < 700; length += 1 + ad_length % 17)
                check_aead(kernel, key, ad_length, length);
        check_many(kernel, key);
        check_rotation(kernel);
        printf("%s\n", kernel->name);
    }
    return 0;
}
