# SPDX-License-Identifier: Apache-2.0
"""emx_model() and emx_model_test(); docs/packaging.md is their manual."""

load("@rules_cc//cc:action_names.bzl", "C_COMPILE_ACTION_NAME")
load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library")
load("@rules_cc//cc:find_cc_toolchain.bzl", "find_cc_toolchain", "use_cc_toolchain")
load("@rules_cc//cc/common:cc_common.bzl", "cc_common")
load("@rules_cc//cc/common:cc_info.bzl", "CcInfo")
load(":board.bzl", "EmulatorInfo")
load(":settings.bzl", "StringInfo")

EmxModelInfo = provider(
    doc = "A generated model: what its tests need to know.",
    fields = {
        "arguments": "List of arguments of `emx compile` that decide the C.",
        "bundle": "File: the exported model.",
        "prefix": "Of its symbols, macros and files.",
        "tool": "FilesToRunProvider that runs emx, or None.",
    },
)

_MODEL_GROUPS = [".h", ".c", "_weights.bin", ".json"]
_WEIGHTS_SOURCE = "_weights.c"  # not if the weights are bound at run time, but in tests
_TEST_GROUPS = ["_test.c", "_vectors.c", "_vectors.bin"]

# ---- Running emx ----

_TOOL = attr.label(executable = True, cfg = "exec")

_EMX_ATTRS = {
    "_compiler": attr.label(default = "//:compiler", allow_files = True),
    "_main": attr.label(default = "//bazel:run_emx.py", allow_single_file = True),
    "_python": attr.label(default = "//bazel:python"),
}

def _tool(ctx):
    return ctx.attr.tool[DefaultInfo].files_to_run if ctx.attr.tool else None

def _run_emx(ctx, tool, mnemonic, message, arguments, inputs, outputs):
    """An action: `tool` if there is one, otherwise the setting's Python on the sources of emx."""
    settings = dict(
        mnemonic = mnemonic,
        progress_message = message,
        outputs = outputs,
        use_default_shell_env = True,
    )
    if tool:
        ctx.actions.run(executable = tool, arguments = [arguments], inputs = inputs, **settings)
        return
    start = ctx.actions.args()
    start.add(ctx.attr._python[StringInfo].value)
    start.add("-B")
    start.add(ctx.file._main)
    ctx.actions.run(
        executable = "/usr/bin/env",
        arguments = [start, arguments],
        inputs = depset([ctx.file._main], transitive = [inputs, ctx.attr._compiler[DefaultInfo].files]),
        **settings
    )

# ---- Export: the only step that needs PyTorch ----

def _bundle_impl(ctx):
    model = ctx.file.model
    if model.extension == "emx":
        return DefaultInfo(files = depset([model]))
    bundle = ctx.actions.declare_file(ctx.label.name + ".emx")
    arguments = ctx.actions.args()
    arguments.add("export")
    arguments.add(model, format = "%s:" + ctx.attr.factory if ctx.attr.factory else "%s")
    arguments.add("-o", bundle)
    arguments.add("--name", ctx.attr.prefix)
    arguments.add_all(ctx.attr.arguments)
    arguments.add_all("--example-inputs", ctx.files.example_inputs)
    function = ":" + ctx.attr.calibration_function if ctx.attr.calibration_function else ""
    arguments.add_all("--calibration", ctx.files.calibration, format_each = "%s" + function)
    _run_emx(
        ctx,
        _tool(ctx),
        "EmxExport",
        "emx: exporting %s" % model.short_path,
        arguments,
        depset([model] + ctx.files.example_inputs + ctx.files.calibration + ctx.files.data),
        [bundle],
    )
    return DefaultInfo(files = depset([bundle]))

_bundle = rule(
    implementation = _bundle_impl,
    attrs = dict(
        _EMX_ATTRS,
        arguments = attr.string_list(),
        calibration = attr.label(allow_single_file = True),
        calibration_function = attr.string(),
        data = attr.label_list(allow_files = True),
        example_inputs = attr.label(allow_single_file = True),
        factory = attr.string(),
        model = attr.label(allow_single_file = True, mandatory = True),
        prefix = attr.string(mandatory = True),
        tool = _TOOL,
    ),
)

# ---- Code ----

def _predefined_macros(ctx):
    """A file of the macros that the C compiler predefines under its flags: they name the target."""
    toolchain = find_cc_toolchain(ctx)
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    variables = cc_common.create_compile_variables(
        feature_configuration = features,
        cc_toolchain = toolchain,
        user_compile_flags = ctx.fragments.cpp.copts + ctx.fragments.cpp.conlyopts,
    )
    choice = dict(feature_configuration = features, action_name = C_COMPILE_ACTION_NAME)
    macros = ctx.actions.declare_file(ctx.label.name + "/macros.h")
    arguments = ctx.actions.args()
    arguments.add_all(cc_common.get_memory_inefficient_command_line(variables = variables, **choice))
    arguments.add_all(["-dM", "-E", "-x", "c", "/dev/null"])
    arguments.add("-o", macros)
    ctx.actions.run(
        mnemonic = "EmxMacros",
        progress_message = "emx: asking the compiler for its target",
        executable = cc_common.get_tool_for_action(**choice),
        arguments = [arguments],
        env = cc_common.get_environment_variables(variables = variables, **choice),
        inputs = toolchain.all_files,
        outputs = [macros],
    )
    return macros

def _generate(ctx, info, extra_arguments, suffixes):
    """The action that writes the C; returns suffix -> File."""
    files = {s: ctx.actions.declare_file("%s/%s%s" % (ctx.label.name, info.prefix, s)) for s in suffixes}
    arguments = ctx.actions.args()
    arguments.add("compile", info.bundle)
    arguments.add("-o", files[".h"].dirname)
    arguments.add("--name", info.prefix)
    arguments.add_all(info.arguments + extra_arguments)
    inputs = [info.bundle]
    if "--target" not in info.arguments:
        macros = _predefined_macros(ctx)
        arguments.add("--detect-target", macros)
        inputs.append(macros)
    _run_emx(
        ctx,
        info.tool,
        "EmxCompile",
        "emx: generating C for %s" % ctx.label,
        arguments,
        depset(inputs),
        files.values(),
    )
    return files

def _code_providers(files, info):
    """Files by output group, and their directory as a variable of copts."""
    directory = platform_common.TemplateVariableInfo({"EMX_DIRECTORY": files[".h"].dirname})
    groups = {suffix: depset([file]) for suffix, file in files.items()}
    return [DefaultInfo(files = depset(files.values())), OutputGroupInfo(**groups), directory, info]

def _binds_weights(info):
    return "external" in info.arguments

def _code_impl(ctx):
    info = EmxModelInfo(
        bundle = ctx.file.bundle,
        prefix = ctx.attr.prefix,
        arguments = ctx.attr.arguments,
        tool = _tool(ctx),
    )
    suffixes = _MODEL_GROUPS + ([] if _binds_weights(info) else [_WEIGHTS_SOURCE])
    return _code_providers(_generate(ctx, info, [], suffixes), info)

def _test_code_impl(ctx):
    info = ctx.attr.model[EmxModelInfo]
    suffixes = _MODEL_GROUPS + [_WEIGHTS_SOURCE] + _TEST_GROUPS
    files = _generate(ctx, info, ["--test"] + ctx.attr.arguments, suffixes)
    models = ctx.actions.declare_file(ctx.label.name + "/emx_test_models.c")
    ctx.actions.write(models, """\
#include "emx_test.h"
extern const emx_test_model_t {0}_test_model;
const emx_test_model_t *const emx_test_models[] = {{&{0}_test_model}};
const unsigned emx_test_model_count = 1;
""".format(info.prefix))
    files["_models.c"] = models
    return _code_providers(files, info)

_CODE = dict(
    toolchains = use_cc_toolchain(),
    fragments = ["cpp"],
)

_CODE_ATTRS = dict(
    _EMX_ATTRS,
    arguments = attr.string_list(),
    _cc_toolchain = attr.label(default = "@rules_cc//cc:current_cc_toolchain"),
)

_code = rule(
    implementation = _code_impl,
    attrs = dict(
        _CODE_ATTRS,
        bundle = attr.label(allow_single_file = True, mandatory = True),
        prefix = attr.string(mandatory = True),
        tool = _TOOL,
    ),
    **_CODE
)

_test_code = rule(
    implementation = _test_code_impl,
    attrs = dict(_CODE_ATTRS, model = attr.label(providers = [EmxModelInfo], mandatory = True)),
    **_CODE
)

# ---- Libraries ----

def _model_impl(ctx):
    library, code = ctx.attr.library, ctx.attr.code
    return [library[DefaultInfo], library[CcInfo], code[EmxModelInfo], code[OutputGroupInfo]]

_model = rule(
    implementation = _model_impl,
    attrs = {
        "code": attr.label(providers = [EmxModelInfo]),
        "library": attr.label(providers = [CcInfo]),
    },
    provides = [CcInfo, EmxModelInfo],
)

def _test_weights_impl(ctx):
    return ctx.attr.library[CcInfo] if _binds_weights(ctx.attr.model[EmxModelInfo]) else CcInfo()

# What a test has to bring for a model without weights.
_test_weights = rule(
    implementation = _test_weights_impl,
    attrs = {
        "library": attr.label(providers = [CcInfo]),
        "model": attr.label(providers = [EmxModelInfo]),
    },
    provides = [CcInfo],
)

def _group(code, suffix, **common):
    """A target of the files of `code` with this suffix."""
    name = code + suffix
    native.filegroup(name = name, srcs = [code], output_group = suffix, **common)
    return name

def _embedded(code, what, **common):
    """A library of the data that `code` embeds by .incbin, which needs an include path."""
    name = code + what
    cc_library(
        name = name,
        srcs = [_group(code, what + ".c", **common)],
        copts = ["-fno-lto", "-I$(EMX_DIRECTORY)"],
        textual_hdrs = [_group(code, what + ".bin", **common)],
        toolchains = [code],
        **common
    )
    return name

def _library(name, code, copts, weights, **common):
    """The library of the model that `code` generates; `weights`: the library of its weights, or none."""
    cc_library(
        name = name,
        srcs = [_group(code, ".c", **common)],
        hdrs = [_group(code, ".h", **common)],
        copts = copts + ["-ffp-contract=fast"],
        includes = [code],
        deps = weights + [Label("//:runtime")],
        **common
    )

def _c_identifier(name):
    identifier = "".join([c if c.isalnum() else "_" for c in name.elems()])
    return "_" + identifier if identifier[0].isdigit() else identifier

def emx_model(
        name,
        model,
        factory = None,
        data = [],
        inputs = [],
        example_inputs = None,
        vectors = None,
        seed = None,
        allow_pickle = False,
        quantize = None,
        calibration = None,
        calibration_function = None,
        keep_float = [],
        optimize = None,
        ram = None,
        slim = True,
        io = None,
        input = None,
        strict = False,
        prefix = None,
        target = None,
        io_arena = False,
        arena = None,
        arena_section = None,
        weights = None,
        weights_section = None,
        max_arena_bytes = None,
        max_weights_bytes = None,
        copts = [],
        tool = None,
        visibility = None,
        **common):
    """A library with the C of a model; #include "<prefix>.h".

    Args:
      name: the cc_library, and an EmxModelInfo for emx_model_test.
      model: a .pt2 archive, a bundle (.emx), or the script that has `factory`.
      factory: the function of the script that returns (module, example_inputs).
      data: what the script imports and reads.
      inputs: types that fix open shapes: "x=f32[1x3x32x32]".
      example_inputs: .npz, .npy or .pt file with test inputs.
      vectors: how many test vectors.
      seed: of those that are generated.
      allow_pickle: run the code in a pickled model.
      quantize: "int8": quantise a float model.
      calibration: typical inputs for it: .npz or .pt file, or the script that has
        `calibration_function`.
      calibration_function: the function of the script that gives the inputs.
      keep_float: modules that stay in float, by path.
      optimize: "balanced", "speed" or "size".
      ram: "default", "small" or "min".
      slim: remove channels that provably change no output.
      io: inputs and outputs of a quantised model: "int8" or "float".
      input: "whole" or "rows".
      strict: a layer of a quantised model that cannot be computed with integers is an error.
      prefix: of symbols, macros and files; default: the name as a C identifier.
      target: one of `emx targets`; default: the one that the compiler's macros name.
      io_arena: inputs and outputs live in the arena.
      arena: "static" or "caller".
      arena_section: linker section of the arena.
      weights: "incbin", "string" or "external"; the blob is <name>_weights.bin.
      weights_section: linker section of the weights.
      max_arena_bytes: more is an error.
      max_weights_bytes: more is an error.
      copts: for the generated C.
      tool: an executable that runs emx; default: the Python of --@emx//bazel:python.
      visibility: of `name`.
      **common: attributes of every target, such as tags and testonly.
    """
    prefix = prefix or _c_identifier(name)
    code = name + "_code"
    parts = _parts(common)
    _bundle(
        name = name + "_bundle",
        arguments = (
            (["--inputs"] + inputs if inputs else []) +
            _options(vectors = vectors, seed = seed) +
            (["--allow-pickle"] if allow_pickle else []) +
            _options(quantize = quantize) +
            (["--keep-float"] + keep_float if keep_float else [])
        ),
        calibration = calibration,
        calibration_function = calibration_function,
        data = data,
        example_inputs = example_inputs,
        factory = factory,
        model = model,
        prefix = prefix,
        tool = tool,
        **parts
    )
    _code(
        name = code,
        arguments = (["--io-arena"] if io_arena else []) + _options(
            target = target,
            optimize = optimize,
            ram = ram,
            io = io,
            input = input,
            arena = arena,
            arena_section = arena_section,
            weights = weights,
            weights_section = weights_section,
            max_arena_bytes = max_arena_bytes,
            max_weights_bytes = max_weights_bytes,
        ) + ([] if slim else ["--no-slim"]) + (["--strict"] if strict else []),
        bundle = name + "_bundle",
        prefix = prefix,
        tool = tool,
        **parts
    )
    embedded = [] if weights == "external" else [_embedded(code, "_weights", **parts)]
    _library(name + "_library", code, copts, embedded, **parts)
    _model(name = name, code = code, library = name + "_library", visibility = visibility, **common)
    for suffix in ("_weights.bin", ".json"):
        native.filegroup(
            name = name + suffix,
            srcs = [code],
            output_group = suffix,
            visibility = visibility,
            **parts
        )

def _parts(common):
    """Attributes of targets that nobody asks for: `bazel build //...` does not build them."""
    return dict(common, tags = common.get("tags", []) + ["manual"])

def _options(**values):
    """--key value for those that are not None."""
    pairs = [["--" + k.replace("_", "-"), str(v)] for k, v in values.items() if v != None]
    return [word for pair in pairs for word in pair]

# ---- Tests ----

def emx_model_test(name, model, rtol = None, atol = None, layers = False, copts = [], size = "small", **common):
    """A test of the model against what PyTorch gave, on the platform's emulator if it has one.

    Args:
      name: the test; <name>_program is its program.
      model: an emx_model.
      rtol: tolerance, times the largest absolute value of the output; default 1e-4.
      atol: tolerance; default 1e-6.
      layers: compare each layer too, in a copy of the model that reports them.
      copts: for that copy.
      size: of the test; "small" means up to a minute.
      **common: attributes of the test, such as tags and timeout.
    """
    code = name + "_code"
    parts = dict(tags = ["manual"], testonly = True)
    _test_code(
        name = code,
        arguments = _options(rtol = rtol, atol = atol) + (["--taps"] if layers else []),
        model = model,
        **parts
    )
    weights = _embedded(code, "_weights", **parts)
    if layers:
        libraries = [name + "_library"]
        _library(name + "_library", code, copts, [weights], **parts)
    else:
        libraries = [model, name + "_weights"]
        _test_weights(name = name + "_weights", library = weights, model = model, **parts)
    cc_binary(
        name = name + "_program",
        srcs = [
            Label("//:test_main"),
            _group(code, "_models.c", **parts),
            _group(code, "_test.c", **parts),
        ],
        deps = libraries + [
            _embedded(code, "_vectors", **parts),
            Label("//:testing"),
            Label("@emx_boards//:port"),
        ],
        **parts
    )
    emx_program_test(name = name, program = name + "_program", size = size, **common)

def _program_test_impl(ctx):
    program = ctx.executable.program
    command = ctx.attr._emulator[EmulatorInfo].command
    script = ctx.actions.declare_file(ctx.label.name + ".sh")
    words = ["'%s'" % word for word in command + [program.short_path]]
    ctx.actions.write(script, "#!/bin/sh\nexec %s\n" % " ".join(words), is_executable = True)
    runfiles = ctx.runfiles([program]).merge(ctx.attr.program[DefaultInfo].default_runfiles)
    return DefaultInfo(executable = script, runfiles = runfiles)

# From Bazel 9 on a test would otherwise run only on a machine that is the target's platform. Bazel 4
# takes no exec_groups; what newer versions have tells them apart.
_RUN_ANYWHERE = {"exec_groups": {"test": exec_group()}} if hasattr(native, "package_relative_label") else {}

emx_program_test = rule(
    implementation = _program_test_impl,
    doc = "Runs a cc_binary: on the platform's emulator if it has one. It passes by exit code 0.",
    attrs = {
        "program": attr.label(executable = True, cfg = "target", mandatory = True),
        "_emulator": attr.label(default = "@emx_boards//:emulator"),
    },
    test = True,
    **_RUN_ANYWHERE
)
