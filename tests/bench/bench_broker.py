"""What the broker costs: an install, a large archive, and the start of a build; always beside the same without it.

Run it as a script; it prints a table for each. nginx serves over TLS on loopback, by HTTP/1.1; an install is Composer's
own, of packages that are all behind a password.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench_mask import make_exposed
from bench_search import PROGRAM, make_store
from programs import measure_in_turns, print_ratios

from ic_secrets.broker.order import Order
from ic_secrets.broker.process import StartingBroker
from ic_secrets.broker.trust import render_bundle
from ic_secrets.composer.credential import parse_credential
from servers.certificates import Authority

DIRECT, BROKERED = "direct", "through the broker"
PASSWORD = "canary"


def make_package(number: int, url: str, folder: Path) -> dict[str, object]:
    """Write the archive of a package of 8 kB, and return its metadata."""
    name, made = f"bench/package-{number}", io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("composer.json", json.dumps({"name": name}))
        archive.writestr("data", os.urandom(8000))
    path = folder / f"{number}.zip"
    path.write_bytes(made.getvalue())
    dist = {"type": "zip", "url": f"{url}/{path.name}", "shasum": hashlib.sha1(made.getvalue()).hexdigest()}
    return {"name": name, "version": "1.0.0", "dist": dist}


@contextlib.contextmanager
def running_nginx(folder: Path, port: int) -> Iterator[None]:
    """Within it, nginx serves `folder/www` over TLS to whoever has the password; nothing at `/open` needs it."""
    scratch = " ".join(f"{kind}_temp_path {folder}/t;" for kind in "client_body proxy fastcgi uwsgi scgi".split())
    hashed = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], check=True, capture_output=True, text=True).stdout
    (folder / "passwords").write_text(f"user:{hashed}")
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; worker_processes 1; events {{}}"
        f"http {{ access_log off; sendfile on; keepalive_requests 10000; {scratch}"
        f"server {{ listen 127.0.0.1:{port} ssl;"
        f"ssl_certificate {folder}/leaf.pem; ssl_certificate_key {folder}/leaf.pem; root {folder}/www;"
        f"location / {{ auth_basic x; auth_basic_user_file {folder}/passwords; }} location /open {{ }} }} }}"
    )
    with subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.05)
            yield
        finally:
            server.terminate()


def measure_installs(folder: Path, port: int, brokered: dict[str, str], packages: int, runs: int) -> None:
    """Compare installs from a lock, without Composer's cache."""
    url = f"https://localhost:{port}"
    made = [make_package(number, url, folder / "www") for number in range(packages)]
    listed = {str(each["name"]): {"1.0.0": each} for each in made}
    (folder / "www/packages.json").write_text(json.dumps({"packages": listed}))
    project = folder / "project"
    project.mkdir()
    wanted = dict.fromkeys(listed, "1.0.0")
    repositories = [{"type": "composer", "url": url}, {"packagist.org": False}]
    (project / "composer.json").write_text(json.dumps({"repositories": repositories, "require": wanted}))
    plain = {"PATH": os.environ["PATH"], "COMPOSER_HOME": str(folder / "home"), "COMPOSER_ALLOW_SUPERUSER": "1"}
    plain |= {"COMPOSER_CACHE_DIR": os.devnull, "COMPOSER_NO_INTERACTION": "1"}
    auth = {"http-basic": {f"localhost:{port}": {"username": "user", "password": PASSWORD}}}
    direct = plain | {"COMPOSER_AUTH": json.dumps(auth), "COMPOSER_CAFILE": str(folder / "known.pem")}
    subprocess.run(["composer", "update", "-q", "--no-install"], cwd=project, env=direct, check=True)

    def install(environment: dict[str, str]) -> None:
        shutil.rmtree(project / "vendor", ignore_errors=True)
        subprocess.run(["composer", "install", "-q"], cwd=project, env=environment, check=True)

    commands = {DIRECT: lambda: install(direct), BROKERED: lambda: install(plain | brokered)}
    print(f"\nan install of {packages} packages")
    print_ratios(measure_in_turns(commands, {}, runs), DIRECT)


def measure_archive(port: int, brokered: dict[str, str], ca: Path, size: int, runs: int) -> None:
    """Compare downloads of one large file."""

    def command(bundle: object, path: str) -> list[str]:
        url = f"https://localhost:{port}{path}"
        return [
            "curl",
            "-q",
            "-sSf",
            "--http1.1",
            "-u",
            f"user:{PASSWORD}",
            "--cacert",
            str(bundle),
            "-o",
            os.devnull,
            url,
        ]

    commands: dict[str, Sequence[str]] = {
        DIRECT: ["env", "-u", "https_proxy", *command(ca, "/large")],
        BROKERED: command(brokered["COMPOSER_CAFILE"], "/large"),
    }
    taken = measure_in_turns(commands, os.environ | brokered, runs)
    print(f"\none archive of {size} MB")
    print_ratios(taken, DIRECT)
    print(", ".join(f"{name} {size / statistics.median(times):.0f} MB/s" for name, times in taken.items()))


def measure_start(runs: int) -> None:
    """Compare `run -- true` with and without the broker."""
    exposed = make_exposed(20)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "work").mkdir()
        environment = make_store(folder, exposed) | {"HOME": str(folder)}
        words = ["env", "-C", str(folder / "work"), str(PROGRAM), "run", "--leaks", "off"]
        commands = {DIRECT: [*words, "my-site", "--", "true"], BROKERED: [*words, "--broker", "my-site", "--", "true"]}
        for each in commands.values():
            subprocess.run(each, env=environment, check=True, capture_output=True)
        taken = measure_in_turns(commands, environment, runs)
    print("\nthe start of a build with 20 secrets")
    print_ratios(taken, DIRECT)
    medians = [statistics.median(taken[name]) for name in (DIRECT, BROKERED)]
    print(f"{(medians[1] - medians[0]) * 1000:.0f} ms more")


def read_peak(pid: int) -> int:
    """The most memory that the process ever had resident, in kB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=int, default=100)
    parser.add_argument("--size", type=int, default=200, help="MB of the archive")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(dir="/dev/shm") as temporary, StartingBroker() as starting:
        folder = Path(temporary)
        folder.chmod(0o755)
        (folder / "www").mkdir()
        with (folder / "www/large").open("wb") as file:
            for _ in range(options.size):
                file.write(os.urandom(1 << 20))
        authority = Authority()
        (folder / "ca.pem").write_bytes(authority.certificate)
        (folder / "leaf.pem").write_bytes(b"".join(authority.sign(["localhost"])))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        value = json.dumps({"username": "user", "password": PASSWORD})
        credential = parse_credential(f"http-basic.localhost:{port}", value)
        running = starting.take(Order((credential,), authorities=authority.certificate.decode(), password="x"))
        # Curl reads its bundle anew for each connection, so both have one of the same size.
        (folder / "known.pem").write_bytes(render_bundle((str(folder / "ca.pem"),), ""))
        (folder / "bundle.pem").write_bytes(render_bundle((), running.certificate))
        proxy = dict.fromkeys(("https_proxy", "http_proxy"), f"http://x:x@127.0.0.1:{running.port}")
        brokered = {**proxy, "COMPOSER_CAFILE": str(folder / "bundle.pem")}
        with running_nginx(folder, port):
            measure_archive(port, brokered, folder / "ca.pem", options.size, options.runs)
            print(f"{read_peak(running.pid) / 1000:.0f} MB resident at most")
            measure_installs(folder, port, brokered, options.packages, options.runs)
    measure_start(options.runs * 3)


if __name__ == "__main__":
    main()
