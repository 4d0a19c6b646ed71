"""Adds credentials to a build's requests on their way, so that the build itself never holds one.

- `order`: what the broker is asked to do, told once
- `targets`: who is asked: hosts and paths in one spelling, and what a client may not ask
- `reach`: which of them an isolated build reaches, and what listens inside; `addresses`: what their names may stand for
- `hello`: the server name in the first bytes of TLS
- `process`: the broker's process, and our end of it; `report`: what it did
- `service`, `proxy`: what runs in that process; `authority`: its certificates
- `rules`: a request's credential or none, and what its answer means; `decisions`: the records of both
- `access`: what a request is, and whether it is allowed
- `forges`: the paths of GitHub and its like, and which repository each is about
- `learning`: what the project's files and its servers' answers say about a build's needs
- `headers`: what of a request's headers is sent on
- `handed`: what servers hand out, which is masked
- `placeholders`: what a build sees of a secret that is bound to hosts, and how its value gets into a request
- `environment`: what leads a build's programs to the broker
- `trust`: the authorities that a person's programs trust, in one bundle with the broker's
- `proxies`: the person's own proxy
- `defeats`: what would lead a build past the broker
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .order import Bound as Bound, Order as Order, Place as Place
    from .process import Running as Running, StartingBroker as StartingBroker
    from .report import Report as Report
else:
    __getattr__ = make_face(__name__, order="Bound Order Place", process="Running StartingBroker", report="Report")
