"""A sealed file in a real git repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ic_secrets.errors import (
    StoreFormatError,
)
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.model.secret import SecretValue
from ic_secrets.stores import sealed_file as sealed
from ic_secrets.stores.base import Place, Store, Write
from ic_secrets.stores.embedded import store as local
from ic_secrets.transfer.merge import read_secrets
from local_stores import (
    KEY,
    MY_SITE,
    make_store,
    memory_directory,
    open_for_reading,
)

ID = "0123456789abcdef" * 2


def export(store: Store, generation: int = 7, key: MasterKey = KEY) -> bytes:
    """All that the store holds, as a file."""
    bundle = read_secrets(store, list(store.owners()))
    return sealed.render(key, ID, generation, bundle.sites, bundle.holdings)


@pytest.fixture(scope="module")
def data() -> bytes:
    """The file that a store with something of everything is exported to."""
    with memory_directory() as directory, open_for_reading(make_store(directory)) as store:
        return export(store)


def test_real_git_conflicts_and_line_ends_are_said(data: bytes, tmp_path: Path, home: dict[str, str]) -> None:
    """Two branches that exported differently, merged; a checkout with core.autocrlf, with and without attributes."""

    def git(*words: str, check: bool = True) -> None:
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, env=home, check=check, capture_output=True)

    def checked_out() -> sealed.SealedStore:
        return sealed.open_store(str(file), lambda: [KEY])

    file = tmp_path / "all.sealed"
    with memory_directory() as directory, local.open_store(make_store(directory), [KEY]) as store:
        git("init")
        for branch, generation, text in (("main", 5, ""), ("theirs", 6, "theirs"), ("ours", 7, "ours")):
            git("checkout", "-B", branch, *(["main"] if text else []), check=bool(text))
            if text:
                store.put(Place(MY_SITE, None, "API_KEY"), Write(SecretValue(text)))
            file.write_bytes(export(store, generation))
            git("add", ".")
            git("commit", "-m", branch)
    git("merge", "theirs", check=False)
    with pytest.raises(StoreFormatError, match="conflict markers"):
        checked_out()
    git("merge", "--abort")
    git("config", "core.autocrlf", "true")
    file.unlink()
    git("checkout", "all.sealed")
    with pytest.raises(StoreFormatError, match="CRLF"):
        checked_out()
    (tmp_path / ".gitattributes").write_text("*.sealed -text\n")
    file.unlink()
    git("checkout", "all.sealed")
    assert checked_out().generation == 7
