# SPDX-License-Identifier: Apache-2.0
"""Run the emx that lies beside this file, whatever emx the Python has installed: an action uses
nothing but its inputs. Links are not resolved: they lead out of the sandbox."""

import sys
from importlib.machinery import PathFinder
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1] / "python")
sys.meta_path.insert(0, PathFinder)  # before the hook of an editable install

from emx.cli import main  # noqa: E402

sys.exit(main())
