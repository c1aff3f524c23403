# SPDX-License-Identifier: Apache-2.0
set(EMX_DEFAULT_BOARD microbit) # Cortex-M0
include("${CMAKE_CURRENT_LIST_DIR}/board.cmake")
