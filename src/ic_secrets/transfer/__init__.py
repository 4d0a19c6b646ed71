"""Move secrets between stores and files.

- `merge`: sets of secrets, and the changes that bring one into a store
- `drift`: the differences between two stores
- `formats`: the files that people have already
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .merge import SecretSet as SecretSet, check_value as check_value, read_secrets as read_secrets
else:
    __getattr__ = make_face(__name__, merge="SecretSet check_value read_secrets")
