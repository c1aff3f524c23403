# SPDX-License-Identifier: Apache-2.0
# emx_add_model_test.

# emx_add_model_test(<test> MODEL <target> [RTOL <x>] [ATOL <x>] [LAYERS] [BOARD <board>]
#                    [TIMEOUT <seconds>] [LABELS <label>...])
# A program that compares the model with what PyTorch gave, and a test of the same name that runs
# it, on a board's emulator in a cross build. It links the very library that firmware links; with
# LAYERS it has a copy of its own that reports each layer.
function(emx_add_model_test test)
  set(who "emx_add_model_test(${test})")
  cmake_parse_arguments(PARSE_ARGV 1 ARG "LAYERS" "MODEL;RTOL;ATOL;BOARD;TIMEOUT" "LABELS")
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${who}: unknown arguments: ${ARG_UNPARSED_ARGUMENTS}")
  elseif(ARG_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "${who}: no value for ${ARG_KEYWORDS_MISSING_VALUES}")
  elseif("${ARG_MODEL}" STREQUAL "")
    message(FATAL_ERROR "${who}: MODEL is missing")
  elseif(CMAKE_SYSTEM_NAME STREQUAL "Generic" AND NOT TARGET emx::board)
    message(FATAL_ERROR "${who}: emx does not know how to start a program on this board. Use "
                        "toolchains/board.cmake, or call this only if(NOT CMAKE_CROSSCOMPILING).")
  endif()
  _emx_check_models("${who}" "${ARG_MODEL}")
  _emx_check_board("${who}" "${ARG_BOARD}")

  set(directory "${CMAKE_CURRENT_BINARY_DIR}/emx/${test}")
  _emx_test_codegen()
  _emx_test_program()
  _emx_enable_testing()
  add_test(NAME ${test} COMMAND ${test}) # a target's name, no arguments: the emulator runs it
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  set(labels emx $CACHE{_EMX_TREE_BOARD} ${ARG_LABELS})
  set_tests_properties(${test} PROPERTIES
    TIMEOUT "${ARG_TIMEOUT}" SKIP_RETURN_CODE 77 LABELS "${labels}")
endfunction()

# ---- The parts of emx_add_model_test. They read its arguments and variables. ----

function(_emx_test_codegen)
  get_property(prefix TARGET ${ARG_MODEL} PROPERTY EMX_PREFIX)
  get_property(bundle TARGET ${ARG_MODEL} PROPERTY _EMX_BUNDLE)
  get_property(arguments TARGET ${ARG_MODEL} PROPERTY _EMX_COMPILE_ARGS)
  list(APPEND arguments --test)
  if(ARG_LAYERS)
    list(APPEND arguments --taps)
  endif()
  if(NOT "${ARG_RTOL}" STREQUAL "")
    list(APPEND arguments --rtol "${ARG_RTOL}")
  endif()
  if(NOT "${ARG_ATOL}" STREQUAL "")
    list(APPEND arguments --atol "${ARG_ATOL}")
  endif()
  _emx_codegen("emx: generating ${test}" BUNDLE "${bundle}" DIRECTORY "${directory}"
    PREFIX "${prefix}" ARGS ${arguments}
    ALSO "${prefix}_weights.c" "${prefix}_test.c" "${prefix}_vectors.c" "${prefix}_vectors.bin")
  file(CONFIGURE OUTPUT "${directory}/emx_test_models.c" @ONLY CONTENT
"#include \"emx_test.h\"
extern const emx_test_model_t @prefix@_test_model;
const emx_test_model_t *const emx_test_models[] = {&@prefix@_test_model};
const unsigned emx_test_model_count = 1;
")
  set(prefix "${prefix}" PARENT_SCOPE)
endfunction()

function(_emx_test_program)
  get_property(arguments TARGET ${ARG_MODEL} PROPERTY _EMX_COMPILE_ARGS)
  get_property(group TARGET ${ARG_MODEL} PROPERTY _EMX_ARENA_GROUP)
  get_property(root TARGET emx_runtime PROPERTY EMX_ROOT_DIR)
  set(testing "${root}/runtime/testing")
  add_executable(${test} "${testing}/emx_test.c" "${testing}/emx_print.c"
    "${directory}/emx_test_models.c" "${directory}/${prefix}_test.c" "${directory}/${prefix}_vectors.c")
  _emx_embeds("${directory}/${prefix}_vectors.c" "${directory}/${prefix}_vectors.bin")
  target_include_directories(${test} PRIVATE "${testing}")
  target_link_libraries(${test} PRIVATE emx::runtime)
  if(TARGET emx::board)
    target_sources(${test} PRIVATE "${testing}/port_board.c")
    target_include_directories(${test} PRIVATE "${root}/boards/common")
    target_link_libraries(${test} PRIVATE emx::board)
  else()
    target_sources(${test} PRIVATE "${testing}/port_host.c")
  endif()
  if(ARG_LAYERS)
    _emx_use_sources(${test} "${directory}" "${prefix}" "${prefix}_weights.c")
    target_include_directories(${test} PRIVATE "${directory}")
    set(theirs "$<TARGET_GENEX_EVAL:${ARG_MODEL},$<TARGET_PROPERTY:${ARG_MODEL},COMPILE_OPTIONS>>")
    target_link_libraries(${test} PRIVATE "$<TARGET_NAME_IF_EXISTS:emx_arena_${group}>")
    target_compile_options(${test} PRIVATE "${theirs}") # the code under test, as the user compiles it
  else()
    target_link_libraries(${test} PRIVATE ${ARG_MODEL})
    if("external" IN_LIST arguments)
      target_sources(${test} PRIVATE "${directory}/${prefix}_weights.c")
      _emx_embeds("${directory}/${prefix}_weights.c" "${directory}/${prefix}_weights.bin")
    endif()
  endif()
endfunction()

# Make `ctest` in the top build directory find the tests of this directory. enable_testing() sets a
# variable of the directory it is called in, and each one from here up must have it; a function has
# a scope of its own, so the call is left to the directories.
function(_emx_enable_testing)
  set(directory "${CMAKE_CURRENT_SOURCE_DIR}")
  while(directory)
    cmake_language(DEFER DIRECTORY "${directory}" CALL enable_testing)
    get_property(directory DIRECTORY "${directory}" PROPERTY PARENT_DIRECTORY)
  endwhile()
endfunction()
