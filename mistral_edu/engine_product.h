// y = x W^T for a few rows x, in one pass over W: what decoding spends its time on.
//
//     for four rows of W at a time:  read 16 numbers of each, multiply them by every row of x
//
// The weights come from memory once, in order, and meet all rows of x while they are in registers.
// x is small and stays in the first cache. Sums are float32, whatever the type of the weights.
//
// Included by engine_kernel.cpp. Lesson: 14_the_full_7b.

#pragma once

#include <cstdint>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#ifdef __AVX512F__
constexpr int lanes = 16;  // numbers in a register
#else
constexpr int lanes = 8;
#endif

// The compilers' vectors: arithmetic on all lanes at once. They may begin at any address.
typedef float Floats __attribute__((vector_size(4 * lanes), aligned(4)));
typedef uint32_t Words __attribute__((vector_size(4 * lanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * lanes), aligned(2)));
typedef int8_t Bytes __attribute__((vector_size(lanes), aligned(1)));

struct bfloat16 { uint16_t bits; };  // the upper half of a float32

static inline Floats load(const float *w) { return *(const Floats *)w; }
static inline Floats load(const int8_t *w) {
#if defined(__AVX512F__)  // by name, for compilers that find a long way round
    return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)w)));
#elif defined(__AVX2__)
    return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)w)));
#else
    return __builtin_convertvector(*(const Bytes *)w, Floats);
#endif
}
static inline Floats load(const bfloat16 *w) {
    return (Floats)(__builtin_convertvector(*(const Halves *)w, Words) << 16);
}

static inline float number(float w) { return w; }
static inline float number(int8_t w) { return w; }
static inline float number(bfloat16 w) {
    union { uint32_t word; float number; } both = {uint32_t(w.bits) << 16};
    return both.number;
}

// `outs` rows of W against `rows` rows of x; both are known to the compiler, which unrolls.
template <int outs, int rows, class Weight>
static inline void block(const Weight *w, const float *x, float *y, long in, long out) {
    Floats sums[outs][rows] = {};
    const long whole = in - in % lanes;
    for (long k = 0; k < whole; k += lanes)
        for (int o = 0; o < outs; o++) {
            // Ask for what the next block will need: a processor foresees steps along a row, not
            // the jump to the next ones. Beyond the end of W nothing happens.
            __builtin_prefetch(w + (outs + o) * in + k);
            const Floats weights = load(w + o * in + k);
            for (int r = 0; r < rows; r++) sums[o][r] += weights * load(x + r * in + k);
        }
    for (int o = 0; o < outs; o++)
        for (int r = 0; r < rows; r++) {
            float sum = 0;
            for (int lane = 0; lane < lanes; lane++) sum += sums[o][r][lane];
            for (long k = whole; k < in; k++) sum += number(w[o * in + k]) * x[r * in + k];
            y[r * out + o] = sum;
        }
}

// Four rows of W against `rows` rows of x: at once, or in parts if there are too few registers.
template <int rows, class Weight>
static inline void four(const Weight *w, const float *x, float *y, long in, long out) {
    constexpr int room = lanes == 16 ? 16 : 8;  // half of the registers hold sums
    constexpr int outs = room / rows < 4 ? room / rows : 4;
    for (int o = 0; o < 4; o += outs) block<outs, rows>(w + o * in, x, y + o, in, out);
}

// Four rows of W against all rows of x; from the second turn on, W's four rows are still near.
template <class Weight>
static inline void four_by_all(const Weight *w, const float *x, float *y, long in, long out,
                               long rows) {
    for (; rows >= 8; rows -= 8, x += 8 * in, y += 8 * out) four<8>(w, x, y, in, out);
    for (; rows >= 4; rows -= 4, x += 4 * in, y += 4 * out) four<4>(w, x, y, in, out);
    if (rows == 3) four<3>(w, x, y, in, out);
    if (rows == 2) four<2>(w, x, y, in, out);
    if (rows == 1) four<1>(w, x, y, in, out);
}

template <class Weight>
static inline void one_by_all(const Weight *w, const float *x, float *y, long in, long out,
                              long rows) {
    for (long r = 0; r < rows; r++) block<1, 1>(w, x + r * in, y + r * out, in, out);
}

template <class Weight>
static void product(const Weight *w, const float *x, float *y, long in, long out, long rows) {
    const long whole = out - out % 4;
    #pragma omp parallel for schedule(static)
    for (long o = 0; o < whole; o += 4) four_by_all(w + o * in, x, y + o, in, out, rows);
    for (long o = whole; o < out; o++) one_by_all(w + o * in, x, y + o, in, out, rows);
}
