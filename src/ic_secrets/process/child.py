"""Start the build's processes in a group of their own, signal them as a group, and end every one of them.

The order is: catch signals, expose, start. A signal that ends us is passed to the whole group (a Composer that waits
for a script would go on and give 0), and what ignores it is killed after a grace. Descendants that left their parents
become ours (PR_SET_CHILD_SUBREAPER), and end too.
"""

import contextlib
import errno
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Protocol

from ..core.linux import adopt_orphans, is_zombie, list_descendants, read_start_time
from ..core.records import NamedTuple
from ..errors import SIGNAL_BASE, BuildError, IcSecretsError, ProgramNotExecutableError, ProgramNotFoundError
from .signals import ENDING, NOTED, PASSED, SignalCatcher
from .streams import Channel, Filter
from .terminal import give_foreground, is_foreground
from .watchdog import end_processes

# Python ignores these two; the child gets the default.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
# While processes are being ended, new ones are looked for at this interval, in seconds.
_INTERVAL = 0.05
# A killed process that still exists after this many seconds hangs in the kernel; we go on.
_PATIENCE = 5.0


class Outcome(NamedTuple):
    """How a build ended: its exit status, and how many processes had to be ended after it.

    With `is_cut`, an error of ours kept the rest of its output from being shown.
    """

    status: int
    ended: int = 0
    is_cut: bool = False


class First(NamedTuple):
    """The first process of a build, to be started: `actions` and `defaults` are those of `os.posix_spawn`."""

    program: str
    command: Sequence[str]
    environment: Mapping[bytes, bytes]
    actions: Sequence[tuple[Any, ...]]
    defaults: Collection[int]
    has_terminal: bool

    def spawn(self, program: str, words: Sequence[str], **own: Any) -> int:
        """Start that program with those words in its place, and return its id; OSError."""
        return os.posix_spawn(
            program,
            list(words),
            self.environment,
            file_actions=list(self.actions),
            setsigdef=self.defaults,
            setsigmask=[],
            **own,
        )


class Started(NamedTuple):
    """The first process of a build: whom to wait for, and the process group that signals go to."""

    pid: int
    group: int


class Launch(Protocol):
    """How the first process of a build is started."""

    is_leader: bool
    """Whether what is started leads the session of its terminal; else somebody inside it will."""

    def start(self, first: First) -> Started:
        """Start it; OSError, IcSecretsError."""

    def read_status(self, status: int) -> int:
        """Return the exit status of the build for that of the process that was waited for."""


class DirectLaunch:
    """The build is our child, and sees what we see."""

    is_leader = True

    def start(self, first: First) -> Started:
        """Start it in a session of its own where it has a terminal, else in a process group of its own."""
        own: Any = {"setsid": True} if first.has_terminal else {"setpgroup": 0}
        pid = first.spawn(first.program, first.command, **own)
        return Started(pid, pid)

    def read_status(self, status: int) -> int:
        """Return it as it is."""
        return status


def find_program(name: str, environment: Mapping[str, str]) -> str:
    """Return the path of the program; ProgramNotFoundError (127) or ProgramNotExecutableError (126)."""
    paths = [name]
    if "/" not in name:
        directories = environment.get("PATH", os.defpath).split(os.pathsep)
        paths = [os.path.join(directory or ".", name) for directory in directories]
    existing = [path for path in paths if name and os.path.isfile(path)]
    for path in existing:
        if os.access(path, os.X_OK):
            return path
    if existing or (name and "/" in name and os.path.exists(name)):
        raise ProgramNotExecutableError(f"{existing[0] if existing else name} is not executable")
    raise ProgramNotFoundError(
        f"{name or 'an empty word'}: command not found", hint="the command to run comes after --"
    )


class Child:
    """A running build. `channels` is empty when its output is not masked."""

    def __init__(
        self,
        command: Sequence[str],
        program: str,
        environment: Mapping[str, str],
        signals: SignalCatcher,
        channels: Sequence[Channel] = (),
        launch: Launch | None = None,
    ) -> None:
        """Start the build; ProgramNotExecutableError when the kernel refuses."""
        self._launch = launch or DirectLaunch()
        self._signals = signals
        self._channels = channels
        self._terminal = next((channel.terminal for channel in channels if channel.terminal), None)
        self._keyboard = self._terminal is not None and os.isatty(0)
        self._exit: int | None = None
        self._deadline: float | None = None
        self._signalled: set[int] = set()
        # A caller that executed us may have left us children that do not belong to the build.
        self._strangers = {pid: read_start_time(pid) for pid in list_descendants(os.getpid())}
        adopt_orphans()
        if channels:
            _keep_descriptors()
        for channel in channels:
            channel.cover()
        try:
            self.pid, self._group = self._spawn(command, program, environment)
        except IcSecretsError:
            self._uncover()
            raise
        except OSError as error:
            self._uncover()
            if error.errno not in {errno.EACCES, errno.ENOEXEC, errno.ENOENT, errno.ENOTDIR, errno.EPERM}:
                raise BuildError(f"{program} cannot be started: {error.strerror}") from None
            # The file exists: its interpreter is missing, or its format is unknown.
            raise ProgramNotExecutableError(f"{program} cannot be executed: {error.strerror}") from None

    def run(
        self, make_filter: Callable[[], Filter], *, grace: float, allow_background: bool, on_end: Callable[[], None]
    ) -> Outcome:
        """Wait for the build and everything that it started to end, and for all its output to be written.

        `on_end` is called as soon as no process of the build is left, before the output is waited for.
        """
        try:
            reader, writer = os.pipe()
            self._start_streams(make_filter, reader)
        except BaseException:
            self._uncover()
            self._signal_group(signal.SIGKILL)  # it must not go on unmasked
            raise
        try:
            self._wait(grace)
            ended = 0 if allow_background else self._end_descendants(grace)
            self._uncover()
            on_end()
            os.write(writer, b"\0")
            self._drain()
        finally:
            self._uncover()
            self._restore_terminals()
            os.close(writer)
        assert self._exit is not None
        return Outcome(self._signals.status or self._exit, ended, any(channel.is_broken for channel in self._channels))

    def _spawn(self, command: Sequence[str], program: str, environment: Mapping[str, str]) -> Started:
        actions: list[tuple[Any, ...]] = []
        if self._terminal:
            # The leader of a new session takes the first terminal that it opens as its own.
            first = next(channel for channel in self._channels if channel.terminal is self._terminal)
            stream = 0 if self._keyboard else first.streams[0]
            flags = os.O_RDWR if self._launch.is_leader else os.O_RDWR | os.O_NOCTTY
            actions.append((os.POSIX_SPAWN_OPEN, stream, self._terminal.name, flags, 0))
        for channel in self._channels:
            actions += [(os.POSIX_SPAWN_DUP2, channel.child_end, stream) for stream in channel.streams]
        ignored = {number for number in (*ENDING, *PASSED) if signal.getsignal(number) is signal.SIG_IGN}
        defaults = [number for number in (*ENDING, *PASSED, *NOTED, *_IGNORED_BY_PYTHON) if number not in ignored]
        # Secrets are UTF-8 whatever the locale; what was inherited keeps its bytes.
        encoded = {name.encode(errors="surrogateescape"): _encode(value) for name, value in environment.items()}
        has_terminal = self._terminal is not None
        return self._launch.start(First(program, command, encoded, actions, defaults, has_terminal))

    def _start_streams(self, make_filter: Callable[[], Filter], stop: int) -> None:
        maskers = [make_filter() for _ in self._channels]
        if self._keyboard and self._terminal:
            # Before the first output: whoever reads it may answer with a key at once.
            self._shared = any(channel.terminal is None for channel in self._channels)
            self._terminal.pass_keys(shared=self._shared)
        for channel, masker in zip(self._channels, maskers, strict=True):
            channel.start(masker, stop)
        if self._keyboard and self._terminal:
            self._terminal.forward_keys(
                0,
                suspend=lambda: self._signals.post(signal.SIGTSTP),
                hang_up=lambda: self._signals.post(signal.SIGHUP),
            )

    def _wait(self, grace: float) -> None:
        while not self._reap():
            for number in self._signals.wait(self._time_left()):
                self._handle(number, grace)
            self._end_newcomers()
            if self._deadline is not None and time.monotonic() >= self._deadline:
                end_processes([self.pid, *list_descendants(self.pid)], signal.SIGKILL)
                self._signal_group(signal.SIGKILL)

    def _handle(self, number: int, grace: float) -> None:
        if number in ENDING:
            self._signalled = {self.pid, *list_descendants(self.pid)}
            self._signal_group(number)
            # The first signal asks, the second one does not wait.
            self._deadline = time.monotonic() + (grace if len(self._signals.ending) == 1 else 0)
        elif number in PASSED:
            self._signal_group(number)
        elif number == signal.SIGTSTP:
            self._suspend()
        elif number == signal.SIGCONT:
            self._resume()
        elif number == signal.SIGWINCH:
            for channel in self._channels:
                if channel.terminal:
                    channel.terminal.copy_size()

    def _end_newcomers(self) -> None:
        """End what was started after the signal: Composer starts a git again that was ended."""
        if self._deadline is not None:
            new = set(list_descendants(self.pid)) - self._signalled
            end_processes(new, signal.SIGTERM)
            self._signalled |= new

    def _time_left(self) -> float | None:
        if self._deadline is None:
            return None
        return min(_INTERVAL, max(_INTERVAL / 10, self._deadline - time.monotonic()))

    def _signal_group(self, number: int) -> None:
        groups = {self._group}
        if self._terminal:
            with contextlib.suppress(OSError):
                groups.add(os.tcgetpgrp(self._terminal.master))
        for group in groups - {0}:  # a terminal that nobody took has no group
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
                if number != signal.SIGSTOP:
                    os.killpg(group, signal.SIGCONT)

    def _reap(self) -> bool:
        """Collect what has ended or stopped; return whether the child itself has ended."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
                if pid == 0:
                    break
                if pid == self.pid and os.WIFSTOPPED(status):
                    self._stopped(os.WSTOPSIG(status))
                elif pid == self.pid:
                    code = os.waitstatus_to_exitcode(status)
                    self._exit = self._launch.read_status(code if code >= 0 else SIGNAL_BASE - code)
        return self._exit is not None

    def _stopped(self, number: int) -> None:
        """Handle a stopped child: it wants the terminal, or it was suspended."""
        if self._terminal:
            return  # it was us
        with _controlling_terminal() as tty:
            if number in {signal.SIGTTIN, signal.SIGTTOU} and tty is not None and is_foreground(tty):
                give_foreground(tty, self._group)
                self._signal_group(signal.SIGCONT)
            elif number != signal.SIGSTOP:
                if tty is not None:
                    give_foreground(tty, os.getpgrp())
                self._signals.stop_ourselves()
                self._resume()

    def _suspend(self) -> None:
        self._signal_group(signal.SIGSTOP)
        self._restore_terminals()
        self._signals.stop_ourselves()
        self._resume()

    def _resume(self) -> None:
        if self._keyboard and self._terminal:
            self._terminal.pass_keys(shared=self._shared)
            self._terminal.copy_size()
        self._signal_group(signal.SIGCONT)

    def _restore_terminals(self) -> None:
        if self._terminal:
            self._terminal.restore()
        else:
            with _controlling_terminal() as tty:
                if tty is not None and not is_foreground(tty):
                    with contextlib.suppress(OSError):
                        if os.tcgetpgrp(tty) == self._group:
                            give_foreground(tty, os.getpgrp())

    def _end_descendants(self, grace: float) -> int:
        """End what the build left running: TERM, a grace, KILL; return how many processes that was."""
        signalled: set[int] = set()
        deadline = time.monotonic() + grace if self._deadline is None else self._deadline
        while True:
            self._reap()
            living = {pid for pid in self._list_own() if not is_zombie(pid)}
            if not living or time.monotonic() > deadline + _PATIENCE:
                self._reap()  # what ended since the last look must not outlive us as a zombie
                return len(signalled)
            if time.monotonic() >= deadline:
                end_processes(living, signal.SIGKILL)
            else:
                end_processes(living - signalled, signal.SIGTERM)
            signalled |= living
            if any(number in ENDING for number in self._signals.wait(_INTERVAL)):
                deadline = min(deadline, time.monotonic())

    def _list_own(self) -> list[int]:
        """Return our descendants without those that we had before the build, and theirs."""
        strangers = [pid for pid, start in self._strangers.items() if start and read_start_time(pid) == start]
        theirs = {pid for stranger in strangers for pid in (stranger, *list_descendants(stranger))}
        return [pid for pid in list_descendants(os.getpid()) if pid not in theirs]

    def _uncover(self) -> None:
        for channel in self._channels:
            channel.uncover()

    def _drain(self) -> None:
        """Wait for the last output. A reader that does not read delays us only until a signal arrives."""
        for channel in self._channels:
            while not channel.join(_INTERVAL):
                if self._signals.ending and self._signals.wait(0):
                    return


def _keep_descriptors() -> None:
    """Let the child inherit only the standard streams: what it wrote to others would not be masked."""
    for name in os.listdir("/dev/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the listing's own is gone by now
                os.set_inheritable(int(name), False)


def _encode(text: str) -> bytes:
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return os.fsencode(text)


@contextlib.contextmanager
def _controlling_terminal() -> Iterator[int | None]:
    try:
        descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
