// SPDX-License-Identifier: Apache-2.0
// A test program: each model of emx_test_models against what PyTorch, or a twin in Python, gave. It
// exits with 0 if all agree, 1 if values differ, 2 if the weights or vectors are not those that
// were exported.
//
// With -DEMX_TEST_DUMP="FILE" all outputs, and the steps of a tapped model for vector 0, are
// written to FILE as records of emx_dump.h.
#include "emx_test.h"
#include "emx_dump.h"
#include "emx_print.h"

#include <string.h>

#ifdef EMX_TEST_DUMP
static const bool dumping = true;
#else
#define EMX_TEST_DUMP ""
static const bool dumping = false;
#endif

// The comparison of one tensor, or of one output over all vectors. Differences are infinite where
// only one side is NaN or infinite, and 0 where both are NaN or the same infinity.
typedef struct {
    emx_test_type_t type;
    float tolerance;
    float max_abs;
    uint32_t vector, worst; // where: which vector, which element of it
    float got, want;
} compare_t;

// Taps are called from inside the model: what they compare and find has to be here.
static struct {
    const emx_test_model_t *model;
    bool active; // vector 0 of a tapped model is running
    bool diverged;
    uint32_t step; // the first that diverged
    compare_t compare;
} tap;

static uint32_t crc32(const unsigned char *data, uint32_t bytes)
{
    static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac,
                                       0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
                                       0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                       0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t crc = 0xffffffffu;
    for (uint32_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffffu;
}

// By bits, so that it also holds under -ffast-math.
static bool is_finite(float x) { return bits_of(x) < 0x7f800000u; }
static bool is_nan(float x) { return bits_of(x) > 0x7f800000u; }

static float difference(float a, float b)
{
    static const float infinity = 1e30f * 1e30f;
    if (is_finite(a) && is_finite(b))
        return a < b ? b - a : a - b;
    if (is_nan(a) || is_nan(b))
        return is_nan(a) && is_nan(b) ? 0 : infinity;
    return a == b ? 0 : infinity;
}

static uint32_t size_of(emx_test_type_t type)
{
    static const uint8_t sizes[] = {4, 1, 1, 2, 4, 8, 1};
    return sizes[type];
}

// A whole number of `size` bytes, little-endian.
static int64_t whole(const unsigned char *at, uint32_t size, bool has_sign)
{
    uint64_t bits = has_sign && at[size - 1] > 127 ? ~(uint64_t)0 : 0;
    for (uint32_t i = size; i-- > 0;)
        bits = bits << 8 | at[i];
    return (int64_t)bits;
}

// As a float for messages; that may round large integers.
static float element(emx_test_type_t type, const unsigned char *at)
{
    float value;
    if (type != EMX_TEST_F32)
        return (float)whole(at, size_of(type), type != EMX_TEST_U8 && type != EMX_TEST_BOOL);
    memcpy(&value, at, sizeof value);
    return value;
}

// Integers that differ are at least 1 apart, however large they are.
static float distance(emx_test_type_t type, const unsigned char *a, const unsigned char *b)
{
    const float d = difference(element(type, a), element(type, b));
    if (type == EMX_TEST_F32)
        return d;
    return memcmp(a, b, size_of(type)) == 0 ? 0 : d > 1 ? d : 1;
}

static compare_t start_compare(emx_test_type_t type, emx_test_tolerance_t tolerance,
                               const unsigned char *expected, uint32_t bytes)
{
    compare_t c;
    memset(&c, 0, sizeof c);
    c.type = type;
    float scale = 0; // largest finite |expected|
    for (uint32_t i = 0; type == EMX_TEST_F32 && i < bytes; i += sizeof(float)) {
        const float want = element(type, expected + i);
        const float size = difference(want, 0);
        if (is_finite(want) && size > scale)
            scale = size;
    }
    c.tolerance = tolerance.atol + tolerance.rtol * scale;
    return c;
}

static void compare(compare_t *c, uint32_t vector, const void *y, const unsigned char *expected,
                    uint32_t bytes)
{
    const uint32_t size = size_of(c->type);
    for (uint32_t i = 0; i < bytes; i += size) {
        const unsigned char *const got = (const unsigned char *)y + i;
        const float d = distance(c->type, got, expected + i);
        if (d > c->max_abs) {
            c->max_abs = d;
            c->vector = vector;
            c->worst = i / size;
            c->got = element(c->type, got);
            c->want = element(c->type, expected + i);
        }
    }
}

static bool passes(const compare_t *c) { return c->max_abs <= c->tolerance; }

static void print_head(const emx_test_model_t *m, const char *verdict)
{
    emx_print("emx: ");
    emx_print(verdict);
    emx_print(" ");
    emx_print(m->name);
    emx_print(": ");
}

static void fail(const emx_test_model_t *m, const char *what, const char *name, const char *how,
                 const char *from)
{
    print_head(m, "FAIL");
    emx_print(what);
    emx_print(name);
    emx_print(how);
    emx_print(from);
    emx_print("\n");
}

static void print_step(const emx_test_step_t *step)
{
    emx_print("  at      ");
    emx_print(step->origin);
    emx_print("\n  kernel  ");
    emx_print(step->kernel);
    emx_print("\n");
}

static void print_worst(const emx_test_model_t *m, const compare_t *c)
{
    emx_print("  worst   [");
    emx_print_u32(c->worst);
    emx_print("] is ");
    emx_print_f32(c->got);
    emx_print(", ");
    emx_print(m->source);
    emx_print(" gave ");
    emx_print_f32(c->want);
    emx_print(" (max abs ");
    emx_print_f32(c->max_abs);
    emx_print(", tolerance ");
    emx_print_f32(c->tolerance);
    emx_print(")\n");
}

void emx_test_tap(uint32_t step, const void *y)
{
    if (!tap.active || tap.model->steps[step].bytes == 0)
        return;
    const emx_test_step_t *s = &tap.model->steps[step];
    const unsigned char *expected = tap.model->vectors + s->offset;
    if (dumping)
        emx_dump(EMX_DUMP_STEP, step, 0, y, s->bytes);
    if (tap.diverged)
        return;
    tap.compare = start_compare(s->type, s->tolerance, expected, s->bytes);
    compare(&tap.compare, 0, y, expected, s->bytes);
    tap.diverged = !passes(&tap.compare);
    tap.step = step;
}

static bool check_vectors(const emx_test_model_t *m, const char *problem)
{
    const bool same = crc32(m->vectors, m->vectors_bytes) == m->vectors_crc32;
    if (!same)
        fail(m, "the test vectors ", "", problem, "");
    return same;
}

static bool check_weights(const emx_test_model_t *m)
{
    for (uint32_t i = 0; i < m->n_weights; i++) {
        const emx_test_weight_t *w = &m->weight_table[i];
        const uint32_t crc = crc32(m->weights + w->offset, w->bytes);
        if (crc == w->crc32)
            continue;
        fail(m, "the weights of layer ", m->steps[w->step].name, " are not those of the model", "");
        print_step(&m->steps[w->step]);
        emx_print("  tensor  ");
        emx_print(w->name);
        emx_print(": CRC-32 is ");
        emx_print_hex(crc);
        emx_print(", not ");
        emx_print_hex(w->crc32);
        emx_print("\n");
        return false;
    }
    return true;
}

// Outputs start as NaN, so that one the model does not write cannot pass.
static void run_vector(const emx_test_model_t *m, uint32_t vector)
{
    const void *x[EMX_TEST_MAX_TENSORS];
    for (uint32_t i = 0; i < m->n_inputs; i++)
        x[i] = m->vectors + m->inputs[i].offset + vector * m->inputs[i].bytes;
    for (uint32_t i = 0; i < m->n_outputs; i++)
        memset(m->y[i], 0xff, m->outputs[i].bytes);
    tap.model = m;
    tap.active = m->tapped && vector == 0;
    m->run(x, m->y);
    tap.active = false;
    for (uint32_t i = 0; dumping && i < m->n_outputs; i++)
        emx_dump(EMX_DUMP_OUTPUT, i, vector, m->y[i], m->outputs[i].bytes);
}

static bool report_step(const emx_test_model_t *m)
{
    if (!tap.diverged)
        return true;
    fail(m, "layer ", m->steps[tap.step].name, " diverges from ", m->source);
    print_step(&m->steps[tap.step]);
    print_worst(m, &tap.compare);
    return false;
}

static bool report_output(const emx_test_model_t *m, const char *name, const compare_t *c)
{
    if (!passes(c)) {
        fail(m, "output ", name, " differs from ", m->source);
        emx_print("  vector  ");
        emx_print_u32(c->vector);
        emx_print("\n");
        print_worst(m, c);
        return false;
    }
    print_head(m, "pass");
    emx_print("output ");
    emx_print(name);
    emx_print(" agrees with ");
    emx_print(m->source);
    emx_print(" (max abs ");
    emx_print_f32(c->max_abs);
    emx_print(", tolerance ");
    emx_print_f32(c->tolerance);
    emx_print(", vectors ");
    emx_print_u32(m->n_vectors);
    emx_print(")\n");
    return true;
}

static bool check_runs(const emx_test_model_t *m)
{
    static compare_t results[EMX_TEST_MAX_TENSORS];
    tap.diverged = false;
    for (uint32_t i = 0; i < m->n_outputs; i++) {
        const emx_test_tensor_t *t = &m->outputs[i];
        results[i] =
            start_compare(t->type, t->tolerance, m->vectors + t->offset, m->n_vectors * t->bytes);
    }
    for (uint32_t v = 0; v < m->n_vectors; v++) {
        run_vector(m, v);
        for (uint32_t i = 0; i < m->n_outputs; i++) {
            const emx_test_tensor_t *t = &m->outputs[i];
            compare(&results[i], v, m->y[i], m->vectors + t->offset + v * t->bytes, t->bytes);
        }
    }
    bool ok = report_step(m);
    for (uint32_t i = 0; ok && i < m->n_outputs; i++)
        ok = report_output(m, m->outputs[i].name, &results[i]);
    return ok;
}

static bool check_size(const emx_test_model_t *m)
{
    const bool fits = m->n_inputs <= EMX_TEST_MAX_TENSORS && m->n_outputs <= EMX_TEST_MAX_TENSORS;
    if (!fits)
        fail(m, "it has more inputs or outputs than EMX_TEST_MAX_TENSORS", "", "", "");
    if (m->n_vectors == 0)
        fail(m, "it has no test vectors", "", "", "");
    return fits && m->n_vectors > 0;
}

enum { PASSED = 0, DIFFERS = 1, REFUSED = 2 };

static int test(const emx_test_model_t *m)
{
    if (!check_size(m) || !check_vectors(m, "are not those that were exported") ||
        !check_weights(m))
        return REFUSED;
    if (!check_runs(m))
        return DIFFERS;
    // On a board the vectors lie in RAM, where a model could write to its input.
    return check_vectors(m, "were overwritten by the model") ? PASSED : REFUSED;
}

int main(void)
{
    if (dumping && !emx_port_open(EMX_TEST_DUMP)) {
        emx_print("emx: FAIL cannot write " EMX_TEST_DUMP "\n");
        return REFUSED;
    }
    int worst = PASSED;
    for (unsigned i = 0; i < emx_test_model_count; i++) {
        const int result = test(emx_test_models[i]);
        if (result > worst)
            worst = result;
    }
    if (dumping && !emx_port_close())
        worst = REFUSED;
    return worst;
}
