"""What a build of a target would see, for commands that look for it but build nothing."""

from __future__ import annotations

import argparse

from ..errors import StoreReadError
from ..masking.needles import Exposed
from ..model.resolve import resolve
from ..model.secret import Owner, Scope, SecretType, Target
from ..stores.base import read_chain
from .opening import opened_store
from .output import print_message
from .recording import observed


def find_exposed(arguments: argparse.Namespace, target: Target, command: str) -> tuple[Exposed, ...]:
    """The values that `run` would expose: those of the types `env` and `composer` with the scope `ic` (rule 8).

    `command` is what wants them, for the audit log.
    """
    with (
        opened_store(arguments, read_only=True) as store,
        observed(store, arguments, command=command, owner=str(target)) as record,
    ):
        chain = read_chain(store, Owner.site(target.site), environment=target.environment, scope=Scope.IC, values=True)
        exposed = []
        for secret in resolve(target.environment, Scope.IC, chain):
            if secret.type is SecretType.RUNTIME:
                continue
            if secret.value is None:
                raise StoreReadError(f"the store does not give the value of {secret.name} ({secret.source})")
            exposed.append(Exposed(secret.name, secret.type, secret.value))
        record.names = tuple(one.name for one in exposed)
    if not exposed:
        print_message("warning", f"{target} has no secret that a build gets")
    return tuple(exposed)
