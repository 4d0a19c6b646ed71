"""The private directory: private from the start, gone at the end, swept when its owner is dead."""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ic_secrets.core.files import remove_tree, write_private
from ic_secrets.errors import ExposureError
from ic_secrets.process.directory import PrivateDirectory, choose_parent, sweep
from ic_secrets.process.watchdog import Watchdog
from watching import wait_until_gone

HOLD = """
import sys, time
from ic_secrets.process.directory import PrivateDirectory
from ic_secrets.process.watchdog import Watchdog
directory = PrivateDirectory.make(sys.argv[1], Watchdog())
directory.write(directory.path + "/auth.json", b"canary")
print(directory.path, flush=True)
sys.stdin.read()
"""


def hold(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process that holds a private directory until its stdin closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"HELD_IN": str(parent)},
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def find_watchdogs(parent: Path) -> list[int]:
    """The watchdogs that `hold` started there: a fork keeps the environment of its program."""
    found = []
    for pid in (name for name in os.listdir("/proc") if name.isdigit()):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        if f"HELD_IN={parent}".encode() in environment and name == "ic-secrets-dog":
            found.append(int(pid))
    return found


def test_everything_in_it_is_private(tmp_path: Path) -> None:
    with PrivateDirectory.make(str(tmp_path), Watchdog()) as directory:
        directory.write(f"{directory.path}/auth.json", b"x")
        inner = directory.subdirectory("composer")
        assert stat.S_IMODE(os.stat(directory.path).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(inner).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(f"{directory.path}/auth.json").st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_scrubs_too(tmp_path: Path) -> None:
    directory = PrivateDirectory.make(str(tmp_path), Watchdog())
    directory.write(f"{directory.path}/auth.json", b"x")
    with pytest.raises(InterruptedError), directory:
        raise InterruptedError
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_never_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_private(str(tmp_path / "link"), b"canary")
    assert not (tmp_path / "elsewhere").exists()


def test_a_parent_that_cannot_hold_it_is_refused() -> None:
    with pytest.raises(ExposureError):
        PrivateDirectory.make("/nowhere/at/all", Watchdog())
    with pytest.raises(ExposureError, match="not a directory"):
        choose_parent({}, ["/project"], "/nowhere/at/all")


def test_the_default_place_is_a_tmpfs(tmp_path: Path) -> None:
    with PrivateDirectory.make(choose_parent({"TMPDIR": str(tmp_path)}, ["/project"]), Watchdog()) as directory:
        assert directory.in_memory


def test_it_is_never_below_the_project(tmp_path: Path) -> None:
    assert choose_parent({}, ["/dev/shm"]) != "/dev/shm"
    with pytest.raises(ExposureError, match="below the project"):
        choose_parent({}, ["/elsewhere", str(tmp_path)], str(tmp_path))


def test_a_runtime_directory_that_others_can_enter_is_not_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert choose_parent({"XDG_RUNTIME_DIR": str(tmp_path)}, ["/project"]) != str(tmp_path)


def test_a_living_run_is_never_swept(tmp_path: Path) -> None:
    process, path = hold(tmp_path)
    assert sweep({}, str(tmp_path)) == ((), ())
    assert (path / "auth.json").exists()
    process.communicate()


def test_a_killed_run_is_scrubbed_by_its_watchdog(tmp_path: Path) -> None:
    process, path = hold(tmp_path)
    process.kill()
    wait_until_gone(path)
    process.communicate()


def test_where_the_watchdog_died_too_the_next_sweep_removes_it(tmp_path: Path) -> None:
    process, path = hold(tmp_path)
    while not (dogs := find_watchdogs(tmp_path)):  # its name is the first thing that it sets, in its own time
        select.select([], [], [], 0.005)
    assert len(dogs) == 1
    os.kill(dogs[0], signal.SIGKILL)
    process.kill()
    process.communicate()
    assert path.exists()
    assert sweep({}, str(tmp_path)).removed == (str(path),)
    assert not path.exists()
    assert sweep({}, str(tmp_path)) == ((), ())


def test_what_is_not_ours_by_name_or_kind_is_not_swept(tmp_path: Path) -> None:
    (tmp_path / "ic-secrets-other").mkdir()
    (tmp_path / f"ic-secrets-{os.geteuid()}-file").write_text("x")
    (tmp_path / f"ic-secrets-{os.geteuid()}-link").symlink_to("/etc")
    assert sweep({}, str(tmp_path)) == ((), ())
    assert len(list(tmp_path.iterdir())) == 3


def test_whatever_the_umask_it_is_private_and_usable(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        with PrivateDirectory.make(str(tmp_path), Watchdog()) as directory:
            assert stat.S_IMODE(os.stat(directory.path).st_mode) == 0o700
    finally:
        os.umask(before)


def test_what_withstands_is_told_and_all_else_is_removed(tmp_path: Path) -> None:
    """A mount inside stays as it is: what is there is not the build's."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "kept").write_text("x")
    tree = tmp_path / f"ic-secrets-{os.geteuid()}-0"
    (tree / "mounted").mkdir(parents=True)
    (tree / "zz").write_text("canary")
    script = (
        "import sys; from ic_secrets.process.directory import sweep; "
        "print(sweep({}, sys.argv[1]).failed[0][0]); import os; print(os.listdir(sys.argv[2]))"
    )
    command = f'mount --bind {precious} {tree}/mounted && exec {sys.executable} -c "{script}" {tmp_path} {tree}'
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    done = subprocess.run([*unshare, "sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [f"{tree}/mounted", "['mounted']"], done.stderr
    assert (precious / "kept").exists()


def test_a_tree_that_was_made_unwritable_is_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    tree = tmp_path / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "auth.json").write_text("canary")
    (tree / "link").symlink_to(outside)
    (tree / "a" / "b").chmod(0o500)
    (tree / "a").chmod(0o000)
    tree.chmod(0o000)
    remove_tree(str(tree))
    assert not tree.exists()
    assert (outside / "kept").exists()


def test_what_others_remove_meanwhile_is_no_failure(private: Path) -> None:
    """Many builds that end and sweep at once: each finds some of what the others have just removed."""
    failed = []

    def clear() -> None:
        for _ in range(20):
            failed.extend(sweep({}, str(private)).failed)

    def litter(number: int) -> None:
        for turn in range(100):
            (private / f"ic-secrets-{os.getuid()}-{number:08x}{turn:08x}").mkdir(mode=0o700)

    threads = [threading.Thread(target=clear) for _ in range(6)]
    threads += [threading.Thread(target=litter, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
