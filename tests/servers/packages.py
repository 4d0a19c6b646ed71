"""Builds the packages of `fixtures/packages/` as their servers offer them: zips with metadata, or git repositories."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any

VERSIONS = ("1.0.0", "1.1.0")
"""Every package exists in these; they differ in a file `VERSION`."""

_ZIP_DATE = (2024, 1, 1, 12, 0, 0)
_GIT_DATE = "2024-01-01T12:00:00+00:00"


def build(trees: Path, directory: Path, url: str) -> None:
    """Make of `trees`, holding `VENDOR/NAME`, what the server at `url` has in `directory`.

    The server called `git` gets bare repositories, `VENDOR/NAME.git`, with a tag for each version; any other a Composer
    repository: packages.json, p2/VENDOR/NAME.json and dist/VENDOR/NAME/VERSION.zip. Dates are fixed, so a commit has
    the same name and a zip file the same bytes every time.
    """
    sources = sorted(path.parent for path in trees.glob("*/*/composer.json"))
    if directory.name == "git":
        for source in sources:
            _build_git(source, directory / source.parent.name / f"{source.name}.git")
    else:
        _build_repository(sources, directory, url)


def _build_repository(sources: list[Path], directory: Path, url: str) -> None:
    names = []
    for source in sources:
        name = f"{source.parent.name}/{source.name}"
        names.append(name)
        versions = [
            _build_zip(source, directory / "dist" / name, version, f"{url}/dist/{name}") for version in VERSIONS
        ]
        _write_json(directory / "p2" / f"{name}.json", {"packages": {name: versions}})
    index = {"packages": [], "metadata-url": "/p2/%package%.json", "available-packages": names}
    _write_json(directory / "packages.json", index)


def _build_zip(source: Path, directory: Path, version: str, url: str) -> dict[str, Any]:
    """Write one zip file; gives the package's metadata for this version."""
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / f"{version}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            _add(archive, str(file.relative_to(source)), file.read_bytes())
        _add(archive, "VERSION", f"{version}\n".encode())
    checksum = hashlib.sha1(target.read_bytes()).hexdigest()
    metadata: dict[str, Any] = json.loads((source / "composer.json").read_text())
    return metadata | {
        "version": version,
        "dist": {"type": "zip", "url": f"{url}/{version}.zip", "reference": checksum, "shasum": checksum},
    }


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _ZIP_DATE)
    entry.external_attr = 0o100644 << 16
    archive.writestr(entry, content)


def _build_git(source: Path, target: Path) -> None:
    """A bare repository at `target` with a commit and a tag for each version."""
    with tempfile.TemporaryDirectory(dir=target.parents[2]) as scratch:
        work = Path(scratch, source.name)
        shutil.copytree(source, work)
        _git(work, "init", "--quiet", "--initial-branch=main")
        for version in VERSIONS:
            (work / "VERSION").write_text(f"{version}\n")
            _git(work, "add", "--all")
            _git(work, "commit", "--quiet", "--message", f"Release {version}")
            _git(work, "tag", version)
        target.parent.mkdir(parents=True, exist_ok=True)
        _git(work, "clone", "--quiet", "--bare", ".", str(target))


def _git(directory: Path, *arguments: str) -> None:
    identity = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _IDENTITY.items()}
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull} | identity
    subprocess.run(["git", "-C", str(directory), *arguments], check=True, env=environment)


_IDENTITY = {"NAME": "Fixtures", "EMAIL": "fixtures@example.org", "DATE": _GIT_DATE}


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))
