"""What an isolated build's own cache begins with, and what of it is kept."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ic_secrets.composer.project import read_project
from ic_secrets.core.files import remove_tree
from ic_secrets.core.notices import Notice
from ic_secrets.errors import ExposureError
from ic_secrets.isolation.cache import KEPT, ScratchCache
from ic_secrets.process.directory import PrivateDirectory, SharedGuard, choose_roomy_parent, list_directories, sweep
from ic_secrets.process.watchdog import Watchdog

URL = "https://packages.example.org/acme/one-1.0.zip"
CLONE = "https---git.example.org-acme-one.git"
HEX = "0123456789" * 4


def sha1(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


KEY = f"{sha1(URL.encode())}.zip"


class World:
    """A project, and a person's cache."""

    def __init__(self, directory: Path) -> None:
        self.project = directory / "project"
        self.cache = directory / "cache"
        self.temporary = directory / "tmp"
        for path in (self.project, self.cache, self.temporary):
            path.mkdir()
        self.environment = {"TMPDIR": str(self.temporary), "HOME": str(directory)}
        self.notices: list[Notice] = []
        self.watchdog = Watchdog()
        self.made: list[ScratchCache] = []
        self.write_manifest()

    def write_manifest(self, **config: str) -> None:
        (self.project / "composer.json").write_text(json.dumps({"require": {"acme/one": "*"}, "config": config}))

    def lock(self, checksum: str = "", name: str = "acme/one") -> None:
        dist = {"type": "zip", "url": URL, "shasum": checksum}
        source = {"type": "git", "url": "https://git.example.org/acme/one.git", "reference": HEX}
        packages = [{"name": name, "version": "1.0", "dist": dist, "source": source}]
        (self.project / "composer.lock").write_text(json.dumps({"packages": packages}))

    def add(self, path: str, data: bytes = b"zip") -> Path:
        """Put a file into the person's cache."""
        file = self.cache / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return file

    def make(self, *command: str, cache: str = "") -> ScratchCache:
        project = read_project(command, str(self.project), self.environment)
        place = cache or str(self.cache)
        made = ScratchCache.make(place, project, self.environment, self.watchdog, self.notices.append, command)
        self.made.append(made)
        return made

    def list_kept(self) -> list[str]:
        directory = self.cache / "files" / KEPT
        return sorted(os.listdir(directory)) if directory.exists() else []


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    for scratch in made.made:
        scratch.remove()
    made.watchdog.dismiss()


def list_files(directory: str) -> list[str]:
    root = Path(directory)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.parent.name != "+")


def test_it_is_private_and_outside_the_project_and_gone_afterwards(world: World) -> None:
    scratch = world.make()
    assert scratch.variables["COMPOSER_CACHE_DIR"] == scratch.path
    assert scratch.readable == (str(world.cache),)
    assert os.path.dirname(scratch.path) == str(world.temporary)
    assert stat.S_IMODE(os.stat(scratch.path).st_mode) == 0o700
    scratch.remove()
    scratch.remove()
    assert list(world.temporary.iterdir()) == []


def test_the_locked_archive_is_linked(world: World) -> None:
    world.lock()
    target = world.add(f"files/acme/one/{KEY}")
    world.add(f"files/acme/one/{HEX}.zip")
    world.add(f"files/acme/other/{HEX}.zip")
    scratch = world.make("composer", "install")
    assert list_files(scratch.path) == [f"files/acme/one/{KEY}"]
    assert os.readlink(f"{scratch.path}/files/acme/one/{KEY}") == str(target)


def test_where_the_locked_archive_has_another_name_all_of_the_package_are_linked(world: World) -> None:
    """A plugin, or a mirror, gives it one."""
    world.lock()
    paths = [f"files/acme/one/{HEX}.zip", f"files/acme/one/{HEX[::-1]}.tar"]
    for path in paths:
        world.add(path)
    assert list_files(world.make("composer", "install").path) == sorted(paths)


def test_only_what_stays_small_goes_into_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link on a disk takes 30 times as long, and what a cold build downloads can be more than a tmpfs holds."""
    world.lock()
    assert os.path.dirname(world.make().path) == str(world.temporary)
    world.add(f"files/acme/one/{KEY}")
    scratch = world.make()
    assert os.path.dirname(scratch.path) == "/dev/shm"
    scratch.remove()
    monkeypatch.setattr("ic_secrets.process.directory._ROOM", 1 << 60)
    assert os.path.dirname(world.make().path) == str(world.temporary)


def test_without_a_lock_what_is_required_is_linked_and_all_metadata(world: World) -> None:
    paths = [
        f"files/acme/one/{HEX}.zip",
        "repo/https---repo.packagist.org/packages.json",
        "repo/https---repo.packagist.org/provider-acme~other~dev.json",
        "repo/github.com/acme/one/0123.json",
    ]
    for path in paths:
        world.add(path)
    world.add("other/file")
    assert list_files(world.make("composer", "install").path) == sorted(paths)


def test_an_update_of_what_is_locked_gets_the_metadata_of_that(world: World) -> None:
    world.lock()
    directory = "repo/https---repo.packagist.org"
    for name in ("provider-acme~one.json", "provider-acme~one~dev.json", "packages.json", "provider-acme~two.json"):
        world.add(f"{directory}/{name}")
    found = list_files(world.make("composer", "update").path)
    assert [path.rpartition("/")[2] for path in found] == [
        "packages.json",
        "provider-acme~one.json",
        "provider-acme~one~dev.json",
    ]


def test_an_archive_with_another_checksum_is_not_linked_since_composer_would_write_through_the_link(
    world: World,
) -> None:
    world.add(f"files/acme/one/{KEY}", b"old")
    world.lock(sha1(b"new"))
    assert list_files(world.make().path) == []
    world.lock(sha1(b"old"))
    assert list_files(world.make().path) == [f"files/acme/one/{KEY}"]


@pytest.mark.parametrize("what", ["files", "files/acme", "files/acme/one", f"files/acme/one/{KEY}", "repo"])
def test_links_in_the_cache_lead_nowhere(world: World, tmp_path: Path, what: str) -> None:
    world.lock()
    world.add(f"files/acme/one/{KEY}")
    world.add("repo/host/packages.json")
    (world.cache / what).rename(tmp_path / "elsewhere")
    (world.cache / what).symlink_to(tmp_path / "elsewhere")
    kept = "repo/host/packages.json" if what.startswith("files") else f"files/acme/one/{KEY}"
    assert list_files(world.make().path) == [kept]


@pytest.mark.parametrize("name", ["../../etc/one", "/etc/one", "acme/..", "acme/one/two", "ACME/one\n"])
def test_a_lock_names_no_other_places(world: World, name: str) -> None:
    world.lock(name=name)
    world.add(f"files/acme/one/{KEY}")
    assert list_files(world.make().path) == []


@pytest.mark.parametrize("cache", ["/dev/null", "/dev/null/", "nul"])
def test_who_wants_no_cache_gets_none(world: World, cache: str) -> None:
    scratch = world.make(cache=cache)
    assert (scratch.path, scratch.variables, scratch.readable, scratch.take_back()) == ("", {}, (), 0)
    assert list(world.temporary.iterdir()) == []


def test_a_part_of_the_cache_that_is_elsewhere_is_led_to_the_scratch_too(world: World) -> None:
    world.environment["COMPOSER_CACHE_VCS_DIR"] = "/somewhere"
    world.write_manifest(**{"cache-files-dir": "/elsewhere"})
    scratch = world.make()
    places = {f"COMPOSER_CACHE_{kind}_DIR": f"{scratch.path}/{kind.lower()}" for kind in ("FILES", "REPO", "VCS")}
    assert scratch.variables == {"COMPOSER_CACHE_DIR": scratch.path, **places}


def test_a_checkout_cannot_have_any_directory_shown_by_calling_it_a_cache(world: World, tmp_path: Path) -> None:
    world.lock(sha1(b"zip"))
    secret = tmp_path / ".ssh"
    secret.mkdir()
    world.write_manifest(**{"cache-dir": str(secret)})
    scratch = world.make()
    assert (scratch.readable, scratch.protected) == ((), ())
    assert "composer.json names it" in world.notices[0].text
    put(scratch)
    assert scratch.take_back() == 0
    assert list(secret.iterdir()) == []


def test_a_cache_in_the_project_is_protected_rather_than_shown(world: World) -> None:
    world.lock()
    world.write_manifest(**{"cache-dir": "var/cache"})
    target = world.project / "var/cache/files/acme/one" / KEY
    target.parent.mkdir(parents=True)
    target.write_bytes(b"zip")
    scratch = world.make()
    assert (scratch.readable, scratch.protected) == ((), (str(world.project / "var/cache"),))
    assert os.readlink(f"{scratch.path}/files/acme/one/{KEY}") == str(target)
    world.environment["COMPOSER_CACHE_DIR"] = str(world.cache)  # the person's word counts for more
    assert world.make().readable == (str(world.cache),)


def test_a_cache_that_the_person_uses_may_be_named_by_the_checkout_too(world: World) -> None:
    world.lock()
    world.write_manifest(**{"cache-dir": str(world.cache)})
    assert world.make().readable == (str(world.cache),)
    assert world.notices == []


def test_a_cache_below_composers_home_that_the_checkout_names_is_not_made_in_the_project(world: World) -> None:
    world.lock(sha1(b"zip"))
    world.write_manifest(**{"cache-dir": "{$home}/cache"})
    put(world.make())
    world.made[-1].take_back()
    assert sorted(os.listdir(world.project)) == ["composer.json", "composer.lock"]


def test_a_cache_of_another_user_is_neither_read_nor_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.lock(sha1(b"zip"))
    world.add(f"files/acme/one/{KEY}")
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    scratch = world.make()
    assert (list_files(scratch.path), scratch.readable) == ([], ())
    assert "belongs to another user" in world.notices[0].text
    put(scratch)
    assert scratch.take_back() == 0


def test_a_cache_that_cannot_be_read_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.lock()
    world.add(f"files/acme/one/{KEY}")

    def refuse(*_: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(os, "scandir", refuse)
    scratch = world.make()
    monkeypatch.undo()
    assert list_files(scratch.path) == []
    assert "Permission denied" in world.notices[0].text


def test_a_cache_that_is_no_directory_is_said(world: World) -> None:
    world.cache.rmdir()
    world.cache.write_text("")
    scratch = world.make()
    put(scratch)
    world.lock(sha1(b"zip"))
    assert scratch.take_back() == 0
    assert "is not kept" in world.notices[-1].text


def test_where_nothing_can_be_written_the_build_has_no_cache(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "mkdir", refuse)
    scratch = world.make()
    assert (scratch.path, scratch.variables) == ("", {"COMPOSER_CACHE_DIR": "/dev/null"})
    assert "No space left on device" in world.notices[0].text
    scratch.remove()


def test_a_full_disk_leaves_what_fitted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.lock()
    world.add(f"files/acme/one/{KEY}")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "symlink", refuse)
    scratch = world.make()
    assert scratch.path
    assert "No space left on device" in world.notices[0].text


# --- afterwards ---------------------------------------------------------------------------------


def put(scratch: ScratchCache, data: bytes = b"zip", name: str = KEY) -> Path:
    """Do what the build does with an archive."""
    file = Path(scratch.path, "files/acme/one", name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def test_a_new_archive_is_kept_by_its_checksum_with_the_mode_of_the_umask(world: World) -> None:
    world.lock(sha1(b"zip"))
    scratch = world.make()
    put(scratch)
    before = os.umask(0o027)
    try:
        assert scratch.take_back() == 1
    finally:
        os.umask(before)
    assert list_files(str(world.cache)) == [f"files/{KEPT}/{sha1(b'zip')}"]
    kept = world.cache / "files" / KEPT / sha1(b"zip")
    assert (kept.read_bytes(), stat.S_IMODE(kept.stat().st_mode)) == (b"zip", 0o640)
    assert os.readlink(f"{world.make().path}/files/acme/one/{KEY}") == str(kept)


def test_a_lock_that_the_build_wrote_counts_too(world: World) -> None:
    scratch = world.make()
    put(scratch)
    assert scratch.take_back() == 0
    world.lock(sha1(b"zip"))
    assert scratch.take_back() == 1


def test_what_a_hostile_lock_gives_the_checksum_of_reaches_no_project_that_has_none(world: World) -> None:
    """A lock of GitHub's archives has no checksums: whatever has the name of the URL is unpacked."""
    world.lock(sha1(b"evil"))
    scratch = world.make()
    put(scratch, b"evil")
    assert scratch.take_back() == 1
    world.lock("")
    assert list_files(world.make().path) == []
    world.lock(sha1(b"good"))
    assert list_files(world.make().path) == []


def test_what_was_kept_and_changed_is_not_linked(world: World) -> None:
    world.lock(sha1(b"zip"))
    kept = world.add(f"files/{KEPT}/{sha1(b'zip')}", b"changed")
    assert list_files(world.make().path) == []
    scratch = world.make()
    put(scratch)
    assert scratch.take_back() == 1
    assert kept.read_bytes() == b"zip"


def _replace_by_link(file: Path, other: Path) -> None:
    file.unlink()
    file.symlink_to(other)


def _replace_by_hard_link(file: Path, other: Path) -> None:
    file.unlink()
    file.hardlink_to(other)


def _replace_directory(file: Path, other: Path) -> None:
    directory = other.parent / "directory"
    file.parent.rename(directory)
    file.parent.symlink_to(directory)


def _replace_by_pipe(file: Path, _: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    "change",
    [
        _replace_by_link,
        _replace_by_hard_link,
        _replace_directory,
        _replace_by_pipe,
        lambda file, _: file.write_bytes(b"another"),
        lambda file, _: file.unlink(),
        lambda file, _: file.rename(file.with_name(f"{HEX}.zip")),
    ],
    ids=["link", "hard link", "linked directory", "pipe", "wrong checksum", "gone", "another name"],
)
def test_nothing_else_is_kept(world: World, tmp_path: Path, change: Any) -> None:
    world.lock(sha1(b"zip"))
    (tmp_path / "other").write_bytes(b"zip")
    scratch = world.make()
    change(put(scratch), tmp_path / "other")
    Path(scratch.path, "repo/packages.json").write_text("{}")
    Path(scratch.path, "vcs/clone").mkdir()
    assert scratch.take_back() == 0
    assert list_files(str(world.cache)) == []


def test_what_the_person_linked_elsewhere_is_not_written_to(world: World, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (world.cache / "files").symlink_to(tmp_path / "elsewhere")
    world.lock(sha1(b"zip"))
    scratch = world.make()
    put(scratch)
    assert scratch.take_back() == 0
    assert list_files(str(tmp_path / "elsewhere")) == []


# --- clones -------------------------------------------------------------------------------------


def git(directory: Path, *words: str) -> str:
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
    environment |= {
        f"GIT_{who}_{what}": "x@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    done = subprocess.run(["git", "-C", directory, *words], env=environment, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def clone(world: World, tmp_path: Path) -> Path:
    """A clone in the person's cache, with all that a hostile build could have put there."""
    world.lock()
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "--quiet", "--initial-branch=main")
    git(work, "commit", "--quiet", "--allow-empty", "--message", "First")
    git(work, "tag", "--annotate", "--message", "x", "1.0")
    path = world.cache / "vcs" / CLONE
    path.parent.mkdir()
    git(work, "clone", "--quiet", "--mirror", str(work), str(path))
    git(work, "branch", "newer")
    git(path, "fetch", "--quiet")
    git(path, "config", "core.fsmonitor", "touch /tmp/poisoned")
    git(path, "config", "remote.origin.url", "https://me:canary@git.example.org/acme/one.git")
    (path / "hooks").mkdir(exist_ok=True)
    (path / "hooks/reference-transaction").write_text("#!/bin/sh\ntouch /tmp/poisoned\n")
    (path / "info").mkdir(exist_ok=True)
    (path / "info/attributes").write_text("* filter=poison\n")
    return path


def test_a_clone_borrows_objects_and_takes_nothing_else_over(world: World, clone: Path) -> None:
    own = Path(world.make().path, "vcs", CLONE)
    assert git(own, "for-each-ref") == git(clone, "for-each-ref")
    assert "refs/heads/newer" in git(own, "for-each-ref")
    assert git(own, "log", "--format=%s", "--all") == "First\n"
    assert git(own, "rev-parse", "--git-dir", "HEAD").splitlines()[0] == "."
    files = ["HEAD", "config", "objects/info/alternates", "packed-refs"]
    assert list_files(str(own)) == files
    listed = git(own, "config", "--local", "--list").splitlines()
    assert "remote.origin.url=https://git.example.org/acme/one.git" in listed
    mirror = git(clone.parent.parent, "config", "--file", str(own / "config"), "--name-only", "--list").split()
    assert mirror == [
        "core.repositoryformatversion",
        "core.filemode",
        "core.bare",
        "remote.origin.url",
        "remote.origin.fetch",
        "remote.origin.mirror",
    ]


def test_what_git_does_in_it_stays_in_it(world: World, clone: Path) -> None:
    before = {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()}
    own = Path(world.make().path, "vcs", CLONE)
    git(own, "update-ref", "refs/heads/other", "HEAD")
    git(own, "update-ref", "-d", "refs/heads/newer")
    git(own, "gc", "--quiet", "--prune=now")
    assert {path: path.read_bytes() for path in clone.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("what", ["HEAD", "objects", "packed-refs"])
def test_a_clone_that_is_not_whole_is_not_borrowed_from(world: World, clone: Path, tmp_path: Path, what: str) -> None:
    git(clone, "pack-refs", "--all")
    (clone / what).rename(tmp_path / "elsewhere")
    (clone / what).symlink_to(tmp_path / "elsewhere")
    assert list_files(f"{world.make().path}/vcs") == []


# --- a death in between -------------------------------------------------------------------------

HOLD = """
import sys
from ic_secrets.process.directory import SCRATCH, PrivateDirectory, SharedGuard
from ic_secrets.process.watchdog import Watchdog
watchdog = Watchdog()
first = PrivateDirectory.make(sys.argv[1], watchdog)
second = PrivateDirectory.make(sys.argv[1], SharedGuard(watchdog), SCRATCH)
open(f"{second.path}/file", "w").close()
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_watchdog_removes_all_directories_of_a_build_that_is_killed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.readline()
    assert len(list(tmp_path.iterdir())) == 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 10
    while list(tmp_path.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_scratch_of_a_dead_build_is_swept_and_is_no_build(world: World) -> None:
    directory = PrivateDirectory.make(str(world.temporary), SharedGuard(world.watchdog), "cache-")
    assert list_directories(world.environment) == []
    assert directory.path not in sweep(world.environment).removed
    directory.release()
    assert directory.path in sweep(world.environment).removed
    assert list(world.temporary.iterdir()) == []


def test_with_the_scratch_gone_the_watchdog_still_guards_the_build(world: World, tmp_path: Path) -> None:
    with PrivateDirectory.make(str(tmp_path), world.watchdog):
        PrivateDirectory.make(str(world.temporary), SharedGuard(world.watchdog), "cache-").scrub()
        world.watchdog.guard(str(tmp_path / "another"))  # ExposureError where it ended


def test_it_is_never_below_the_project(tmp_path: Path) -> None:
    assert choose_roomy_parent({"TMPDIR": str(tmp_path)}, [str(tmp_path)]) == "/var/tmp"
    with pytest.raises(ExposureError, match="outside the project"):
        choose_roomy_parent({}, ["/var/tmp", "/tmp"])


@pytest.mark.parametrize("name", ["a", "a" * 250])
def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path, name: str) -> None:
    """A hostile build makes one of the cache that it may write."""
    before, tree = os.getcwd(), tmp_path / "tree"
    tree.mkdir()
    os.chdir(tree)
    for _ in range(3000):
        os.mkdir(name)
        os.chdir(name)
        Path("file").write_text("x")
    os.chdir(before)
    remove_tree(str(tree))
    assert list(tmp_path.iterdir()) == []
