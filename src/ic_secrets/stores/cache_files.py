"""The files in which caches of servers' secrets lie: in one directory of the person's, 0700, each sealed and 0600.

`cache` says what is in them. Whoever only removes them needs no key, and goes by their times: that of a file is when
its server was asked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator

from ..core.new_files import locked_directory, make_private_directory, replace_private
from ..core.records import NamedTuple

# A million secrets take a quarter of this.
_LARGEST = 1 << 30
_NAME = re.compile(r"[0-9a-f]{32}\.sealed(\.new)?")
_PARTIAL = ".new"


class Swept(NamedTuple):
    """Paths of caches that were removed, and of those that could not be, with the reason."""

    removed: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()


class CacheDirectory:
    """The directory. It is ours and no symbolic link, or an OSError; what is open to others is closed to them."""

    def __init__(self, path: str) -> None:
        self.path = path

    def locate(self, identity: str) -> str:
        """Return where the cache with those 32 hexadecimal digits is."""
        return os.path.join(self.path, f"{identity}.sealed")

    def read(self, identity: str) -> bytes | None:
        """Return what was kept, None where nothing was; OSError, also for a file that is not ours alone."""
        try:
            self._secure()
            descriptor = os.open(self.locate(identity), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise OSError(errno.ELOOP, "it is a symbolic link") from None
            raise
        with open(descriptor, "rb") as file:
            _check_private(os.fstat(descriptor))
            return file.read(_LARGEST)

    def write(self, identity: str, data: bytes, moment: int) -> None:
        """Keep it, whole or not at all, with that time; OSError, and then nothing is kept under the name."""
        path = self.locate(identity)
        make_private_directory(self.path)
        self._secure()
        try:
            with locked_directory(self.path):
                replace_private(path, data)
                os.utime(path, (moment, moment), follow_symlinks=False)
        except OSError:
            self.remove(identity)  # it was of an answer before this one
            raise

    def remove(self, identity: str) -> None:
        """Forget it; OSError, but not if it does not exist."""
        with contextlib.suppress(FileNotFoundError):
            self._secure()
            os.unlink(self.locate(identity))

    def sweep(self, is_dead: Callable[[float], bool]) -> Swept:
        """Remove the caches whose time says that they are dead, and what was left by who died while it wrote one."""
        removed: list[str] = []
        failed: list[tuple[str, str]] = []
        try:
            self._secure()
            with locked_directory(self.path):  # so nobody is writing
                for path in self._list():
                    try:
                        if path.endswith(_PARTIAL) or is_dead(os.lstat(path).st_mtime):
                            os.unlink(path)
                            removed.append(path)
                    except FileNotFoundError:
                        continue
                    except OSError as error:
                        failed.append((path, error.strerror or "no reason is given"))
        except FileNotFoundError:
            pass
        except OSError as error:
            failed.append((self.path, error.strerror or "no reason is given"))
        return Swept(tuple(removed), tuple(failed))

    def _list(self) -> Iterator[str]:
        """Return every file that is a cache by its name, and nothing else that somebody may keep there."""
        return (os.path.join(self.path, name) for name in sorted(os.listdir(self.path)) if _NAME.fullmatch(name))

    def _secure(self) -> None:
        found = os.lstat(self.path)
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, f"{self.path} is a symbolic link")
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ENOTDIR, f"{self.path} is not a directory")
        if found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"{self.path} belongs to the user {found.st_uid}")
        if found.st_mode & 0o077:
            os.chmod(self.path, 0o700)


def _check_private(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    if found.st_uid != os.geteuid():
        raise OSError(errno.EPERM, f"it belongs to the user {found.st_uid}")
    if found.st_mode & 0o077:
        raise OSError(errno.EPERM, f"it is open to other users (mode {stat.S_IMODE(found.st_mode):04o})")
