"""What a hostile script of a build tries: run by Python as a part of the build, it prints what it achieved as JSON.

The first argument names a file with the places that it aims at. It imports nothing of ours, since a build does not
either. An attack *did* it if it returned; what it wrote into files elsewhere is judged by whoever looks there.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import signal
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_IS_ARM = platform.machine() == "aarch64"
_KEYCTL, _IO_URING_SETUP, _MPTCP = (219 if _IS_ARM else 250), 425, 262
_TIOCSTI, _TIOCSCTTY = 0x5412, 0x540E
_CLONE_NEWUSER, _MS_REMOUNT, _MS_BIND = 0x10000000, 32, 4096
_PTRACE_ATTACH, _PTRACE_DETACH = 16, 17
_MSG_FASTOPEN = 0x20000000
_AF_VSOCK = 40

TARGETS = json.loads(Path(sys.argv[1]).read_text())
ATTACKS: dict[str, Callable[[], object]] = {}


def attack(function: Callable[[], object]) -> Callable[[], object]:
    ATTACKS[function.__name__] = function
    return function


def check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def find(marker: str, data: bytes) -> None:
    if marker.encode() not in data:
        raise OSError("it is not there")


@attack
def read_the_key_file() -> None:
    Path(TARGETS["key"]).read_bytes()


@attack
def read_the_store() -> None:
    Path(TARGETS["store"]).read_bytes()


@attack
def read_the_configuration() -> None:
    Path(TARGETS["configuration"]).read_bytes()


@attack
def read_a_file_of_the_home() -> None:
    Path(TARGETS["home"], ".netrc").read_bytes()


@attack
def read_the_composer_credentials_of_the_home() -> None:
    Path(TARGETS["auth"]).read_bytes()


@attack
def follow_a_link_out_of_the_project() -> None:
    Path("out").read_bytes()


@attack
def read_a_file_that_only_root_may_read() -> None:
    Path("/etc/shadow").read_bytes()


@attack
def read_the_environment_of_another_process() -> None:
    find(TARGETS["marker"], Path(f"/proc/{TARGETS['victim']}/environ").read_bytes())


@attack
def find_the_environment_of_any_process() -> None:
    found = b""
    for each in Path("/proc").iterdir():
        if each.name.isdigit() and int(each.name) != os.getpid():
            try:
                found += (each / "environ").read_bytes()
            except OSError:
                continue
    find(TARGETS["marker"], found)


@attack
def read_the_memory_of_another_process() -> None:
    with open(f"/proc/{TARGETS['victim']}/mem", "rb"):
        pass


@attack
def trace_another_process() -> None:
    check(_LIBC.ptrace(_PTRACE_ATTACH, TARGETS["victim"], 0, 0))
    os.waitpid(TARGETS["victim"], 0x40000000)
    check(_LIBC.ptrace(_PTRACE_DETACH, TARGETS["victim"], 0, 0))


@attack
def signal_another_process() -> None:
    os.kill(TARGETS["victim"], signal.SIGCONT)


@attack
def connect_to_an_agent() -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect(TARGETS["agent"])


@attack
def connect_to_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect("\0" + TARGETS["abstract"])


@attack
def connect_to_the_machine() -> None:
    socket.create_connection(("127.0.0.1", TARGETS["port"]), 2).close()


@attack
def connect_to_another_address() -> None:
    socket.create_connection((TARGETS["address"], TARGETS["port"]), 2).close()


@attack
def connect_by_multipath() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, _MPTCP) as made:
        made.settimeout(2)
        made.connect(("127.0.0.1", TARGETS["port"]))


@attack
def connect_by_fast_open() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as made:
        made.sendto(b"x", _MSG_FASTOPEN, ("127.0.0.1", TARGETS["port"]))
        made.getpeername()


@attack
def ask_a_name_server() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.settimeout(2)
        made.sendto(b"?", ("127.0.0.1", TARGETS["udp"]))
        made.recv(10)


@attack
def make_a_raw_socket() -> None:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


@attack
def make_a_packet_socket() -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()


@attack
def make_a_socket_to_the_hypervisor() -> None:
    socket.socket(_AF_VSOCK, socket.SOCK_STREAM).close()


@attack
def read_shared_memory() -> None:
    attach = _LIBC.shmat
    attach.restype = ctypes.c_void_p
    place = attach(TARGETS["shared"], None, 0o10000)
    if place == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "refused")
    find(TARGETS["marker"], ctypes.string_at(place, 100))


@attack
def write_to_another_terminal() -> None:
    os.close(os.open(TARGETS["terminal"], os.O_RDWR | os.O_NOCTTY))


@attack
def use_the_keyrings() -> None:
    check(_LIBC.syscall(_KEYCTL, 0, -3, 1))


@attack
def make_an_io_ring() -> None:
    os.close(check(_LIBC.syscall(_IO_URING_SETUP, 1, ctypes.create_string_buffer(120))))


@attack
def make_a_user_namespace() -> None:
    child = os.fork()
    if child == 0:
        os._exit(1 if _LIBC.unshare(_CLONE_NEWUSER) else 0)
    if os.waitpid(child, 0)[1]:
        raise OSError("refused")


@attack
def remount_the_system_writable() -> None:
    check(_LIBC.mount(b"none", b"/", None, _MS_REMOUNT | _MS_BIND, None))


@attack
def mount_something() -> None:
    Path("mounted").mkdir(exist_ok=True)
    check(_LIBC.mount(b"none", b"mounted", b"tmpfs", 0, None))
    check(_LIBC.umount(b"mounted"))


@attack
def make_a_device() -> None:
    os.mknod("device", 0o20600, os.makedev(1, 3))
    with open("device", "wb"):
        os.unlink("device")


@attack
def open_a_setting_of_the_kernel() -> None:
    with open("/proc/sys/kernel/core_pattern", "r+b"):
        pass


@attack
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


@attack
def write_to_places_outside() -> None:
    """Not judged by what it says: whoever started the build looks there."""
    for path in TARGETS["written"]:
        try:
            with open(path, "a") as file:
                file.write("attacked\n")
        except OSError:
            continue


@attack
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
