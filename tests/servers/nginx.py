"""The configuration and the processes of the servers: one nginx, and fcgiwrap for git-http-backend.

nginx gets its listening sockets from us (by the variable NGINX, as it hands them to itself when its binary is
replaced), so no port can be taken by another between choosing and listening, and no client comes too early.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servers import Server, Servers

STATUSES = (401, 403, 404, 500)

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
_TOOLS = ("composer", "php", "nginx", "fcgiwrap", "git", "unzip")


class MissingToolError(RuntimeError):
    """A program that the servers, or the tests on them, need is not installed."""


class NginxError(RuntimeError):
    """nginx did not start; the message holds its own words."""


def require_tools() -> None:
    """MissingToolError naming every missing program, and the command that installs them."""
    missing = [tool for tool in _TOOLS if shutil.which(tool, path=_PATH) is None]
    if missing:
        raise MissingToolError(f"not installed: {', '.join(missing)}; run .ci/install")


def write_configuration(servers: Servers) -> None:
    """Write nginx.conf and the password files: hashes alone, no credential."""
    directory = servers.directory
    for name in ("temp", "switches"):
        (directory / name).mkdir()
    for server in (servers.basic, servers.git):
        _write_passwords(directory / f"{server.name}.htpasswd", server.user, server.password)
    sections = [
        _repository_section(servers.basic, directory, _basic_guard("basic")),
        _repository_section(servers.bearer, directory, _bearer_guard(servers.bearer.token)),
        _repository_section(servers.public, directory, ""),
        _git_section(servers.git, directory),
        control_section(servers.control_port),
    ]
    (directory / "nginx.conf").write_text(main_configuration("\n".join(sections)))


def _write_passwords(path: Path, user: str, password: str) -> None:
    salt = secrets.token_bytes(8)
    digest = hashlib.sha1(password.encode() + salt).digest()
    path.write_text(f"{user}:{{SSHA}}{base64.b64encode(digest + salt).decode()}\n")


def main_configuration(sections: str) -> str:
    # One worker: requests are logged in the order they were answered, which Servers.mark() stands on.
    return f"""\
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
master_process on;
worker_processes 1;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 512; }}
http {{
    log_format requests escape=json
        '{{"server":"$server_name","method":"$request_method","path":"$request_uri",'
        '"status":"$status","authorization":"$sender"}}';
    access_log access.log requests;
    client_body_temp_path temp/body;
    proxy_temp_path temp/proxy;
    fastcgi_temp_path temp/fastcgi;
    uwsgi_temp_path temp/uwsgi;
    scgi_temp_path temp/scgi;
    client_max_body_size 64m;
    default_type application/octet-stream;
    types {{ application/json json; application/zip zip; }}
    map $http_authorization $sender {{ "" anonymous; default credential; }}
    map $status $basic_challenge {{ 401 'Basic realm="private"'; default ""; }}
    map $status $bearer_challenge {{ 401 'Bearer realm="private"'; default ""; }}
{sections}
}}
"""


def _server(port: int, name: str, body: str) -> str:
    return f"server {{ listen 127.0.0.1:{port}; server_name {name};\n{body}\n}}\n"


def control_section(port: int) -> str:
    """What says that nginx is ready, and that all requests before it are in the log."""
    return _server(port, "control", "location = /mark { access_log off; return 204; }")


def certified_section(port: int, name: str, directory: Path, root: Path) -> str:
    """A server of the files in `root` for whoever has a certificate of the authority."""
    body = f"""
    ssl_certificate {directory}/server.pem;
    ssl_certificate_key {directory}/server.pem;
    ssl_client_certificate {directory}/authority.pem;
    ssl_verify_client on;
    root {root};"""
    return _server(port, name, body).replace(f":{port};", f":{port} ssl;")


def _basic_guard(name: str) -> str:
    return f'auth_basic "private"; auth_basic_user_file {name}.htpasswd;'


def _bearer_guard(token: str) -> str:
    """Compares MD5 sums, so that the token itself lies in no file."""
    digest = hashlib.md5(f"Bearer {token}".encode()).digest()
    return f"""
        secure_link "{base64.urlsafe_b64encode(digest).decode().rstrip("=")}";
        secure_link_md5 "$http_authorization";
        add_header WWW-Authenticate $bearer_challenge always;
        if ($secure_link != "1") {{ return 401; }}"""


def _repository_section(server: Server, directory: Path, guard: str) -> str:
    return _server(
        server.port,
        server.name,
        f"""
    root {directory / server.name};
    location / {{ {guard} }}
    location ~ ^/dist/(?<package>[^/]+/[^/]+)/ {{ {_switches(server)} {guard} }}
    {_status_locations()}
    {_hang_location(directory)}""",
    )


def _git_section(server: Server, directory: Path) -> str:
    backend = subprocess.run(["git", "--exec-path"], check=True, capture_output=True, text=True).stdout.strip()
    return _server(
        server.port,
        server.name,
        f"""
    location ~ ^/(?<package>[^/]+/[^/]+)\\.git/ {{
        {_switches(server)}
        {_basic_guard(server.name)}
        fastcgi_pass unix:{directory}/git.sock;
        fastcgi_param SCRIPT_FILENAME {backend}/git-http-backend;
        fastcgi_param GIT_PROJECT_ROOT {directory / server.name};
        fastcgi_param GIT_HTTP_EXPORT_ALL "";
        fastcgi_param PATH_INFO $uri;
        fastcgi_param REMOTE_USER $remote_user;
        fastcgi_param QUERY_STRING $query_string;
        fastcgi_param REQUEST_METHOD $request_method;
        fastcgi_param CONTENT_TYPE $content_type;
        fastcgi_param CONTENT_LENGTH $content_length;
        fastcgi_param SERVER_PROTOCOL $server_protocol;
        fastcgi_param HTTP_AUTHORIZATION "";  # else it is in the environment of git-http-backend
    }}
    {_status_locations()}
    {_hang_location(directory)}""",
    )


def _switches(server: Server) -> str:
    """Files that `Server.answering` and `Server.hanging` make; nginx looks at each request, so no restart is needed."""
    switch = f"{server.switches}/$package"
    answers = [f'if (-f "{switch}/{status}.$sender") {{ return {status}; }}' for status in STATUSES]
    hang = f'error_page 418 = @hang; if (-f "{switch}/hang.$sender") {{ return 418; }}'
    challenge = "add_header WWW-Authenticate $basic_challenge always;" if server.password else ""
    return "\n        ".join([*answers, hang, challenge])


def _status_locations() -> str:
    """`/status/N/…` is N for everybody; `/refusing/N/…` asks for a credential first, and is N for any that comes."""
    return "\n    ".join(
        f"""location /status/{status}/ {{ add_header WWW-Authenticate $basic_challenge always; return {status}; }}
    location /refusing/{status}/ {{
        add_header WWW-Authenticate $basic_challenge always;
        if ($sender = anonymous) {{ return 401; }}
        return {status};
    }}"""
        for status in STATUSES
    )


def _hang_location(directory: Path) -> str:
    return f"location @hang {{ auth_basic off; proxy_pass http://unix:{directory}/hang.sock:; proxy_read_timeout 1h; }}"


@contextlib.contextmanager
def running_fcgiwrap(listener: socket.socket, directory: Path) -> Iterator[None]:
    """Three processes that run git-http-backend, for as many requests at once."""
    command = _ending_with_us([_found("fcgiwrap")])
    environment = {"PATH": _PATH, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(directory)}
    with contextlib.ExitStack() as stack, (directory / "fcgiwrap.log").open("wb") as log:
        for _ in range(3):
            process = subprocess.Popen(
                command,
                stdin=listener.fileno(),
                stdout=log,
                stderr=log,
                env=environment,
                cwd=directory,
                start_new_session=True,
            )
            stack.callback(_end, process)
        yield


@contextlib.contextmanager
def running_nginx(listeners: list[socket.socket], directory: Path, control_port: int) -> Iterator[None]:
    """nginx on `listeners`, which it takes over (they are closed here); ready when this is entered."""
    descriptors = [listener.fileno() for listener in listeners]
    files = ["-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", str(directory / "error.log")]
    process = subprocess.Popen(
        _ending_with_us([_found("nginx"), *files]),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # the same words are in error.log
        env={"PATH": _PATH, "NGINX": "".join(f"{descriptor};" for descriptor in descriptors)},
        pass_fds=descriptors,
        start_new_session=True,
    )
    try:
        for listener in listeners:
            listener.close()
        try:
            ask(control_port, "/mark")
        except OSError as error:
            raise NginxError((directory / "error.log").read_text()) from error
        yield
    finally:
        _end(process)


def ask(port: int, path: str) -> None:
    """GET `path` and read the whole answer; OSError where there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        connection.getresponse().read()


def _found(tool: str) -> str:
    path = shutil.which(tool, path=_PATH)
    if path is None:
        raise MissingToolError(f"not installed: {tool}; run .ci/install")
    return path


def _ending_with_us(command: list[str]) -> list[str]:
    """The kernel sends the command TERM when we die, even by KILL, where there is a `setpriv` (Linux)."""
    setpriv = shutil.which("setpriv", path=_PATH)
    return [setpriv, "--pdeathsig", "TERM", "--", *command] if setpriv else command


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
