"""The needles of values, for tests that mask them or search for them."""

from ic_secrets.composer.credential import split_secret
from ic_secrets.masking.needles import Exposed, Needle, derive_needles
from ic_secrets.model.secret import SecretType, SecretValue


def expose(name: str, kind: SecretType, value: SecretValue) -> Exposed:
    """Return the secret as a build exposes it."""
    return Exposed(name, split_secret(kind, name, value.reveal()))


def derive(name: str, kind: SecretType, value: SecretValue) -> tuple[Needle, ...]:
    """Return the needles of one secret."""
    return derive_needles(*expose(name, kind, value))
