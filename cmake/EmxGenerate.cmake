# SPDX-License-Identifier: Apache-2.0
# Running emx: gated steps at configure time, and code generation at build time.

set(_emx_cache "")
if(DEFINED ENV{XDG_CACHE_HOME})
  set(_emx_cache "$ENV{XDG_CACHE_HOME}/emx")
elseif(DEFINED ENV{HOME})
  set(_emx_cache "$ENV{HOME}/.cache/emx")
endif()
set(EMX_CACHE_DIR "${_emx_cache}" CACHE PATH
    "Exported models by content, shared by all build trees; empty: keep none")
unset(_emx_cache)

# _emx_stale(<out> <stamp> <key> <product>...): why a step must run, or empty if what it left is
# still right. A stamp is JSON: the key of the step and each file it read with its hash.
function(_emx_stale out stamp key)
  foreach(file "${stamp}" ${ARGN})
    if(NOT EXISTS "${file}")
      set(${out} "first time" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  file(READ "${stamp}" json)
  string(JSON old_key ERROR_VARIABLE damaged GET "${json}" key)
  if(NOT old_key STREQUAL key)
    set(${out} "options changed" PARENT_SCOPE)
    return()
  endif()
  set(${out} "" PARENT_SCOPE)
  _emx_json_items(files "${json}" files)
  foreach(file IN LISTS files)
    if("${file}" IS_NEWER_THAN "${stamp}") # also true if it is gone; then only the content counts
      set(hash "gone")
      if(EXISTS "${file}")
        file(SHA256 "${file}" hash)
      endif()
      string(JSON old_hash GET "${json}" files "${file}")
      if(NOT hash STREQUAL old_hash)
        cmake_path(GET file FILENAME name)
        set(${out} "${name} changed" PARENT_SCOPE)
        return()
      endif()
      set(touch TRUE)
    endif()
  endforeach()
  if(touch)
    file(TOUCH_NOCREATE "${stamp}")
  endif()
endfunction()

# _emx_execute(<out> <who> <argument>...): emx at configure time; <out> is what it printed. Its errors
# are pages for the user: they are shown as they are (an indented line is not wrapped), and
# configuring stops.
function(_emx_execute out who)
  get_property(emx TARGET emx_runtime PROPERTY EMX_COMMAND)
  execute_process(COMMAND ${emx} ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE output
                  ERROR_VARIABLE errors OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(NOT code EQUAL 0)
    string(STRIP "${output}\n${errors}" log)
    string(REPLACE "\n" "\n  " log "${log}")
    message(FATAL_ERROR "${who} failed (${code}):\n  ${log}\n")
  endif()
  set(${out} "${output}" PARENT_SCOPE)
endfunction()

# _emx_step(<who> <what> STAMP <file> READ_LIST <file> PRODUCTS <file>... [DEPENDS <file>...]
#           COMMAND <argument>...)
# Runs emx unless its last result still holds. READ_LIST is where emx writes the JSON list of the
# files it read; these, DEPENDS and the products make the build system configure again when they
# change.
function(_emx_step who what)
  cmake_parse_arguments(PARSE_ARGV 2 ARG "" "STAMP;READ_LIST" "PRODUCTS;DEPENDS;COMMAND")
  get_property(emx TARGET emx_runtime PROPERTY EMX_COMMAND)
  get_property(version TARGET emx_runtime PROPERTY EMX_VERSION)
  string(SHA256 key "${version};${emx};${ARG_COMMAND}")
  _emx_stale(why "${ARG_STAMP}" "${key}" ${ARG_PRODUCTS})
  if(why)
    message(STATUS "emx: ${what} (${why})")
    file(REMOVE "${ARG_STAMP}") # first: after a failure the next run tries again
    cmake_path(GET ARG_STAMP PARENT_PATH directory)
    file(MAKE_DIRECTORY "${directory}")
    _emx_execute(output "${who}" ${ARG_COMMAND})
    _emx_write_stamp("${ARG_STAMP}" "${key}" "${ARG_READ_LIST}" ${ARG_DEPENDS})
  endif()
  file(READ "${ARG_STAMP}" json)
  _emx_json_items(files "${json}" files)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${files} ${ARG_PRODUCTS})
endfunction()

function(_emx_write_stamp stamp key read_list)
  file(READ "${read_list}" json)
  _emx_json_items(read "${json}")
  set(files "{}")
  foreach(file IN LISTS read ARGN) # a name that comes twice is set twice
    file(SHA256 "${file}" hash)
    string(JSON files SET "${files}" "${file}" "\"${hash}\"")
  endforeach()
  file(WRITE "${stamp}" "{\"key\": \"${key}\",\n\"files\": ${files}}\n")
endfunction()

# _emx_codegen(<comment> BUNDLE <file> DIRECTORY <dir> PREFIX <p> ARGS <argument>... [ALSO <name>...])
# The build rule that writes the C of a model, and ALSO what the arguments make besides. Unchanged outputs
# keep their time stamps if the build looks at them again after the command, as Ninja does; make
# would run the command in each build, so there they are touched.
function(_emx_codegen comment)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "BUNDLE;DIRECTORY;PREFIX" "ARGS;ALSO")
  get_property(emx TARGET emx_runtime PROPERTY EMX_COMMAND)
  set(outputs "") # the first is the one that the depfile names
  foreach(suffix IN ITEMS .h .c _weights.bin .json)
    list(APPEND outputs "${ARG_DIRECTORY}/${ARG_PREFIX}${suffix}")
  endforeach()
  list(TRANSFORM ARG_ALSO PREPEND "${ARG_DIRECTORY}/")
  set(touch "")
  if(NOT CMAKE_GENERATOR MATCHES "Ninja")
    set(touch --touch)
  endif()
  set(options "")
  # Older versions would take these words for arguments of the command.
  if(CMAKE_VERSION VERSION_GREATER_EQUAL 3.27)
    list(APPEND options DEPENDS_EXPLICIT_ONLY) # need not wait for what the target links
  endif()
  if(CMAKE_VERSION VERSION_GREATER_EQUAL 3.31)
    list(APPEND options CODEGEN)
  endif()
  add_custom_command(
    OUTPUT ${outputs} ${ARG_ALSO}
    COMMAND ${emx} compile "${ARG_BUNDLE}" -o "${ARG_DIRECTORY}" --name "${ARG_PREFIX}" ${ARG_ARGS}
            --depfile "${ARG_DIRECTORY}/${ARG_PREFIX}.d" ${touch}
    DEPENDS "${ARG_BUNDLE}"
    DEPFILE "${ARG_DIRECTORY}/${ARG_PREFIX}.d"
    COMMENT "${comment}" VERBATIM ${options})
endfunction()

# _emx_use_sources(<target> <dir> <prefix> <weights source>): compile the generated C of a model, and
# its weights unless they are bound at run time, in `target`.
function(_emx_use_sources target directory prefix weights)
  target_sources(${target} PRIVATE "${directory}/${prefix}.c")
  set_source_files_properties("${directory}/${prefix}.c" PROPERTIES
    COMPILE_OPTIONS "$<$<C_COMPILER_ID:GNU,Clang,AppleClang,ARMClang>:-ffp-contract=fast>")
  if(weights)
    target_sources(${target} PRIVATE "${directory}/${weights}")
    _emx_embeds("${directory}/${weights}" "${directory}/${prefix}_weights.bin")
  endif()
endfunction()

# _emx_embeds(<source> <blob>): `source` takes in `blob` by .incbin, which no compiler reports as a
# dependency, and which needs an include path, not the link-time compiler's working directory.
function(_emx_embeds source blob)
  cmake_path(GET blob PARENT_PATH directory)
  set_source_files_properties("${source}" PROPERTIES
    OBJECT_DEPENDS "${blob}" INCLUDE_DIRECTORIES "${directory}" SKIP_LINTING ON
    COMPILE_OPTIONS "$<$<C_COMPILER_ID:GNU,Clang,AppleClang,ARMClang>:-fno-lto>")
endfunction()
