# SPDX-License-Identifier: Apache-2.0
"""A model, firmware and their tests, built from the package and run: under a profile of
toolchains/conan on the board's emulator."""

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout


class TestPackage(ConanFile):
    settings = "os", "arch", "compiler", "build_type"

    def requirements(self) -> None:
        self.requires(self.tested_reference_str)

    def layout(self) -> None:
        cmake_layout(self)

    def generate(self) -> None:
        toolchain = CMakeToolchain(self)
        toolchain.user_presets_path = ""  # nothing beside the sources
        toolchain.generate()

    def build(self) -> None:
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def test(self) -> None:
        CMake(self).ctest(["--output-on-failure", "--no-tests=error"])
