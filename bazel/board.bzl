# SPDX-License-Identifier: Apache-2.0
"""What @emx_boards consists of: for each board a platform, a toolchain and an emulator."""

load("@rules_cc//cc:action_names.bzl", "ACTION_NAMES")
load("@rules_cc//cc:cc_toolchain_config_lib.bzl", "feature", "flag_group", "flag_set", "tool_path", "with_feature_set")
load("@rules_cc//cc:defs.bzl", "cc_library", "cc_toolchain")
load("@rules_cc//cc/common:cc_common.bzl", "cc_common")

EmulatorInfo = provider(
    doc = "How to run a program of this platform.",
    fields = {"command": "Command to which the program is appended; empty where it runs itself."},
)

_EMX = Label("//:VERSION").workspace_root  # as a path of the actions
_COMMON = "boards/common/"
_COMPILE = [ACTION_NAMES.c_compile, ACTION_NAMES.cpp_compile, ACTION_NAMES.assemble, ACTION_NAMES.preprocess_assemble]
_LINK = [ACTION_NAMES.cpp_link_executable]

def _emx(path):
    """A file or directory of emx as a path of the actions."""
    return (_EMX + "/" if _EMX else "") + path

def _label(path):
    return Label("//:" + path)

# ---- The toolchain ----

def _flags(name, actions, flags, mode = None):
    """A feature that is always on: in one compilation mode, or in all."""
    if not flags:
        return feature(name = name, enabled = True)
    return feature(name = name, enabled = True, flag_sets = [flag_set(
        actions = actions,
        flag_groups = [flag_group(flags = flags)],
        with_features = [with_feature_set(features = [mode])] if mode else [],
    )])

def _toolchain_config_impl(ctx):
    compiler = ctx.attr.compiler
    prefix = compiler[:-len("gcc")] if compiler.endswith("gcc") else compiler + "-"
    tools = {"gcc": compiler}
    for tool in ("ar", "cpp", "gcov", "ld", "nm", "objcopy", "objdump", "strip"):
        tools[tool] = prefix + tool
    sections = ["-ffunction-sections", "-fdata-sections"]
    reproducible = [
        # the same bytes in any directory and at any time
        "-no-canonical-prefixes",
        "-fno-canonical-system-headers",
        "-Wno-builtin-macro-redefined",
        "-D__DATE__=\"redacted\"",
        "-D__TIME__=\"redacted\"",
        "-D__TIMESTAMP__=\"redacted\"",
    ]
    return cc_common.create_cc_toolchain_config_info(
        ctx = ctx,
        toolchain_identifier = ctx.label.name,
        host_system_name = "local",
        compiler = "gcc",
        target_system_name = ctx.attr.board,
        target_cpu = ctx.attr.board,
        target_libc = "newlib",
        abi_version = "unknown",
        abi_libc_version = "unknown",
        tool_paths = [tool_path(name = name, path = path) for name, path in tools.items()],
        cxx_builtin_include_directories = ctx.attr.builtin_includes,
        features = [
            feature(name = "opt"),
            feature(name = "dbg"),
            feature(name = "fastbuild"),
            _flags("board", _COMPILE, ctx.attr.flags + sections),
            _flags("board_opt", _COMPILE, ["-O3", "-DNDEBUG"], mode = "opt"),
            _flags("board_dbg", _COMPILE, ["-g"], mode = "dbg"),
            _flags("board_reproducible", _COMPILE, reproducible),
            _flags("board_link", _LINK, ctx.attr.flags + ctx.attr.link_flags),
        ],
    )

_toolchain_config = rule(
    implementation = _toolchain_config_impl,
    attrs = {
        "board": attr.string(),
        "builtin_includes": attr.string_list(),
        "compiler": attr.string(),
        "flags": attr.string_list(),
        "link_flags": attr.string_list(),
    },
)

def _toolchain(name, facts, compiler, builtin_includes):
    script = "boards/%s/board.ld" % name
    bare = facts["system"] == "Generic"
    link_flags = facts["link_flags"] + ["-L" + _emx(_COMMON), "-T" + _emx(script)] if bare else []
    scripts = [_label(script), _label(_COMMON + "sections.ld")] if bare else []
    _toolchain_config(
        name = name + "_config",
        board = name,
        builtin_includes = builtin_includes,
        compiler = compiler,
        flags = facts["flags"],
        link_flags = link_flags,
    )
    native.filegroup(name = name + "_scripts", srcs = scripts)
    native.filegroup(name = name + "_no_files")
    cc_toolchain(
        name = name + "_cc",
        all_files = name + "_scripts",
        compiler_files = name + "_no_files",
        dwp_files = name + "_no_files",
        linker_files = name + "_scripts",
        objcopy_files = name + "_no_files",
        strip_files = name + "_no_files",
        supports_param_files = 1,
        toolchain_config = name + "_config",
    )
    native.toolchain(
        name = name + "_toolchain",
        target_compatible_with = [":on_" + name],
        toolchain = name + "_cc",
        toolchain_type = "@bazel_tools//tools/cpp:toolchain_type",
    )

# ---- The emulator ----

def _emulator_impl(ctx):
    return EmulatorInfo(command = ctx.attr.command)

_emulator = rule(
    implementation = _emulator_impl,
    attrs = {"command": attr.string_list()},
    provides = [EmulatorInfo],
)

def _command(facts, emulator):
    machine = ["-M", facts["machine"]] if "machine" in facts else []
    return [emulator] + machine + facts.get("emulator_args", [])

# ---- What the generated BUILD file calls ----

def emx_board(name, facts, compiler, emulator, builtin_includes):
    """A board's platform and toolchain, and what emx_board_libraries chooses from.

    Args:
      name: the board, and the platform: --platforms=@emx_boards//:<name>.
      facts: its board.json.
      compiler: path of its C compiler.
      emulator: path of its emulator.
      builtin_includes: directories that the compiler itself searches.
    """
    bare = facts["system"] == "Generic"
    native.constraint_value(name = "on_" + name, constraint_setting = ":board_setting")
    native.config_setting(name = "is_" + name, constraint_values = [":on_" + name])
    native.platform(
        name = name,
        constraint_values = ["@platforms//os:none" if bare else "@platforms//os:linux", ":on_" + name],
    )
    _toolchain(name, facts, compiler, builtin_includes)
    _emulator(name = name + "_emulator", command = _command(facts, emulator))
    cc_library(
        name = name + "_startup",
        srcs = [_label(_COMMON + source) for source in facts["startup"]] if bare else [],
        copts = ["-fno-lto"],  # assembly refers to its symbols by name
        linkopts = facts.get("float_printf", []),
        deps = [_label("testing")],  # semihosting.h
        alwayslink = True,
    )
    port = "runtime/testing/port_%s.c" % ("board" if bare else "host")
    cc_library(name = name + "_port", srcs = [_label(port)], deps = [_label("testing")])

def emx_board_libraries(names):
    """The startup code, the port of test programs and the emulator of the chosen platform.

    Args:
      names: the boards.
    """
    cc_library(name = "no_startup")
    cc_library(
        name = "host_port",
        srcs = [_label("runtime/testing/port_host.c")],
        deps = [_label("testing")],
    )
    _emulator(name = "no_emulator", command = [])
    for name, suffix, otherwise in (
        ("board", "_startup", "no_startup"),
        ("port", "_port", "host_port"),
        ("emulator", "_emulator", "no_emulator"),
    ):
        choices = {":is_" + board: board + suffix for board in names}
        choices["//conditions:default"] = otherwise
        native.alias(name = name, actual = select(choices))
