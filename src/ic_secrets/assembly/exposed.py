"""The values that a build of a target would see, for commands that look for them but build nothing."""

from __future__ import annotations

from ..composer.credential import split_secret
from ..core import Notice
from ..errors import StoreReadError
from ..masking import Exposed
from ..model import Owner, Scope, SecretType, Target
from ..model.resolve import resolve
from .context import Context


def read_exposed(context: Context, target: Target, command: str) -> tuple[Exposed, ...]:
    """Return the values that `run` would expose: of the types `env` and `composer`, with the scope `ic` (rule 8).

    `command` is what wants them, for the audit log.
    """
    with (
        context.open_store(read_only=True) as store,
        context.observed(store, command=command, owner=str(target)) as record,
    ):
        chain = store.read_chain(Owner.site(target.site), environment=target.environment, scope=Scope.IC, values=True)
        exposed = []
        for secret in resolve(target.environment, Scope.IC, chain):
            if secret.type is SecretType.RUNTIME:
                continue
            if secret.value is None:
                raise StoreReadError(f"the store does not give the value of {secret.name} ({secret.source})")
            exposed.append(Exposed(secret.name, split_secret(secret.type, secret.name, secret.value.reveal())))
        record.names = tuple(one.name for one in exposed)
    if not exposed:
        context.notify(Notice(f"{target} has no secret that a build gets"))
    return tuple(exposed)
