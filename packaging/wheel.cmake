# SPDX-License-Identifier: Apache-2.0
# What scikit-build-core puts into the wheel beside the Python files: beside them (package emx) the
# CMake package, runtime, boards and toolchains, laid out as in the source tree, and in
# <prefix>/share/cmake/emx a signpost to them, so that find_package(emx) needs no hint where the
# environment's bin directory is on the PATH.
set(EMX_CONFIG_FILE "")
if(SKBUILD_STATE STREQUAL "editable")
  # No copies, which would go stale: the signpost points to the source tree.
  set(EMX_CONFIG_FILE "${CMAKE_CURRENT_SOURCE_DIR}/cmake/emx-config.cmake")
else()
  install(FILES VERSION DESTINATION .)
  install(DIRECTORY cmake runtime boards toolchains DESTINATION .)
endif()

set(signpost "${SKBUILD_DATA_DIR}/share/cmake/emx")
configure_file(packaging/emx-config.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/emx-config.cmake" @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/emx-config.cmake" cmake/emx-config-version.cmake VERSION
        DESTINATION "${signpost}")
