# SPDX-License-Identifier: Apache-2.0
# emx::runtime and emx::board: what every model and program links.

# _emx_define_targets(<dir of the CMake package> <out_problem>). The facts that the other functions share are properties
# of emx_runtime, which are seen in every directory: EMX_ROOT_DIR, EMX_VERSION, EMX_COMMAND.
function(_emx_define_targets package_dir out_problem)
  set(${out_problem} "" PARENT_SCOPE)
  if(TARGET emx_runtime)
    return()
  endif()
  cmake_path(GET package_dir PARENT_PATH root)
  file(STRINGS "${root}/VERSION" version LIMIT_COUNT 1)
  _emx_find_python(python problem "${root}" "${version}")
  if(problem)
    set(${out_problem} "${problem}" PARENT_SCOPE)
    return()
  endif()
  _emx_python_command(command "${root}" "${python}")

  add_library(emx_runtime INTERFACE)
  add_library(emx::runtime ALIAS emx_runtime)
  target_include_directories(emx_runtime INTERFACE "${root}/runtime/include")
  target_link_libraries(emx_runtime INTERFACE "$<$<NOT:$<BOOL:${MSVC}>>:m>")
  set_target_properties(emx_runtime PROPERTIES
    EMX_ROOT_DIR "${root}" EMX_VERSION "${version}" EMX_COMMAND "${command};-m;emx")
  _emx_define_board("${root}")
endfunction()

# The toolchain files of emx choose a board; then emx::board gives a program the board's startup code,
# system calls and linker script, and every model links it for its users. A program declines with
# target properties: EMX_STARTUP NONE, and EMX_LINKER_SCRIPT NONE or the path of its own.
function(_emx_define_board root)
  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  set(board "$CACHE{_EMX_TREE_BOARD}")
  if(NOT board OR NOT "C" IN_LIST languages)
    return()
  endif()
  set(common "${root}/boards/common")
  set(script "${root}/boards/${board}/board.ld")
  _emx_board_json(json "${root}" "${board}")
  _emx_json_items(startup "${json}" startup)
  _emx_json_items(link_flags "${json}" link_flags)
  _emx_json_items(float_printf "${json}" float_printf)
  if(NOT startup) # an operating system starts programs
    return()
  endif()

  list(TRANSFORM startup PREPEND "${common}/")
  add_library(emx_startup OBJECT ${startup})
  target_compile_options(emx_startup PRIVATE -fno-lto) # assembly refers to its symbols by name

  add_library(emx_board INTERFACE)
  add_library(emx::board ALIAS emx_board)
  set(is_program "$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>")
  set(wants_startup "$<NOT:$<STREQUAL:$<TARGET_PROPERTY:EMX_STARTUP>,NONE>>")
  target_sources(emx_board INTERFACE
    "$<$<AND:${is_program},${wants_startup}>:$<TARGET_OBJECTS:emx_startup>>")

  set(chosen "$<TARGET_PROPERTY:EMX_LINKER_SCRIPT>")
  set(linked_by_us "$<NOT:$<STREQUAL:${chosen},NONE>>")
  # A small libc may leave %f out of printf unless asked; a newcomer's first program prints a float.
  target_link_options(emx_board INTERFACE
    "$<${wants_startup}:${float_printf}>"
    "$<${linked_by_us}:${link_flags};-L${common}>"
    "$<$<NOT:$<BOOL:${chosen}>>:-T${script}>"
    "$<$<AND:${linked_by_us},$<BOOL:${chosen}>>:-Wl,--orphan-handling=place;-T${chosen}>")
  set_property(TARGET emx_board PROPERTY INTERFACE_LINK_DEPENDS "${script}" "${common}/sections.ld")
endfunction()
