# SPDX-License-Identifier: Apache-2.0
# Stands in for an emulator that was not found, so that tests fail and say why.
message(FATAL_ERROR "${EMULATOR} was not found when this tree was configured.\n"
                    "  Debian, Ubuntu:  apt install ${PACKAGES}\n"
                    "then configure again, or name it with -DEMX_EMULATOR=<path>.")
