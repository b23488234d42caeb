// A decoding step of all layers, and the product it is made of, for C callers.
//
//     for each layer:  x += W_o attend(rotate(W_qkv norm(x)));   x += W_down (silu(g) * u)
//
// Read it beside engine_layer.py: the same lines, with nothing started and nothing allocated
// between them. All that lies between two products is float32, whatever the type of the weights.
//
// Built by engine_kernel.py when an engine is made. Lesson: 14_the_full_7b.

#include "engine_product.h"
#include "engine_tiles.h"

#include <cmath>

struct Shape {
    long rows, width, heads, shared, head_dim, inner, slots;
    float eps;
};

template <class Number>
struct Layer {
    const Number *attention_norm, *into_attention, *out_of_attention;
    const Number *feed_forward_norm, *gate_and_up, *down;
    Number *keys, *values;  // the ring: (rows, shared, slots, head_dim)
};

// What a token brings with it, for each row.
struct Token {
    const float *cosine, *sine;  // (rows, head_dim / 2)
    const long *slot, *fill;     // where it is stored; how many slots it sees, its own included
};

// Room for what is made on the way.
struct Scratch {
    float *normed, *queries, *attended, *hidden, *added, *scores;
};

static inline void store(float from, float *to) { *to = from; }
static inline void store(float from, bfloat16 *to) {
    union { float number; uint32_t word; } both = {from};
    // Round to the nearest, ties to even; what is no number stays none.
    const uint32_t up = 0x7fff + ((both.word >> 16) & 1);
    to->bits = from == from ? (both.word + up) >> 16 : 0x7fc0;
}

template <class Number>
static void norm(const float *x, const Number *weight, float *y, const Shape &shape) {
    for (long r = 0; r < shape.rows; r++, x += shape.width, y += shape.width) {
        float sum = 0;
        #pragma omp simd reduction(+ : sum)
        for (long c = 0; c < shape.width; c++) sum += x[c] * x[c];
        const float scale = 1 / std::sqrt(sum / shape.width + shape.eps);
        for (long c = 0; c < shape.width; c++) y[c] = number(weight[c]) * (x[c] * scale);
    }
}

static void rotate(float *head, const float *cosine, const float *sine, long half) {
    for (long i = 0; i < half; i++) {
        const float a = head[i], b = head[half + i];
        head[i] = a * cosine[i] - b * sine[i];
        head[half + i] = b * cosine[i] + a * sine[i];
    }
}

// exp(x) = 2^n exp(r) with x = n log 2 + r and |r| small, to the last bit or two.
static inline Floats exponential(Floats x) {
    const Floats most = Floats{} + 87, magic = Floats{} + 12582912;  // adding it rounds
    x = x < -most ? -most : x;  // what is no number stays none
    x = x > most ? most : x;
    const Floats n = (x * 1.44269504f + magic) - magic;
    const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // log 2 in two parts
    const float terms[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
    Floats sum = Floats{} + 1.0f / 5040;
    for (float term : terms) sum = sum * r + term;
    return sum * (Floats)(__builtin_convertvector(n + 127, Words) << 23);
}

// scores -> weights that sum to 1, in place.
static void softmax(float *scores, long count) {
    float most = scores[0], sum = 0;
    for (long s = 1; s < count; s++) most = scores[s] > most ? scores[s] : most;
    const long whole = count - count % lanes;
    Floats sums = {};
    for (long s = 0; s < whole; s += lanes) {
        Floats *const at = (Floats *)(scores + s);
        sums += *at = exponential(*at - most);
    }
    for (int lane = 0; lane < lanes; lane++) sum += sums[lane];
    for (long s = whole; s < count; s++) sum += scores[s] = std::exp(scores[s] - most);
    for (long s = 0; s < count; s++) scores[s] /= sum;
}

// out (rows, head_dim) = scores (rows, slots) times the first `fill` values; each is read once.
template <int rows, class Number>
static inline void mix(const Number *v, const float *scores, float *out, const Shape &shape,
                       long fill) {
    const long width = shape.head_dim, wide = width - width % lanes;
    for (long d = 0; d < wide; d += lanes) {
        Floats sums[rows] = {};
        for (long s = 0; s < fill; s++) {
            const Floats values = load(v + s * width + d);
            for (int r = 0; r < rows; r++) sums[r] += scores[r * shape.slots + s] * values;
        }
        for (int r = 0; r < rows; r++) *(Floats *)(out + r * width + d) = sums[r];
    }
    for (long d = wide; d < width; d++)
        for (int r = 0; r < rows; r++) {
            float sum = 0;
            for (long s = 0; s < fill; s++)
                sum += scores[r * shape.slots + s] * number(v[s * width + d]);
            out[r * width + d] = sum;
        }
}

// The queries of one group, (group, head_dim), over the first `fill` slots of their ring.
template <class Number>
static void attend(const Number *k, const Number *v, const float *q, float *out, float *scores,
                   const Shape &shape, long fill) {
    const long group = shape.heads / shape.shared, width = shape.head_dim, slots = shape.slots;
    const long whole = fill - fill % 4;
    for (long s = 0; s < whole; s += 4)
        four_by_all(k + s * width, q, scores + s, width, slots, group);
    for (long s = whole; s < fill; s++)
        one_by_all(k + s * width, q, scores + s, width, slots, group);
    for (long g = 0; g < group; g++) softmax(scores + g * slots, fill);
    long g = 0;
    for (; g + 4 <= group; g += 4) mix<4>(v, scores + g * slots, out + g * width, shape, fill);
    for (; g < group; g++) mix<1>(v, scores + g * slots, out + g * width, shape, fill);
}

// Turn queries and keys, store the new key and value, attend: each key/value head for itself.
template <class Number>
static void attention(const Layer<Number> &layer, const Token &token, const Scratch &room,
                      const Shape &shape) {
    const long heads = shape.heads, shared = shape.shared, d = shape.head_dim, half = d / 2;
    const long group = heads / shared;
    const float scale = 1 / std::sqrt(float(d));
    #pragma omp parallel for collapse(2) schedule(static)
    for (long r = 0; r < shape.rows; r++)
        for (long h = 0; h < shared; h++) {
            float *const row = room.queries + r * (heads + 2 * shared) * d;
            float *const q = row + h * group * d, *const k = row + (heads + h) * d;
            const float *const v = row + (heads + shared + h) * d;
            const float *const cosine = token.cosine + r * half, *const sine = token.sine + r * half;
            for (long g = 0; g < group; g++) rotate(q + g * d, cosine, sine, half);
            rotate(k, cosine, sine, half);
            const long ring = (r * shared + h) * shape.slots * d, at = ring + token.slot[r] * d;
            for (long i = 0; i < d; i++) {
                store(k[i], layer.keys + at + i);
                store(v[i], layer.values + at + i);
            }
            for (long i = 0; i < group * d; i++) q[i] *= scale;
            attend(layer.keys + ring, layer.values + ring, q,
                   room.attended + (r * heads + h * group) * d,
                   room.scores + (r * heads + h * group) * shape.slots, shape, token.fill[r]);
        }
}

static void add(float *x, const float *y, long count) {
    for (long i = 0; i < count; i++) x[i] += y[i];
}

// hidden (rows, 2 inner) holds [g; u]; silu(g) * u takes its place, (rows, inner) without gaps.
static void gate(float *hidden, const Shape &shape) {
    const long inner = shape.inner, wide = inner - inner % lanes;
    for (long r = 0; r < shape.rows; r++) {
        const float *const g = hidden + 2 * r * inner, *const u = g + inner;
        float *const to = hidden + r * inner;  // never ahead of what is still to be read
        for (long i = 0; i < wide; i += lanes)
            *(Floats *)(to + i) = load(g + i) / (1 + exponential(-load(g + i))) * load(u + i);
        for (long i = wide; i < inner; i++) to[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
    }
}

template <class Number>
static void step(const Layer<Number> *layers, long count, const Shape &shape, const Token &token,
                 const Scratch &room, float *x) {
    const long rows = shape.rows, width = shape.width, all = shape.heads * shape.head_dim;
    const long queries = all + 2 * shape.shared * shape.head_dim;
    for (const Layer<Number> *layer = layers; layer < layers + count; layer++) {
        norm(x, layer->attention_norm, room.normed, shape);
        product(layer->into_attention, room.normed, room.queries, width, queries, rows);
        attention(*layer, token, room, shape);
        product(layer->out_of_attention, room.attended, room.added, all, width, rows);
        add(x, room.added, rows * width);
        norm(x, layer->feed_forward_norm, room.normed, shape);
        product(layer->gate_and_up, room.normed, room.hidden, width, 2 * shape.inner, rows);
        gate(room.hidden, shape);
        product(layer->down, room.hidden, room.added, shape.inner, width, rows);
        add(x, room.added, rows * width);
    }
}

extern "C" {
// w (out, in), x (rows, in), y (rows, out), each without gaps.
void product_float32(const float *w, const float *x, float *y, long in, long out, long rows) {
    product(w, x, y, in, out, rows);
}
void product_bfloat16(const bfloat16 *w, const float *x, float *y, long in, long out, long rows) {
    product(w, x, y, in, out, rows);
}
void product_int8(const int8_t *w, const float *x, float *y, long in, long out, long rows) {
    product(w, x, y, in, out, rows);
}

// x (rows, width) goes through all layers, in place.
void step_float32(const Layer<float> *layers, long count, const Shape *shape, const Token *token,
                  const Scratch *room, float *x) {
    step(layers, count, *shape, *token, *room, x);
}
void step_bfloat16(const Layer<bfloat16> *layers, long count, const Shape *shape,
                   const Token *token, const Scratch *room, float *x) {
    step(layers, count, *shape, *token, *room, x);
}
}
