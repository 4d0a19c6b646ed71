"""What pre-build leaves for post-build comes back from JSON as it was; another version's is not read."""

from __future__ import annotations

import json

import pytest

from ic_secrets.composer.home import ComposerHome, OverlayTrace
from ic_secrets.core.clocks import Since
from ic_secrets.core.notices import Notice
from ic_secrets.stores.base import Cached, Identity
from ic_secrets.two_steps.guard import ProcessId
from ic_secrets.two_steps.handover import Handover, Note
from ic_secrets.two_steps.pipelines import choose_lasting

HANDOVER = Handover(
    path="/run/ic-secrets-0-1",
    checkout="/work",
    target="my-site.dev",
    project="/work",
    identity=[5, 6],
    directory="/work",
    environment={"HOME": "/root"},
    run_dir=None,
    leaks="fail",
    leaks_allowed=["*.log"],
    receipt="/work/receipt",
    secrets=[["TOKEN", "env", "my-site", 3, "a-canary"]],
    unseen=[{"name": "KEY"}],
    broker=ProcessId(5, 6),
    auth={"bearer": {"a.org": "a-canary"}},
    caches=["/cache"],
    trees=["/packages"],
    home=ComposerHome("/home", "/cache", "/data"),
    overlay=OverlayTrace(["auth.json"], ["config.json"], []),  # type: ignore[arg-type]
    store=Identity("store", 7),
    cached=Cached(15, "the server does not answer"),
    written=["composer/auth.json"],
    outputs=[],
    since=Since(1, 2, ((3, 4),)),
    started=2.5,
    versions={"composer": "2.5.5", "revision": None},
    notices=[Notice("text", "hint")],
    guard_id=ProcessId(1, 2),
    beginner=ProcessId(3, 4),
    record={"path": None},
    pipeline="shell",
    restore={"TOKEN": "a-canary", "PATH": "/bin", "COMPOSER_HOME": None, "IC_SECRETS_KEY": "a-canary"},
)


def test_it_comes_back_as_it_was_wherever_its_directory_is() -> None:
    assert Handover.from_json(HANDOVER.to_json(), "/moved") == HANDOVER._replace(path="/moved")
    plain = HANDOVER._replace(store=None, cached=None, broker=None)
    assert Handover.from_json(plain.to_json(), plain.path) == plain
    assert "canary" not in repr(HANDOVER)


def test_a_note_comes_back_without_what_may_be_a_value() -> None:
    lasting = choose_lasting(HANDOVER.restore)
    assert lasting == {"TOKEN": None, "PATH": "/bin", "COMPOSER_HOME": None, "IC_SECRETS_KEY": None}
    note = Note("/run", "/work", "my-site.dev", None, {}, "shell", lasting)
    assert Note.from_json(note.to_json(), "/run") == note


@pytest.mark.parametrize("change", [{"format": 1}, {"format": None}, {"checkout": None, "more": 1}])
def test_what_another_version_wrote_is_not_read(change: dict[str, object]) -> None:
    fields = {**json.loads(HANDOVER.to_json()), **change}
    with pytest.raises((ValueError, TypeError)):
        Handover.from_json(json.dumps(fields).encode(), "/run")
