"""Builds from Python, by the same steps as `ic-secrets run`.

from ic_secrets import open_build

with open_build("my-site.dev") as build:
    build.status = subprocess.run(["composer", "install"], env=build.env).returncode
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .assembly import Context, find_built, make_request
from .build import BuildRequest, run as _build
from .config import Settings
from .core import Notice, Notify
from .errors import (
    LEAK_FOUND,
    SCRUB_INCOMPLETE,
    SIGNAL_BASE,
    BuildError,
    LeakFoundError,
    ProgramNotFoundError,
    ScrubIncompleteError,
)
from .process import Outcome, find_program


class OpenBuild:
    """A build while its secrets are exposed, and how it ended."""

    def __init__(self, build: _build.Build) -> None:
        self._build = build
        self.env: dict[str, str] = dict(build.exposure.environment)
        """The complete environment to build with."""
        self._status = 0
        self.receipt: dict[str, Any] | None = None
        """The receipt (docs/receipt.schema.json), once the block has ended."""

    def __repr__(self) -> str:
        return f"OpenBuild({self._build.request.target})"

    @property
    def status(self) -> int:
        """The build's exit status, for its receipt: set it. If the block raises while it is 0, it becomes 1.

        The -N that `subprocess` gives for a build ended by a signal becomes 128+N, as in a shell. TypeError for None,
        which means that nobody waited for the build; ValueError.
        """
        return self._status

    @status.setter
    def status(self, status: int) -> None:
        if not isinstance(status, int) or isinstance(status, bool):
            raise TypeError(f"an exit status is a number, not {type(status).__name__}")
        if not -SIGNAL_BASE < status < 256:
            raise ValueError(f"{status} is not an exit status")
        self._status = status if status >= 0 else SIGNAL_BASE - status

    def mask(self, text: str) -> str:
        """Return the text with the build's values masked, in every encoding that `run` masks."""
        return self._build.exposure.hide_values(text)

    def watch(self, pid: int) -> None:
        """Let the watchdog end this process group, and remove the secrets, if this program is killed.

        `pid` must lead a group of its own: `Popen(…, start_new_session=True)`.
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
    excluded: Sequence[str] | None = None,
    preserve: Sequence[str] | bool = False,
    pristine: bool = False,
    leaks: str | None = None,
    leaks_allowed: Sequence[str] = (),
    receipt: str | os.PathLike[str] | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    broker: bool = False,
    writable: Sequence[str] | None = None,
    notify: Notify | None = None,
) -> Iterator[OpenBuild]:
    """Expose the target's secrets while the block runs, then scrub and search for leaks.

    Arguments that are not given, or False, come from the settings, as for `run`: variables of this process, the files
    of the `project` and of the person. The build inherits `environment`, by default this process's. `command` is the
    command of the build, if it is known (by default `composer install`, if Composer is installed). Notices go to
    `notify`, by default to the logger `ic_secrets`. With `broker` the build holds no credential: a broker adds them to
    its requests, and `writable` are the hosts (`HOST[:PORT]`) of which it may ask more than to read.

    IcSecretsError if the build cannot be started: then nothing is exposed. What the block raises passes through; if it
    succeeds, with `status` 0, a leak is a LeakFoundError and an incomplete scrub a ScrubIncompleteError. The build's
    output is not masked: `OpenBuild.mask` masks a text.
    """
    directory = _find_directory(project)
    flags: dict[str, str | None] = {
        "store": store,
        "key-file": os.fspath(key_file) if key_file else None,
        "only": None if only is None else _join("only", only),
        "except": _join("excluded", excluded) if excluded else None,
        "preserve-env": "*" if preserve is True else _join("preserve", preserve) if preserve else None,
        "pristine": "true" if pristine else None,
        "leaks": _check_leaks(leaks),
        "receipt": os.path.abspath(receipt) if receipt else None,
        "run-dir": os.fspath(run_dir) if run_dir else None,
        "broker": "true" if broker else None,
        "allow-write": _join("writable", writable) if writable else None,
    }
    context = Context(Settings(dict(os.environ), flags, directory), notify or _log, owns_process=False)
    known = _checked("leaks_allowed", leaks_allowed) if leaks_allowed else ()
    with _open(context, _make_request(context, target, command, directory, environment, known)) as build:
        yield build


@contextlib.contextmanager
def _open(context: Context, request: BuildRequest) -> Iterator[OpenBuild]:
    failure: BaseException | None = None
    plugins = context.load_plugins()
    with context.open_store(read_only=True, build=find_built(request)) as opened:
        record = context.make_build_record(opened, request.target)
        with _build.open_build(opened, request, context.notify, record, plugins) as inner:
            build = OpenBuild(inner)
            try:
                yield build
            except BaseException as error:
                failure = error
            inner.outcome = Outcome(build.status or (1 if failure else 0))
    build.receipt = inner.receipt.document
    if failure:
        raise failure
    if not build.status:
        _raise_for(inner)


def _find_directory(project: str | os.PathLike[str]) -> str:
    directory = os.path.abspath(project)
    if not os.path.isdir(directory):
        raise BuildError(f"the project directory {directory} does not exist")
    return directory


def _make_request(
    context: Context,
    target: str | None,
    command: Sequence[str] | None,
    directory: str,
    environment: Mapping[str, str] | None,
    known: Sequence[str],
) -> BuildRequest:
    inherited = dict(os.environ if environment is None else environment)
    words = tuple(command or _guess_command(inherited))
    return make_request(context, target, words, directory=directory, environment=inherited, leaks_allowed=known)


def _raise_for(build: _build.Build) -> None:
    """Raise what a build that succeeded left behind."""
    if build.status == LEAK_FOUND:
        what = "a secret" if build.leaks == 1 else "secrets"
        raise LeakFoundError(
            f"the build left {what} behind in {build.leaks} {'place' if build.leaks == 1 else 'places'}"
        )
    if build.status == SCRUB_INCOMPLETE:
        failure = build.exposure.failure
        raise failure or ScrubIncompleteError(
            "what follows the build could not be completed", hint="the notices say what is missing"
        )


def _checked(name: str, words: Sequence[str]) -> Sequence[str]:
    """Return the words; TypeError for a single text, which is a sequence of letters, ValueError for an empty one."""
    if isinstance(words, (str, bytes)) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"{name} must be a sequence of strings")
    if not words:
        raise ValueError(f"{name} is empty")
    return words


def _join(name: str, words: Sequence[str]) -> str:
    return ",".join(_checked(name, words))


def _check_leaks(leaks: str | None) -> str | None:
    if leaks not in {None, "fail", "warn", "off"}:
        raise ValueError("leaks must be fail, warn or off")
    return leaks


def _guess_command(environment: Mapping[str, str]) -> tuple[str, ...]:
    with contextlib.suppress(ProgramNotFoundError):
        find_program("composer", environment)
        return ("composer", "install")
    return ("sh",)


def _log(notice: Notice) -> None:
    import logging

    level = {"error": logging.ERROR, "note": logging.INFO}.get(notice.level, logging.WARNING)
    logging.getLogger("ic_secrets").log(level, "%s%s", notice.text, f" ({notice.hint})" if notice.hint else "")
