"""Say what this machine can do for a build, without changing anything.

- `checks`: the registry; a check is a record there, and a function in the module of its subject
- `machine`: memory, /proc, core dumps, clocks
- `programs`: git, PHP, Composer
- `keeping`: settings, plugins, keys, the store, the audit log
- `modes`: what of the broker and of isolation works
- `finding`: what a check receives and returns
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .checks import Result as Result, examine as examine
    from .finding import FAIL as FAIL, OK as OK, WARN as WARN
else:
    __getattr__ = make_face(__name__, checks="Result examine", finding="FAIL OK WARN")
