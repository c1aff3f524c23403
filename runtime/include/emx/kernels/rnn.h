// SPDX-License-Identifier: Apache-2.0
// One layer of a recurrent network, in one direction or in both. With a_g = b_g + w_g x[t] +
// u_g h[t - 1] for gate g:
//
//   rnn    y[t] = h[t] = tanh(a) or max(a, 0)
//   gru    r, z = sigmoid(a_0), sigmoid(a_1); n = tanh(b_2 + w_2 x[t] + r (b_3 + u_2 h[t - 1]))
//          y[t] = h[t] = n + z (h[t - 1] - n)
//   lstm   i, f, o = sigmoid(a_0), sigmoid(a_1), sigmoid(a_3); g = tanh(a_2)
//          c[t] = f c[t - 1] + i g; y[t] = h[t] = o tanh(c[t])
//
//   x  [steps][batch][in]     h0, c0  [dirs][batch][units], the states before the first step
//   w  [dirs][ceil(units/4)][gates][in][4]     u  [dirs][ceil(units/4)][gates][units][4]
//   b  [dirs][ceil(units/4)][biases][4]; all three zero-padded, 16-byte aligned
//   y  [steps][batch][dirs * units], or only the last step if `last`; before them, if `cell`, a row
//      of c after the last step
//   scratch  float [4][ceil(units/4)][gates][4] for a, [units] for c, [2][units] for h
//
// The second direction runs from the last step to the first. Sums run over x, then h, in ascending
// order, starting from b. Four steps of x are multiplied at once, then come the four steps of h,
// which is read where y has it. With one direction and one sequence y may start far enough before
// x: c0 is copied, then four rows of x are read and four of y written, and so on.
#ifndef EMX_KERNELS_RNN_H
#define EMX_KERNELS_RNN_H
#include <emx/arch.h>
#include <emx/scalar.h>

typedef struct {
    int32_t steps, batch, in, units, dirs;
    int32_t cell, last;
} emx_rnn_f32_t;

typedef enum { EMX_RNN_TANH, EMX_RNN_RELU, EMX_RNN_GRU, EMX_RNN_LSTM } emx_rnn_kind_t;

EMX_INLINE int32_t emx_rnn_gates(emx_rnn_kind_t kind)
{
    return kind == EMX_RNN_LSTM ? 4 : kind == EMX_RNN_GRU ? 3 : 1;
}

EMX_INLINE int32_t emx_rnn_biases(emx_rnn_kind_t kind)
{
    return kind == EMX_RNN_GRU ? 4 : emx_rnn_gates(kind);
}

// a[s][tile][gate][4] = b + w x[s] for `rows` (1 or 4) steps, which lie `step` apart.
EMX_INLINE void emx_rnn_project_f32(const emx_rnn_f32_t *p, emx_rnn_kind_t kind, int32_t rows,
                                    const float *x, int32_t step, const float *w, const float *b,
                                    float *a)
{
    const int32_t tiles = (p->units + 3) / 4, gates = emx_rnn_gates(kind);
    for (int32_t t = 0; t < tiles; t++) {
        for (int32_t g = 0; g < gates; g++) {
            float acc[16];
            EMX_UNROLL
            for (int i = 0; i < 16; i++) {
                acc[i] = i < 4 * rows ? b[4 * g + (i & 3)] : 0.0f;
            }
            if (rows == 4) {
                emx_mac_4x4_f32(acc, x, step, 1, w, p->in);
            } else {
                emx_mac_1x4_f32(acc, x, 1, w, p->in);
            }
            EMX_UNROLL
            for (int i = 0; i < 16; i++) {
                if (i < 4 * rows) {
                    a[((i >> 2) * tiles + t) * gates * 4 + 4 * g + (i & 3)] = acc[i];
                }
            }
            w += 4 * p->in;
        }
        b += 4 * emx_rnn_biases(kind);
    }
}

// One unit: from its gates a[0], a[4], ... to its new h. `n` is the third gate of a GRU without h.
EMX_INLINE float emx_rnn_unit_f32(emx_rnn_kind_t kind, const float *a, float n, float h, float *c)
{
    if (kind == EMX_RNN_LSTM) {
        const float kept = emx_sigmoid_f32(a[4]) * *c;
        *c = kept + emx_sigmoid_f32(a[0]) * emx_tanh_f32(a[8]);
        return emx_sigmoid_f32(a[12]) * emx_tanh_f32(*c);
    }
    if (kind == EMX_RNN_GRU) {
        const float v = emx_tanh_f32(n + emx_sigmoid_f32(a[0]) * a[8]);
        return v + emx_sigmoid_f32(a[4]) * (h - v);
    }
    return kind == EMX_RNN_TANH ? emx_tanh_f32(a[0]) : emx_clamp_f32(a[0], 0.0f, INFINITY);
}

// One step: y = the h that follows h, and c with it; a is what x adds to the gates.
EMX_INLINE void emx_rnn_step_f32(const emx_rnn_f32_t *p, emx_rnn_kind_t kind, const float *a,
                                 const float *h, const float *u, const float *b, float *c, float *y)
{
    const int32_t gates = emx_rnn_gates(kind), biases = emx_rnn_biases(kind);
    for (int32_t o = 0; o < p->units; o += 4) {
        float acc[16];
        EMX_UNROLL
        for (int i = 0; i < 16; i++) {
            acc[i] = i >= 4 * gates ? 0.0f : kind == EMX_RNN_GRU && i >= 8 ? b[4 + i] : a[i];
        }
        EMX_UNROLL
        for (int g = 0; g < 4; g++) {
            if (g < gates) {
                emx_mac_1x4_f32(acc + 4 * g, h, 1, u, p->units);
                u += 4 * p->units;
            }
        }
        const int32_t count = emx_min_s32(4, p->units - o);
        for (int32_t i = 0; i < count; i++) {
            const float n = kind == EMX_RNN_GRU ? a[8 + i] : 0.0f;
            y[o + i] = emx_rnn_unit_f32(kind, acc + i, n, h[o + i], c + o + i);
        }
        a += 4 * gates;
        b += 4 * biases;
    }
}

// What one sequence in one direction works on; x and y are those of the first step in memory.
typedef struct {
    const float *x, *h0, *c0, *w, *u, *b;
    float *a, *c, *h, *y;
    bool reverse;
} emx_rnn_sequence_f32_t;

// Where h goes after step t, counted as the direction does.
EMX_INLINE float *emx_rnn_target_f32(const emx_rnn_f32_t *p, const emx_rnn_sequence_f32_t *q,
                                     int32_t t)
{
    if (p->last) {
        return t + 1 == p->steps ? q->y : q->h + (t & 1) * p->units;
    }
    return q->y + (q->reverse ? p->steps - 1 - t : t) * p->batch * p->dirs * p->units;
}

EMX_INLINE void emx_rnn_sequence_f32(const emx_rnn_f32_t *p, emx_rnn_kind_t kind,
                                     const emx_rnn_sequence_f32_t *q)
{
    const int32_t step = p->batch * p->in;
    const int32_t one = (p->units + 3) / 4 * emx_rnn_gates(kind) * 4; // step of a
    const float *h = q->h0;
    int32_t rows;
    for (int32_t i = 0; kind == EMX_RNN_LSTM && i < p->units; i++) {
        q->c[i] = q->c0[i];
    }
    for (int32_t t = 0; t < p->steps; t += rows) {
        const float *const x = q->x + (q->reverse ? p->steps - 1 - t : t) * step;
        rows = t + 4 <= p->steps ? 4 : 1;
        if (rows == 4) {
            emx_rnn_project_f32(p, kind, 4, x, q->reverse ? -step : step, q->w, q->b, q->a);
        } else {
            emx_rnn_project_f32(p, kind, 1, x, 0, q->w, q->b, q->a);
        }
        for (int32_t s = 0; s < rows; s++) {
            float *const to = emx_rnn_target_f32(p, q, t + s);
            emx_rnn_step_f32(p, kind, q->a + s * one, h, q->u, q->b, q->c, to);
            h = to;
        }
    }
}

EMX_INLINE void emx_rnn_layer_f32(const emx_rnn_f32_t *p, emx_rnn_kind_t kind, const float *x,
                                  const float *h0, const float *c0, const float *w, const float *u,
                                  const float *b, float *scratch, float *y)
{
    const int32_t tiles = (p->units + 3) / 4, gates = emx_rnn_gates(kind);
    const int32_t width = p->dirs * p->units; // of a row of y
    float *const c = scratch + 16 * tiles * gates;
    for (int32_t d = 0; d < p->dirs; d++) {
        for (int32_t k = 0; k < p->batch; k++) {
            const int32_t at = (d * p->batch + k) * p->units, to = k * width + d * p->units;
            const emx_rnn_sequence_f32_t q = {
                x + k * p->in,
                h0 + at,
                c0 ? c0 + at : NULL,
                w,
                u,
                b,
                scratch,
                p->cell ? y + to : c,
                c + p->units,
                y + (p->cell ? p->batch * width : 0) + to,
                d == 1,
            };
            emx_rnn_sequence_f32(p, kind, &q);
        }
        w += tiles * gates * 4 * p->in;
        u += tiles * gates * 4 * p->units;
        b += tiles * emx_rnn_biases(kind) * 4;
    }
}

EMX_INLINE void emx_lstm_f32(const emx_rnn_f32_t *p, const float *x, const float *h0,
                             const float *c0, const float *w, const float *u, const float *b,
                             void *scratch, float *y)
{
    emx_rnn_layer_f32(p, EMX_RNN_LSTM, x, h0, c0, w, u, b, (float *)scratch, y);
}

EMX_INLINE void emx_gru_f32(const emx_rnn_f32_t *p, const float *x, const float *h0, const float *w,
                            const float *u, const float *b, void *scratch, float *y)
{
    emx_rnn_layer_f32(p, EMX_RNN_GRU, x, h0, NULL, w, u, b, (float *)scratch, y);
}

EMX_INLINE void emx_rnn_tanh_f32(const emx_rnn_f32_t *p, const float *x, const float *h0,
                                 const float *w, const float *u, const float *b, void *scratch,
                                 float *y)
{
    emx_rnn_layer_f32(p, EMX_RNN_TANH, x, h0, NULL, w, u, b, (float *)scratch, y);
}

EMX_INLINE void emx_rnn_relu_f32(const emx_rnn_f32_t *p, const float *x, const float *h0,
                                 const float *w, const float *u, const float *b, void *scratch,
                                 float *y)
{
    emx_rnn_layer_f32(p, EMX_RNN_RELU, x, h0, NULL, w, u, b, (float *)scratch, y);
}

#endif
