# SPDX-License-Identifier: Apache-2.0

# _emx_board_json(<out> <root> <board>): boards/<board>/board.json, and what its family,
# boards/common/<family>.json, has in common.
function(_emx_board_json out root board)
  file(READ "${root}/boards/${board}/board.json" json)
  string(JSON family ERROR_VARIABLE none GET "${json}" family)
  if(NOT none)
    file(READ "${root}/boards/common/${family}.json" all)
    _emx_json_items(keys "${json}")
    foreach(key IN LISTS keys)
      string(JSON value GET "${json}" ${key})
      string(JSON type TYPE "${json}" ${key})
      if(type STREQUAL "STRING")
        set(value "\"${value}\"")
      endif()
      string(JSON all SET "${all}" ${key} "${value}")
    endforeach()
    set(json "${all}")
  endif()
  set(${out} "${json}" PARENT_SCOPE)
endfunction()
