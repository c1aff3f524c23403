# SPDX-License-Identifier: Apache-2.0
# GCC for Arm Cortex-M and one of emx's boards: -DEMX_BOARD=<name of a directory in boards/>.
include("${CMAKE_CURRENT_LIST_DIR}/board.cmake")
