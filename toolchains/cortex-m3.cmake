# SPDX-License-Identifier: Apache-2.0
set(EMX_DEFAULT_BOARD mps2-an385) # Cortex-M3
include("${CMAKE_CURRENT_LIST_DIR}/board.cmake")
