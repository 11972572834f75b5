"""`python -m swift_cli` is `swift`."""

from __future__ import annotations

import sys

from .main import main

sys.exit(main())
