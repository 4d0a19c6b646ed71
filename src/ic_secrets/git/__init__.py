"""Hands git its logins without arguments, mends the clones that kept one, and reads what is checked out.

- `helper`: the credential helper and the shim of a build
- `clones`: credentials in the configuration of clones
- `borrowed`: clones that borrow the objects of others
- `checkout`: the commit and the branch
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .checkout import find_revision as find_revision
    from .clones import find_residue as find_residue, mend as mend
    from .helper import Login as Login, find_logins as find_logins
else:
    __getattr__ = make_face(__name__, checkout="find_revision", clones="find_residue mend", helper="Login find_logins")
