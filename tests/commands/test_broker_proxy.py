"""What works through the broker as without it: curl and git, against small servers over TLS."""

from __future__ import annotations

import base64
import gzip
import json
import os
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from brokers import (
    CANARY,
    LOGIN,
    PASSWORD,
    SENT,
    Broker,
    World,
    serve_proxy,
    start_for_bitbucket,
)
from ic_secrets.broker.order import Bound
from ic_secrets.broker.report import Attempt
from ic_secrets.broker.trust import find_authorities, render_bundle
from ic_secrets.composer.credential import Credential
from servers.certificates import Authority
from servers.scripted import Connection, Scripted


def url(server: Scripted, path: str = "/", scheme: str = "https", host: str = "localhost") -> str:
    return f"{scheme}://{host}:{server.port}{path}"


def test_the_credential_goes_along_to_its_host_and_to_no_other(world: World) -> None:
    private, other = world.serve(), world.serve()
    broker = world.start(private)
    assert SENT in broker.curl(url(private)).stdout
    answer = broker.curl("--cacert", str(world.ca), url(other))
    assert b"GET / HTTP/1.1" in answer.stdout  # joined: the server's own certificate was seen
    assert b"authorization" not in answer.stdout.lower()
    report = broker.running.finish()
    assert [(each.host, each.secrets, each.requests, each.joined) for each in report.hosts] == [
        (f"localhost:{each.port}", names, requests, joined)
        for each, names, requests, joined in sorted(
            ((private, (f"http-basic.localhost:{private.port}",), 1, 0), (other, (), 0, 1)), key=lambda x: x[0].port
        )
    ]
    assert all(each.bytes_in > 100 and each.bytes_out > 50 for each in report.hosts)


def test_without_the_password_it_answers_407_and_asks_nobody(world: World) -> None:
    server, plain = world.serve(), world.serve(tls=False)
    broker = world.start(server)
    address = f"127.0.0.1:{broker.running.port}"
    for proxy in (f"http://ics:wrong@{address}", f"http://{address}", f"http://ics:{PASSWORD}x@{address}"):
        tried = broker.curl("-v", url(server), environment={"https_proxy": proxy})
        assert b"CONNECT tunnel failed, response 407" in tried.stderr
        assert b"Basic realm=" in tried.stderr
        tried = broker.curl("-w", "%{http_code}", url(plain, scheme="http"), environment={"http_proxy": proxy})
        assert tried.stdout == b"407"
    assert not server.heads
    assert not plain.heads


@pytest.mark.parametrize(
    ("head", "is_allowed"),
    [
        (LOGIN, True),
        (b"proxy-authorization:basic  " + base64.b64encode(f"who:{PASSWORD}".encode()) + b"\r\n", True),
        (LOGIN + LOGIN, False),
        (LOGIN.replace(b"Basic", b"Bearer"), False),
        (b"Proxy-Authorization: Basic %%%\r\n", False),
        (b"Proxy-Authorization: Basic\r\n", False),
        (b"Authorization: Basic " + LOGIN.split()[2] + b"\r\n", False),
    ],
)
def test_only_one_right_password_is_accepted(world: World, head: bytes, is_allowed: bool) -> None:
    plain = world.serve(tls=False)
    where = f"127.0.0.1:{plain.port}".encode()
    answer = world.start().ask(
        b"GET http://%s/ HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n" % (where, where, head)
    )
    assert answer.startswith(b"HTTP/1.1 200 " if is_allowed else b"HTTP/1.1 407 ")
    assert b"proxy-authorization" not in answer.lower()


def test_the_proxys_password_goes_to_no_server(world: World) -> None:
    server, plain = world.serve(), world.serve(tls=False)
    broker = world.start(server)
    broker.curl(url(server), url(plain, scheme="http"))
    assert not any(b"proxy" in head.lower() for head in (*server.heads, *plain.heads))


def test_git_fetches_with_its_bare_first_try(world: World, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    git(tmp_path, "init", "-q", "--bare", str(repository))
    work = tmp_path / "work"
    git(tmp_path, "clone", "-q", str(repository), str(work))
    (work / "file").write_bytes(os.urandom(3 << 20))
    git(work, "add", "file")
    git(work, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "first")
    git(work, "push", "-q", "origin", "HEAD:main")
    server = world.serve(lambda each: serve_git(each, tmp_path))
    broker = world.start(server)
    clone = git(
        tmp_path, "clone", "-q", "-b", "main", url(server, "/repository"), "clone", environment=broker.environment
    )
    assert clone.returncode == 0, clone.stderr
    assert (tmp_path / "clone/file").read_bytes() == (work / "file").read_bytes()
    assert all(SENT in head for head in server.heads)
    (work / "file").write_text("second")
    push = git(work, "push", url(server, "/repository"), "HEAD:other", environment=broker.environment)
    assert b"returned error: 403" in push.stderr
    assert b"remote: ic-secrets: " in push.stderr
    assert not any("receive-pack" in path for path in server.paths)


def git(
    directory: Path, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    settings = {"PATH": os.environ["PATH"], "HOME": str(directory), "GIT_TERMINAL_PROMPT": "0", **(environment or {})}
    return subprocess.run(["git", *arguments], cwd=directory, env=settings, capture_output=True)


def serve_git(each: Connection, root: Path) -> bool:
    """Answer by git's own http-backend, which does not say how long its answer is."""
    path, _, query = each.path.partition("?")
    if SENT not in each.head:
        each.answer(b"", "401 Unauthorized", 'WWW-Authenticate: Basic realm="x"')
        return True
    body = each.read_body()
    headers = dict(line.split(": ", 1) for line in each.head.decode().lower().strip().split("\r\n")[1:])
    settings = {
        "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
        "QUERY_STRING": query, "REQUEST_METHOD": each.method, "CONTENT_TYPE": headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(body)), "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
        "GIT_PROTOCOL": headers.get("git-protocol", ""),
    }  # fmt: skip
    output = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=settings).stdout
    head, _, body = output.partition(b"\r\n\r\n")
    each.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + head + b"\r\n\r\n")
    for start in range(0, len(body), 7000):
        piece = body[start : start + 7000]
        each.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    each.send(b"0\r\n\r\n")
    return True


# --- HTTP ---------------------------------------------------------------------------------------------------


def test_every_way_to_end_a_body_arrives_whole(world: World) -> None:
    body = os.urandom(1_000_000)

    def script(each: Connection) -> object:
        if each.path == "/chunked":
            each.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
            for start in range(0, len(body), 77_777):
                piece = body[start : start + 77_777]
                each.send(b"%X;name=value\r\n%b\r\n" % (len(piece), piece))
            each.send(b"0\r\nX-Sum: 1\r\n\r\n")
            return True
        if each.path == "/old":
            each.send(b"HTTP/1.0 200 OK\r\nContent-Type: x/y\r\n\r\n" + body)
            each.end()
            return False
        return each.answer(body)

    server = world.serve(script)
    broker = world.start(server)
    for path in ("/length", "/chunked", "/old"):
        for version in ("--http1.1", "--http1.0"):
            found = broker.curl(version, url(server, path))
            assert (found.returncode, found.stdout == body) == (0, True), (path, version, found.stderr)


def test_a_body_that_is_cut_off_is_an_error_for_the_client_too(world: World) -> None:
    """As without the broker: curl, git and Composer must not take half an archive for a whole one."""

    def script(each: Connection) -> bool:
        starts = {
            "/length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 50,
            "/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n30\r\n" + b"x" * 16,
            "/between": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "/cut": b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 50,
            "/odd": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n",
        }
        each.send(starts[each.path])
        return False

    server = world.serve(script)
    broker = world.start(server)
    for path in ("/length", "/chunked", "/between", "/cut", "/odd"):
        assert broker.curl(url(server, path)).returncode in {18, 56}, path
        assert broker.curl("--http1.0", url(server, path)).returncode in {18, 56}, path


def test_heads_and_answers_without_a_body_pass(world: World) -> None:
    def script(each: Connection) -> None:
        if each.path == "/same":
            each.send(b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 5\r\n\r\n')
        elif each.path == "/none":
            each.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            each.answer(b"hello", "206 Partial Content", "Content-Range: bytes 0-4/5")

    server = world.serve(script)
    broker = world.start(server)
    form = "%{http_code} %{size_download} %{num_connects}\n"
    found = broker.curl(
        "-w",
        form,
        "-o",
        os.devnull,
        url(server, "/same"),
        "-o",
        os.devnull,
        url(server, "/none"),
        "-o",
        os.devnull,
        url(server, "/some"),
    )
    assert found.stdout == b"304 0 1\n204 0 0\n206 5 0\n"
    head = broker.curl("-I", "-r", "0-4", url(server, "/some")).stdout
    assert b"206 Partial Content\r\n" in head
    assert b"content-length: 5\r\n" in head
    assert b"content-range: bytes 0-4/5\r\n" in head
    assert b"\r\nrange: bytes=0-4\r\n" in server.heads[-1].lower()


@pytest.mark.parametrize("headers", [(), ("Transfer-Encoding: chunked",), ("Expect:",)])
def test_bodies_are_sent_as_they_come(world: World, tmp_path: Path, headers: tuple[str, ...]) -> None:
    """Packed ones too, and those that wait for a word of the server before they come."""
    body = gzip.compress(os.urandom(3 << 20))
    (tmp_path / "body").write_bytes(body)
    received: list[bytes] = []

    def script(each: Connection) -> None:
        if b"expect" in each.head.lower():
            each.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        received.append(each.read_body())
        each.answer(b"fine")

    server = world.serve(script)
    broker = world.start(server, writable=frozenset({f"localhost:{server.port}"}))
    flags = [word for line in (*headers, "Content-Encoding: gzip") for word in ("-H", line)]
    start = time.monotonic()
    found = broker.curl("--data-binary", f"@{tmp_path}/body", *flags, url(server))
    assert found.stdout == b"fine", found.stderr
    assert received == [body]
    assert time.monotonic() - start < 30


def test_an_answer_before_the_body_is_read_arrives(world: World, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(bytes(20 << 20))

    def script(each: Connection) -> bool:
        each.answer(b"too large", "413 Content Too Large", "Connection: close")
        each.drain()
        return False

    server = world.serve(script)
    broker = world.start(server, writable=frozenset({f"localhost:{server.port}"}))
    for header in ("Expect:", "Expect: 100-continue"):
        found = broker.curl("--data-binary", f"@{tmp_path}/body", "-w", " %{http_code}", "-H", header, url(server))
        assert found.stdout.startswith(b"too large"), found.stderr
        assert found.stdout.endswith(b" 413")


def test_connections_are_kept_on_both_sides(world: World) -> None:
    server = world.serve(lambda each: each.answer(b"x"))
    broker = world.start(server)
    urls = [word for number in range(20) for word in ("-o", os.devnull, url(server, f"/{number}"))]
    assert broker.curl("-w", "%{num_connects}", *urls).stdout == b"1" + b"0" * 19
    broker.curl(*urls)
    assert len(server.heads) == 40
    assert server.connections == 1


def test_no_answer_waits_for_the_kernel_to_fill_a_segment(world: World) -> None:
    """Nagle's algorithm and delayed acknowledgements would make it 40 ms for each request."""
    server = world.serve(lambda each: each.answer(bytes(3000)))
    broker = world.start(server)
    taken = []
    with broker.tunnel(f"localhost:{server.port}") as peer:
        for _ in range(40):
            start = time.perf_counter()
            peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % server.port)
            received = b""
            while not received.endswith(bytes(3000)):
                received += peer.recv(65536)
            taken.append(time.perf_counter() - start)
    assert sorted(taken)[10] < 0.03


def test_a_kept_connection_that_ended_meanwhile_is_made_anew(world: World) -> None:
    """The server closes each connection after its answer, without a word; a POST is never sent twice."""
    heads: list[bytes] = []

    def script(each: Connection) -> bool:
        heads.append(each.head)
        each.read_body()
        each.answer(b"x")
        return len(heads) % 2 == 1 and each.read_head() and False

    server = world.serve(script)
    broker = world.start(server, writable=frozenset({f"localhost:{server.port}"}))
    for _ in range(6):
        found = broker.curl("-w", " %{http_code}", url(server))
        assert found.stdout == b"x 200"


def test_an_upgrade_is_not_made(world: World) -> None:
    server = world.serve(lambda each: each.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"))
    broker = world.start(server)
    form = ("-o", os.devnull, "-w", "%{http_code}")
    assert broker.curl(*form, "-H", "Connection: Upgrade", "-H", "Upgrade: websocket", url(server)).stdout == b"501"
    assert not server.heads
    assert broker.curl(*form, url(server)).stdout == b"502"  # and one that nobody asked for is garbage


def test_plain_http_goes_through_too_and_what_composer_offers_there_is_ignored(world: World) -> None:
    server = world.serve(tls=False)
    broker = world.start(server)
    found = broker.curl("--http2", url(server, "/a?b=c", "http"))
    assert found.stdout.startswith(b"GET /a?b=c HTTP/1.1\r\n")
    assert SENT in found.stdout  # it is on loopback
    assert b"upgrade" not in found.stdout.lower()


def test_a_public_host_gets_no_credential_and_is_not_looked_into(world: World) -> None:
    plain = world.serve(tls=False)
    broker = world.start()
    found = broker.curl("-X", "PUT", "-d", "x", "-H", "Authorization: mine", url(plain, "/a//b/%2e%2e", "http"))
    assert found.stdout.startswith(b"PUT /a//b/%2e%2e HTTP/1.1\r\n")
    assert b"authorization: mine\r\n" in found.stdout


# --- placeholders ---------------------------------------------------------------------------------------


def test_a_placeholder_is_filled_in_for_its_host_alone(world: World) -> None:
    bodies: list[bytes] = []

    def read(each: Connection) -> None:
        bodies.append(each.read_body())
        each.answer(each.head + bodies[-1])

    server, other = world.serve(read), world.serve(tls=False)
    holder = "ics_" + "a1" * 16
    broker = world.start(bound=(Bound("ACF_KEY", holder, "the value", (f"localhost:{server.port}",)),))
    found = broker.curl(url(server, f"/?k={holder}"), "-d", f"key={holder}&x=y").stdout
    assert server.heads[0].startswith(b"POST /?k=the%20value HTTP/1.1")
    assert bodies == [b"key=the+value&x=y"]
    assert found.startswith(f"POST /?k={holder} HTTP/1.1".encode()), "what it repeats shows the placeholder again"
    assert f"?k={holder}".encode() in broker.curl(url(other, f"/?k={holder}", "http")).stdout
    assert broker.running.finish().attempts == (Attempt("ACF_KEY", f"localhost:{other.port}", 1),)


# --- tokens that are minted here ----------------------------------------------------------------------------


def serve_bitbucket(world: World, status: str = "200 OK") -> tuple[Scripted, Broker]:
    """Bitbucket behind a proxy, with a repository of acme's, and a broker with a consumer for it."""
    token = b'{"access_token": "the-access-token", "expires_in": 7200}'

    def script(each: Connection) -> None:
        each.read_body()
        if each.path == "/site/oauth2/access_token":
            time.sleep(0.5)  # all who need it come meanwhile
            each.answer(token if status == "200 OK" else b"{}", status)
        else:
            each.answer(each.head)

    server = world.serve(script, context=world.make_context("bitbucket.org", "api.bitbucket.org"))
    through = world.serve(lambda each: serve_proxy(each, server.port), tls=False)
    return server, start_for_bitbucket(world, through)


def test_an_access_token_is_minted_once_for_all_who_need_it(world: World) -> None:
    server, broker = serve_bitbucket(world)
    urls = [f"https://api.bitbucket.org/2.0/repositories/acme/private?n={number}" for number in range(12)]
    found = broker.curl("-Z", *urls).stdout
    assert found.count(b"authorization: Bearer the-access-token\r\n") == 12
    asked = [head for head in server.heads if head.startswith(b"POST ")]
    assert len(asked) == 1
    assert b"authorization: Basic " + base64.b64encode(b"the-consumer:" + CANARY.encode()) in asked[0]
    assert CANARY.encode() not in found
    assert broker.running.finish().hosts[0].secrets == ("bitbucket-oauth.bitbucket.org",)


def start_minting(world: World, life: object, refused: list[str]) -> tuple[list[str], Broker]:
    """Start Bitbucket, whose tokens live so long and which refuses those; return what it mints, and a broker."""
    minted: list[str] = []

    def script(each: Connection) -> None:
        each.read_body()
        if each.path == "/site/oauth2/access_token":
            minted.append(f"the-access-token-{len(minted)}")
            each.answer(json.dumps({"access_token": minted[-1], "expires_in": life}).encode())
        elif any(token.encode() in each.head for token in refused):
            each.answer(b"{}", "401 Unauthorized")
        else:
            each.answer(each.head)

    server = world.serve(script, context=world.make_context("bitbucket.org", "api.bitbucket.org"))
    through = world.serve(lambda each: serve_proxy(each, server.port), tls=False)
    return minted, start_for_bitbucket(world, through)


OF_BITBUCKET = "https://api.bitbucket.org/2.0/repositories/acme/private"


@pytest.mark.parametrize(("life", "number"), [(7200, 0), (61, 0), (1, 1), ("1", 1), (0, 0), (-1, 0), (None, 0)])
def test_an_access_token_is_minted_again_before_its_end(world: World, life: object, number: int) -> None:
    _, broker = start_minting(world, life, [])
    assert b"Bearer the-access-token-0" in broker.curl(OF_BITBUCKET).stdout
    time.sleep(1)
    assert b"Bearer the-access-token-%d" % number in broker.curl(OF_BITBUCKET).stdout


def test_an_access_token_that_the_server_refuses_is_minted_again_once(world: World) -> None:
    refused: list[str] = []
    minted, broker = start_minting(world, 7200, refused)
    assert b"Bearer the-access-token-0" in broker.curl(OF_BITBUCKET).stdout
    refused.append("the-access-token-0")
    found = broker.curl("-Z", *(f"{OF_BITBUCKET}?n={number}" for number in range(8))).stdout
    assert found.count(b"Bearer the-access-token-1") == 8
    assert len(minted) == 2
    refused.append("the-access-token")  # all of them
    found = broker.curl("-w", " %{http_code}", OF_BITBUCKET, OF_BITBUCKET).stdout
    assert found.count(b" 424") == 2
    assert len(minted) == 3
    assert [text for text, _ in broker.running.finish().notices]


def test_a_token_that_is_not_minted_is_said_with_the_name_of_its_secret(world: World) -> None:
    server, broker = serve_bitbucket(world, "401 Unauthorized")
    found = broker.curl("-w", " %{http_code}", "https://api.bitbucket.org/2.0/repositories/acme/private")
    assert b"no access token for the secret bitbucket-oauth.bitbucket.org: bitbucket.org answered 401" in found.stdout
    assert found.stdout.endswith(b" 424")
    assert "bitbucket-oauth.bitbucket.org" in broker.running.finish().notices[0][0]
    assert [head.split()[0] for head in server.heads] == [b"POST"]


# --- the person's own proxy and authorities ---------------------------------------------------------------


def test_the_persons_own_proxy_is_used_with_its_password(world: World) -> None:
    server, plain = (
        world.serve(context=world.make_context("repo.example.org", "other.example.org", "localhost")),
        world.serve(tls=False),
    )
    through, through_plain = (
        world.serve(lambda each, to=to: serve_proxy(each, to.port), tls=False) for to in (server, plain)
    )
    environment = {
        "https_proxy": f"http://p:q%2F%3F@127.0.0.1:{through.port}",
        "HTTP_PROXY": f"p:q%2F%3F@127.0.0.1:{through_plain.port}",
    }
    broker = world.start(server, host="repo.example.org", environment=environment)
    assert SENT in broker.curl(url(server, host="repo.example.org")).stdout
    joined = broker.curl("--cacert", str(world.ca), "-v", "https://other.example.org/x")
    assert b"authorization" not in joined.stdout.lower()
    assert b"GET /x HTTP/1.1" in joined.stdout, joined.stderr
    assert through.paths == [f"repo.example.org:{server.port}", "other.example.org:443"]
    assert b"GET http://third.example.org/y HTTP/1.1" in broker.curl("http://third.example.org/y").stdout
    wrong = {name: value.replace("q%2F", "q") for name, value in environment.items()}
    broker = world.start(server, host="repo.example.org", environment=wrong)
    assert b"the proxy 127.0.0.1" in broker.curl(url(server, host="repo.example.org")).stdout
    assert b"another password" in broker.curl("http://third.example.org/y").stdout
    broker = world.start(server, environment={**environment, "no_proxy": f"example.net, localhost:{server.port}"})
    assert SENT in broker.curl(url(server)).stdout
    assert len(through.heads) == 3


def test_a_certificate_that_is_not_trusted_is_an_error_with_its_reason(world: World) -> None:
    stranger = Authority("A stranger")
    (world.directory / "stranger.pem").write_bytes(stranger.certificate)
    server = world.serve(context=world.make_context(authority=stranger))
    named = world.serve(context=world.make_context("other.example.org"))
    broker = world.start(server, named)
    for each, reason in ((server, b"unable to get local issuer certificate"), (named, b"Hostname mismatch")):
        found = broker.curl("-w", " %{http_code}", url(each))
        assert found.stdout.endswith(b" 502")
        assert b"its certificate is not trusted: " + reason in found.stdout
        assert not each.heads
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        place = world.directory / "stranger.pem"
        if name == "SSL_CERT_DIR":
            place = world.directory / "hashed"
            place.mkdir()
            (place / "s.pem").write_bytes(stranger.certificate)
            subprocess.run(["openssl", "rehash", str(place)], check=True)
        paths = find_authorities({name: str(place)}, {}, [])
        broker = world.start(server, authorities=render_bundle(paths).decode())
        assert SENT in broker.curl(url(server)).stdout


def test_a_client_certificate_goes_to_the_server(world: World) -> None:
    context = world.make_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(world.ca)
    server = world.serve(context=context)
    certificate, key = world.authority.sign(["client"], b"pass phrase")
    (world.directory / "client.pem").write_bytes(certificate)
    (world.directory / "client.key").write_bytes(key)
    content = {"local_cert": f"{world.directory}/client.pem", "local_pk": f"{world.directory}/client.key"}
    for phrase, status in (("pass phrase", b"200"), ("", b"502")):
        secret = Credential(
            f"client-certificate.localhost:{server.port}",
            "client-certificate",
            f"localhost:{server.port}",
            {**content, "passphrase": phrase},
        )
        broker = world.start(credentials=(secret,))
        found = broker.curl("-w", " %{http_code}", url(server))
        assert found.stdout.endswith(b" " + status), found


def test_ipv6_is_asked_like_any_other(world: World) -> None:
    server = world.serve(host="::1")
    broker = world.start(server, host="[::1]")
    assert SENT in broker.curl("--noproxy", "", url(server, host="[::1]")).stdout
    assert CANARY.encode() not in broker.curl("-v", url(server, host="[::1]")).stderr
