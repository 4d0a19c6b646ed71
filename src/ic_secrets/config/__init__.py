"""Finds every setting of a command, and says where it came from.

- `catalogue`: every setting, what it takes, and who may set it
- `files`: the project's ic-secrets.toml and the person's config.toml
- `projects`: the site that Lando or DDEV name
- `branches`: the environment of a git branch
- `passphrase`: asking a person for that of a key
- `settings`: all of these together, in their order
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .catalogue import SETTINGS as SETTINGS, make_schema as make_schema
    from .settings import Setting as Setting, Settings as Settings
else:
    __getattr__ = make_face(__name__, catalogue="SETTINGS make_schema", settings="Setting Settings")
