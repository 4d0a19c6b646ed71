"""A build's environment for the later steps of a job on GitHub Actions: masks on stdout, variables in GITHUB_ENV.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions; how the runner reads the file is in
actions/runner, FileCommandManager.cs. Nothing is ever written to GITHUB_OUTPUT, which other jobs can read.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Mapping

from ..build import BuildSecrets
from ..ci.platforms import GITHUB, Platform
from ..errors import ExposureError, ReservedNameError
from ..masking.parts import SHORTEST
from ..process.streams import write_whole
from .shells import Change


def leave_out_reserved(change: Change, platform: Platform = GITHUB) -> Change:
    """Leave the runner's own variables as they are."""
    return Change(
        {name: value for name, value in change.to_set.items() if not platform.is_own_variable(name)},
        tuple(name for name in change.to_unset if not platform.is_own_variable(name)),
    )


def check_names(names: Iterable[str], platform: Platform = GITHUB) -> None:
    """Raise ReservedNameError for a secret that the runner would not pass on, or that steers the runner."""
    for name in names:
        if platform.is_own_variable(name):
            raise ReservedNameError(
                f"{platform.name} keeps the variable {name} to itself, and does not pass it on",
                hint="`ic-secrets run` gives it to the build alone; or leave it out with --except",
            )


def render_masks(secrets: BuildSecrets, platform: Platform = GITHUB) -> str:
    """Render a workflow command for every line of what is secret, and for what encoders make of it.

    GitHub would hide each line of a value that is given as a whole, down to a brace; so a line that is shorter than
    four bytes, or has neither letter nor digit and is not the whole value, is left out.
    """
    whole = {text for secret in secrets for text in secret.parts.texts}
    texts = [line.strip() for text in whole for line in re.split(r"[\r\n]+", text)]
    texts += [needle.data.decode(errors="replace") for needle in secrets.needles]
    chosen = dict.fromkeys(text for text in texts if _is_worth_masking(text, is_whole=text in whole))
    return "".join(platform.render_mask(text) for text in sorted(chosen, key=len, reverse=True))


def announce_masks(secrets: BuildSecrets) -> None:
    """Make the runner hide the values in what later steps print, too, if it can be reached.

    Our own stdout may lead to a file or to `tee`: the masks go where the step's outermost process writes, and nowhere
    if a process of the job reads that.
    """
    with contextlib.suppress(OSError):
        outermost = _find_outermost()
        for stream in (1, 2) if outermost else ():
            descriptor = os.open(f"/proc/{outermost}/fd/{stream}", os.O_WRONLY | os.O_CLOEXEC | os.O_NOCTTY)
            with open(descriptor, "wb", buffering=0):
                found = os.fstat(descriptor)
                if stat.S_ISFIFO(found.st_mode) and not _is_read_here(found):
                    write_whole(descriptor, render_masks(secrets).encode(errors="replace"))
                    return


def _is_of_job(pid: int | str) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return f"{GITHUB.mark}=true".encode() in file.read().split(b"\0")
    return False


def _find_outermost() -> int:
    """Return the outermost of the processes that we descend from and that belong to the job, 0 if there is none."""
    outermost, pid = 0, os.getppid()
    while pid > 1 and _is_of_job(pid):
        outermost = pid
        with open(f"/proc/{pid}/stat", "rb") as file:
            pid = int(file.read().rpartition(b")")[2].split()[1])
    return outermost


def _is_read_here(pipe: os.stat_result) -> bool:
    """Return whether a process of the job reads that pipe."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{pid}/fd") if _is_of_job(pid) else ():
                with contextlib.suppress(OSError):
                    found = os.stat(f"/proc/{pid}/fd/{name}")
                    is_same = (found.st_dev, found.st_ino) == (pipe.st_dev, pipe.st_ino)
                    if is_same and not stat.S_IMODE(os.lstat(f"/proc/{pid}/fd/{name}").st_mode) & stat.S_IWUSR:
                        return True
    return False


def render_variables(variables: Mapping[str, str]) -> str:
    """Render lines for GITHUB_ENV, after which each variable has exactly that value."""
    everything = "\n".join([*variables, *variables.values()])
    delimiter = _choose_delimiter(everything)
    return "".join(f"{name}<<{delimiter}\n{value}\n{delimiter}\n" for name, value in variables.items())


def find_file(environment: Mapping[str, str]) -> str:
    """Return the file that GITHUB_ENV names; ExposureError where it cannot be written."""
    path = environment.get(GITHUB.environment_file)
    if not path:
        raise ExposureError("GITHUB_ENV is not set", hint="--format github works in a step of GitHub Actions")
    try:
        is_fit = stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.W_OK)
    except OSError:
        is_fit = False
    if not is_fit:
        raise ExposureError("the file that GITHUB_ENV names cannot be written")
    return path


def append(path: str, text: str) -> None:
    """Add whole lines to the file; ExposureError, and then the file is as it was."""
    try:
        with open(path, "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                text = text if file.read(1) == b"\n" else "\n" + text
            data = os.fsencode(text)
            try:
                if file.write(data) != len(data):
                    raise OSError(0, "it was not written whole")
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise ExposureError(f"GITHUB_ENV cannot be written: {error.strerror}") from None


def _choose_delimiter(text: str) -> str:
    while True:
        delimiter = f"ic_secrets_{os.urandom(16).hex()}"
        if delimiter not in text:
            return delimiter


def _is_worth_masking(text: str, *, is_whole: bool) -> bool:
    is_line = len(text.encode(errors="replace")) >= SHORTEST and not {"\r", "\n"} & set(text)
    return is_line and (is_whole or any(c.isalnum() for c in text))
