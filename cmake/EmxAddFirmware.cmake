# SPDX-License-Identifier: Apache-2.0
# emx_add_firmware.

# emx_add_firmware(<exe> SOURCES <file>... [MODELS <target>...] [BOARD <board>]
#                  [LINKER_SCRIPT <file>] [STARTUP <file>|NONE] [STACK_SIZE <bytes>]
#                  [OUTPUT elf|hex|bin...] [MAP])
# An executable that links the models. Startup code, linker script and stack are a board's matter:
# on the host they say nothing, so that one CMakeLists.txt serves both.
function(emx_add_firmware exe)
  set(who "emx_add_firmware(${exe})")
  cmake_parse_arguments(PARSE_ARGV 1 ARG "MAP" "BOARD;LINKER_SCRIPT;STARTUP;STACK_SIZE"
                        "SOURCES;MODELS;OUTPUT")
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${who}: unknown arguments: ${ARG_UNPARSED_ARGUMENTS}")
  elseif(ARG_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "${who}: no value for ${ARG_KEYWORDS_MISSING_VALUES}")
  elseif(NOT ARG_SOURCES)
    message(FATAL_ERROR "${who}: SOURCES is missing")
  endif()
  foreach(format IN LISTS ARG_OUTPUT)
    if(NOT format MATCHES "^(elf|hex|bin)$")
      message(FATAL_ERROR "${who}: OUTPUT takes elf, hex and bin, not ${format}")
    endif()
  endforeach()
  _emx_check_models("${who}" ${ARG_MODELS})
  _emx_check_board("${who}" "${ARG_BOARD}")

  add_executable(${exe} ${ARG_SOURCES})
  target_link_libraries(${exe} PRIVATE ${ARG_MODELS})
  if(TARGET emx::board)
    _emx_board_options()
  endif()
  if(ARG_MAP)
    target_link_options(${exe} PRIVATE "LINKER:-Map=$<TARGET_FILE:${exe}>.map")
  endif()
  _emx_convert("hex" ihex)
  _emx_convert("bin" binary)
endfunction()

# ---- The parts of emx_add_firmware. They read its arguments. ----

function(_emx_board_options)
  target_link_libraries(${exe} PRIVATE emx::board)
  if(ARG_STARTUP)
    set_property(TARGET ${exe} PROPERTY EMX_STARTUP NONE)
    if(NOT ARG_STARTUP STREQUAL "NONE")
      target_sources(${exe} PRIVATE "${ARG_STARTUP}")
    endif()
  endif()
  if(ARG_LINKER_SCRIPT)
    cmake_path(ABSOLUTE_PATH ARG_LINKER_SCRIPT NORMALIZE)
    set_target_properties(${exe} PROPERTIES
      EMX_LINKER_SCRIPT "${ARG_LINKER_SCRIPT}" LINK_DEPENDS "${ARG_LINKER_SCRIPT}")
  endif()
  if(ARG_STACK_SIZE)
    target_link_options(${exe} PRIVATE "LINKER:--defsym=__stack_size=${ARG_STACK_SIZE}")
  endif()
endfunction()

function(_emx_convert format objcopy_name)
  if(format IN_LIST ARG_OUTPUT AND CMAKE_OBJCOPY)
    add_custom_command(TARGET ${exe} POST_BUILD
      COMMAND "${CMAKE_OBJCOPY}" -O ${objcopy_name} "$<TARGET_FILE:${exe}>"
              "$<PATH:REPLACE_EXTENSION,LAST_ONLY,$<TARGET_FILE:${exe}>,${format}>" VERBATIM)
  endif()
endfunction()

# ---- Shared with emx_add_model_test. ----

# _emx_check_models(<who> <target>...): each was made by emx_add_model.
function(_emx_check_models who)
  foreach(model IN LISTS ARGN)
    if(NOT TARGET "${model}")
      message(FATAL_ERROR "${who}: there is no target ${model}; emx_add_model(${model} ...) first")
    endif()
    get_property(bundle TARGET "${model}" PROPERTY _EMX_BUNDLE)
    if(NOT bundle)
      message(FATAL_ERROR "${who}: ${model} was not made by emx_add_model")
    endif()
  endforeach()
endfunction()

# _emx_check_board(<who> <board>): a build tree is for one board, by its compiler flags.
function(_emx_check_board who board)
  set(tree "$CACHE{_EMX_TREE_BOARD}") # which the toolchain files set
  if(board AND NOT board STREQUAL tree)
    if(NOT tree)
      set(tree "the host, or for a board that emx does not know")
    endif()
    message(FATAL_ERROR "${who}: BOARD ${board}, but this build tree is for ${tree}. Configure one "
                        "with --toolchain toolchains/board.cmake -DEMX_BOARD=${board}")
  endif()
endfunction()
