"""Builds from Python, by the same steps as `ic-secrets run`.

from ic_secrets import open_build

with open_build("my-site.dev") as build:
    build.status = subprocess.run(["composer", "install"], env=build.env).returncode
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from . import build as _build
from .cli.opening import load_plugins, opened_store
from .cli.parsing import read_settings
from .cli.recording import BuildRecord
from .config import Settings
from .environment import Preserve
from .errors import LEAK_FOUND, SCRUB_INCOMPLETE, LeakFoundError, ProgramNotFoundError, ScrubIncompleteError
from .notices import Notice, Notify
from .preparation import BuildRequest
from .process import Outcome, find_program


class OpenBuild:
    """A build while its secrets are exposed, and what came of it."""

    def __init__(self, build: _build.Build) -> None:
        self._build = build
        self.env: dict[str, str] = dict(build.environment)
        """The environment to build with, whole."""
        self.status = 0
        """The build's exit status, for its receipt: set it. Where the block raises and it is 0, it becomes 1."""
        self.receipt: dict[str, Any] | None = None
        """After the block, the receipt (docs/receipt.schema.json)."""

    def __repr__(self) -> str:
        return f"OpenBuild({self._build.exposure.preparation.request.target})"

    def mask(self, text: str) -> str:
        """The text with the build's values masked, in every encoding that `run` masks."""
        return self._build.exposure.hide_values(text)

    def watch(self, pid: int) -> None:
        """Let the watchdog end this process group with the secrets when this program is killed.

        `pid` leads a group of its own: `Popen(…, start_new_session=True)`.
        """
        self._build.exposure.directory.watchdog.watch(pid)


@contextlib.contextmanager
def open_build(
    target: str | None = None,
    *,
    project: str | os.PathLike[str] = ".",
    store: str | None = None,
    key_file: str | os.PathLike[str] | None = None,
    command: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    only: Sequence[str] | None = None,
    excluded: Sequence[str] = (),
    preserve: Sequence[str] | bool = (),
    pristine: bool = False,
    leaks: str = "fail",
    leaks_allowed: Sequence[str] = (),
    receipt: str | os.PathLike[str] | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    notify: Notify | None = None,
) -> Iterator[OpenBuild]:
    """Expose the target's secrets for the time of the block, then scrub and look for what the build left.

    What is not given comes from the settings, as for `run`; `environment` is what the build inherits, else this
    process's. `command` is what will be built with, as far as it is known (`composer install`, where Composer is
    installed). Notices go to `notify`, else to the logger `ic_secrets`.

    Raises IcSecretsError when the build cannot be started: nothing is exposed then. When the block itself raised,
    that goes through; when it succeeded, with `status` 0, a leak is a LeakFoundError and an incomplete scrub a
    ScrubIncompleteError. The build's output is not masked: `OpenBuild.mask` masks a text.
    """
    arguments = argparse.Namespace(store=store, key_file=None if key_file is None else os.fspath(key_file))
    inherited = dict(os.environ if environment is None else environment)
    settings = read_settings(arguments, dict(os.environ))
    request = BuildRequest(
        target=settings.target(target),
        command=tuple(command or _guess_command(inherited)),
        directory=os.path.abspath(project),
        environment=inherited,
        only=None if only is None else frozenset(only),
        excluded=frozenset(excluded),
        preserve=Preserve(everything=preserve) if isinstance(preserve, bool) else Preserve(names=frozenset(preserve)),
        pristine=pristine,
        leaks=leaks,
        leaks_allowed=tuple(leaks_allowed),
        receipt=None if receipt is None else os.path.abspath(receipt),
        run_dir=(None if run_dir is None else os.fspath(run_dir)) or os.environ.get("IC_SECRETS_RUN_DIR") or None,
    )
    with _open(arguments, settings, request, notify or _log) as build:
        yield build


@contextlib.contextmanager
def _open(
    arguments: argparse.Namespace, settings: Settings, request: BuildRequest, notify: Notify
) -> Iterator[OpenBuild]:
    failure: BaseException | None = None
    plugins = load_plugins(settings)
    with opened_store(arguments, read_only=True) as opened:
        record = BuildRecord(opened, arguments, str(request.target))
        with _build.open_build(opened, request, notify, record, plugins) as inner:
            build = OpenBuild(inner)
            try:
                yield build
            except BaseException as error:
                failure = error
            inner.outcome = Outcome(build.status or (1 if failure else 0))
    build.receipt = inner.receipt
    if failure:
        raise failure
    if not build.status:
        _raise_for(inner)


def _raise_for(build: _build.Build) -> None:
    """A build that succeeded and what it left, as an error."""
    if build.status == LEAK_FOUND:
        what = "a secret" if build.leaks == 1 else "secrets"
        raise LeakFoundError(
            f"the build left {what} behind in {build.leaks} {'place' if build.leaks == 1 else 'places'}"
        )
    if build.status == SCRUB_INCOMPLETE:
        failure = build.exposure.failure
        raise failure or ScrubIncompleteError(
            "what came after the build could not be done in full", hint="the notices say what"
        )


def _guess_command(environment: Mapping[str, str]) -> tuple[str, ...]:
    with contextlib.suppress(ProgramNotFoundError):
        find_program("composer", environment)
        return ("composer", "install")
    return ("sh",)


def _log(notice: Notice) -> None:
    import logging

    level = logging.ERROR if notice.level == "error" else logging.WARNING
    logging.getLogger("ic_secrets").log(level, "%s%s", notice.text, f" ({notice.hint})" if notice.hint else "")
