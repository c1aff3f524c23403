# SPDX-License-Identifier: Apache-2.0
"""What emx needs besides its own tree: the boards, with the compilers and emulators of this machine."""

_BUILD = """\
load("{package}:board.bzl", "emx_board", "emx_board_libraries")

package(default_visibility = ["//visibility:public"])

constraint_setting(name = "board_setting")
{boards}
emx_board_libraries({names})
"""

_BOARD = """
emx_board(
    name = {name},
    facts = {facts},
    compiler = {compiler},
    emulator = {emulator},
    builtin_includes = {includes},
)
"""

def _read_json(ctx, path):
    return json.decode(ctx.read(Label("//:boards/" + path)))

def _facts(ctx, board):
    """boards/<board>/board.json, and what its family has in common."""
    facts = _read_json(ctx, board + "/board.json")
    if "family" not in facts:
        return facts
    common = _read_json(ctx, "common/%s.json" % facts["family"])
    common.update(facts)
    return common

def _find(ctx, tool):
    """Its path; where it ought to be if it is missing, so that the error names it."""
    return str(ctx.which(tool) or "/usr/bin/" + tool)

def _builtin_includes(ctx, compiler, flags):
    """The directories that the compiler itself searches, also by their real paths."""
    found = {}
    for language in ("c", "c++"):  # none where the compiler, or its C++, is missing
        said = ctx.execute([compiler] + flags + ["-E", "-v", "-x", language, "/dev/null"]).stderr
        listed = said.partition("#include <...> search starts here:\n")[2]
        for line in listed.partition("End of search list")[0].splitlines():
            path = ctx.path(line.strip())
            found[str(path)] = True
            found[str(path.realpath)] = True
    return found.keys()

def _emx_boards_impl(ctx):
    boards = ctx.path(Label("//:VERSION")).dirname.get_child("boards").readdir()
    names = sorted([b.basename for b in boards if b.get_child("board.json").exists])
    written = []
    for name in names:
        facts = _facts(ctx, name)
        compiler = _find(ctx, facts["compiler"])
        written.append(_BOARD.format(
            name = repr(name),
            facts = repr(facts),
            compiler = repr(compiler),
            emulator = repr(_find(ctx, facts["emulator"])),
            includes = repr(_builtin_includes(ctx, compiler, facts["flags"])),
        ))
    package = str(Label("//bazel:board.bzl")).rpartition(":")[0]
    if package.startswith("//"):  # emx is the main repository
        package = "@" + package
    ctx.file("BUILD.bazel", _BUILD.format(
        package = package,
        boards = "".join(written),
        names = repr(names),
    ))

emx_boards = repository_rule(
    implementation = _emx_boards_impl,
    doc = "Platforms, toolchains and emulators for the boards of emx.",
    configure = True,
    environ = ["PATH"],
)

def emx_repositories():
    """For a WORKSPACE; with modules, MODULE.bazel does this."""
    emx_boards(name = "emx_boards")
    native.register_toolchains("@emx_boards//:all")
