"""The same build in two steps, `pre-build` and `post-build`, with a guard in between.

- `steps`: what each of the two does
- `handover`: what the first leaves for the second
- `guard`: the process that scrubs when the second does not come
- `locks`: one build at a time in a checkout
- `pipelines`: how a shell, a program or GitHub is given the environment
- `shells`, `github`: the environment as each of them reads it
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .steps import Term as Term, abandon_build as abandon_build, begin_build as begin_build, end_build as end_build
else:
    __getattr__ = make_face(__name__, steps="Term abandon_build begin_build end_build")
