// SPDX-License-Identifier: Apache-2.0
// One layer of an LSTM or a GRU, in one direction or in both, in integers. With, for gate g,
// v = ((q0 + w x[t]) * q2 + (q1 + u h[t - 1]) * q3) * 2^left and a_g = v / 2^(32 + shift), in 2^-12
//
//   gru    r, z = sigmoid(a_0), sigmoid(a_1); n = tanh(of x + r * of h), both parts of a_2
//          k[t] = n + z (k[t - 1] - n), in 2^-15; y[t] = h[t] = k[t] in steps of y
//   lstm   i, f, o = sigmoid(a_0), sigmoid(a_1), sigmoid(a_3); g = tanh(a_2)
//          k[t] = f k[t - 1] + i g, in 2^-15; y[t] = h[t] = o tanh(k[t]) in steps of y
//
//   x  [steps][batch][in]     h0, c0  [dirs][batch][units], the states before the first step
//   w  [dirs][ceil(units/4)][gates][depth][4]     u  [dirs][ceil(units/4)][gates][depth_h][4], both
//      as arch/generic_s8.h has them: `in` and `units`, padded to multiples of EMX_DEPTH
//   q  [dirs][ceil(units/4)][gates][4][4], q0 to q3 of four units     table  [257], of tanh
//   y  [steps][batch][dirs * units], or only the last step if `last`
//   scratch  int32 [units] for k, then bytes: [2][depth_h] for h, [depth] for x if depth > in
//
// Every division is rounded half up, once: python/emx/ops/rnn_s8.py has the formulas to the bit.
// sigmoid and tanh are those of emx/fixed.h. The second direction runs from the last step to the
// first. Step by step: a row of x is read, then one of y written, if at all; with one direction and
// one sequence y may start far enough before x.
#ifndef EMX_KERNELS_RNN_S8_H
#define EMX_KERNELS_RNN_S8_H
#include <emx/arch.h>
#include <emx/fixed.h>
#include <emx/quant.h>

typedef struct {
    int32_t steps, batch, in, units, dirs;
    int32_t last;
    int32_t depth, depth_h;
    int32_t left, shift;
    int32_t state_zero, state_scale; // of what k starts from
    int32_t m, m_left;               // from 2^-15 to steps of y, as emx_requantise_s8 takes them
    int32_t zero, lo, hi;
} emx_rnn_s8_t;

typedef enum { EMX_RNN_S8_GRU = 3, EMX_RNN_S8_LSTM = 4 } emx_rnn_kind_s8_t; // the number of gates

// The sum of a gate may be 16 at most, in 2^-12.
enum { EMX_RNN_UNIT = 12, EMX_RNN_STATE = 15, EMX_RNN_LIMIT = 1 << 16 };

// What one sequence in one direction works on; x and y are those of the first step in memory.
typedef struct {
    const int8_t *x, *w, *u;
    const int32_t *q;
    const int16_t *table;
    int32_t *k;
    int8_t *h, *row, *y;
    bool reverse;
} emx_rnn_sequence_s8_t;

// v / 2^(32 + shift), rounded half up: floors collapse.
EMX_INLINE int32_t emx_rnn_sum_s8(const emx_rnn_s8_t *p, int64_t v)
{
    const int32_t a = ((int32_t)(v >> 32) + (1 << (p->shift - 1))) >> p->shift;
    return emx_clamp_s32(a, -EMX_RNN_LIMIT, EMX_RNN_LIMIT - 1);
}

// a * b in 2^-15, rounded.
EMX_INLINE int32_t emx_rnn_scaled_s8(int32_t a, int32_t b)
{
    return (int32_t)emx_round_s64((int64_t)a * b, EMX_RNN_STATE);
}

// The sums a[gate] of one tile of four units; of a GRU a[2] is what x adds, a[3] what h adds.
EMX_INLINE void emx_rnn_gates_s8(const emx_rnn_s8_t *p, emx_rnn_kind_s8_t kind, const int8_t *x,
                                 const int8_t *h, const int8_t *w, const int8_t *u,
                                 const int32_t *q, int32_t a[4][EMX_BLOCK])
{
    for (int g = 0; g < (int)kind; g++) {
        int32_t of_x[EMX_BLOCK], of_h[EMX_BLOCK];
        emx_dot_1x4_s8(of_x, q, x, w, p->depth);
        emx_dot_1x4_s8(of_h, q + EMX_BLOCK, h, u, p->depth_h);
        for (int i = 0; i < EMX_BLOCK; i++) {
            const int64_t v = (int64_t)emx_shift_left_s32(of_x[i], p->left) * q[2 * EMX_BLOCK + i];
            const int64_t r = (int64_t)emx_shift_left_s32(of_h[i], p->left) * q[3 * EMX_BLOCK + i];
            if (kind == EMX_RNN_S8_GRU && g == 2) {
                a[2][i] = emx_rnn_sum_s8(p, v);
                a[3][i] = emx_rnn_sum_s8(p, r);
            } else {
                a[g][i] = emx_rnn_sum_s8(p, v + r);
            }
        }
        w += EMX_BLOCK * p->depth;
        u += EMX_BLOCK * p->depth_h;
        q += 4 * EMX_BLOCK;
    }
}

// Unit i of a tile: its next k, and its h in 2^-15.
EMX_INLINE int32_t emx_rnn_unit_s8(emx_rnn_kind_s8_t kind, const int16_t *table,
                                   int32_t a[4][EMX_BLOCK], int32_t i, int32_t *k)
{
    const int32_t first = emx_sigmoid_s32(table, a[0][i], EMX_RNN_UNIT);
    const int32_t second = emx_sigmoid_s32(table, a[1][i], EMX_RNN_UNIT);
    if (kind == EMX_RNN_S8_LSTM) {
        const int32_t fresh = first * emx_tanh_s32(table, a[2][i], EMX_RNN_UNIT);
        *k = (int32_t)emx_round_s64((int64_t)second * *k + fresh, EMX_RNN_STATE);
        const int32_t out = emx_sigmoid_s32(table, a[3][i], EMX_RNN_UNIT);
        return emx_rnn_scaled_s8(out, emx_tanh_s32(table, *k, EMX_RNN_STATE));
    }
    const int32_t of_h = emx_rnn_scaled_s8(first, a[3][i]);
    const int32_t n = emx_tanh_s32(table, a[2][i] + of_h, EMX_RNN_UNIT);
    *k = n + emx_rnn_scaled_s8(second, *k - n);
    return *k;
}

// One step: the h that follows `h`, and k with it.
EMX_INLINE void emx_rnn_step_s8(const emx_rnn_s8_t *p, emx_rnn_kind_s8_t kind,
                                const emx_rnn_sequence_s8_t *s, const int8_t *x, const int8_t *h,
                                int8_t *next)
{
    const emx_result_s8_t to = {p->zero, p->lo, p->hi};
    const int32_t gates = (int32_t)kind;
    for (int32_t o = 0; o < p->units; o += EMX_BLOCK) {
        int32_t a[4][EMX_BLOCK];
        emx_rnn_gates_s8(p, kind, x, h, s->w + o * gates * p->depth, s->u + o * gates * p->depth_h,
                         s->q + o * gates * 4, a);
        const int32_t count = emx_min_s32(EMX_BLOCK, p->units - o);
        for (int32_t i = 0; i < count; i++) {
            const int32_t v = emx_rnn_unit_s8(kind, s->table, a, i, s->k + o + i);
            next[o + i] = (int8_t)emx_requantise_s8(v, p->m, p->m_left, &to);
        }
    }
}

// s->h and s->k have the states before the first step.
EMX_INLINE void emx_rnn_sequence_s8(const emx_rnn_s8_t *p, emx_rnn_kind_s8_t kind,
                                    const emx_rnn_sequence_s8_t *s)
{
    for (int32_t t = 0; t < p->steps; t++) {
        const int32_t at = s->reverse ? p->steps - 1 - t : t;
        const int8_t *x = s->x + at * p->batch * p->in;
        int8_t *const next = s->h + ((t + 1) & 1) * p->depth_h;
        if (p->depth > p->in) {
            emx_copy_s8(s->row, x, p->in);
            x = s->row;
        }
        emx_rnn_step_s8(p, kind, s, x, s->h + (t & 1) * p->depth_h, next);
        // Of the second direction, the last step in time is the first.
        if (!p->last || at == p->steps - 1) {
            emx_copy_s8(s->y + (p->last ? 0 : at) * p->batch * p->dirs * p->units, next, p->units);
        }
    }
}

EMX_INLINE void emx_rnn_layer_s8(const emx_rnn_s8_t *p, emx_rnn_kind_s8_t kind, const int8_t *x,
                                 const int8_t *h0, const int8_t *c0, const int8_t *w,
                                 const int8_t *u, const int32_t *q, const int16_t *table,
                                 void *scratch, int8_t *y)
{
    const int32_t rows = (p->units + EMX_BLOCK - 1) / EMX_BLOCK * EMX_BLOCK * (int32_t)kind;
    int32_t *const k = (int32_t *)scratch;
    int8_t *const h = (int8_t *)(k + p->units);
    for (int32_t i = 0; i < p->dirs * p->batch; i++) {
        const int32_t d = i / p->batch, n = i % p->batch, at = i * p->units;
        const int8_t *const state = (c0 ? c0 : h0) + at;
        const emx_rnn_sequence_s8_t s = {
            x + n * p->in,
            w + d * rows * p->depth,
            u + d * rows * p->depth_h,
            q + d * rows * 4,
            table,
            k,
            h,
            h + 2 * p->depth_h,
            y + (n * p->dirs + d) * p->units,
            d == 1,
        };
        for (int32_t o = 0; o < p->units; o++) {
            k[o] = (int32_t)((int64_t)(state[o] - p->state_zero) * p->state_scale >> 7);
        }
        emx_copy_s8(h, h0 + at, p->units);
        emx_rnn_sequence_s8(p, kind, &s);
    }
}

EMX_INLINE void emx_lstm_s8(const emx_rnn_s8_t *p, const int8_t *x, const int8_t *h0,
                            const int8_t *c0, const int8_t *w, const int8_t *u, const int32_t *q,
                            const int16_t *table, void *scratch, int8_t *y)
{
    emx_rnn_layer_s8(p, EMX_RNN_S8_LSTM, x, h0, c0, w, u, q, table, scratch, y);
}

EMX_INLINE void emx_gru_s8(const emx_rnn_s8_t *p, const int8_t *x, const int8_t *h0,
                           const int8_t *w, const int8_t *u, const int32_t *q, const int16_t *table,
                           void *scratch, int8_t *y)
{
    emx_rnn_layer_s8(p, EMX_RNN_S8_GRU, x, h0, NULL, w, u, q, table, scratch, y);
}

#endif
