"""Puts settings, store, audit log and plugins together into one request and one build.

The command line and the Python API both stand on it. It does not use argparse and
prints nothing: notices go to a callback.

- `context`: what one command works with
- `stores`: the store that the settings name, checked and perhaps cached
- `request`: what a build is to be
- `exposed`: the values that a build of a target would see
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .context import Context as Context
    from .exposed import read_exposed as read_exposed
    from .request import find_built as find_built, is_brokered as is_brokered, make_request as make_request
else:
    __getattr__ = make_face(
        __name__, context="Context", exposed="read_exposed", request="find_built is_brokered make_request"
    )
