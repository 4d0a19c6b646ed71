"""Find master keys, lock them by a passphrase, and seal values with them.

sealing       master keys and data keys, and the seals that they make
passphrase    a master key locked by a passphrase
master        keys in files, and their format
sources       files, variables, commands and the keyring that keys come from
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .sealing import MasterKey as MasterKey
    from .sources import Keyholder as Keyholder, KeySource as KeySource
else:
    __getattr__ = make_face(__name__, sealing="MasterKey", sources="Keyholder KeySource")
