"""Archives of the same files, made for tests, and what is read of them."""

import io
import tarfile
import zipfile
from pathlib import Path

from ic_secrets.leaks.archives import Budget, MemberError, open_members

FILES = {"a.txt": b"the first file\n" * 100, "sub/b.bin": bytes(range(256)) * 600, "sub/empty": b""}


def read_all(path: Path) -> dict[str, bytes | str]:
    """The content of each member, or what is wrong with it; ArchiveError."""
    found: dict[str, bytes | str] = {}
    with path.open("rb") as file:
        for member in open_members(file, str(path), Budget()):
            try:
                pieces = []
                while piece := member.read(1000):
                    pieces.append(piece)
                found[member.name] = b"".join(pieces)
            except MemberError as error:
                found[member.name] = str(error)
    return found


def make_zip(path: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, mode: str = "w", form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=form) as archive:  # type: ignore[call-overload]
        for name, data in FILES.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path
