"""Load the plugins that a person names, and call their hooks without letting their faults become ours.

- `discovery`: where plugins come from: entry points and files
- `manager`: the loaded plugins, their checks and their hooks
- `faults`: what a plugin raises or prints
- `store`: a plugin's store
- `supervisor`: a plugin that ends the process
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .discovery import Origin as Origin, find_named as find_named, list_installed as list_installed
    from .manager import Plugin as Plugin, Plugins as Plugins, load as load
    from .supervisor import supervise as supervise
else:
    __getattr__ = make_face(
        __name__, discovery="Origin find_named list_installed", manager="Plugin Plugins load", supervisor="supervise"
    )
