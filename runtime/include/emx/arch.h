// SPDX-License-Identifier: Apache-2.0
// Picks the micro-kernels of the instruction set. Each has a portable default in arch/generic.h;
// an arch/<isa>.h that is read before overrides it by defining EMX_HAVE_<name>.
#ifndef EMX_ARCH_H
#define EMX_ARCH_H

#if defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
#include <emx/arch/mve.h>
#endif
#include <emx/arch/generic.h>

#endif
