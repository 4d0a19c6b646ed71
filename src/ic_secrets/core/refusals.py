"""What becomes of an error that keeps a build from starting: it ends everything, or is noted among others."""

from collections.abc import Callable
from typing import NoReturn, TypeVar

from ..errors import IcSecretsError

Refuse = Callable[[IcSecretsError], None]
T = TypeVar("T")


def stop(error: IcSecretsError) -> NoReturn:
    """Refuse a build at the first thing that is wrong with it."""
    raise error


def attempt(refuse: Refuse, step: Callable[[], T], otherwise: T) -> T:
    """What the step gives; `otherwise` where its error was refused without an end to everything."""
    try:
        return step()
    except IcSecretsError as error:
        refuse(error)
        return otherwise


def passes(refuse: Refuse, check: Callable[..., object], *arguments: object) -> bool:
    """Whether the check raises nothing; where it does, that was refused without an end to everything."""
    try:
        check(*arguments)
    except IcSecretsError as error:
        refuse(error)
        return False
    return True
