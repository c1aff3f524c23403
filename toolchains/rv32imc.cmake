# SPDX-License-Identifier: Apache-2.0
set(EMX_DEFAULT_BOARD rv32-virt) # RISC-V RV32IMC
include("${CMAKE_CURRENT_LIST_DIR}/board.cmake")
