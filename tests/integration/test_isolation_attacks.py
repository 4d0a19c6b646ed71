"""A hostile script in an isolated build, as root and as anybody: nothing of what it tries succeeds, and the same script
in a build that is not isolated shows that it would bite.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from children import NOBODY
from commandline import PROGRAM

libc = ctypes.CDLL(None)
ATTACKS = Path(__file__).parent / "attacks.py"
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
}
JUDGED_OUTSIDE = {"write_to_places_outside", "leave_a_daemon"}


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

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
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
            stdin=subprocess.DEVNULL,
            timeout=120,
        )
        assert not check or done.returncode == 0, done.stderr.decode()
        return done

    def attack(self, *options: str) -> dict[str, str]:
        """Run the attacks as a build; return what they say, and what is seen outside."""
        places = {path: Path(path).read_text() if Path(path).exists() else "" for path in self.targets["written"]}
        done = self.run(
            "run", *options, "--leaks", "off", "my-site", "--", "/usr/bin/python3", "attacks.py", "targets.json"
        )
        results: dict[str, str] = json.loads((self.project / "results.json").read_text())
        changed = [p for p, before in places.items() if (Path(p).read_text() if Path(p).exists() else "") != before]
        results["write_to_places_outside"] = "did it" if changed else "refused"
        results["changed"] = ", ".join(changed)
        results["stderr"] = done.stderr.decode()
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
        shutil.copy(ATTACKS, scene.project / "attacks.py")
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
def control(scene: Scene) -> dict[str, str]:
    """What the attacks achieve without isolation."""
    return scene.attack()


@pytest.fixture(scope="module", params=["bubblewrap", "landlock"])
def isolated(request: pytest.FixtureRequest, scene: Scene) -> dict[str, str]:
    """What they achieve with it."""
    return scene.attack(f"--isolate={request.param}") | {"mode": request.param}


NAMES = [
    line[4:-11] for line in ATTACKS.read_text().splitlines() if line.startswith("def ") and line.endswith("() -> None:")
]
NAMES = [name for name in NAMES if name not in {"main"}]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"leave_a_daemon"}])
def test_an_attack_fails(control: dict[str, str], isolated: dict[str, str], scene: Scene, name: str) -> None:
    if name not in MAY_BE_MISSING and (scene.user == 0 or name not in FOR_ROOT):
        assert control[name] == "did it", "the attack does not bite outside"
    assert isolated[name] != "did it", isolated["changed"]


def test_no_daemon_outlives_the_build(isolated: dict[str, str], scene: Scene) -> None:
    found = subprocess.run(["pgrep", "-f", f"sleep {scene.targets['daemon']}"], stdout=subprocess.PIPE).stdout
    assert found == b""
