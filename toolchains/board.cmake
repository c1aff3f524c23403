# SPDX-License-Identifier: Apache-2.0
# GCC for one of emx's boards, which QEMU runs: -DEMX_BOARD=<name of a directory in boards/>.
# Programs that link a model (or emx::board) get the board's startup code and linker script. For a
# board of your own use your own toolchain file: a model needs nothing of this one.
include_guard()

cmake_path(SET _emx_root NORMALIZE "${CMAKE_CURRENT_LIST_DIR}/..")
include("${_emx_root}/cmake/EmxJson.cmake")
include("${_emx_root}/cmake/EmxBoard.cmake")
if(NOT EMX_BOARD)
  set(EMX_BOARD "${EMX_DEFAULT_BOARD}")
endif()
if(NOT EMX_BOARD OR NOT EXISTS "${_emx_root}/boards/${EMX_BOARD}/board.json")
  message(FATAL_ERROR "emx has no board '${EMX_BOARD}'. EMX_BOARD names a directory in\n"
                      "  ${_emx_root}/boards\n")
endif()

# This file is read again for each try_compile, without the cache.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES EMX_BOARD)

# The compiler's flags are cached by the first run, the rest is not: a tree cannot change its board.
get_property(_emx_in_try_compile GLOBAL PROPERTY IN_TRY_COMPILE)
if(NOT _emx_in_try_compile)
  if(DEFINED CACHE{_EMX_TREE_BOARD} AND NOT EMX_BOARD STREQUAL "$CACHE{_EMX_TREE_BOARD}")
    message(FATAL_ERROR "This build tree is for the board $CACHE{_EMX_TREE_BOARD}. "
                        "Use another build directory for ${EMX_BOARD}, or cmake --fresh.")
  endif()
  set(_EMX_TREE_BOARD "${EMX_BOARD}" CACHE INTERNAL "")
endif()

_emx_board_json(_emx_json "${_emx_root}" "${EMX_BOARD}")
foreach(_emx_key IN ITEMS system processor compiler compiler_packages emulator emulator_packages)
  string(JSON _emx_${_emx_key} GET "${_emx_json}" ${_emx_key})
endforeach()
string(JSON _emx_machine ERROR_VARIABLE _emx_no_machine GET "${_emx_json}" machine)
_emx_json_items(_emx_flags "${_emx_json}" flags)
_emx_json_items(_emx_emulator_args "${_emx_json}" emulator_args)
if(NOT _emx_no_machine)
  list(PREPEND _emx_emulator_args -M "${_emx_machine}")
endif()

set(CMAKE_SYSTEM_NAME "${_emx_system}")
set(CMAKE_SYSTEM_PROCESSOR "${_emx_processor}")

if(NOT CMAKE_C_COMPILER)
  find_program(EMX_GCC "${_emx_compiler}" NO_CMAKE_FIND_ROOT_PATH)
  if(NOT EMX_GCC)
    message(FATAL_ERROR "The compiler ${_emx_compiler} was not found.\n"
                        "  Debian, Ubuntu:  apt install ${_emx_compiler_packages}\n"
                        "or name it with -DCMAKE_C_COMPILER=<path>.")
  endif()
  set(CMAKE_C_COMPILER "${EMX_GCC}")
  set(CMAKE_ASM_COMPILER "${EMX_GCC}")
  string(REGEX REPLACE "gcc([^/]*)$" "g++\\1" CMAKE_CXX_COMPILER "${EMX_GCC}")
endif()
list(JOIN _emx_flags " " _emx_flags)
set(CMAKE_C_FLAGS_INIT "${_emx_flags} -ffunction-sections -fdata-sections")
set(CMAKE_CXX_FLAGS_INIT "${CMAKE_C_FLAGS_INIT}")
set(CMAKE_ASM_FLAGS_INIT "${_emx_flags}")
if(_emx_system STREQUAL "Generic")
  string(APPEND CMAKE_CXX_FLAGS_INIT " -fno-exceptions -fno-rtti")
  set(CMAKE_EXECUTABLE_SUFFIX_C .elf)
  set(CMAKE_EXECUTABLE_SUFFIX_CXX .elf)
endif()

# A program cannot be linked before there is a board; nothing in emx asks the linker a question.
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
list(APPEND CMAKE_PREFIX_PATH "${_emx_root}") # find_package(emx) finds the emx of this file

# Without an emulator programs build, and each test fails with the reason.
find_program(EMX_EMULATOR "${_emx_emulator}" NO_CMAKE_FIND_ROOT_PATH)
if(EMX_EMULATOR)
  set(CMAKE_CROSSCOMPILING_EMULATOR "${EMX_EMULATOR}" ${_emx_emulator_args})
else()
  set(CMAKE_CROSSCOMPILING_EMULATOR
      "${CMAKE_COMMAND}" "-DEMULATOR=${_emx_emulator}" "-DPACKAGES=${_emx_emulator_packages}"
      -P "${CMAKE_CURRENT_LIST_DIR}/no-emulator.cmake")
endif()
