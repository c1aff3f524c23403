# SPDX-License-Identifier: Apache-2.0
# emx_install_models.

# emx_install_models(TARGETS <target>... [EXPORT <set> | PACKAGE <name>])
# Installs the libraries and headers of models, so that a project without emx and Python can link
# them. EXPORT adds them to an export set of the caller's, which calls install(EXPORT) itself;
# PACKAGE installs all that find_package(<name>) needs, with targets <name>::<target>.
function(emx_install_models)
  set(who "emx_install_models")
  cmake_parse_arguments(PARSE_ARGV 0 ARG "" "EXPORT;PACKAGE" "TARGETS")
  if(ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${who}: unknown arguments: ${ARG_UNPARSED_ARGUMENTS}")
  elseif(ARG_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "${who}: no value for ${ARG_KEYWORDS_MISSING_VALUES}")
  elseif("${ARG_TARGETS}" STREQUAL "")
    message(FATAL_ERROR "${who}: TARGETS is missing")
  elseif(ARG_EXPORT AND ARG_PACKAGE)
    message(FATAL_ERROR "${who}: EXPORT and PACKAGE exclude each other; a package has an export "
                        "set of its own")
  endif()
  _emx_check_models("${who}" ${ARG_TARGETS})

  include(GNUInstallDirs)
  set(set "${ARG_EXPORT}${ARG_PACKAGE}")
  foreach(target IN LISTS ARG_TARGETS)
    _emx_install_model(${target} "${set}")
  endforeach()
  if(ARG_PACKAGE)
    _emx_install_package("${ARG_PACKAGE}")
  endif()
endfunction()

# ---- The parts of emx_install_models. ----

# The library into the export set, unless that is empty; header and manifest. Facts that are no
# paths go with the imported target.
function(_emx_install_model target set)
  set(export "")
  if(set)
    set(export EXPORT "${set}")
  endif()
  install(TARGETS ${target} ${export}
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
  set_property(TARGET ${target} PROPERTY EXPORT_PROPERTIES
    EMX_PREFIX EMX_TARGET EMX_MODEL_HASH EMX_ARENA_BYTES EMX_ARENA_ALIGN EMX_WEIGHTS_BYTES EMX_MACS
    EMX_INPUTS EMX_OUTPUTS)
  get_property(arguments TARGET ${target} PROPERTY _EMX_COMPILE_ARGS)
  set(files EMX_MANIFEST)
  if("external" IN_LIST arguments)
    list(APPEND files EMX_WEIGHTS_FILE)
  endif()
  list(TRANSFORM files REPLACE "(.+)" "$<TARGET_PROPERTY:${target},\\1>")
  install(FILES ${files} DESTINATION "${CMAKE_INSTALL_DATADIR}/emx")
  get_property(group TARGET ${target} PROPERTY _EMX_ARENA_GROUP)
  if(group)
    install(TARGETS emx_arena_${group} ${export} ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
  endif()
endfunction()

function(_emx_install_package name)
  set(place "${CMAKE_INSTALL_LIBDIR}/cmake/${name}")
  install(EXPORT "${name}" NAMESPACE "${name}::" DESTINATION "${place}" FILE "${name}-config.cmake")
  if(PROJECT_VERSION)
    include(CMakePackageConfigHelpers)
    set(file "${CMAKE_CURRENT_BINARY_DIR}/emx/${name}-config-version.cmake")
    write_basic_package_version_file("${file}" COMPATIBILITY SameMajorVersion)
    install(FILES "${file}" DESTINATION "${place}")
  endif()
endfunction()
