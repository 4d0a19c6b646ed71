"""One build, from the store to the receipt.

- `request`: a build as it was asked for
- `prepare`: load, select, resolve, check and render, before anything is exposed
- `secrets`: the record of each secret, and the list of them that answers every check
- `render`: files and variables, pure
- `expose`: the private directory and the environment, until the scrub
- `run`: the steps in their order
- `brokering`, `isolating`: the broker of a build, and what it sees of the machine
- `places`: where a build may have written to
- `verify`: what the build left behind
- `receipt`: what was exposed, and the proof that it is gone
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .prepare import Extensions as Extensions, PreparedBuild as PreparedBuild
    from .render import RenderContext as RenderContext, Rendered as Rendered, Renderer as Renderer
    from .request import BuildRequest as BuildRequest
    from .secrets import BuildSecret as BuildSecret, BuildSecrets as BuildSecrets
else:
    __getattr__ = make_face(
        __name__,
        prepare="Extensions PreparedBuild",
        render="RenderContext Rendered Renderer",
        request="BuildRequest",
        secrets="BuildSecret BuildSecrets",
    )
