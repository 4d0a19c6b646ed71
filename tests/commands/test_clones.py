"""Credentials in the configuration of git clones: which are found, and that nothing else changes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from ic_secrets.git.clones import Residue, find_residue, mend

CONFIG = """\
[core]
\trepositoryformatversion = 0
\tbare = true
[remote "origin"]
\turl = https://deploy:canary%2Fpassword@git.example.org/owner/package.git
\tpushurl = "https://deploy:canary@git.example.org:8443/owner/package.git"
\tfetch = +refs/*:refs/*
; a comment, with \ttabs and trailing blanks\x20\x20
[url "https://token:x-oauth-basic@code.example.org/"]
\tinsteadOf = git@code.example.org:
[http "https://api.example.org/"]
\textraheader = Authorization: Basic Y2FuYXJ5\\
Y2FuYXJ5
\tsslVerify = true
[http] extraHeader = "PRIVATE-TOKEN: canary"
\temptyAuth = true
"""
MENDED = """\
[core]
\trepositoryformatversion = 0
\tbare = true
[remote "origin"]
\turl = https://git.example.org/owner/package.git
\tpushurl = "https://git.example.org:8443/owner/package.git"
\tfetch = +refs/*:refs/*
; a comment, with \ttabs and trailing blanks\x20\x20
[url "https://code.example.org/"]
\tinsteadOf = git@code.example.org:
[http "https://api.example.org/"]
\tsslVerify = true
[http]
\temptyAuth = true
"""
HOSTS = ("git.example.org", "git.example.org:8443", "code.example.org", "api.example.org", "any host")


def make_clone(cache: Path, config: str = CONFIG, name: str = "https---git.example.org-owner-package.git") -> Path:
    path = cache / "vcs" / name / "config"
    path.parent.mkdir(parents=True)
    path.write_bytes(config.encode())
    return path


def test_all_that_holds_a_credential_is_found_and_taken_out(tmp_path: Path) -> None:
    path = make_clone(tmp_path)
    (residue,) = find_residue(str(tmp_path))
    assert residue == Residue(str(path), HOSTS)
    mend(residue)
    assert path.read_text() == MENDED
    assert find_residue(str(tmp_path)) == ()


def test_git_reads_what_was_mended(tmp_path: Path) -> None:
    path = make_clone(tmp_path, CONFIG.replace("\n", "\r\n"))
    for residue in find_residue(str(tmp_path)):
        mend(residue)
    listed = subprocess.run(["git", "config", "--file", path, "--list"], check=True, capture_output=True, text=True)
    assert "remote.origin.url=https://git.example.org/owner/package.git\n" in listed.stdout
    assert "http.emptyauth=true\n" in listed.stdout
    assert "canary" not in listed.stdout
    assert "extraheader" not in listed.stdout


@pytest.mark.parametrize(
    "line",
    [
        "url = https://git.example.org/owner/package.git",
        "url = https://deploy@git.example.org/owner/package.git",
        "url = https://deploy:@git.example.org/owner/package.git",
        "url = https://first.last-of-the-department@git.example.org/package.git",
        "url = https://someone%40example.org@git.example.org/package.git",
        "url = git@git.example.org:owner/package.git",
        "url = ssh://git@git.example.org:22/owner/package.git",
        "url = https://git.example.org/owner/a:b@c.git",
        "url = https://git.example.org?user:password@c",
        "url = file:///srv/a:b@c/package.git",
        "extraheader =",
        "extraheader = X-Trace: canary",
        "helper = store",
    ],
)
def test_what_is_no_credential_is_left_alone(tmp_path: Path, line: str) -> None:
    path = make_clone(tmp_path, f'[remote "origin"]\n\t{line}\n')
    assert find_residue(str(tmp_path)) == ()
    mend(Residue(str(path), ()))
    assert path.read_text() == f'[remote "origin"]\n\t{line}\n'


@pytest.mark.parametrize(
    "userinfo", ["canary0token1canary2token3", "canary0token1canary2token3:", "user:pass@word", "a:b:c", ":canary"]
)
def test_tokens_and_odd_passwords_are_credentials(tmp_path: Path, userinfo: str) -> None:
    path = make_clone(tmp_path, f"\turl = https://{userinfo}@git.example.org/x\n")
    (residue,) = find_residue(str(tmp_path))
    mend(residue)
    assert path.read_text() == "\turl = https://git.example.org/x\n"


def test_mode_and_owner_stay(tmp_path: Path) -> None:
    path = make_clone(tmp_path)
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1234, 5678)
    before = path.stat()
    mend(find_residue(str(tmp_path))[0])
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [entry.name for entry in path.parent.iterdir()] == ["config"]


def test_what_is_no_utf8_stays(tmp_path: Path) -> None:
    path = make_clone(tmp_path)
    path.write_bytes(b"# \xff\xfe\n\turl = https://a:b@c.example.org/\xff\n\0")
    mend(find_residue(str(tmp_path))[0])
    assert path.read_bytes() == b"# \xff\xfe\n\turl = https://c.example.org/\xff\n\0"


def test_links_pipes_and_giants_are_left_alone(tmp_path: Path) -> None:
    """A clone that a link leads to is somebody's own working copy."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "config").write_text(CONFIG)
    cache = tmp_path / "cache"
    (cache / "vcs" / "linked-file").mkdir(parents=True)
    (cache / "vcs" / "linked-file" / "config").symlink_to(own / "config")
    (cache / "vcs" / "linked").symlink_to(own)
    (cache / "vcs" / "pipe").mkdir()
    os.mkfifo(cache / "vcs" / "pipe" / "config")
    make_clone(cache, CONFIG + "#" * (1 << 20), "giant")
    (cache / "vcs" / "file").write_text("no clone")
    assert find_residue(str(cache)) == ()
    with pytest.raises(OSError, match="symbolic"):
        mend(Residue(str(cache / "vcs" / "linked-file" / "config"), ()))
    assert (own / "config").read_text() == CONFIG


def test_a_clone_that_vanished_is_an_error_and_not_made_anew(tmp_path: Path) -> None:
    path = make_clone(tmp_path)
    (residue,) = find_residue(str(tmp_path))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        mend(residue)
    assert not path.exists()


def test_the_cache_may_itself_be_reached_through_a_link(tmp_path: Path) -> None:
    make_clone(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    assert len(find_residue(str(tmp_path / "link"))) == 1


def test_clones_in_projects_are_found_wherever_installers_put_them(tmp_path: Path) -> None:
    project = tmp_path / "project"
    places = ["libs/owner/package", "web/modules/contrib/token"]
    for place in places:
        (project / place / ".git").mkdir(parents=True)
        (project / place / ".git" / "config").write_text(CONFIG)
    outside = tmp_path / "outside"
    (outside / ".git").mkdir(parents=True)
    (outside / ".git" / "config").write_text(CONFIG)
    (project / "libs" / "owner" / "local").symlink_to(outside)
    (project / "libs" / "composer").mkdir()
    paths = ["../owner/package", "../../web/modules/contrib/token", "../../../outside", "../owner/local", None, "\0"]
    packages = [*({"name": "x/y", "install-path": path} for path in paths), "no package", {}]
    (project / "libs" / "composer" / "installed.json").write_text(json.dumps({"packages": packages}))
    (project / "composer.json").write_text('{"config": {"vendor-dir": "libs"}}')
    found = find_residue("", [str(project), str(project), str(tmp_path / "none")])
    assert [residue.path for residue in found] == [f"{project}/{place}/.git/config" for place in places]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"packages": 1}', '{"config": []}', '{"config": {"vendor-dir": 1}}'])
def test_malformed_documents_are_no_trouble(tmp_path: Path, text: str) -> None:
    (tmp_path / "vendor" / "composer").mkdir(parents=True)
    (tmp_path / "vendor" / "composer" / "installed.json").write_text(text)
    (tmp_path / "composer.json").write_text(text)
    assert find_residue("", [str(tmp_path)]) == ()


@pytest.mark.parametrize(
    "config",
    [
        '[remote "origin"]\n\turl = https://user:pa@Kq7/Zx9@git.example.org/o/r\n',
        '[http "https://user:pa@Kq7@git.example.org/"]\n\textraheader = Authorization: Basic x\n',
        '[http "https://user:Kq7/Zx9@git.example.org/"]\n\textraheader = Authorization: Basic x\n',
    ],
)
def test_no_part_of_a_password_is_named_as_the_host(tmp_path: Path, config: str) -> None:
    make_clone(tmp_path, config)
    (residue,) = find_residue(str(tmp_path))
    assert not any(word in host for host in residue.hosts for word in ("Kq7", "Zx9", "user"))
