// A decoding step of all layers, and the product it is made of, for C callers.
//
//     for each layer:  x += W_o attend(rotate(W_qkv norm(x)));   x += W_down (silu(g) * u)
//
// Read it beside engine_layer.py: the same lines, with no Python and no PyTorch between them. All
// that lies between two products is float32, whatever the type of the weights: `Number` is the type
// of the norms and the ring, `Weight` that of the matrices.
//
// Built by engine_kernel.py when an engine is made. Lesson: 14_the_full_7b.

#include "engine_product.h"
#include "engine_rows.h"
#include "engine_tiles.h"

#include <algorithm>

struct Shape {
    long rows, width, heads, shared, head_dim, inner, slots;
    float eps;
};

// (out, in) numbers, or whole multiples of each row's step.
template <class Weight>
struct Matrix {
    const Weight *numbers;
    const float *steps;  // (out); none if the numbers are the weights themselves
};

template <class Number, class Weight>
struct Layer {
    const Number *attention_norm;
    Matrix<Weight> into_attention, out_of_attention;
    const Number *feed_forward_norm;
    Matrix<Weight> gate_and_up, down;
    Number *keys, *values;  // the ring: (rows, shared, slots, head_dim)
};

// What a token brings with it, for each row.
struct Token {
    const float *cosine, *sine;  // (rows, head_dim / 2)
    const long *slot, *fill;     // where it is stored; how many slots it sees, its own included
};

// Room for what is made on the way.
struct Scratch {
    float *normed, *queries, *attended, *hidden, *gated, *added, *scores;
};

// scores -> weights that sum to 1, in place.
static void softmax(float *scores, long count) {
    const long whole = count - count % lanes;
    Floats largest = Floats{} + scores[0], sums = {};
    for (long s = 0; s < whole; s += lanes) {
        const Floats some = load(scores + s);
        largest = some > largest ? some : largest;
    }
    float most = largest[0], sum = 0;
    for (int lane = 1; lane < lanes; lane++) most = std::max(most, largest[lane]);
    for (long s = whole; s < count; s++) most = std::max(most, scores[s]);
    for (long s = 0; s < whole; s += lanes) {
        Floats *const at = (Floats *)(scores + s);
        sums += *at = exponential(*at - most);
    }
    sum += sum_of(sums);
    for (long s = whole; s < count; s++) sum += scores[s] = std::exp(scores[s] - most);
    for (long s = 0; s < count; s++) scores[s] /= sum;
}

// Columns of out (rows, head_dim) = scores (rows, slots) times the first `fill` values.
template <int rows, int parts, class Number>
static inline void mix_columns(const Number *v, const float *scores, float *out,
                               const Shape &shape, long fill) {
    Floats sums[rows][parts] = {};
    for (long s = 0; s < fill; s++)
        for (int part = 0; part < parts; part++) {
            const Number *const at = v + s * shape.head_dim + part * lanes;
            __builtin_prefetch((const char *)at + ahead);
            const Floats values = load(at);
            for (int r = 0; r < rows; r++) sums[r][part] += scores[r * shape.slots + s] * values;
        }
    for (int r = 0; r < rows; r++)
        for (int part = 0; part < parts; part++)
            store(sums[r][part], out + r * shape.head_dim + part * lanes);
}

// All columns, as many at a time as there are registers: each value is read once.
template <int rows, class Number>
static inline void mix(const Number *v, const float *scores, float *out, const Shape &shape,
                       long fill) {
    constexpr int parts = lanes == 16 ? 4 : 2;
    const long width = shape.head_dim;
    long d = 0;
    for (; d + parts * lanes <= width; d += parts * lanes)
        mix_columns<rows, parts>(v + d, scores, out + d, shape, fill);
    for (; d + lanes <= width; d += lanes)
        mix_columns<rows, 1>(v + d, scores, out + d, shape, fill);
    for (; d < width; d++)
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
        by_all<in_rows, 4>(k + s * width, q, scores + s, width, slots, group);
    for (long s = whole; s < fill; s++)
        by_all<in_rows, 1>(k + s * width, q, scores + s, width, slots, group);
    for (long g = 0; g < group; g++) softmax(scores + g * slots, fill);
    long g = 0;
    for (; g + 4 <= group; g += 4) mix<4>(v, scores + g * slots, out + g * width, shape, fill);
    for (; g < group; g++) mix<1>(v, scores + g * slots, out + g * width, shape, fill);
}

// Turn queries and keys, store the new key and value, attend: each key/value head for itself.
template <class Number>
static void attention(Number *keys, Number *values, const Token &token, const Scratch &room,
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
            for (long g = 0; g < group; g++) rotate(q + g * d, q + g * d, cosine, sine, half);
            rotate(k, k, cosine, sine, half);
            const long ring = (r * shared + h) * shape.slots * d, at = ring + token.slot[r] * d;
            for (long i = 0; i < d; i++) {
                store(k[i], keys + at + i);
                store(v[i], values + at + i);
            }
            for (long i = 0; i < group * d; i++) q[i] *= scale;
            attend(keys + ring, values + ring, q,
                   room.attended + (r * heads + h * group) * d,
                   room.scores + (r * heads + h * group) * shape.slots, shape, token.fill[r]);
        }
}

static void add(float *x, const float *y, long count) {
    for (long i = 0; i < count; i++) x[i] += y[i];
}

template <class Number>
static void norm_all(const float *x, const Number *weight, float *y, const Shape &shape) {
    for (long r = 0; r < shape.rows; r++)
        norm(x + r * shape.width, weight, y + r * shape.width, shape.width, shape.eps);
}

// The steps are the same for all terms of a sum: they are multiplied in after it.
template <class Weight>
static void multiply(const Matrix<Weight> &w, const float *x, float *y, long in, long out,
                     long rows) {
    product(w.numbers, x, y, in, out, rows);
    if (w.steps)
        for (long r = 0; r < rows; r++)
            for (long o = 0; o < out; o++) y[r * out + o] *= w.steps[o];
}

template <class Number, class Weight>
static void step(const Layer<Number, Weight> *layers, long count, const Shape &shape,
                 const Token &token, const Scratch &room, float *x) {
    const long rows = shape.rows, width = shape.width, all = shape.heads * shape.head_dim;
    const long queries = all + 2 * shape.shared * shape.head_dim;
    for (const Layer<Number, Weight> *layer = layers; layer < layers + count; layer++) {
        norm_all(x, layer->attention_norm, room.normed, shape);
        multiply(layer->into_attention, room.normed, room.queries, width, queries, rows);
        attention(layer->keys, layer->values, token, room, shape);
        multiply(layer->out_of_attention, room.attended, room.added, all, width, rows);
        add(x, room.added, rows * width);
        norm_all(x, layer->feed_forward_norm, room.normed, shape);
        multiply(layer->gate_and_up, room.normed, room.hidden, width, 2 * shape.inner, rows);
        for (long r = 0; r < rows; r++)
            gate(room.hidden + 2 * r * shape.inner, room.gated + r * shape.inner, shape.inner);
        multiply(layer->down, room.gated, room.added, shape.inner, width, rows);
        add(x, room.added, rows * width);
    }
}

// Each for the types that C callers know by their names.
#define PRODUCT(name, Number)                                                                  \
    void product_##name(const Number *w, const float *x, float *y, long in, long out,          \
                        long rows) {                                                           \
        product(w, x, y, in, out, rows);                                                       \
    }
#define STEP(name, Number, Weight)                                                             \
    void step_##name(const Layer<Number, Weight> *layers, long count, const Shape *shape,      \
                     const Token *token, const Scratch *room, float *x) {                      \
        step(layers, count, *shape, *token, *room, x);                                         \
    }
#define ROWS(name, Number)                                                                     \
    void norm_##name(const Number *x, const Number *weight, Number *y, long rows, long width,  \
                     float eps) {                                                              \
        norm_rows(x, weight, y, rows, width, eps);                                             \
    }                                                                                          \
    void turn_##name(const Number *x, const float *cosine, const float *sine, Number *y,       \
                     long batch, long rows, long heads, long turned, long head_dim) {          \
        turn_heads(x, cosine, sine, y, batch, rows, heads, turned, head_dim);                  \
    }                                                                                          \
    void gate_##name(const Number *x, Number *y, long rows, long inner) {                      \
        gate_rows(x, y, rows, inner);                                                          \
    }

extern "C" {
PRODUCT(float32, float)
PRODUCT(bfloat16, bfloat16)
PRODUCT(int8, int8_t)
STEP(float32_float32, float, float)
STEP(float32_int8, float, int8_t)
STEP(bfloat16_bfloat16, bfloat16, bfloat16)
STEP(bfloat16_int8, bfloat16, int8_t)
ROWS(float32, float)
ROWS(bfloat16, bfloat16)
}
