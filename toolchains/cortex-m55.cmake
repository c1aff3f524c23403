# SPDX-License-Identifier: Apache-2.0
set(EMX_DEFAULT_BOARD mps3-an547) # Cortex-M55
include("${CMAKE_CURRENT_LIST_DIR}/board.cmake")
