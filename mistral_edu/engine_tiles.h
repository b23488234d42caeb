// y = x W^T for some rows x, by a processor's matrix unit: W in bfloat16, sums in float32.
//
//     x = upper + lower, both bfloat16:    W's tile (16, 32)  times  x's tile (32, 8 + 8)
//
// Past four rows a loop is kept busy by arithmetic, and memory waits for it. Intel's AMX multiplies
// two tiles in one instruction, but bfloat16 only. x is float32 and stays so: a tile has sixteen
// columns, so that eight rows of x go in twice, first their upper halves and then what is left of
// them. The two sums together carry sixteen bits of every number, and cost what one would.
//
// Source: Intel, "Intrinsics Guide", AMX-BF16; Linux, "Using XSTATE features in user space".
// Included by engine_kernel.cpp. Lesson: 14_the_full_7b.

#pragma once

#include "engine_product.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

constexpr long side = 16, deep = 32, half = 8;  // W's rows and columns in a tile; rows of x

// As the unit wants it: numbers 2p and 2p + 1 of a column are neighbours, in row p.
struct alignas(64) Tile { uint32_t pairs[side][side]; };

// Linux keeps room for tiles only for a process that asks.
static bool tiles_granted() {
    constexpr long ask = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool granted = syscall(SYS_arch_prctl, ask, tile_data) == 0;
    return granted;
}

// Every tile has 16 rows of 64 bytes.
static void shape_tiles() {
    struct { uint8_t palette, rest[15]; uint16_t bytes[16]; uint8_t rows[16]; } shape = {};
    shape.palette = 1;
    for (int tile = 0; tile < 8; tile++) shape.bytes[tile] = 64, shape.rows[tile] = side;
    _tile_loadconfig(&shape);
}

static inline Floats upper(Floats x) { return (Floats)((Words)x & 0xffff0000); }

static inline void put(Tile &tile, long column, Floats first, Floats second) {
    const Words words = (Words)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
    for (long pair = 0; pair < side; pair++) tile.pairs[pair][column] = words[pair];
}

// 32 numbers of up to eight rows of x; what stands in columns without a row goes nowhere.
static void fill(Tile &tile, const float *x, long in, long rows) {
    for (long r = 0; r < rows; r++) {
        const Floats first = load(x + r * in), second = load(x + r * in + lanes);
        put(tile, r, upper(first), upper(second));
        put(tile, half + r, first - upper(first), second - upper(second));
    }
}

// Sixteen rows of W, each `apart` rows from the next, against eight rows of x.
static void sixteen(const bfloat16 *w, const Tile *x, float *y, long in, long out, long rows,
                    long apart) {
    _tile_zero(0);
    for (long k = 0; k < in; k += deep) {
        for (long o = 0; o < side; o++)
            __builtin_prefetch((const char *)(w + o * apart * in + k) + ahead);
        _tile_loadd(1, w + k, 2 * in * apart);
        _tile_loadd(2, x + k / deep, sizeof x->pairs[0]);
        _tile_dpbf16ps(0, 1, 2);
    }
    float sums[side][side];
    _tile_stored(0, sums, sizeof sums[0]);
    for (long o = 0; o < side; o++)
        for (long r = 0; r < rows; r++)
            y[r * out + o * apart] = sums[o][r] + sums[o][half + r];
}

static void product_by_tiles(const bfloat16 *w, const float *x, float *y, long in, long out,
                             long rows) {
    const long steps = in / deep, parts = (rows + half - 1) / half, apart = out / side;
    static thread_local std::vector<Tile> room;
    room.resize(parts * steps);
    Tile *const tiles = room.data();
    #pragma omp parallel
    {
        shape_tiles();
        #pragma omp for schedule(static)
        for (long t = 0; t < parts * steps; t++) {
            const long row = t / steps * half;
            fill(tiles[t], x + row * in + t % steps * deep, in, std::min(half, rows - row));
        }
        #pragma omp for schedule(static)
        for (long o = 0; o < apart; o++)
            for (long row = 0; row < rows; row += half)
                sixteen(w + o * in, tiles + row / half * steps, y + row * out + o, in, out,
                        std::min(half, rows - row), apart);
        _tile_release();
    }
    for (long o = apart * side; o < out; o++)
        by_all<in_rows, 1>(w + o * in, x, y + o, in, out, rows);
}

static void product(const bfloat16 *w, const float *x, float *y, long in, long out, long rows) {
    if (rows > 4 && in % deep == 0 && tiles_granted())
        product_by_tiles(w, x, y, in, out, rows);
    else
        product<bfloat16>(w, x, y, in, out, rows);
}
#endif
