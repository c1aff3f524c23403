// SPDX-License-Identifier: Apache-2.0
// Picks the micro-kernels of the instruction set. Each has a portable default in arch/generic.h;
// an arch/<isa>.h that is read before overrides it by defining EMX_HAVE_<name>.
//
// The tile belongs to the target that a model was generated for, not to the compiler's flags: the
// weights are packed for it and the memory plan follows its order. Models for other tiles than the
// portable one define these three before they include this file; python/emx/target.py has the rows.
#ifndef EMX_ARCH_H
#define EMX_ARCH_H

#ifndef EMX_LANES
#define EMX_LANES 4        // outputs in a column of weights
#define EMX_TILE_PIXELS 4  // pixels, or rows of a matrix, in a tile
#define EMX_TILE_VECTORS 4 // sums of EMX_LANES outputs in a tile: pixels by columns
#endif

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
#include <emx/arch/mve.h>
#elif defined(__ARM_ARCH_ISA_THUMB) && (__ARM_ARCH_ISA_THUMB >= 2) && defined(__ARM_FP) &&         \
    !defined(__ARM_NEON)
#include <emx/arch/vfp.h>
#elif defined(__SSE2__) || defined(__ARM_NEON)
#include <emx/arch/vector.h>
#endif

// 1: a convolution's tile of one pixel has as many columns as its sums allow, which is faster and
// larger. 0: as many as a tile of EMX_TILE_PIXELS.
#ifndef EMX_WIDE_PIXEL
#define EMX_WIDE_PIXEL !EMX_SMALL
#endif

// 1: tiles are stored by a function, not in line. A loop over scalars is long when written out.
#ifdef EMX_HAVE_store_f32
#define EMX_SHARE_STORE 0
#else
#define EMX_SHARE_STORE EMX_SMALL
#endif

// How weights of int8 are packed belongs to the target too: models define one of these, or none.
#if defined(EMX_DOT_MVE)
#include <emx/arch/mve_lanes_s8.h>
#include <emx/arch/mve_plane_s8.h>
// After those in which they are written.
#include <emx/arch/mve_3x3_s8.h>
#include <emx/arch/mve_s8.h>
#elif defined(EMX_DOT_DSP)
#include <emx/arch/dsp_lanes_s8.h>
#include <emx/arch/dsp_plane_s8.h>
// After those in which they are written.
#include <emx/arch/dsp_3x3_s8.h>
#include <emx/arch/dsp_s8.h>
#endif

#include <emx/arch/generic.h>
#include <emx/arch/generic_plane_s8.h>
#include <emx/arch/generic_s8.h>
// After the micro-kernels, in which they are written.
#include <emx/arch/four.h>
#include <emx/arch/generic_lanes_s8.h>

#endif
