"""A hostile script in builds of every kind, as root and as anybody: what it achieves is what README's table says.

In a build that is not isolated it shows that it bites.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import attacks
from attacks import ATTACKS, ROWS
from children import NOBODY
from commandline import PROGRAM

libc = ctypes.CDLL(None)
README = Path(__file__).parents[2] / "README.md"
HEADING = "## What a hostile package can do"
# The columns of README's table, by what the first build of each is given.
COLUMNS = {
    "`run`": (),
    "`--broker`": ("--broker",),
    "`--isolate`": ("--isolate=bubblewrap",),
    "`--isolate=landlock`": ("--isolate=landlock",),
}
# What only root can do outside, so that nobody's attempt proves nothing; and what the machine itself may refuse.
FOR_ROOT = {
    "read_a_file_that_only_root_may_read",
    "make_a_raw_socket",
    "make_a_packet_socket",
    "remount_the_system_writable",
    "mount_something",
    "make_a_device",
    "open_a_setting_of_the_kernel",
}
MAY_BE_MISSING = {
    "make_an_io_ring",
    "make_a_socket_to_the_hypervisor",
    "type_into_the_terminal",
    "make_a_user_namespace",
    "connect_by_multipath",
    "connect_by_fast_open",
    "use_the_keyrings",
    "make_a_raw_socket",
    "make_a_packet_socket",
    "remount_the_system_writable",
    "connect_to_the_internet",
    "connect_to_the_machine_by_its_outward_address",
}
HOST, LOGIN, PASSWORD, LICENCE = "repo.example.org", "builder", "canary-of-a-password", "canary-of-a-licence"


@dataclass
class Scene:
    """A machine with something worth taking: a store, its key, a home, servers and a process of the same user."""

    root: Path
    user: int
    environment: dict[str, str]
    targets: dict[str, Any] = field(default_factory=dict)

    @property
    def project(self) -> Path:
        return self.root / "project"

    def run(self, *words: str, given: str = "") -> subprocess.CompletedProcess[bytes]:
        """Run the program as the user."""

        def become() -> None:
            if self.user:
                os.setgroups([])
                os.setgid(self.user)
                os.setuid(self.user)

        done = subprocess.run(
            [str(PROGRAM), *words],
            cwd=self.project,
            env=self.environment,
            preexec_fn=become,
            capture_output=True,
            input=given.encode(),
            timeout=120,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done

    def attack(self, *options: str) -> dict[str, str]:
        """Run the attacks as a build; return what they say, and what is seen outside."""
        places = {path: Path(path).read_text() if Path(path).exists() else "" for path in self.targets["written"]}
        words = ("my-site", "--", "/usr/bin/python3", "attacks.py", "targets.json")
        self.run("run", *options, "--leaks", "off", *words)
        results: dict[str, str] = json.loads((self.project / "results.json").read_text())
        changed = [p for p, before in places.items() if (Path(p).read_text() if Path(p).exists() else "") != before]
        results["write_to_places_outside"] = f"did it: {changed}" if changed else "refused"
        is_left = subprocess.run(["pkill", "-f", f"sleep {self.targets['daemon']}"]).returncode == 0
        results["leave_a_daemon"] = "did it" if is_left else "refused"
        for path, before in places.items():
            if path in changed:
                Path(path).write_text(before)
        return results


@contextlib.contextmanager
def setting(user: int) -> Iterator[Scene]:
    """A scene for the user."""
    root = Path(tempfile.mkdtemp(prefix="scene-", dir="/var/tmp"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        root.chmod(0o755)
        home = root / "home"
        for name in ("home/.config/ic-secrets", "home/.config/composer", "project", "other/.git/hooks", "run"):
            (root / name).mkdir(parents=True)
        environment = {
            "HOME": str(home),
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "IC_SECRETS_STORE": str(root / "s.db"),
        }
        environment |= {"IC_SECRETS_KEY_FILE": str(root / "key"), "IC_SECRETS_RUN_DIR": str(root / "run")}
        scene = Scene(root, user, environment)
        (home / ".netrc").write_text("machine example.org password nothing\n")
        (home / ".bashrc").write_text("")
        (home / ".config/ic-secrets/config.toml").write_text("leaks = 'off'\n")
        (home / ".config/composer/auth.json").write_text("{}")
        shutil.copy(attacks.__file__, scene.project / "attacks.py")
        subprocess.run(["git", "init", "-q", str(scene.project)], check=True)
        (scene.project / "out").symlink_to(root / "key")
        marker, daemon = f"marker-{uuid.uuid4().hex}", str(500_000 + os.getpid())
        victim = stack.enter_context(
            subprocess.Popen(
                ["sleep", "600"],
                env={"MARKER": marker},
                preexec_fn=(lambda: (os.setgid(user), os.setuid(user))) if user else None,
            )
        )
        stack.callback(victim.kill)
        agent = stack.enter_context(socket.socket(socket.AF_UNIX))
        agent.bind(str(root / "agent"))
        os.chmod(root / "agent", 0o777)
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind("\0" + marker)
        shared = share(marker.encode())
        stack.callback(libc.shmctl, shared, 0, None)
        master, slave = os.openpty()
        stack.callback(os.close, master)
        stack.callback(os.close, slave)
        os.fchown(slave, user, -1)
        server = stack.enter_context(socket.create_server(("0.0.0.0", 0)))
        for each in (agent, abstract):
            each.listen()
        names = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        names.bind(("127.0.0.1", 0))
        threading.Thread(target=answer, args=(names,), daemon=True).start()
        scene.targets = {
            "key": str(root / "key"),
            "store": str(root / "s.db"),
            "configuration": str(home / ".config/ic-secrets/config.toml"),
            "auth": str(home / ".config/composer/auth.json"),
            "home": str(home),
            "victim": victim.pid,
            "marker": marker,
            "agent": str(root / "agent"),
            "abstract": marker,
            "shared": shared,
            "terminal": os.ttyname(slave),
            "port": server.getsockname()[1],
            "address": "127.0.0.2",
            "udp": names.getsockname()[1],
            "daemon": daemon,
            "host": HOST,
            "login": LOGIN,
            "password": PASSWORD,
            "licence": LICENCE,
            "written": [
                str(home / ".bashrc"),
                str(root / "other/.git/hooks/post-checkout"),
                str(scene.project / ".git/hooks/post-checkout"),
                str(scene.project / ".git/config"),
            ],
        }
        (scene.project / "targets.json").write_text(json.dumps(scene.targets))
        if user:
            subprocess.run(["chown", "-R", f"{user}:{user}", str(root)], check=True)
        scene.run("init")
        scene.run("site", "set", "my-site")
        composer, licence = ("--type", "composer"), ("--type", "env", "--hosts", HOST)
        scene.run("set", "my-site", f"http-basic.{HOST}", *composer, "--scope", "ic", given=f"{LOGIN} {PASSWORD}")
        scene.run("set", "my-site", "LICENCE", *licence, "--scope", "ic", given=LICENCE)
        yield scene


def share(data: bytes) -> int:
    """Return the id of shared memory that everybody may read."""
    shared: int = libc.shmget(0, len(data) + 100, 0o1666)
    libc.shmat.restype = ctypes.c_void_p
    ctypes.memmove(libc.shmat(shared, None, 0), data, len(data))
    return shared


def answer(names: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            _, sender = names.recvfrom(10)
            names.sendto(b"!", sender)


@pytest.fixture(scope="module", params=[0, NOBODY] if os.geteuid() == 0 else [os.geteuid()], ids=str)
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    with setting(request.param if os.geteuid() == 0 else 0) as made:
        yield made


@pytest.fixture(scope="module")
def attack(scene: Scene) -> Callable[[str], dict[str, str]]:
    """What the attacks achieve in a build of that column, which is run once."""
    return functools.cache(lambda column: scene.attack(*COLUMNS[column]))


def read_table() -> dict[tuple[str, str], str]:
    """The cells of README's table by row and column."""
    text = README.read_text().partition(HEADING)[2].partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    (_, *columns), _, *rows = [[cell.strip() for cell in line] for line in lines]
    return {(row, column): cell for row, *cells in rows for column, cell in zip(columns, cells, strict=True)}


def succeeded(results: dict[str, str], row: str) -> list[str]:
    return [name for name in ROWS[row] if results[name].startswith("did it")]


def test_the_table_has_every_attack_and_every_kind_of_build() -> None:
    assert list(read_table()) == [(row, column) for row in ROWS for column in COLUMNS]


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_bites_where_nothing_holds_it(
    attack: Callable[[str], dict[str, str]], scene: Scene, name: str
) -> None:
    """Otherwise that it fails elsewhere would prove nothing."""
    row = next(row for row, names in ROWS.items() if name in names)
    is_kept = read_table()[row, "`run`"] in ({"kept"} if scene.user == 0 else {"kept", "open to root"})
    if not is_kept and name not in MAY_BE_MISSING and (scene.user == 0 or name not in FOR_ROOT):
        assert attack("`run`")[name].startswith("did it"), attack("`run`")[name]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("column", COLUMNS)
def test_the_readme_says_what_an_attack_achieves(
    attack: Callable[[str], dict[str, str]], scene: Scene, column: str, row: str
) -> None:
    cell, results = read_table()[row, column], attack(column)
    assert cell in {"kept", "open", "open to root"}
    if cell == "open" or (cell == "open to root" and scene.user == 0):
        assert succeeded(results, row) or MAY_BE_MISSING.issuperset(ROWS[row])
    else:
        assert succeeded(results, row) == []


def test_a_process_that_is_left_is_found_where_it_may_stay(scene: Scene) -> None:
    assert scene.attack("--allow-background")["leave_a_daemon"] == "did it"


def test_nothing_is_open_in_an_isolated_build() -> None:
    assert {cell for (_, column), cell in read_table().items() if column == "`--isolate`"} == {"kept"}
