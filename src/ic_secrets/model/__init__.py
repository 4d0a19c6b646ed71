"""What secrets are, and which of them a build gets: the rules of the product, without a clock, a file or a process.

- `secret`: secrets, values, owners, sites and targets
- `names`: the grammar of names
- `hosts`: the hosts that a secret may be bound to
- `resolve`: which value wins, and why
- `environments`: the same for every environment of a site
- `variables`: the environment variables of a build
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .resolve import Holdings as Holdings
    from .secret import (
        Owner as Owner,
        Scope as Scope,
        SecretType as SecretType,
        SecretValue as SecretValue,
        Site as Site,
        Target as Target,
    )
else:
    __getattr__ = make_face(__name__, resolve="Holdings", secret="Owner Scope SecretType SecretValue Site Target")  # noqa: S106
