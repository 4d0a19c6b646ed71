"""Runs a Composer build with its secrets, and leaves none of them behind.

`from ic_secrets import open_build` builds from Python; `hookimpl` marks what a plugin implements (`hookspecs`).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .api import open_build
    from .hookspecs import hookimpl, hookspec

__version__ = "0.2.0"
__all__ = ["__version__", "hookimpl", "hookspec", "open_build"]


def __getattr__(name: str) -> object:
    """The names above, imported by their first use: the command line needs none of them."""
    if name == "open_build":
        from .api import open_build

        return open_build
    if name in {"hookimpl", "hookspec"}:
        from . import hookspecs

        return getattr(hookspecs, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
