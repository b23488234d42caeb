// y = x W^T for a few rows x, in one pass over W: what decoding spends its time on.
//
//     for some rows of W at a time:  read a register of each, multiply it by every row of x
//
// The weights come from memory once, and meet all rows of x while they are in registers. Rows that
// are read together are no neighbours: W is cut into equal parts, and one row of each is read at a
// time. So every part is a stream, and a processor's prefetcher follows one stream in a page.
// x is small and stays in the first cache. Sums are float32, whatever the type of the weights.
//
// Included by engine_kernel.cpp. Lesson: 14_the_full_7b.

#pragma once

#include <cstdint>
#include <vector>
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

// In fours: lane after lane, each addition would wait for the last.
static inline float sum_of(Floats x) {
    typedef float Four __attribute__((vector_size(16)));
    union { Floats whole; Four parts[lanes / 4]; } both = {x};
    Four sum = both.parts[0];
    for (int part = 1; part < lanes / 4; part++) sum += both.parts[part];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

static inline float number(float w) { return w; }
static inline float number(int8_t w) { return w; }
static inline float number(bfloat16 w) {
    union { uint32_t word; float number; } both = {uint32_t(w.bits) << 16};
    return both.number;
}

// Where x lies: its rows one after the other, or dealt out, a register of each row in turn. Dealt
// out, what is needed together is together; rows of 4,096 bytes would fight for one set of a cache.
enum Order { in_rows, dealt };

// Bytes that are asked for before they are needed: memory takes so long to answer.
constexpr long ahead = 2048;

// `outs` rows of W, each `apart` rows from the next, against `rows` rows of x; the compiler knows
// both numbers, and unrolls.
template <Order order, int outs, int rows, class Weight>
static inline void block(const Weight *w, const float *x, float *y, long in, long out, long apart) {
    Floats sums[outs][rows] = {};
    const long whole = in - in % lanes;
    const long across = order == dealt ? rows : 1, down = order == dealt ? lanes : in;
    for (long k = 0; k < whole; k += lanes) {
        Floats weights[outs];
        for (int o = 0; o < outs; o++) {
            const Weight *const at = w + o * apart * in + k;
            __builtin_prefetch((const char *)at + ahead);  // beyond the end nothing happens
            weights[o] = load(at);
        }
        for (int r = 0; r < rows; r++) {
            const Floats numbers = load(x + k * across + r * down);
            for (int o = 0; o < outs; o++) sums[o][r] += weights[o] * numbers;
        }
    }
    for (int o = 0; o < outs; o++)
        for (int r = 0; r < rows; r++) y[r * out + o * apart] = sum_of(sums[o][r]);
    for (long k = whole; k < in; k++)
        for (int o = 0; o < outs; o++)
            for (int r = 0; r < rows; r++)
                y[r * out + o * apart] += number(w[o * apart * in + k]) *
                                          x[whole * across + r * down + k - whole];
}

static inline long room_for(long in, Order order) {
    return order == dealt ? (in + lanes - 1) / lanes * lanes : in;
}

// Rows of x that meet a row of W together, when so many are left.
static inline long together(long rows) { return rows >= 8 ? 8 : rows >= 4 ? 4 : rows; }

static void deal(const float *x, float *to, long in, long rows) {
    for (long some; rows > 0; rows -= some, x += some * in, to += some * room_for(in, dealt)) {
        some = together(rows);
        for (long r = 0; r < some; r++)
            for (long k = 0; k < in; k += lanes)
                for (long lane = 0; lane < lanes && k + lane < in; lane++)
                    to[k * some + r * lanes + lane] = x[r * in + k + lane];
    }
}

// `outs` rows of W against all rows of x; from the second turn on, they are still near.
template <Order order, int outs, class Weight>
static inline void by_all(const Weight *w, const float *x, float *y, long in, long out, long rows,
                          long apart = 1) {
    const long next = room_for(in, order);
    if constexpr (outs <= 4) {  // there are registers for so many sums
        for (; rows >= 8; rows -= 8, x += 8 * next, y += 8 * out)
            block<order, outs, 8>(w, x, y, in, out, apart);
        for (; rows >= 4; rows -= 4, x += 4 * next, y += 4 * out)
            block<order, outs, 4>(w, x, y, in, out, apart);
        if (rows == 3) block<order, outs, 3>(w, x, y, in, out, apart);
    }
    if (rows == 2) block<order, outs, 2>(w, x, y, in, out, apart);
    if (rows == 1) block<order, outs, 1>(w, x, y, in, out, apart);
}

template <int outs, class Weight>
static void product_by(const Weight *w, const float *x, float *y, long in, long out, long rows) {
    const long apart = out / outs;
    #pragma omp parallel for schedule(static)
    for (long o = 0; o < apart; o++)
        by_all<dealt, outs>(w + o * in, x, y + o, in, out, rows, apart);
    for (long o = apart * outs; o < out; o++)
        by_all<dealt, 1>(w + o * in, x, y + o, in, out, rows);
}

// The fewer rows of x, the more of W at a time: memory answers several questions at once.
template <class Weight>
static void product(const Weight *w, const float *x, float *y, long in, long out, long rows) {
    static thread_local std::vector<float> room;
    room.resize(rows * room_for(in, dealt));
    deal(x, room.data(), in, rows);
    if (rows <= 2) product_by<8>(w, room.data(), y, in, out, rows);
    else product_by<4>(w, room.data(), y, in, out, rows);
}
