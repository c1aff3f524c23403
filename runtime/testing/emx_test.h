// SPDX-License-Identifier: Apache-2.0
// A generated model with its test vectors, as NAME_test.c describes it to the test programs.
#ifndef EMX_TEST_H
#define EMX_TEST_H
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EMX_TEST_MAX_TENSORS = 64 }; // inputs, and outputs, of a model

typedef enum {
    EMX_TEST_F32,
    EMX_TEST_S8,
    EMX_TEST_U8,
    EMX_TEST_S16,
    EMX_TEST_S32,
    EMX_TEST_S64,
    EMX_TEST_BOOL
} emx_test_type_t;

// A float y agrees with what is expected if |y - expected| <= atol + rtol * (the largest finite
// |expected| of the tensor), an integer if |y - expected| <= atol.
typedef struct {
    float rtol, atol;
} emx_test_tolerance_t;

// An input or output. Vector v of it lies at vectors + offset + v * bytes.
typedef struct {
    const char *name;
    emx_test_type_t type;
    uint32_t bytes;  // of one vector
    uint32_t offset; // in emx_test_model_t.vectors
    emx_test_tolerance_t tolerance;
} emx_test_tensor_t;

// One kernel call. What its output should be for vector 0, in the kernel's own layout, lies at
// vectors + offset; bytes is 0 where nothing is known of it.
typedef struct {
    const char *name;   // "relu_1"
    const char *kernel; // "conv2d_f32_0"
    const char *origin; // "net.py:24: x = self.act(self.conv(x))  (module act)"
    emx_test_type_t type;
    uint32_t bytes;
    uint32_t offset;
    emx_test_tolerance_t tolerance;
} emx_test_step_t;

// One tensor of the weight blob and its checksum (CRC-32/ISO-HDLC, as zlib's).
typedef struct {
    const char *name;
    uint32_t step; // the first step that reads it
    uint32_t bytes;
    uint32_t offset; // in emx_test_model_t.weights
    uint32_t crc32;
} emx_test_weight_t;

typedef struct {
    const char *name;
    const emx_test_tensor_t *inputs;
    const emx_test_tensor_t *outputs;
    const emx_test_step_t *steps;
    const emx_test_weight_t *weight_table;
    uint32_t n_inputs, n_outputs, n_steps, n_weights, n_vectors;
    bool tapped; // the model calls emx_test_tap() after every step
    const unsigned char *weights;
    const unsigned char *vectors;
    uint32_t vectors_bytes;
    uint32_t vectors_crc32;
    const char *source; // of what is expected: "PyTorch", "the Python twin"
    // Memory for one vector's outputs: y[i] is aligned to its type and has outputs[i].bytes.
    void *const *y;
    // Run the model on one vector. x[i] is aligned to its type and has inputs[i].bytes.
    void (*run)(const void *const x[], void *const y[]);
} emx_test_model_t;

// The models of a test program; the program that links emx_test.c or emx_bench.c defines them.
extern const emx_test_model_t *const emx_test_models[];
extern const unsigned emx_test_model_count;

// Called by a tapped model after every step with the step's number and output.
void emx_test_tap(uint32_t step, const void *y);

#ifdef __cplusplus
}
#endif
#endif
