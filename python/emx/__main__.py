# SPDX-License-Identifier: Apache-2.0
"""python -m emx"""

import sys

from emx.cli import main

if __name__ == "__main__":
    sys.exit(main())
