# SPDX-License-Identifier: Apache-2.0
set(EMX_DEFAULT_BOARD mps2-an505) # Cortex-M33
include("${CMAKE_CURRENT_LIST_DIR}/board.cmake")
