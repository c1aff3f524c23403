// SPDX-License-Identifier: Apache-2.0
// Picks the micro-kernels of the instruction set. Each has a portable default in arch/generic.h;
// an arch/<isa>.h overrides it by defining EMX_HAVE_<name> before that file is read.
#ifndef EMX_ARCH_H
#define EMX_ARCH_H
#include <emx/arch/generic.h>
#endif
