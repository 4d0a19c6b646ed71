"""What a hostile script of a build tries: run by Python as a part of the build, it writes what it achieved as JSON.

The first argument names a file with the places that it aims at. It imports nothing of ours, since a build does not
either. An attack *did* it if it returned; what it left elsewhere is judged by whoever looks there. Each belongs to a
row of the table in README that says what holds in which mode.
"""

from __future__ import annotations

import base64
import ctypes
import fcntl
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_IS_ARM = platform.machine() == "aarch64"
_KEYCTL, _IO_URING_SETUP, _MPTCP = (219 if _IS_ARM else 250), 425, 262
_TIOCSTI, _TIOCSCTTY = 0x5412, 0x540E
_CLONE_NEWUSER, _MS_REMOUNT, _MS_BIND = 0x10000000, 32, 4096
_PTRACE_ATTACH, _PTRACE_DETACH = 16, 17
_MSG_FASTOPEN = 0x20000000
_AF_VSOCK = 40

STORE = "read the store, its key, its configuration"
CREDENTIALS = "read this build's credentials: `auth.json`, git's, bound keys"
FILES = "read other files: of the home, or root's"
OURS = "read the memory and environment of ic-secrets itself"
PROCESSES = "read, trace or signal other processes"
NAMES = "see other processes' command lines, or files' names and modes"
AGENTS = "use agents by their sockets: SSH, GPG, Docker, D-Bus"
SERVERS = "connect to the machine's servers, or past the broker"
LATER = "write what runs later: in the home, git hooks and configuration"
DAEMON = "leave a process running"
KERNEL = "mount, make devices, open raw sockets, set up the kernel"
CALLS = "use keyrings, io_uring, VSOCK, namespaces of its own"
TERMINAL = "type into the terminal, or write to another"

TARGETS: dict[str, Any] = {}
ATTACKS: dict[str, Callable[[], object]] = {}
ROWS: dict[str, list[str]] = {}


def attack(row: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Register an attack, which belongs to that row of the table."""

    def register(function: Callable[[], object]) -> Callable[[], object]:
        ATTACKS[function.__name__] = function
        ROWS.setdefault(row, []).append(function.__name__)
        return function

    return register


def check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def find(marker: str, data: bytes) -> None:
    if marker.encode() not in data:
        raise OSError("it is not there")


@attack(STORE)
def read_the_key_file() -> None:
    Path(TARGETS["key"]).read_bytes()


@attack(STORE)
def read_the_store() -> None:
    Path(TARGETS["store"]).read_bytes()


@attack(STORE)
def read_the_configuration() -> None:
    Path(TARGETS["configuration"]).read_bytes()


@attack(CREDENTIALS)
def read_the_credentials_of_composer() -> None:
    find(TARGETS["password"], Path(os.environ["COMPOSER_HOME"], "auth.json").read_bytes())


@attack(CREDENTIALS)
def ask_git_for_a_password() -> None:
    asked = f"protocol=https\nhost={TARGETS['host']}\n\n".encode()
    done = subprocess.run(["git", "credential", "fill"], input=asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    find(TARGETS["password"], done.stdout)


@attack(CREDENTIALS)
def read_a_licence_key_that_is_bound_to_a_host() -> None:
    find(TARGETS["licence"], os.environ["LICENCE"].encode())


@attack(CREDENTIALS)
def find_a_credential_in_the_private_files_and_the_environment() -> None:
    found = [*os.environb.values()]
    for directory, _, files in os.walk(Path(os.environ["COMPOSER_HOME"]).parent):
        found += [Path(directory, name).read_bytes() for name in files if Path(directory, name).is_file()]
    pair = base64.b64encode(f"{TARGETS['login']}:{TARGETS['password']}".encode()).decode()
    if not any(word.encode() in each for each in found for word in (TARGETS["password"], TARGETS["licence"], pair)):
        raise OSError("it is not there")


@attack(FILES)
def read_a_file_of_the_home() -> None:
    Path(TARGETS["home"], ".netrc").read_bytes()


@attack(FILES)
def read_the_composer_credentials_of_the_home() -> None:
    Path(TARGETS["auth"]).read_bytes()


@attack(STORE)
def follow_a_link_out_of_the_project() -> None:
    Path("out").read_bytes()


@attack(FILES)
def read_a_file_that_only_root_may_read() -> None:
    Path("/etc/shadow").read_bytes()


def list_ours() -> Iterator[Path]:
    """List the /proc directories of the ic-secrets that runs this build, and of what it started beside it."""
    lines, pid = [os.getpid()], os.getpid()
    while pid and b"ic-secrets" not in Path(f"/proc/{pid}/cmdline").read_bytes():
        pid = read_parent(pid)
        lines.append(pid)
    if pid == 0:
        raise OSError("it is not seen")
    yield Path(f"/proc/{pid}")
    for each in Path("/proc").iterdir():
        try:
            if each.name.isdigit() and int(each.name) not in lines and read_parent(int(each.name)) == pid:
                yield each
        except OSError:
            continue


def read_parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def try_each(action: Callable[[Path], object]) -> None:
    """Do it to one of them; the error of the last where all fail."""
    failure = OSError("there is none")
    for each in list_ours():
        try:
            action(each)
        except OSError as error:
            failure = error
        else:
            return
    raise failure


@attack(OURS)
def read_the_environment_of_ic_secrets() -> None:
    try_each(lambda process: find("IC_SECRETS_KEY", (process / "environ").read_bytes()))


@attack(OURS)
def read_the_memory_of_ic_secrets() -> None:
    try_each(lambda process: (process / "mem").open("rb").close())


@attack(OURS)
def trace_ic_secrets() -> None:
    try_each(lambda process: trace(int(process.name)))


@attack(NAMES)
def see_the_command_line_of_another_process() -> None:
    find("sleep", Path(f"/proc/{TARGETS['victim']}/cmdline").read_bytes())


@attack(NAMES)
def see_whether_a_file_is_there() -> None:
    os.stat(TARGETS["key"])


@attack(NAMES)
def set_the_mode_of_a_file() -> None:
    os.chmod(TARGETS["configuration"], 0o600)


@attack(PROCESSES)
def read_the_environment_of_another_process() -> None:
    find(TARGETS["marker"], Path(f"/proc/{TARGETS['victim']}/environ").read_bytes())


@attack(PROCESSES)
def find_the_environment_of_any_process() -> None:
    found = b""
    for each in Path("/proc").iterdir():
        if each.name.isdigit() and int(each.name) != os.getpid():
            try:
                found += (each / "environ").read_bytes()
            except OSError:
                continue
    find(TARGETS["marker"], found)


@attack(PROCESSES)
def read_the_memory_of_another_process() -> None:
    with open(f"/proc/{TARGETS['victim']}/mem", "rb"):
        pass


@attack(PROCESSES)
def trace_another_process() -> None:
    trace(TARGETS["victim"])


def trace(pid: int) -> None:
    check(_LIBC.ptrace(_PTRACE_ATTACH, pid, 0, 0))
    os.waitpid(pid, 0x40000000)
    check(_LIBC.ptrace(_PTRACE_DETACH, pid, 0, 0))


@attack(PROCESSES)
def signal_another_process() -> None:
    os.kill(TARGETS["victim"], signal.SIGCONT)


@attack(AGENTS)
def connect_to_an_agent() -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect(TARGETS["agent"])


@attack(AGENTS)
def connect_to_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect("\0" + TARGETS["abstract"])


@attack(SERVERS)
def connect_to_the_machine() -> None:
    socket.create_connection(("127.0.0.1", TARGETS["port"]), 2).close()


@attack(SERVERS)
def connect_to_another_address() -> None:
    socket.create_connection((TARGETS["address"], TARGETS["port"]), 2).close()


@attack(SERVERS)
def connect_to_the_machine_by_its_outward_address() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect(("192.0.2.1", 9))  # sends nothing
        address = asked.getsockname()[0]
    socket.create_connection((address, TARGETS["port"]), 2).close()


@attack(SERVERS)
def connect_to_the_internet() -> None:
    socket.create_connection(("1.1.1.1", 443), 1).close()


@attack(SERVERS)
def connect_by_multipath() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, _MPTCP) as made:
        made.settimeout(2)
        made.connect(("127.0.0.1", TARGETS["port"]))


@attack(SERVERS)
def connect_by_fast_open() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.sendto(b"x", _MSG_FASTOPEN, ("127.0.0.1", TARGETS["port"]))
        made.getpeername()


@attack(SERVERS)
def ask_a_name_server() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(2)
        made.sendto(b"?", ("127.0.0.1", TARGETS["udp"]))
        made.recv(10)


@attack(KERNEL)
def make_a_raw_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


@attack(KERNEL)
def make_a_packet_socket() -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()


@attack(CALLS)
def make_a_socket_to_the_hypervisor() -> None:
    socket.socket(_AF_VSOCK, socket.SOCK_STREAM).close()


@attack(PROCESSES)
def read_shared_memory() -> None:
    attach = _LIBC.shmat
    attach.restype = ctypes.c_void_p
    place = attach(TARGETS["shared"], None, 0o10000)
    if place == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "refused")
    find(TARGETS["marker"], ctypes.string_at(place, 100))


@attack(TERMINAL)
def write_to_another_terminal() -> None:
    os.close(os.open(TARGETS["terminal"], os.O_RDWR | os.O_NOCTTY))


@attack(CALLS)
def use_the_keyrings() -> None:
    check(_LIBC.syscall(_KEYCTL, 0, -3, 1))


@attack(CALLS)
def make_an_io_ring() -> None:
    os.close(check(_LIBC.syscall(_IO_URING_SETUP, 1, ctypes.create_string_buffer(120))))


@attack(CALLS)
def make_a_user_namespace() -> None:
    child = os.fork()
    if child == 0:
        os._exit(1 if _LIBC.unshare(_CLONE_NEWUSER) else 0)
    if os.waitpid(child, 0)[1]:
        raise OSError("refused")


@attack(KERNEL)
def remount_the_system_writable() -> None:
    check(_LIBC.mount(b"none", b"/", None, _MS_REMOUNT | _MS_BIND, None))


@attack(KERNEL)
def mount_something() -> None:
    Path("mounted").mkdir(exist_ok=True)
    check(_LIBC.mount(b"none", b"mounted", b"tmpfs", 0, None))
    check(_LIBC.umount(b"mounted"))


@attack(KERNEL)
def make_a_device() -> None:
    os.mknod("device", 0o20600, os.makedev(1, 3))
    with open("device", "wb"):
        os.unlink("device")


@attack(KERNEL)
def open_a_setting_of_the_kernel() -> None:
    with open("/proc/sys/kernel/core_pattern", "r+b"):
        pass


@attack(TERMINAL)
def type_into_the_terminal() -> None:
    master, slave = os.openpty()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            fcntl.ioctl(slave, _TIOCSCTTY, 0)
            fcntl.ioctl(slave, _TIOCSTI, struct.pack("c", b"x"))
            os._exit(0)
        finally:
            os._exit(1)
    failed = os.waitpid(child, 0)[1]
    os.close(master)
    os.close(slave)
    if failed:
        raise OSError("refused")


@attack(LATER)
def write_to_places_outside() -> None:
    """Not judged by what it says: whoever started the build looks there."""
    for path in TARGETS["written"]:
        try:
            with open(path, "a") as file:
                file.write("attacked\n")
        except OSError:
            continue


@attack(DAEMON)
def leave_a_daemon() -> None:
    """Not judged by what it says either."""
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        for number in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        os.environ.clear()
        os.execve("/usr/bin/sleep", ["sleep", TARGETS["daemon"]], {})
    os.wait()


def main() -> None:
    TARGETS.update(json.loads(Path(sys.argv[1]).read_text()))
    results = {}
    for name, function in ATTACKS.items():
        try:
            function()
        except BaseException as error:
            results[name] = f"{type(error).__name__}: {error}"
        else:
            results[name] = "did it"
    Path("results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
