"""Why a machine refuses namespaces, by what bubblewrap says of it, and what to do.

The messages are those of bubblewrap 0.8 to 0.11, in the C locale. Where the kernel says no more than EPERM, its
settings tell who refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..core.records import NamedTuple

# Returns a kernel setting's text below /proc/sys, or "" if the kernel lacks it.
ReadSetting = Callable[[str], str]

_CONTAINER = (
    "in a container: --security-opt seccomp=unconfined --security-opt systempaths=unconfined, "
    "and --security-opt apparmor=unconfined where AppArmor is on; as root --cap-add SYS_ADMIN is enough"
)
_APPARMOR = (
    "give bwrap an AppArmor profile with `userns,` (the documentation's page on `doctor` has one), or: "
    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
)


class Refusal(NamedTuple):
    """A message of bubblewrap, as a pattern; why, as `... refuses namespaces` would go on; and what to do."""

    pattern: str
    reason: str
    hint: str


# Settings that refuse, with the value that does, and what to do. The first that has its value is to blame.
SETTINGS = (
    ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", _APPARMOR),
    ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
)
_BLOCKED = "the system does not permit new namespaces"
REFUSALS = (
    Refusal(r"No permissions to creat(?:e|ing) (?:a )?new namespace", _BLOCKED, _CONTAINER),
    Refusal(r"Creating new namespace failed: Operation not permitted", _BLOCKED, _CONTAINER),
    Refusal(
        r"Creating new namespace failed: .*(?:ENOSPC|No space left)",
        "there may be no more namespaces: their limit is reached or 0, or an isolated build is around this one",
        "raise the limits in /proc/sys/user/max_*_namespaces: sysctl -w user.max_user_namespaces=15000",
    ),
    Refusal(
        r"Creating new namespace failed: Invalid argument",
        "the kernel was built without namespaces of users",
        "use a kernel with CONFIG_USER_NS",
    ),
    Refusal(
        r"Failed to make / slave: (?:Invalid argument|Permission denied|Operation not permitted)",
        "/ is not a mount of its own, as in a chroot, or mounting is forbidden",
        f"run it where / is mounted, as in a container or by `mount --bind DIR DIR` before the chroot; {_CONTAINER}",
    ),
    Refusal(
        r"Can't mount proc on .*: (?:Operation not permitted|Permission denied)",
        "/proc cannot be mounted, since parts of the one that is there are masked",
        "in a container: --security-opt systempaths=unconfined",
    ),
    Refusal(
        r"(?:Can't read|Failed to open) /proc/sys/kernel/overflow[ug]id|Can't open /proc",
        "this sandbox has no usable /proc, as gVisor and a chroot without it",
        "mount /proc, or run the build on a runtime with a kernel of its own",
    ),
    Refusal(
        r"loopback: Failed RTM_NEWADDR|[Ss]etting up uid map: (?:Permission denied|Operation not permitted)",
        "AppArmor takes the rights from namespaces that are made without being root, as Ubuntu does from 23.10 on",
        _APPARMOR,
    ),
    Refusal(
        r"Unexpected capabilities but not setuid",
        "capabilities were given to a process that is not root",
        "start ic-secrets without ambient capabilities",
    ),
    Refusal(
        r"Unknown option (--\S+)",
        "this bubblewrap is too old",
        "install bubblewrap 0.8 or later, or: pip install 'ic-secrets[isolation]'",
    ),
)


def explain_refusal(message: str, read_setting: ReadSetting) -> tuple[str, str]:
    """Return why bubblewrap refused, and what to do; what it says itself where that is not known."""
    message = " ".join(line.removeprefix("bwrap: ") for line in message.splitlines()).strip()
    for refusal in REFUSALS:
        if re.search(refusal.pattern, message):
            hint = refusal.hint
            if refusal.reason == _BLOCKED:
                hint = next((each for name, bad, each in SETTINGS if read_setting(name) == bad), hint)
            return refusal.reason, hint
    return f"bubblewrap fails: {message[:300] or 'it says nothing'}", ""
