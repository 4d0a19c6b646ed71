"""Prepare the broker of a build: its order, the placeholders of values, and what leads the build to it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

from ..broker import Bound, Order, Place
from ..broker.defeats import find_defeats, find_exposed
from ..broker.environment import Lead, list_hosts, make_lead
from ..broker.placeholders import make_placeholder
from ..broker.report import OTHERS
from ..broker.trust import find_authorities, read_curlrc, read_wgetrc, render_bundle
from ..composer.auth_json import Document
from ..composer.home import CONFIG_FILE
from ..composer.methods import map_hosts
from ..composer.project import read_auth
from ..core.linux import is_zombie, read_start_time
from ..core.notices import Notice
from ..errors import BuildError, ExposureError, IcSecretsError
from ..process.watchdog import end_processes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..broker import Report, Running, StartingBroker
    from ..broker.report import Traffic
    from ..composer.repositories import PackageSources
    from ..core.collector import Errors
    from ..core.notices import Notify
    from ..process.directory import PrivateDirectory
    from ..stores.base import Identity
    from .prepare import PreparedBuild
    from .secrets import BuildSecrets

# Of the person's environment, what leads the broker itself to servers.
_UPSTREAM = frozenset({"https_proxy", "http_proxy", "all_proxy", "no_proxy"})
_PASSWORD_BYTES = 24
# The socket in the private directory by which a broker reports to another process than the one that started it.
_REPORTS = "reports"
# How long a killed broker is waited for, in seconds.
_PATIENCE = 5.0
_INTERVAL = 0.01
# The most hosts that one warning names.
_MOST_HOSTS = 10
# The most warnings that are shown of one broker: a build may ask for thousands of hosts.
_MOST_WARNINGS = 20


def make_placeholders(secrets: BuildSecrets, store: Identity | None) -> dict[str, str]:
    """Return what the build gets instead of the values that are bound to hosts, by the secret's name."""
    known = store.id if store else ""
    return {secret.name: make_placeholder(known, secret.source, secret.name) for secret in secrets if secret.hosts}


def arrange_broker(
    prepared: PreparedBuild, git: Sequence[tuple[str, str]], notify: Notify, errors: Errors
) -> PreparedBuild:
    """Return the build with the order of its broker; BuildError where something would lead past the broker.

    `git` are the settings that git reads outside, the strongest last.
    """
    request, project = prepared.request, prepared.project
    own: Document = {}
    with contextlib.suppress(IcSecretsError):  # what cannot be read has been refused already
        own = read_auth(os.path.join(prepared.home.path, CONFIG_FILE))
    section = own["config"] if isinstance(own.get("config"), dict) else {}
    authorities = find_authorities(request.environment, section, git)
    sources = project.sources.add_repositories(own)
    sources = sources._replace(forges={**map_hosts(section), **sources.forges})
    order = _make_order(prepared, sources, render_bundle(authorities).decode())
    exposed = find_exposed(list_hosts(order), order.insecure)
    for notice in (*exposed, *find_defeats(list_hosts(order), sources, project.config, git, request.environment)):
        if notice.level != "error":
            notify(notice)
            continue
        with errors:
            raise BuildError(notice.text, hint=notice.hint)
    if request.isolate:
        from ..broker.reach import find_reach

        order = order._replace(reach=find_reach(sources, order, request.reachable))
    return prepared._replace(order=order)


def lead_build(order: Order, running: Running, directory: str, environment: Mapping[str, str]) -> Lead:
    """Return what leads a build with that environment, and that private directory, to its broker."""
    bundle = (order.authorities + running.certificate).encode()
    own = read_wgetrc(environment), read_curlrc(environment)
    return make_lead(order, running.port, bundle, directory, environment, *own)


def _make_order(prepared: PreparedBuild, sources: PackageSources, authorities: str) -> Order:
    request, secrets = prepared.request, prepared.secrets
    bound = [each for each in secrets if each.name in prepared.placeholders and each.name not in prepared.preserved]
    places = tuple(_list_places(sources))
    config = prepared.project.config
    allows_http = config.get("secure-http") is False
    return Order(
        credentials=tuple(secrets.credentials),
        bound=tuple(Bound(s.name, prepared.placeholders[s.name], s.value.reveal(), s.hosts) for s in bound),
        places=places,
        forges=sources.forges,
        writable=request.writable,
        insecure=frozenset(each.url for each in places if allows_http and each.url.startswith("http://")),
        environment={name: value for name, value in request.environment.items() if name.lower() in _UPSTREAM},
        authorities=authorities,
        password=os.urandom(_PASSWORD_BYTES).hex(),
    )


def _list_places(sources: PackageSources) -> Iterator[Place]:
    """List where the project's packages come from: repositories, archives and sources."""
    packages = [*sources.inline, *(sources.locked or ())]
    places = [place for package in packages for place in (package.archive, package.source)]
    for place in dict.fromkeys([*sources.repositories, *places, *sources.patches]):
        if place and place.host:
            yield Place(place.kind, place.web_url, place.transport, place.has_login)


def give_order(
    broker: StartingBroker, order: Order, directory: PrivateDirectory, *, is_handed_on: bool, has_network: bool = False
) -> Running:
    """Give the broker its order; where the build is handed on, let it report to whoever has the directory.

    A build that `has_network` of its own will be let in by what listens there.
    """
    if not is_handed_on:
        return broker.take(order, inside=has_network)
    with socket.socket(socket.AF_UNIX) as reports:
        try:
            reports.bind(os.path.join(directory.path, _REPORTS))
            reports.listen()
        except OSError as error:  # also where the path is longer than an address can be
            raise ExposureError(f"the broker cannot report: {error}", hint="name a shorter --run-dir") from None
        return broker.take(order, reports=reports)


class LeftBroker:
    """The broker of a build that another process began: it reports by a socket in the private directory."""

    def __init__(self, directory: str, pid: int, start: int) -> None:
        """`start` is when the process started (`core.linux.read_start_time`)."""
        self.pid = pid
        self._start = start
        self._place = os.path.join(directory, _REPORTS)

    def finish(self) -> Report:
        """End it, wait until it is gone, and return what it did."""
        from ..broker.process import ask_report

        report = ask_report(self._place)
        deadline = time.monotonic() + _PATIENCE
        while self._is_running and time.monotonic() < deadline:
            end_processes([self.pid], signal.SIGKILL)
            time.sleep(_INTERVAL)
        return report

    @property
    def _is_running(self) -> bool:
        return read_start_time(self.pid) == self._start != 0 and not is_zombie(self.pid)


def report_traffic(report: Report, notify: Notify) -> None:
    """Say in one line what went through the broker, and warn of what it refused."""
    if report.is_lost:
        text = "the broker ended before the build: what it did is not known, and no server was reached after that"
        notify(Notice(text, "it was killed, perhaps because the machine was short of memory: run the build again"))
        return
    warnings = list(_list_warnings(report))
    for warning in warnings[:_MOST_WARNINGS]:
        notify(warning)
    if len(warnings) > _MOST_WARNINGS:
        notify(Notice(f"the broker has {len(warnings) - _MOST_WARNINGS} more such warnings", "a receipt has them all"))
    notify(Notice(_summarize(report.hosts), level="note"))


def _list_warnings(report: Report) -> Iterator[Notice]:
    for text, hint in report.notices:
        yield Notice(text, hint)
    for attempt in report.attempts:
        times = "" if attempt.times == 1 else f", {attempt.times} times"
        text = f"the placeholder of {attempt.name} was sent to {attempt.host}{times}, and stayed a placeholder"
        command = f"`ic-secrets set OWNER {attempt.name} --hosts …`"
        yield Notice(text, f"if it belongs there, name that host too ({command}); if not, find out what sent it")
    for traffic in report.hosts:
        if traffic.refused:
            text = f"the broker refused {_count(traffic.refused, 'request')} to {traffic.host}"
            yield Notice(text, f"--allow-write {traffic.host} permits more than reading there")
    if denied := [traffic.host for traffic in report.hosts if traffic.denied]:
        which = "a host that is" if len(denied) == 1 else f"{len(denied)} hosts that are"
        shown = denied if len(denied) <= _MOST_HOSTS else [*denied[:_MOST_HOSTS], "…"]
        options = " ".join(f"--allow-host {host}" for host in shown if host not in {"…", OTHERS})
        hint = f"if it needs {'it' if len(denied) == 1 else 'them'}: {options}"
        yield Notice(f"the build asked for {which} not within its reach: {', '.join(shown)}", hint)


def _summarize(hosts: Sequence[Traffic]) -> str:
    """Say which secrets the build used, and where: the requests are all to those hosts, also the bare ones."""
    with_secrets = [traffic for traffic in hosts if traffic.secrets]
    secrets = {name for traffic in with_secrets for name in traffic.secrets}
    others = sum(not traffic.secrets and any((traffic.requests, traffic.joined, traffic.refused)) for traffic in hosts)
    rest = f"; {_count(others, 'other host')} got none" if others else ""
    if not secrets:
        return f"the build used no secret through the broker{rest}"
    requests = _count(sum(traffic.requests for traffic in with_secrets), "request")
    names = ", ".join(traffic.host for traffic in with_secrets)
    held = "it" if len(secrets) == 1 else "any of them"
    return f"the build used {_count(len(secrets), 'secret')} without holding {held}: {requests} to {names}{rest}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
