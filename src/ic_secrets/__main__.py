"""`python -m ic_secrets` is `ic-secrets`."""

from __future__ import annotations

from .cli import start

start()
