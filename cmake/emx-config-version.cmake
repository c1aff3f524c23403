# SPDX-License-Identifier: Apache-2.0
# Static, so that it works in the source tree; and free of a pointer-size check, which would refuse
# every 32-bit target: emx is sources and a host tool.
set(_emx_version_file "${CMAKE_CURRENT_LIST_DIR}/../VERSION")
if(EXISTS "${CMAKE_CURRENT_LIST_DIR}/VERSION") # in <prefix>/share/cmake/emx
  set(_emx_version_file "${CMAKE_CURRENT_LIST_DIR}/VERSION")
endif()
file(STRINGS "${_emx_version_file}" PACKAGE_VERSION LIMIT_COUNT 1)
unset(_emx_version_file)

# Below 1.0 a minor version may break; from then on only a major one.
if(PACKAGE_VERSION MATCHES "^(0\\.[0-9]+|[1-9][0-9]*)")
  set(_emx_series "${CMAKE_MATCH_1}")
endif()
if(PACKAGE_FIND_VERSION_RANGE)
  if(PACKAGE_VERSION VERSION_GREATER_EQUAL PACKAGE_FIND_VERSION_MIN
     AND (PACKAGE_VERSION VERSION_LESS PACKAGE_FIND_VERSION_MAX
          OR (PACKAGE_FIND_VERSION_RANGE_MAX STREQUAL "INCLUDE"
              AND PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION_MAX)))
    set(PACKAGE_VERSION_COMPATIBLE TRUE)
  endif()
elseif(PACKAGE_VERSION VERSION_GREATER_EQUAL PACKAGE_FIND_VERSION)
  string(FIND "${PACKAGE_FIND_VERSION}." "${_emx_series}." _emx_at)
  if(_emx_at EQUAL 0 OR PACKAGE_FIND_VERSION VERSION_EQUAL _emx_series)
    set(PACKAGE_VERSION_COMPATIBLE TRUE)
  endif()
  if(PACKAGE_VERSION VERSION_EQUAL PACKAGE_FIND_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
  unset(_emx_at)
endif()
unset(_emx_series)
