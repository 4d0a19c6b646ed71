"""The commands of the quick starts run as the pages show them; only programs of others are replaced by stand-ins."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bao_servers import PROGRAM as BAO, Server, running

PAGES = Path(__file__).parents[2] / "docs" / "start"
VALUE = "user t0k3n-of-the-test"
# What a person would type where `set` asks for a value, and programs that are not here.
PROGRAM = """#!/bin/sh
case "$1 $3" in
    'set http-basic'*) printf '%s' '{value}' | exec '{program}' "$@" ;;
    set*) printf '%s' '{word}' | exec '{program}' "$@" ;;
    'run '*composer*) exec '{program}' "$@" ;;
    *) exec '{program}' "$@" < /dev/null ;;
esac
"""
STANDINS = ["docker", "npm", "pip", "terminus", "php"]
FILES = {
    "composer.json": "{}",
    "auth.json": '{"http-basic": {"repo.example.org": {"username": "user", "password": "t0k3n-of-the-test"}}}',
    ".env": "DB_PASSWORD=t0k3n-of-the-test\n",
    "secrets.json": '{"SiteID": "0b4a1a8e-4f0c-4a3c-9f5e-6b1e4b6c1d11", "Secrets": {"API_KEY": {"Type": "env", '
    '"Value": "t0k3n-of-the-test", "Scopes": ["ic", "user"], "EnvValues": {}, "OrgValues": {}}}, "Count": 1, '
    '"Version": "", "Scopes": ["ic", "user"]}',
}


@pytest.fixture
def checkout(home: dict[str, str], tmp_path: Path, private: Path) -> Path:
    """A git repository with the files that the pages speak of, and the programs in front of PATH."""
    programs = tmp_path / "programs"
    programs.mkdir()
    program = Path(sys.executable).parent / "ic-secrets"
    scripts = dict.fromkeys(STANDINS, "#!/bin/sh\n")
    scripts["ic-secrets"] = PROGRAM.format(value=VALUE, word=VALUE.split()[1], program=program)
    for name, text in scripts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    home["PATH"] = f"{programs}:{home['PATH']}"
    work = tmp_path / "checkout"
    (work / "bin").mkdir(parents=True)
    for name, text in FILES.items():
        (work / name).write_text(text)
    (work / "bin" / "magento").write_text("#!/bin/sh\n")
    (work / "bin" / "magento").chmod(0o755)
    author = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*author, "commit", "-qm", "Begin"]):
        subprocess.run(["git", *words], cwd=work, env=home, check=True)
    return work


def run_blocks(page: str, checkout: Path, home: dict[str, str], replaced: dict[str, str] | None = None) -> str:
    """Run the page's blocks of commands in one shell, and give back what it printed."""
    text = (PAGES / page).read_text()
    for old, new in (replaced or {}).items():
        assert old in text
        text = text.replace(old, new)
    script = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    done = subprocess.run(["bash", "-euc", script], cwd=checkout, env=home, capture_output=True, text=True, timeout=240)
    shown = done.stdout + done.stderr
    assert done.returncode == 0, shown
    assert "t0k3n" not in shown
    return shown


@pytest.mark.parametrize("page", ["index.md", "laravel.md", "magento.md"])
def test_a_page_runs_from_top_to_bottom(page: str, checkout: Path, home: dict[str, str]) -> None:
    assert "made the store" in run_blocks(page, checkout, home)


def test_the_page_for_pantheon_runs(checkout: Path, home: dict[str, str]) -> None:
    (checkout / "ic-secrets.toml").write_text('site = "my-site"\nenv = "auto"\nreceipt = "receipt.json"\n')
    (checkout / "auth.json").unlink()
    shown = run_blocks("pantheon.md", checkout, home)
    assert "wrote secrets.sealed" in shown
    assert (checkout / "receipt.json").exists()


def test_the_page_for_wordpress_runs(checkout: Path, home: dict[str, str]) -> None:
    run_blocks("wordpress.md", checkout, home, {"cd shop\n": ""})
    assert "t0k3n" in (checkout / "shop.env").read_text()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        yield started


def test_the_page_for_openbao_runs(checkout: Path, home: dict[str, str], server: Server) -> None:
    """All but the log-in with GitHub's tokens, and the address is another."""
    home |= {"BAO_ADDR": server.address, "BAO_TOKEN": server.root, "PATH": f"{BAO.parent}:{home['PATH']}"}
    programs = checkout.parent / "programs"
    home["PATH"] = f"{programs}:{home['PATH']}"
    subprocess.run(["ic-secrets", "init", "--store", "store.db"], cwd=checkout, env=home, check=True)
    page = (PAGES / "openbao.md").read_text()
    (github,) = re.findall(r"bao auth enable -path=jwt jwt\n.*?^END\n", page, re.MULTILINE | re.DOTALL)
    replaced = {
        github: "",
        "-version=2 kv\n": "-version=2 kv\nsleep 1  # until it has made itself ready\n",
        "# 1 where they differ": "|| test $? -eq 1",
        "exec ": "",
        "bao+https://bao.example.org:8200": f"bao+{server.address}",
    }
    run_blocks("openbao.md", checkout, home, replaced)
    assert "my-site-build" in str(server.ask("GET", "sys/policies/acl?list=true"))


def test_the_page_for_python_runs(checkout: Path, home: dict[str, str]) -> None:
    subprocess.run(["ic-secrets", "init"], cwd=checkout, env=home, check=True)
    words = ["ic-secrets", "set", "my-site", "API_KEY", "--type", "env", "--scope", "ic"]
    subprocess.run(words, cwd=checkout, env=home, check=True)
    text = (PAGES / "python.md").read_text()
    for script in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        script += "\nassert [each['name'] for each in (receipt if 'receipt' in vars() else build.receipt)['secrets']]\n"
        done = subprocess.run([sys.executable, "-c", script], cwd=checkout.parent, env=home, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
