"""`python -m ic_secrets` is `ic-secrets`."""

from __future__ import annotations

import os
import sys

# Python puts the working directory first, which may be a checkout: nothing of ours is imported from there.
sys.path[:] = [path for path in sys.path if os.path.isabs(path) and path != os.getcwd()]

from .cli import start  # noqa: E402

start()
