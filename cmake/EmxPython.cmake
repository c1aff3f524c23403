# SPDX-License-Identifier: Apache-2.0
# The Python that runs emx, on the machine that builds. Never a Python of the target: FindPython
# may look through the sysroot or the emulator in a cross build, so it is not used.

set(EMX_PYTHON_EXECUTABLE "" CACHE FILEPATH "Python that runs emx; empty: look for one")

# _emx_python_command(<out> <root> <python>): how that Python runs with emx of `root` importable.
function(_emx_python_command out root python)
  set(command "${python}" -P) # -P: the working directory is no place to import from
  if(EXISTS "${root}/python/emx")
    set(command "${CMAKE_COMMAND}" -E env --modify
                "PYTHONPATH=path_list_prepend:${root}/python" ${command})
  endif()
  set(${out} "${command}" PARENT_SCOPE)
endfunction()

# _emx_try_python(<out_problem> <root> <version> <python>): empty if it can run emx.
function(_emx_try_python out root version python)
  _emx_python_command(command "${root}" "${python}")
  set(code "import jinja2, numpy, emx; print(emx.__version__, emx.cmake_dir().parent, sep=chr(10))")
  execute_process(COMMAND ${command} -c "${code}"
                  RESULT_VARIABLE code OUTPUT_VARIABLE found ERROR_VARIABLE log
                  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_STRIP_TRAILING_WHITESPACE)
  set(problem "")
  string(REGEX REPLACE "\n.*" "" its_version "${found}")
  string(REGEX REPLACE ".*\n" "" its_root "${found}")
  file(REAL_PATH "${its_root}" its_root)
  file(REAL_PATH "${root}" our_root)
  if(NOT code EQUAL 0)
    string(REGEX REPLACE ".*\n" "" problem "${log}")
    set(problem "failed (${code}): ${problem}")
  elseif(NOT its_version STREQUAL version)
    set(problem "has emx ${its_version}, and this is the CMake package of emx ${version}")
  elseif(NOT its_root STREQUAL our_root)
    # An editable install of another clone: Python prefers it to PYTHONPATH.
    set(problem "has the emx of ${its_root}, and this is the CMake package of ${our_root}")
  endif()
  set(${out} "${problem}" PARENT_SCOPE)
endfunction()

# _emx_python_candidates(<out> <root> <remembered>): the interpreters to try, best first.
function(_emx_python_candidates out root remembered)
  foreach(named "${EMX_PYTHON_EXECUTABLE}" "${Python3_EXECUTABLE}")
    if(named)
      set(${out} "${named}" PARENT_SCOPE) # the only one: the user said so
      return()
    endif()
  endforeach()
  # The one of the last run, so that activating another environment changes nothing in this tree.
  set(candidates ${remembered})
  # The active environment, the one that emx is installed in (<prefix>/lib/python3.x/site-packages/
  # emx, or what the installed package says), and the one that the source tree keeps.
  foreach(prefix "$ENV{VIRTUAL_ENV}" "${emx_PYTHON_PREFIX}" "${root}/../../../.." "${root}/.venv")
    cmake_path(SET python NORMALIZE "${prefix}/bin/python3")
    if(prefix AND EXISTS "${python}")
      list(APPEND candidates "${python}")
    endif()
  endforeach()
  find_program(python3 NAMES python3 python NO_CMAKE_FIND_ROOT_PATH NO_CACHE)
  if(python3)
    list(APPEND candidates "${python3}")
  endif()
  list(REMOVE_DUPLICATES candidates)
  set(${out} "${candidates}" PARENT_SCOPE)
endfunction()

# _emx_find_python(<out_python> <out_problem> <root> <version>): one of the two is empty. A Python
# that passed is not started again in this build tree.
function(_emx_find_python out_python out_problem root version)
  list(POP_FRONT _EMX_PYTHON_PASSED remembered state)
  if(NOT state STREQUAL "${version} ${root}" OR NOT EXISTS "${remembered}")
    set(remembered "")
  endif()
  _emx_python_candidates(candidates "${root}" "${remembered}")
  set(problems "")
  foreach(python IN LISTS candidates)
    set(problem "")
    if(NOT python STREQUAL remembered)
      _emx_try_python(problem "${root}" "${version}" "${python}")
    endif()
    if(NOT problem)
      set(_EMX_PYTHON_PASSED "${python};${version} ${root}" CACHE INTERNAL "")
      set(${out_python} "${python}" PARENT_SCOPE)
      set(${out_problem} "" PARENT_SCOPE)
      return()
    endif()
    string(APPEND problems "\n  ${python}\n    ${problem}")
  endforeach()
  set(${out_python} "" PARENT_SCOPE)
  set(${out_problem} "emx ${version} runs on Python 3.11 or newer with numpy and jinja2, which was \
not found; set EMX_PYTHON_EXECUTABLE to one that has them. Tried:${problems}\n" PARENT_SCOPE)
endfunction()
