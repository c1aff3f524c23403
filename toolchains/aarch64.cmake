# SPDX-License-Identifier: Apache-2.0
set(EMX_DEFAULT_BOARD aarch64-linux) # 64-bit Arm Linux
include("${CMAKE_CURRENT_LIST_DIR}/board.cmake")
