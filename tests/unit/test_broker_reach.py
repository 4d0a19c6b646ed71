"""What an isolated build reaches, what listens for it, and the names that lead there."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import socket
import ssl

import pytest
from hypothesis import example, given, strategies as st

from ic_secrets.broker import addresses
from ic_secrets.broker.addresses import is_guarded
from ic_secrets.broker.decisions import Head
from ic_secrets.broker.hello import HelloError, find_server_name
from ic_secrets.broker.order import Bound, Order, Place
from ic_secrets.broker.reach import Listener, Reach, find_reach, plan_listeners, render_hosts
from ic_secrets.broker.report import OTHERS, Report, Tally
from ic_secrets.broker.rules import Rules
from ic_secrets.broker.targets import Endpoint, parse_connect
from ic_secrets.broker.upstream import OutOfReachError, UnreachableError, Upstream
from ic_secrets.build.brokering import report_traffic
from ic_secrets.composer.credential import Credential
from ic_secrets.composer.repositories import read_sources
from ic_secrets.core.notices import Notice

GITHUB = {"api.github.com", "codeload.github.com", "raw.githubusercontent.com", "objects.githubusercontent.com"}
OFF = {"packagist.org": False}
REPO = {"type": "composer", "url": "https://Repo.Example.:8443/x"}
LOCK = {
    "packages": [
        {
            "name": "a/b",
            "dist": {
                "type": "zip",
                "url": "https://dist.example/b.zip",
                "mirrors": [{"url": "https://m.example/%package%"}],
            },
            "source": {"type": "git", "url": "git@git.example:a/b.git"},
        }
    ]
}


def reach(
    repositories: list[object] | None = None,
    lock: dict[str, object] | None = None,
    *allowed: str,
    patches: tuple[str, ...] = (),
    **fields: object,
) -> Reach:
    manifest: dict[str, object] = {"repositories": repositories or []}
    return find_reach(read_sources(manifest, lock, patches), Order(**fields), allowed)  # type: ignore[arg-type]


def token(host: str) -> Credential:
    return Credential(f"bearer.{host}", "bearer", host, "x")


# --- where it comes from


def test_composers_own_hosts_are_reached_unless_packagist_is_turned_off() -> None:
    found = reach()
    assert found.hosts >= {"repo.packagist.org", "packagist.org", "github.com", "gitlab.com", "codeberg.org", *GITHUB}
    assert not reach([OFF]).hosts


def test_a_project_reaches_the_places_of_its_packages_and_no_others() -> None:
    found = reach([REPO, OFF], LOCK, patches=("https://patch.example/1.patch",))
    assert found.hosts == {"repo.example:8443", "dist.example", "m.example", "git.example", "patch.example"}
    assert found.named == {"repo.example:8443"}


def test_an_inline_package_names_its_archive() -> None:
    package = {"name": "a/b", "version": "1", "dist": {"type": "zip", "url": "http://127.0.0.1:81/a.zip"}}
    assert reach([{"type": "package", "package": package}, OFF]).named == {"127.0.0.1:81"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"credentials": (token("github.com"),)}, {"github.com", *GITHUB}),
        ({"credentials": (token("bitbucket.org"),)}, {"bitbucket.org", "api.bitbucket.org"}),
        ({"credentials": (token("repo.example:8443"),)}, {"repo.example:8443"}),
        ({"bound": (Bound("KEY", "ics_x", "v", ("a.example", "b.example:81")),)}, {"a.example", "b.example:81"}),
        ({"writable": frozenset({"w.example"})}, {"w.example"}),
    ],
)
def test_whoever_has_a_secret_for_a_host_reaches_it(fields: dict[str, object], expected: set[str]) -> None:
    found = reach([OFF], None, **fields)
    assert found.hosts >= expected
    assert found.named >= expected
    assert not found.carried


def test_repositories_of_others_archives_lead_to_these() -> None:
    assert "downloads.wordpress.org" in reach([{"type": "composer", "url": "https://wpackagist.org"}, OFF]).hosts
    assert "ftp.drupal.org" in reach([{"type": "composer", "url": "https://packages.drupal.org/8"}, OFF]).hosts


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ("Evil.Example.", "evil.example"),
        ("evil.example:443", "evil.example:443"),
        ("127.0.0.1:3306", "127.0.0.1:3306"),
        ("[::1]:3306", "[::1]:3306"),
        ("[0:0::1]", "[::1]"),
        ("bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_what_a_person_allows_is_in_one_spelling(allowed: str, expected: str) -> None:
    found = reach([OFF], None, allowed)
    assert found.hosts == {expected}
    assert found.named == {expected}


@pytest.mark.parametrize("odd", ["", "a b", "*", "a.example:0", "a.example:99999", "0x7f.1", "user@a.example", "a\nb"])
def test_what_is_not_a_host_adds_nothing(odd: str) -> None:
    assert reach([OFF], None, odd) == Reach()


@pytest.mark.parametrize(
    ("host", "target", "is_reached"),
    [
        ("a.example", "a.example:443", True),
        ("a.example", "A.Example.:443", True),
        ("a.example", "a.example:80", True),
        ("a.example", "a.example:8443", False),
        ("a.example", "b.a.example:443", False),
        ("a.example", "a.example.evil:443", False),
        ("a.example:8443", "a.example:8443", True),
        ("a.example:8443", "a.example:443", False),
        ("a.example:443", "a.example:80", False),
        ("127.0.0.1", "[::ffff:127.0.0.1]:443", True),
        ("[::1]:3306", "[0::1]:3306", True),
    ],
)
def test_a_host_without_a_port_is_the_two_usual_ones(host: str, target: str, is_reached: bool) -> None:
    assert Reach(frozenset({host})).covers(parse_connect(target)) is is_reached


def test_an_order_keeps_its_reach_on_the_way_to_the_broker() -> None:
    for each in (None, Reach(), reach([REPO], LOCK, "127.0.0.1:3306", "db.internal:5432")):
        assert Order.from_json(Order(reach=each).to_json()).reach == each


# --- what listens


def test_a_proxy_and_two_ports_for_all_names_are_all_that_most_builds_need() -> None:
    listeners = plan_listeners(reach([], LOCK))
    assert [(each.kind, each.address, each.port) for each in listeners] == [
        ("proxy", "127.0.0.1", 3128),
        ("web", "127.0.1.1", 80),
        ("web", "127.0.1.1", 443),
    ]


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ("127.0.0.1:3306", Listener("raw", "127.0.0.1", 3306, "127.0.0.1:3306")),
        ("localhost:3306", Listener("raw", "127.0.0.1", 3306, "localhost:3306")),
        ("127.0.0.5:443", Listener("raw", "127.0.0.5", 443, "127.0.0.5:443")),
        ("[::1]:5432", Listener("raw", "::1", 5432, "[::1]:5432")),
        ("db.internal:5432", Listener("raw", "127.0.2.1", 5432, "db.internal:5432")),
        ("db.internal:443", Listener("web", "127.0.1.1", 443, "")),
        ("localhost", Listener("web", "127.0.0.1", 80, "localhost:80")),
        ("10.1.2.3:5432", None),
        ("0.0.0.0:5432", None),
    ],
)
def test_a_server_that_a_person_allows_is_at_its_own_address(allowed: str, expected: Listener | None) -> None:
    listeners = plan_listeners(reach([OFF], None, allowed))
    assert listeners[0] == Listener("proxy", "127.0.0.1", 3128)
    assert list(listeners[1:2]) == ([expected] if expected else [])


def test_two_databases_at_one_port_and_a_name_with_many_do_not_meet() -> None:
    found = reach([REPO, OFF], None, "a.internal:5432", "b.internal:5432", "a.internal", "127.0.0.1:3128")
    listeners = plan_listeners(found)
    places = [(each.address, each.port) for each in listeners]
    assert len(places) == len(set(places))
    assert listeners[0] == Listener("proxy", "127.0.0.1", 3129)
    assert {each for each in listeners if each.port == 5432} == {
        Listener("raw", "127.0.2.1", 5432, "a.internal:5432"),
        Listener("raw", "127.0.2.2", 5432, "b.internal:5432"),
    }
    assert {each.port for each in listeners if each.address == "127.0.2.1"} == {80, 443, 5432}
    assert Listener("web", "127.0.1.1", 8443) in listeners


def test_a_secrets_host_at_another_port_keeps_its_secret() -> None:
    """Joined at once, it would never get the credential."""
    found = reach([OFF], None, "repo.example:8443", credentials=(token("repo.example:8443"),))
    assert plan_listeners(found)[1:] == (Listener("web", "127.0.1.1", 8443),)


def test_a_lock_with_any_number_of_ports_does_not_use_up_the_sockets() -> None:
    found = Reach(frozenset(f"a.example:{port}" for port in range(1000, 9000)))
    assert len(plan_listeners(found)) < 500


def test_names_lead_to_the_listeners_and_the_machines_network_is_gone() -> None:
    base = b"127.0.0.1 localhost\n127.0.1.1 box.lan box # me\n10.0.0.7 intranet\n::1 localhost\nodd\n172.17.0.2 id\n"
    found = reach([REPO, OFF], None, "db.internal:5432", "127.0.0.1:3306", "localhost:81", "[::1]:9")
    assert render_hosts(found, base, "id").decode().splitlines() == [
        "127.0.0.1\tlocalhost",
        "127.0.0.1\tid",
        "127.0.0.1\tbox.lan",
        "127.0.0.1\tbox",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "127.0.2.1\tdb.internal",
        "127.0.1.1\trepo.example",
    ]


def test_a_reachable_host_that_is_this_machine_leads_to_the_broker() -> None:
    lines = render_hosts(reach([OFF], None, "box.lan"), b"127.0.1.1 box.lan box\n", "box").decode().splitlines()
    assert [line for line in lines if "box.lan" in line] == ["127.0.1.1\tbox.lan"]


@given(st.lists(st.sampled_from(["a.example", "localhost", "127.0.0.1", "[::1]", "10.0.0.1"]), max_size=5), st.data())
def test_every_name_leads_to_a_listener_for_each_of_its_ports(hosts: list[str], data: st.DataObject) -> None:
    ports = st.sampled_from(["", ":80", ":443", ":3128", ":3306", ":8443"])
    found = reach([OFF], None, *[host + data.draw(ports) for host in hosts])
    listeners = {(each.address, each.port): each for each in plan_listeners(found)}
    assert len(listeners) == len(plan_listeners(found))
    names = dict(line.split("\t")[::-1] for line in render_hosts(found, b"", "box").decode().splitlines())
    for text in found.hosts:
        host, port = re.fullmatch(r"(\[.*\]|[^:]*)(?::(\d+))?", text).groups()  # type: ignore[union-attr]
        address = names.get(host, host.strip("[]"))
        for each in (int(port),) if port else (80, 443):
            assert not ipaddress.ip_address(address).is_loopback or listeners[address, each].kind in {"raw", "web"}


# --- addresses


@pytest.mark.parametrize(
    "address",
    """
    127.0.0.1 127.255.0.3 0.0.0.0 0.1.2.3 169.254.169.254 169.254.1.1 224.0.0.1 255.255.255.255 240.0.0.1
    100.100.100.200 192.0.0.192 168.63.129.16 ::1 :: fe80::1 fe80::1%eth0 ff02::1 fec0::1 fd00:ec2::254 fd20:ce::254
    ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::ffff:0.0.0.0 ::127.0.0.1 64:ff9b::169.254.169.254 2002:7f00:1::
    2002:a9fe:a9fe:: localhost a.localhost metadata.google.internal
    """.split(),
)
def test_this_machine_its_link_and_its_cloud_are_guarded(address: str) -> None:
    assert is_guarded(address)


@pytest.mark.parametrize(
    "address", "8.8.8.8 10.77.1.9 192.168.77.1 172.31.9.9 2606:4700::1111 fd12::9 64:ff9b::808:808 a.example".split()
)
def test_other_servers_are_not_guarded(address: str) -> None:
    assert not is_guarded(address)


def test_the_addresses_of_this_machine_are_guarded_where_a_program_may_bind_to_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(addresses, "_can_bind", lambda family, text: True)
    assert not is_guarded("198.51.100.7")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
        try:
            tried.connect(("198.51.100.7", 9))
        except OSError:
            return
        assert is_guarded(tried.getsockname()[0])


def test_a_name_that_changes_its_mind_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server of names answers to a second question cannot matter."""
    asked: list[str] = []

    async def look() -> None:
        async def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
            asked.append(host)
            address = "198.51.100.7" if len(asked) == 1 else "127.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        async def connect(made: socket.socket, place: tuple[str, int]) -> None:
            assert place == ("198.51.100.7", 443)
            raise ConnectionRefusedError(111, "refused")

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        monkeypatch.setattr(loop, "sock_connect", connect)
        upstream = Upstream(Order(reach=Reach(frozenset({"a.example"}))))
        with pytest.raises(UnreachableError):
            await upstream.join(Endpoint("https", "a.example", 443))
        with pytest.raises(OutOfReachError):
            await upstream.join(Endpoint("https", "a.example", 443))

    asyncio.run(look())
    assert len(asked) == 2


def test_of_several_addresses_only_those_that_are_not_guarded_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    async def look() -> None:
        async def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
            found = ["127.0.0.1", "198.51.100.7", "169.254.169.254", "198.51.100.8"]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

        async def connect(made: socket.socket, place: tuple[str, int]) -> None:
            tried.append(place[0])
            raise ConnectionRefusedError(111, "refused")

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", resolve)
        monkeypatch.setattr(loop, "sock_connect", connect)
        with pytest.raises(UnreachableError):
            await Upstream(Order(reach=Reach(frozenset({"a.example"})))).join(Endpoint("https", "a.example", 443))

    asyncio.run(look())
    assert tried == ["198.51.100.7", "198.51.100.8"]


@given(st.sampled_from("a.example b.example evil.example 127.0.0.1 localhost 10.0.0.1".split()), st.integers(1, 65535))
@example("a.example", 443)
@example("b.example", 8443)
def test_a_host_that_is_not_within_reach_never_gets_a_connection(host: str, port: int) -> None:
    asked: list[tuple[str, int]] = []

    class Spy(Upstream):
        async def _connect(self, place: object, proxy: object) -> object:  # type: ignore[override]
            asked.append((place.host, place.port))  # type: ignore[attr-defined]
            raise UnreachableError("seen")

    upstream = Spy(Order(reach=Reach(frozenset({"a.example", "b.example:8443"}))))
    is_within = (host == "a.example" and port in {80, 443}) or (host, port) == ("b.example", 8443)
    for scheme in ("http", "https"):
        for ask in (upstream.open, upstream.join):
            with pytest.raises(UnreachableError if is_within else OutOfReachError):
                asyncio.run(ask(Endpoint(scheme, host, port)))  # type: ignore[arg-type]
    assert len(asked) == (4 if is_within else 0)


# --- what answers add

BASE = Place("composer", "https://repo.example", "http")


def learn(path: str, status: int, answer: object = "", location: str = "", *places: Place) -> set[str]:
    """Return what an answer of the repository adds, as `host:port`."""
    places = places or (BASE,)
    rules = Rules(Order(credentials=(token("repo.example"),), places=places, reach=Reach(frozenset({"repo.example"}))))
    decision = rules.decide(Endpoint("https", "repo.example", 443), Head("GET", path, "", (("host", "repo.example"),)))
    assert not decision.refusal
    headers = (("location", location),) if location else ()
    rules.learn(decision, status, headers, json.dumps(answer).encode())
    return {f"{each.host}:{each.port}" for each in rules.reached}


def test_a_repositorys_metadata_and_redirects_add_the_servers_of_its_archives() -> None:
    version = {"dist": {"url": "https://dist.example:81/b.zip"}, "source": {"url": "git@g.example:a/b"}}
    assert learn("/p2/a/b.json", 200, {"packages": {"a/b": [version]}}) == {"dist.example:81", "g.example:443"}
    mirrors = [{"dist-url": "https://m.example/%package%"}]
    answer = {"packages": [], "mirrors": mirrors, "notify-batch": "https://n.example/n"}
    assert learn("/packages.json", 200, answer) == {"m.example:443", "n.example:443"}
    assert learn("/dist/b.zip", 302, location="https://storage.example/b?sig=1") == {"storage.example:443"}


def test_neither_another_answer_nor_another_host_adds_any() -> None:
    answer = {"packages": {"a/b": [{"dist": {"url": "https://dist.example/b.zip"}}]}}
    assert not learn("/p2/a/b.json", 404, answer)
    assert not learn("/login", 302, "", "https://evil.example/", Place("vcs", "https://other.example/a/b", "git"))
    assert not learn("/dist/b.zip", 302, location="gopher://evil.example/")


def test_a_hostile_package_adds_few_servers_and_never_this_machine() -> None:
    """Its metadata, or a redirect that takes any address, may name a server of its author's, and many of them."""
    versions = [{"dist": {"url": f"https://{number}.evil.example/"}} for number in range(1000)]
    assert len(learn("/p2/a/b.json", 200, {"packages": {"a/b": versions}})) == 64
    upstream = Upstream(Order(reach=Reach()), {Endpoint("http", "169.254.169.254", 80)})
    with pytest.raises(OutOfReachError, match="leads to this machine"):
        asyncio.run(upstream.open(Endpoint("http", "169.254.169.254", 80)))


# --- the first bytes of TLS


def make_hello(name: str | None = "repo.example") -> bytes:
    """Return what OpenSSL sends first."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    out = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


HELLO = make_hello()


def split_records(hello: bytes, size: int) -> bytes:
    pieces = [hello[5:][start : start + size] for start in range(0, len(hello) - 5, size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("size", [1, 3, 100, 16384])
def test_the_server_name_is_read_however_the_records_are_split(size: int) -> None:
    data = split_records(HELLO, size)
    assert find_server_name(data) == "repo.example"
    assert all(find_server_name(data[:end]) is None for end in range(1, len(data)))
    assert find_server_name(data + b"\x14more") == "repo.example"
    assert find_server_name(make_hello(None)) == ""


def change(old: bytes, new: bytes) -> bytes:
    """Return the hello with other bytes of as many in the place of the first ones."""
    assert old in HELLO
    assert len(old) == len(new)
    return HELLO.replace(old, new, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x02\x00\x00\x05hello",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff" + b"\1" * 70000,
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
        b"\x16\x03\x01\x00\x01\x01" * 9000,
        change(b"\x00\x0crepo", b"\x00\xffrepo"),
        change(b"repo.example", b"r\xe9po.exampl"[:12].ljust(12, b"x")),
        change(b"\x00\x00\x0crepo", b"\x07\x00\x0crepo"),
        HELLO[:5] + HELLO[5:9] + b"\x03\x03" + b"r" * 32 + b"\xff" + HELLO[44:],
    ],
)
def test_what_is_no_hello_is_refused(data: bytes) -> None:
    with pytest.raises(HelloError):
        find_server_name(data)


@given(st.binary(max_size=200) | st.tuples(st.integers(0, len(HELLO) - 1), st.integers(0, 255)))
def test_no_bytes_confuse_the_parser(data: bytes | tuple[int, int]) -> None:
    if isinstance(data, tuple):
        changed = bytearray(HELLO)
        changed[data[0]] = data[1]
        data = bytes(changed)
    try:
        name = find_server_name(data)
    except HelloError:
        return
    assert name is None or name.isascii()


# --- what is said of it


def tell(*hosts: str) -> list[Notice]:
    tally, heard = Tally(), []
    for host in hosts:
        tally.add(host, denied=1)
    report_traffic(tally.make_report(), heard.append)
    return heard


def test_a_build_that_asks_further_is_told_which_hosts_and_how_to_allow_them() -> None:
    warning, note = tell("evil.example", "other.example:8443")
    assert warning.text == "the build asked for 2 hosts that are not within its reach: evil.example, other.example:8443"
    assert warning.hint == "if it needs them: --allow-host evil.example --allow-host other.example:8443"
    assert note.text == "the build used no secret through the broker"
    one = tell("evil.example")[0]
    assert one.text == "the build asked for a host that is not within its reach: evil.example"
    assert one.hint == "if it needs it: --allow-host evil.example"


def test_a_build_that_asks_thousands_of_hosts_gets_one_warning_and_room_for_the_others() -> None:
    warning = tell(*(f"{number}.evil.example" for number in range(3000)))[0]
    assert len(warning.text) < 400
    assert OTHERS not in str(warning.hint)
    tally = Tally()
    for number in range(3000):
        tally.add(f"{number}.evil.example", denied=1)
    tally.add("repo.example", "the-secret", requests=1)
    assert next(each for each in tally.make_report().hosts if each.host == "repo.example").secrets == ("the-secret",)
    assert Report.from_json(tally.make_report().to_json()) == tally.make_report()
