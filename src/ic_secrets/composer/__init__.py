"""Says what Composer makes of a project and of its credentials, so that a build's are found where Composer looks.

- `methods`: the ways to authenticate; one record each
- `credential`: a `composer` secret, parsed
- `auth_json`: auth.json as a document
- `precedence`: which of several credentials Composer sends
- `repositories`: where a project's packages come from
- `includes`: what composer.json takes from other files of the checkout
- `committed`: credentials that stand in composer.json and the lock themselves
- `products`: what people install, and the credential or variables that each product wants
- `mentions`: the servers that its scripts ask
- `trees`: the directories outside of a project that Composer writes to
- `project`: the project that is built
- `home`: the private Composer home of a build
- `foreign_home`: what gives Composer another home
- `minted`: tokens that Composer gets while a build runs
- `version`: the Composer that is installed
- `command`: a Composer command line
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .credential import Credential as Credential, parse_credential as parse_credential
    from .home import ComposerHome as ComposerHome
    from .methods import METHODS as METHODS
    from .project import Project as Project
else:
    __getattr__ = make_face(
        __name__, credential="Credential parse_credential", home="ComposerHome", methods="METHODS", project="Project"
    )
