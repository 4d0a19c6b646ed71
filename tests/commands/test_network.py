"""A store on a network file system is refused; what containers run on, and local disks, are not."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from commandline import PROGRAM, Cli
from ic_secrets.core import linux
from ic_secrets.core.linux import parse_mounts
from ic_secrets.errors import StoreOnNetworkError
from ic_secrets.stores.embedded import database
from ic_secrets.stores.embedded.database import refuse_network
from local_stores import KEY, make_store, memory_directory

# Lines of real mountinfo files (proc(5)): optional fields, escapes and subtypes differ.
MOUNTS = rb"""22 27 0:21 / /proc rw,nosuid shared:5 - proc proc rw
27 0 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,discard
340 27 0:71 / /srv/a\040share rw,relatime shared:188 master:3 - nfs4 server:/export rw,vers=4.2
341 27 0:72 / /mnt/keys rw,nosuid,nodev - fuse.sshfs me@host:/keys rw,user_id=1000
342 27 0:73 / /var/lib/docker/overlay2/1/merged rw - overlay overlay rw,lowerdir=/a:/b
343 27 0:74 / /mnt/bucket rw - fuse s3fs rw
no mount
344 27 0:x / /broken rw - nfs broken rw
345 27
"""


def test_mounts_are_told_by_their_devices() -> None:
    """With their types; what is no line of a mountinfo is passed over."""
    assert parse_mounts(MOUNTS.splitlines(keepends=True)) == {
        os.makedev(0, 21): "proc",
        os.makedev(254, 1): "ext4",
        os.makedev(0, 71): "nfs4",
        os.makedev(0, 72): "fuse.sshfs",
        os.makedev(0, 73): "overlay",
        os.makedev(0, 74): "fuse",
    }


def mount(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(linux, "list_file_systems", lambda: {os.makedev(0, 99): kind})


@pytest.mark.parametrize(
    "kind",
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "fuse.sshfs",
        "fuse.glusterfs",
        "glusterfs",
        "ceph",
        "lustre",
        "gpfs",
        "afs",
        "davfs",
    ],
)
def test_a_network_file_system_is_refused(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """By its type, which the error names; the hint says what to do."""
    mount(monkeypatch, kind)
    with pytest.raises(
        StoreOnNetworkError, match=re.escape(f"/srv/store.db lies on a network file system ({kind})")
    ) as caught:
        refuse_network("/srv/store.db", os.makedev(0, 99))
    assert "local disk" in caught.value.hint


@pytest.mark.parametrize(
    "kind",
    [
        "ext4",
        "xfs",
        "btrfs",
        "zfs",
        "tmpfs",
        "overlay",
        "9p",
        "virtiofs",
        "fuseblk",
        "fuse.ntfs-3g",
        "fuse.gocryptfs",
        "",
    ],
)
def test_a_local_file_system_is_not(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Nor what a container or a virtual machine runs on, nor one that nobody knows."""
    mount(monkeypatch, kind)
    refuse_network("/srv/store.db", os.makedev(0, 99))
    refuse_network("/srv/store.db", os.makedev(0, 98))


def test_a_disk_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with a number of its own is a disk: that costs a start nothing."""
    monkeypatch.setattr(database, "find_file_system", lambda device: pytest.fail("looked up"))
    refuse_network("/srv/store.db", os.makedev(254, 1))


@pytest.fixture
def elsewhere(cli: Cli, tmp_path: Path) -> list[str]:
    """Words that run what follows them where the kernel says that every file system is NFS."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    told = tmp_path / "mountinfo"
    told.write_text("".join(re.sub(r" - \S+ ", " - nfs4 ", line) + "\n" for line in lines))
    script = 'mount --bind "$0" /proc/$$/mountinfo && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, str(told)]
    if os.geteuid() != 0 or subprocess.run([*words, "true"], capture_output=True).returncode:
        pytest.skip("only root may mount")
    return words


def run(cli: Cli, elsewhere: list[str], path: str, words: list[str]) -> subprocess.CompletedProcess[bytes]:
    environment = cli.home | {"IC_SECRETS_STORE": path, "IC_SECRETS_KEY": KEY.format(), "IC_SECRETS_AUDIT": "off"}
    command = [*elsewhere, str(PROGRAM), *words]
    return subprocess.run(command, capture_output=True, input=b"a-value", env=environment, cwd=cli.cwd, timeout=60)


def test_every_command_refuses_it(cli: Cli, elsewhere: list[str]) -> None:
    """Before anything is read, written or made; a run ends with 125."""
    with memory_directory() as directory:
        path = make_store(directory)
        if os.major(os.stat(path).st_dev):
            pytest.skip("there is no file system here that is none of a disk's")
        for words, status in (
            (["list", "my-site"], 1),
            (["set", "my-site", "TOKEN", "--type", "env", "--scope", "ic"], 1),
            (["check-store"], 1),
            (["run", "my-site", "--", "true"], 125),
        ):
            done = run(cli, elsewhere, path, words)
            assert done.returncode == status
            assert done.stderr.decode().splitlines()[0] == f"error: {path} lies on a network file system (nfs4)"
        done = run(cli, elsewhere, str(directory / "new.db"), ["init"])
        assert done.returncode == 1
        assert "lies on a network file system" in done.stderr.decode()
        assert os.listdir(directory) == ["store.db"]
