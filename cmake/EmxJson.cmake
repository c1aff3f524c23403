# SPDX-License-Identifier: Apache-2.0

# _emx_json_items(<out> <json> [<key>...]): the items of an array, or the keys of an object, as a list;
# empty if there is no such key.
function(_emx_json_items out json)
  set(items "")
  string(JSON type ERROR_VARIABLE none TYPE "${json}" ${ARGN})
  string(JSON count ERROR_VARIABLE none LENGTH "${json}" ${ARGN})
  if(count GREATER 0)
    math(EXPR last "${count} - 1")
    foreach(index RANGE ${last})
      if(type STREQUAL "OBJECT")
        string(JSON item MEMBER "${json}" ${ARGN} ${index})
      else()
        string(JSON item GET "${json}" ${ARGN} ${index})
      endif()
      list(APPEND items "${item}")
    endforeach()
  endif()
  set(${out} "${items}" PARENT_SCOPE)
endfunction()
