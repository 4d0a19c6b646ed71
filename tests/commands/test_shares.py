"""Work shared among processes: nothing is lost, whatever becomes of a child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ic_secrets.core.linux import list_descendants
from ic_secrets.core.shares import count_shares, do_shares
from ic_secrets.leaks.search import search
from ic_secrets.leaks.walk import Place
from ic_secrets.masking.matcher import Matcher
from ic_secrets.masking.needles import Needle


def list_children() -> set[int]:
    """Our children, those that have ended and are not waited for included; the servers of other tests are some."""
    return set(list_descendants(os.getpid()))


def test_each_share_is_done_once_and_in_a_process_of_its_own() -> None:
    results = do_shares(lambda number: b"%d %d" % (number, os.getpid()), 3)
    assert [int(result.split()[0]) for result in results] == [0, 1, 2]
    assert len({result.split()[1] for result in results}) == 3
    assert results[0].split()[1] == b"%d" % os.getpid()


def test_results_may_be_longer_than_a_pipe_holds() -> None:
    assert do_shares(lambda number: b"x" * (1 << 20) * number, 3) == [b"", b"x" * (1 << 20), b"x" * (2 << 20)]


@pytest.mark.parametrize("how", ["raise", "exit", "kill"])
def test_the_share_of_a_child_that_failed_is_done_again(how: str, capfd: pytest.CaptureFixture[str]) -> None:
    parent, before = os.getpid(), list_children()

    def work(number: int) -> bytes:
        if os.getpid() != parent:
            if how == "raise":
                raise ValueError(how)
            if how == "exit":
                os._exit(3)
            os.kill(os.getpid(), signal.SIGKILL)
        return b"%d" % number

    assert do_shares(work, 2) == [b"0", b"1"]
    assert list_children() == before
    assert capfd.readouterr() == ("", "")


def test_a_failure_of_our_own_leaves_no_child() -> None:
    parent, before = os.getpid(), list_children()

    def work(number: int) -> bytes:
        if os.getpid() == parent:
            raise ValueError("ours")
        return b"x" * (1 << 20)

    with pytest.raises(ValueError, match="ours"):
        do_shares(work, 3)
    assert list_children() == before


def test_children_end_with_a_parent_that_is_killed() -> None:
    """A search of a whole image's root would go on for minutes."""
    code = (
        "import os, sys, time\n"
        "from ic_secrets.core.shares import do_shares\n"
        "def work(number):\n"
        "    os.write(1, b'x')\n"
        "    time.sleep(600)\n"
        "do_shares(work, 3)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        started = b"".join(parent.stdout.read(1) for _ in range(3))
        parent.kill()
        assert (started, parent.stdout.read()) == (b"xxx", b"")  # its end comes when the last of them has gone


def test_a_shared_search_finds_what_one_process_finds(tmp_path: Path) -> None:
    for number in range(200):
        folder = tmp_path / f"d{number % 17}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_text("canary-value" if number % 7 else "nothing")
        (folder / f"l{number}").symlink_to("canary-value")
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    places = [Place(str(tmp_path)), Place(str(tmp_path / "d1" / "f1")), Place("/proc"), Place("/no", required=True)]
    matcher = Matcher([Needle("TOKEN", "raw", b"canary-value")])
    alone = search(places, matcher)
    for processes in (2, 3):
        shared = search(places, matcher, processes=processes)
        assert vars(shared) == vars(alone)
    assert (len(alone.findings), alone.files, alone.failures, len(alone.unsearched)) == (371, 201, 1, 3)


def test_as_many_shares_as_processors() -> None:
    assert 1 <= count_shares() <= 4


def test_a_process_with_threads_is_not_forked() -> None:
    """What a lock of another thread guards would stay locked in the child."""
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    assert count_shares() == 1
    go_on.set()
    thread.join()
