// What lies between two products, each row for itself: norm, rotation, SwiGLU's gate.
//
//     read a row once, compute in float32, write it once
//
// In PyTorch each of these is three to ten calls, and every call reads and writes all rows. With the
// thousand rows of a prompt that takes as long as the products; with one row, the calling does.
// What is read and what is written may differ in type: `From` is rounded to `To` as it is stored.
//
// Included by engine_kernel.cpp. Lesson: 14_the_full_7b.

#pragma once

#include "engine_product.h"

#include <cmath>

static inline void store(float from, float *to) { *to = from; }
static inline void store(Floats from, float *to) { *(Floats *)to = from; }

// Round to the nearest, ties to even; NaN stays NaN.
static inline void store(float from, bfloat16 *to) {
    union { float number; uint32_t word; } both = {from};
    const uint32_t up = 0x7fff + ((both.word >> 16) & 1);
    to->bits = from == from ? (both.word + up) >> 16 : 0x7fc0;
}
static inline void store(Floats from, bfloat16 *to) {
    const Words words = (Words)from, up = 0x7fff + ((words >> 16) & 1);
    const Words rounded = from == from ? (words + up) >> 16 : Words{} + 0x7fc0;
    *(Halves *)to = __builtin_convertvector(rounded, Halves);
}

// exp(x) = 2^n exp(r) with x = n log 2 + r and |r| small, to the last bit or two.
static inline Floats exponential(Floats x) {
    const Floats most = Floats{} + 87, magic = Floats{} + 12582912;  // adding it rounds
    x = x < -most ? -most : x;  // NaN stays NaN
    x = x > most ? most : x;
    const Floats n = (x * 1.44269504f + magic) - magic;
    const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // log 2 in two parts
    const float terms[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    Floats sum = Floats{} + 1.0f / 5040;
    for (float term : terms) sum = sum * r + term;
    return sum * (Floats)(__builtin_convertvector(n + 127, Words) << 23);
}

// y = x / sqrt(mean(x^2) + eps) * weight, one row.
template <class From, class Number, class To>
static void norm(const From *x, const Number *weight, To *y, long width, float eps) {
    const long wide = width - width % lanes;
    Floats squares = {};
    for (long c = 0; c < wide; c += lanes) squares += load(x + c) * load(x + c);
    float sum = sum_of(squares);
    for (long c = wide; c < width; c++) sum += number(x[c]) * number(x[c]);
    const float scale = 1 / std::sqrt(sum / width + eps);
    for (long c = 0; c < wide; c += lanes) store(load(weight + c) * (load(x + c) * scale), y + c);
    for (long c = wide; c < width; c++) store(number(weight[c]) * (number(x[c]) * scale), y + c);
}

// One head, turned by its position's angles; it may stay in its place.
template <class From, class To>
static void rotate(const From *from, To *to, const float *cosine, const float *sine, long half) {
    const long wide = half - half % lanes;
    for (long i = 0; i < wide; i += lanes) {
        const Floats a = load(from + i), b = load(from + half + i);
        const Floats c = load(cosine + i), s = load(sine + i);
        store(a * c - b * s, to + i);
        store(b * c + a * s, to + half + i);
    }
    for (long i = wide; i < half; i++) {
        const float a = number(from[i]), b = number(from[half + i]);
        store(a * cosine[i] - b * sine[i], to + i);
        store(b * cosine[i] + a * sine[i], to + half + i);
    }
}

// [g; u], one row -> silu(g) * u, half as long.
template <class Number>
static void gate(const Number *row, Number *to, long inner) {
    const Number *const g = row, *const u = row + inner;
    const long wide = inner - inner % lanes;
    for (long i = 0; i < wide; i += lanes)
        store(load(g + i) / (1 + exponential(-load(g + i))) * load(u + i), to + i);
    for (long i = wide; i < inner; i++)
        store(number(g[i]) / (1 + std::exp(-number(g[i]))) * number(u[i]), to + i);
}

// For all rows of a chunk, shared out among the threads.

template <class Number>
static void norm_rows(const Number *x, const Number *weight, Number *y, long rows, long width,
                      float eps) {
    #pragma omp parallel for schedule(static)
    for (long r = 0; r < rows; r++) norm(x + r * width, weight, y + r * width, width, eps);
}

template <class Number>
static void gate_rows(const Number *x, Number *y, long rows, long inner) {
    #pragma omp parallel for schedule(static)
    for (long r = 0; r < rows; r++) gate(x + 2 * r * inner, y + r * inner, inner);
}

// x (batch, rows, heads, head_dim) -> y (batch, heads, rows, head_dim), of which the first `turned`
// heads are rotated; cosine and sine are (batch, rows, head_dim / 2).
template <class Number>
static void turn_heads(const Number *x, const float *cosine, const float *sine, Number *y,
                       long batch, long rows, long heads, long turned, long head_dim) {
    const long half = head_dim / 2;
    #pragma omp parallel for collapse(2) schedule(static)
    for (long b = 0; b < batch; b++)
        for (long r = 0; r < rows; r++)
            for (long h = 0; h < heads; h++) {
                const long row = b * rows + r;
                const Number *const from = x + (row * heads + h) * head_dim;
                Number *const to = y + ((b * heads + h) * rows + r) * head_dim;
                if (h < turned) rotate(from, to, cosine + row * half, sine + row * half, half);
                else for (long i = 0; i < head_dim; i++) to[i] = from[i];
            }
}
