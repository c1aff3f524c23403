# SPDX-License-Identifier: Apache-2.0
"""emx as a Conan 2 package; docs/packaging.md is its manual.

conan create . --build missing --profile:host toolchains/conan/cortex-m4
"""

from pathlib import Path

from conan import ConanFile
from conan.tools.files import copy, load

required_conan_version = ">=2.4"

PARTS = ("VERSION", "LICENSE", "boards/*", "cmake/*", "python/*", "runtime/*", "toolchains/*")
LEFT_OUT = ("*/__pycache__/*", "*.egg-info/*")


class Emx(ConanFile):
    name = "emx"
    description = "A PyTorch model becomes tested firmware with one CMake line"
    license = "Apache-2.0"
    topics = ("pytorch", "firmware", "cortex-m", "inference")
    package_type = "header-library"
    exports = "VERSION"
    exports_sources = (*PARTS, *(f"!{pattern}" for pattern in LEFT_OUT))
    no_copy_source = True
    # What is generated depends on every byte of emx, so a package built with it is built anew.
    package_id_embed_mode = "full_mode"
    package_id_non_embed_mode = "full_mode"

    def set_version(self) -> None:
        self.version = load(self, str(Path(self.recipe_folder, "VERSION"))).strip()

    def package(self) -> None:
        """As in the source tree, where the CMake package works too."""
        for pattern in PARTS:
            copy(self, pattern, self.source_folder, self.package_folder)

    def package_id(self) -> None:
        """Sources and a host tool: one package for every compiler and target."""
        self.info.clear()

    def package_info(self) -> None:
        self.cpp_info.includedirs = ["runtime/include"]
        self.cpp_info.libdirs = self.cpp_info.bindirs = []
        self.cpp_info.builddirs = ["cmake"]  # emx-config.cmake itself, not one of CMakeDeps
        self.cpp_info.set_property("cmake_find_mode", "none")
