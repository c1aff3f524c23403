# SPDX-License-Identifier: Apache-2.0
# The CMake package of emx; docs/cmake.md is its manual. The file works where it lies: in the source
# tree (<root>/cmake, Python in <root>/python) and in an installed package (<root> = .../emx).
#
#   find_package(emx CONFIG REQUIRED)        or add_subdirectory / FetchContent of the source tree
#   emx_add_model(net model.pt2)             a static library with the C of the model
#   emx_add_model_test(net_test MODEL net)   ctest: that C against what PyTorch gave
#   emx_add_firmware(fw SOURCES main.c MODELS net)
#   emx_install_models(TARGETS net PACKAGE my_models)
#   emx_print_models()
cmake_minimum_required(VERSION 3.25...4.1)

include("${CMAKE_CURRENT_LIST_DIR}/EmxJson.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/EmxBoard.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/EmxPython.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/EmxTargets.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/EmxGenerate.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/EmxExport.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/EmxAddModel.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/EmxAddFirmware.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/EmxAddModelTest.cmake")
include("${CMAKE_CURRENT_LIST_DIR}/EmxInstallModels.cmake")

_emx_define_targets("${CMAKE_CURRENT_LIST_DIR}" emx_NOT_FOUND_MESSAGE)
if(emx_NOT_FOUND_MESSAGE)
  set(emx_FOUND FALSE)
endif()
