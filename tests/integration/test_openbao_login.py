"""Logging in to a real OpenBao server: tokens, AppRole, identity tokens; what is refused, and what is left."""

from __future__ import annotations

import base64
import contextlib
import datetime
import http.server
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bao_servers import PROGRAM, ROOT, Server, Way, running
from commandline import Cli
from ic_secrets.errors import ConfigError, StoreDeniedError, StoreError
from ic_secrets.model.secret import Owner, Scope, SecretType, SecretValue, Site
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.openbao import store as openbao
from ic_secrets.stores.openbao.policy import render_policy
from ic_secrets.stores.registry import read_variables

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
POLICY = "build-of-my-site"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as server:
        mount = server.mount()
        environment = {"BAO_TOKEN": ROOT}
        with openbao.open_store(server.url(mount), read_variables(environment), environment) as store:
            store.set_site(Site("my-site"))
            owner = Owner("site", "my-site")
            value = SecretValue("a-canary-of-a-token")
            store.put(Place(owner, None, "TOKEN"), Write(value, type=SecretType.ENV, scopes=frozenset({Scope.IC})))
        server.ask("PUT", f"sys/policies/acl/{POLICY}", {"policy": render_policy(mount, Site("my-site"), "build")})
        for kind in ("approle", "jwt"):
            server.ask("POST", f"sys/auth/{kind}", {"type": kind})
        server.ask("POST", "sys/auth/elsewhere", {"type": "approle"})
        role = {"token_policies": [POLICY], "secret_id_num_uses": 1, "token_ttl": "5m"}
        for path in ("approle/role/build", "elsewhere/role/build"):
            server.ask("POST", f"auth/{path}", role)
        public = KEY.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        server.ask("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [public.decode()]})
        claims = {
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": ["ic-secrets"],
            "bound_subject": "my-site",
        }
        server.ask("POST", "auth/jwt/role/build", {**claims, "token_policies": [POLICY], "token_ttl": "5m"})
        yield server


def role_id(server: Server, mount: str = "approle") -> str:
    return str(server.ask("GET", f"auth/{mount}/role/build/role-id")["data"]["role_id"])


def secret_id(server: Server) -> str:
    return str(server.ask("POST", "auth/approle/role/build/secret-id")["data"]["secret_id"])


def wrap(server: Server, path: str, body: dict[str, str] | None = None) -> str:
    """A wrapping token of the answer to that request."""
    answer = server.ask("POST", path, body or {}, more={"X-Vault-Wrap-TTL": "60s"})
    return str(answer["wrap_info"]["token"])


def sign(**changes: object) -> str:
    """An identity token as a CI system makes it, which `changes` make a wrong one."""
    claims = {"sub": "my-site", "aud": "ic-secrets", "iat": time.time() - 5, "exp": time.time() + 60, **changes}
    parts = [json.dumps(part).encode() for part in ({"alg": "RS256", "typ": "JWT"}, claims)]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    seal = KEY.sign(text, padding.PKCS1v15(), hashes.SHA256())
    return (text + b"." + base64.urlsafe_b64encode(seal).rstrip(b"=")).decode()


def open_with(server: Server, environment: dict[str, str]) -> openbao.BaoStore:
    return openbao.open_store(server.url("ic-1"), read_variables(environment), environment)


def assert_it_reads(server: Server, environment: dict[str, str]) -> str:
    """The store can be read with what the environment says; the token that was asked with, which may be ended."""
    with open_with(server, environment) as store:
        held = store.read_chain(Owner("site", "my-site"), environment="dev", scope=Scope.IC, values=True)[0]
        token = store._client.token
    assert [secret.value for secret in held.secrets] == [SecretValue("a-canary-of-a-token")]
    return token


def is_alive(server: Server, token: str) -> bool:
    return server.status("GET", "auth/token/lookup-self", token) == 200


# --- a token ------------------------------------------------------------------------------------------


def test_a_token_comes_from_a_variable_or_an_agents_file(server: Server, tmp_path: Path) -> None:
    """In their order; one that is given to us is left alive."""
    token = server.token('path "ic-1/*" { capabilities = ["read", "list"] }')
    agent, usual = tmp_path / "agent", tmp_path / ".vault-token"
    for path in (agent, usual):
        path.write_text(f"{token}\n")
    for environment in (
        {"BAO_TOKEN": token, "VAULT_TOKEN": "wrong", "IC_SECRETS_BAO_TOKEN_FILE": "/nonexistent"},
        {"VAULT_TOKEN": token},
        {"IC_SECRETS_BAO_TOKEN_FILE": str(agent), "IC_SECRETS_BAO_ROLE_ID": "wrong", "HOME": "/nonexistent"},
        {"HOME": str(tmp_path)},
    ):
        assert assert_it_reads(server, environment) == token
    assert is_alive(server, token)


@pytest.mark.parametrize("text", [None, "", "\n", "a\x1b[0m", "\xff"])
def test_a_file_without_a_token_is_named(server: Server, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=str(path)):
        open_with(server, {"IC_SECRETS_BAO_TOKEN_FILE": str(path)})


def test_no_credentials_are_an_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no OpenBao credentials"):
        open_with(server, {"HOME": str(tmp_path)})


@pytest.mark.parametrize(
    "given",
    [
        {"IC_SECRETS_BAO_ROLE": "build"},
        {"IC_SECRETS_BAO_ROLE": "build", "IC_SECRETS_BAO_JWT": ""},
        {"IC_SECRETS_BAO_JWT": ""},
        {"IC_SECRETS_BAO_ROLE_ID": ""},
        {"IC_SECRETS_BAO_SECRET_ID": "one"},
        {"IC_SECRETS_BAO_WRAPPED_SECRET_ID_FILE": "one"},
        {"IC_SECRETS_BAO_AUTH_MOUNT": "jwt-of-gitlab"},
        {"BAO_TOKEN": ""},
    ],
    ids=str,
)
def test_a_job_without_its_token_never_takes_that_of_whoever_logged_in_on_the_machine(
    server: Server, tmp_path: Path, given: dict[str, str]
) -> None:
    """A fork's job has the role and no token, or an empty one; ~/.vault-token may be its administrator's."""
    (tmp_path / ".vault-token").write_text(ROOT)
    with pytest.raises(ConfigError, match=next(reversed(given))):
        open_with(server, {"HOME": str(tmp_path), **given})
    open_with(server, {"HOME": str(tmp_path)}).close()


def test_a_revoked_token_is_reported(server: Server) -> None:
    token = server.token("# nothing", ttl="1h")
    server.ask("POST", "auth/token/revoke", {"token": token})
    with open_with(server, {"BAO_TOKEN": token}) as store, pytest.raises(StoreDeniedError, match="expired"):
        store.site("my-site")


# --- AppRole ------------------------------------------------------------------------------------------


def test_an_approle_logs_in_and_out(server: Server, tmp_path: Path) -> None:
    """With a secret id of one use, from a variable or a file; its token ends with the store."""
    file = tmp_path / "secret-id"
    file.write_text(secret_id(server))
    for given in ({"IC_SECRETS_BAO_SECRET_ID": secret_id(server)}, {"IC_SECRETS_BAO_SECRET_ID_FILE": str(file)}):
        environment = {"IC_SECRETS_BAO_ROLE_ID": role_id(server), **given}
        token = assert_it_reads(server, environment)
        assert not is_alive(server, token)
        with pytest.raises(StoreDeniedError, match="refuses the login with AppRole"):
            open_with(server, environment)


def test_a_wrapped_secret_id_is_unwrapped_once(server: Server, tmp_path: Path) -> None:
    """Who comes second learns that somebody was there before."""
    file = tmp_path / "wrapped"
    for name in ("IC_SECRETS_BAO_WRAPPED_SECRET_ID", "IC_SECRETS_BAO_WRAPPED_SECRET_ID_FILE"):
        wrapped = wrap(server, "auth/approle/role/build/secret-id")
        file.write_text(wrapped)
        environment = {"IC_SECRETS_BAO_ROLE_ID": role_id(server), name: str(file) if "FILE" in name else wrapped}
        assert not is_alive(server, assert_it_reads(server, environment))
        with pytest.raises(StoreDeniedError, match="it was used") as error:
            open_with(server, environment)
        assert "somebody else did" in error.value.hint
        assert wrapped not in str(error.value)


@pytest.mark.parametrize("path", ["sys/wrapping/wrap", "auth/elsewhere/role/build/secret-id"])
def test_what_was_wrapped_elsewhere_is_not_unwrapped(server: Server, path: str) -> None:
    """Somebody who took the secret id out and wrapped it, or another, anew: that has another creation path."""
    wrapped = wrap(server, path, {"secret_id": secret_id(server)})
    environment = {"IC_SECRETS_BAO_ROLE_ID": role_id(server), "IC_SECRETS_BAO_WRAPPED_SECRET_ID": wrapped}
    with pytest.raises(StoreDeniedError, match="so it was not unwrapped"):
        open_with(server, environment)
    seen = server.ask("POST", "sys/wrapping/lookup", {"token": wrapped})  # it is still there, as evidence
    assert seen["data"]["creation_path"] == path


def test_another_mount_is_named_by_a_setting(server: Server) -> None:
    wrapped = wrap(server, "auth/elsewhere/role/build/secret-id")
    environment = {"IC_SECRETS_BAO_ROLE_ID": role_id(server, "elsewhere"), "IC_SECRETS_BAO_AUTH_MOUNT": "elsewhere"}
    assert_it_reads(server, {**environment, "IC_SECRETS_BAO_WRAPPED_SECRET_ID": wrapped})


def test_a_wrapped_secret_id_of_a_mount_of_several_parts(server: Server) -> None:
    """`auth/team/approle/`; and what was wrapped at a mount whose name begins alike is not unwrapped."""
    mount = "team/approle"
    server.ask("POST", f"sys/auth/{mount}", {"type": "approle"})
    server.ask("POST", f"auth/{mount}/role/build", {"token_policies": [POLICY], "secret_id_num_uses": 1})
    environment = {"IC_SECRETS_BAO_ROLE_ID": role_id(server, mount), "IC_SECRETS_BAO_AUTH_MOUNT": mount}
    wrapped = wrap(server, f"auth/{mount}/role/build/secret-id")
    assert_it_reads(server, {**environment, "IC_SECRETS_BAO_WRAPPED_SECRET_ID": wrapped})
    elsewhere = wrap(server, "auth/approle/role/build/secret-id")
    with pytest.raises(StoreDeniedError, match="so it was not unwrapped"):
        open_with(server, {**environment, "IC_SECRETS_BAO_WRAPPED_SECRET_ID": elsewhere})


@pytest.mark.parametrize("status", [-1, 500, 400, 403])
@pytest.mark.parametrize("step", ["login", "unwrap"])
def test_a_secret_id_of_one_use_is_never_sent_twice(server: Server, status: int, step: str) -> None:
    """Refused, failed or unanswered: nine more logins would lock the role out. What happened is said at once."""
    with Way(server, lambda _, path: (status, {"errors": ["as planned"]}) if path.endswith(step) else None) as way:
        environment = {
            "IC_SECRETS_BAO_ROLE_ID": role_id(server),
            "IC_SECRETS_BAO_WRAPPED_SECRET_ID": wrap(server, "auth/approle/role/build/secret-id"),
        }
        started = time.monotonic()
        with pytest.raises(StoreError) as error:
            openbao.open_store(f"bao+{way.address}/ic-1", read_variables(environment), environment)
        assert time.monotonic() - started < 5
        assert [path for _, path in way.seen].count(
            f"{'auth/approle' if step == 'login' else 'sys/wrapping'}/{step}"
        ) == 1
        assert error.value.hint


# --- identity tokens ----------------------------------------------------------------------------------


def test_an_identity_token_logs_in_and_out(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "jwt"
    file.write_text(sign())
    for given in ({"IC_SECRETS_BAO_JWT": sign()}, {"IC_SECRETS_BAO_JWT_FILE": str(file)}):
        token = assert_it_reads(server, {"IC_SECRETS_BAO_ROLE": "build", **given})
        assert not is_alive(server, token)


@pytest.mark.parametrize(
    "changes", [{"sub": "neighbour"}, {"aud": "else"}, {"exp": 1000}], ids=["subject", "audience", "expired"]
)
def test_anothers_identity_token_is_refused(server: Server, changes: dict[str, object]) -> None:
    token = sign(**changes)
    with pytest.raises(StoreDeniedError, match="refuses the login with the identity token") as error:
        open_with(server, {"IC_SECRETS_BAO_ROLE": "build", "IC_SECRETS_BAO_JWT": token})
    assert token[:20] not in f"{error.value} {error.value.hint}"


def test_the_servers_reason_for_refusing_an_identity_token_is_shown(server: Server) -> None:
    """Which claim does not match; never the token."""
    role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["ic-secrets"], "token_policies": [POLICY]}
    server.ask("POST", "auth/jwt/role/protected", {**role, "bound_claims": {"ref_protected": "true"}})
    token = sign(ref_protected="false")
    with pytest.raises(StoreDeniedError, match='claim "ref_protected" does not match') as error:
        open_with(server, {"IC_SECRETS_BAO_ROLE": "protected", "IC_SECRETS_BAO_JWT": token})
    assert token.rpartition(".")[2] not in str(error.value)


# --- a job on GitHub, a Kubernetes pod, an agent --------------------------------------------------------


@contextlib.contextmanager
def answering(answer: Callable[[str, str, dict[str, Any]], tuple[int, dict[str, Any]]]) -> Iterator[str]:
    """The address of a service that answers so: `answer(path, Authorization, body)` gives a status and a body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            status, reply = answer(self.path, self.headers.get("Authorization", ""), body)
            content = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if status == 302:
                self.send_header("Location", reply["to"])
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{service.server_address[1]}"
        finally:
            service.shutdown()
            thread.join()


def test_a_job_on_github_gets_its_identity_token_by_itself(server: Server) -> None:
    """For the audience that is set, shown to nobody but GitHub."""
    asked = []

    def answer(path: str, authorization: str, _: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        asked.append((path, authorization))
        return 200, {"value": sign(aud=path.partition("audience=")[2])}

    with answering(answer) as address:
        job = {"ACTIONS_ID_TOKEN_REQUEST_URL": f"{address}/token?v=2", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job"}
        token = assert_it_reads(server, {"IC_SECRETS_BAO_ROLE": "build", **job})
        assert not is_alive(server, token)
        with pytest.raises(StoreDeniedError):
            open_with(server, {"IC_SECRETS_BAO_ROLE": "build", "IC_SECRETS_BAO_AUDIENCE": "else", **job})
    assert asked == [(f"/token?v=2&audience={who}", "Bearer of-the-job") for who in ("ic-secrets", "else")]


@pytest.mark.parametrize(
    "answer",
    [(401, {}), (200, {}), (200, {"value": "line\nline"}), (302, {"to": "http://127.0.0.1:9/"})],
    ids=["refused", "empty", "no token", "redirect"],
)
def test_a_job_without_an_identity_token_learns_what_it_lacks(
    server: Server, answer: tuple[int, dict[str, Any]]
) -> None:
    asked = []
    with answering(lambda *words: (asked.append(words), answer)[1]) as address:
        job = {"ACTIONS_ID_TOKEN_REQUEST_URL": f"{address}/token", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-job"}
        with pytest.raises(ConfigError, match="GitHub") as error:
            open_with(server, {"IC_SECRETS_BAO_ROLE": "build", **job})
    assert "id-token: write" in error.value.hint
    assert len(asked) == 1
    for url in ("http://github.example.org/", "file://localhost/etc/hostname"):
        with pytest.raises(ConfigError, match="ACTIONS_ID_TOKEN_REQUEST_URL"):
            open_with(server, {"IC_SECRETS_BAO_ROLE": "build", **job, "ACTIONS_ID_TOKEN_REQUEST_URL": url})


def make_authority() -> str:
    """The certificate of an authority, which a plain connection has no use for."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cluster")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = x509.CertificateBuilder(name, name, KEY.public_key(), 1, now, now + datetime.timedelta(days=1))
    return made.sign(KEY, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_the_account_of_a_pod_logs_in_and_out(server: Server, tmp_path: Path) -> None:
    """The server has it reviewed by the cluster, here by a service that knows one account."""
    claims = {"namespace": "builds", "serviceaccount": {"name": "my-site", "uid": "1"}}
    pod = sign(sub="system:serviceaccount:builds:my-site", aud=["cluster"], **{"kubernetes.io": claims})

    def review(path: str, _: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        assert path == "/apis/authentication.k8s.io/v1/tokenreviews"
        user = {"username": "system:serviceaccount:builds:my-site", "uid": "1"}
        known = body["spec"]["token"] == pod
        status = {"authenticated": True, "audiences": ["cluster"], "user": user} if known else {"authenticated": False}
        return 201, {"status": status}

    file = tmp_path / "token"
    file.write_text(pod)
    server.ask("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
    with answering(review) as address:
        settings = {"kubernetes_host": address, "disable_local_ca_jwt": True, "kubernetes_ca_cert": make_authority()}
        server.ask("POST", "auth/kubernetes/config", settings)
        role = {"bound_service_account_names": ["my-site"], "bound_service_account_namespaces": ["builds"]}
        role |= {"token_policies": [POLICY], "token_ttl": "5m"}
        server.ask("POST", "auth/kubernetes/role/build", role)
        given = {"IC_SECRETS_BAO_KUBERNETES_ROLE": "build", "IC_SECRETS_BAO_JWT_FILE": str(file)}
        token = assert_it_reads(server, given)
        assert not is_alive(server, token)
        file.write_text(sign(sub="system:serviceaccount:builds:other", aud=["cluster"], **{"kubernetes.io": claims}))
        with pytest.raises(StoreDeniedError, match="the account of this pod"):
            open_with(server, given)
    with pytest.raises(ConfigError, match=r"/var/run/secrets/kubernetes\.io/serviceaccount/token"):
        open_with(server, {"IC_SECRETS_BAO_KUBERNETES_ROLE": "build"})


def test_an_agent_keeps_the_token_fresh(server: Server, tmp_path: Path) -> None:
    """A real one: what it writes is used as it is, and left alive for the next run."""
    sink = tmp_path / "token"
    (tmp_path / "role").write_text(role_id(server))
    (tmp_path / "secret").write_text(secret_id(server))
    (tmp_path / "agent.hcl").write_text(
        f"""
        vault {{ address = "{server.address}" }}
        auto_auth {{
          method "approle" {{
            config = {{
              role_id_file_path = "{tmp_path / "role"}"
              secret_id_file_path = "{tmp_path / "secret"}"
            }}
          }}
          sink "file" {{ config = {{ path = "{sink}" }} }}
        }}
        """
    )
    words = [PROGRAM, "agent", f"-config={tmp_path / 'agent.hcl'}"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    log = (tmp_path / "log").open("wb")
    with log, subprocess.Popen(words, stdout=log, stderr=log, env=environment) as agent:
        try:
            end = time.monotonic() + 30
            while not sink.exists() or not sink.read_text():
                assert agent.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.02)
            for _ in range(2):
                token = assert_it_reads(server, {"IC_SECRETS_BAO_TOKEN_FILE": str(sink)})
                assert token == sink.read_text()
                assert is_alive(server, token)
        finally:
            agent.terminate()


# --- a run --------------------------------------------------------------------------------------------


def test_a_run_leaves_no_token_and_hands_none_on(server: Server, cli: Cli, tmp_path: Path) -> None:
    """Logged in by a wrapped secret id: no token of that role is alive when the build starts."""
    wrapped = wrap(server, "auth/approle/role/build/secret-id")
    cli.home |= {
        "IC_SECRETS_STORE": server.url("ic-1"),
        "IC_SECRETS_BAO_ROLE_ID": role_id(server),
        "IC_SECRETS_BAO_WRAPPED_SECRET_ID": wrapped,
    }
    before = set(server.ask("LIST", "auth/token/accessors")["data"]["keys"])
    done = cli("run", "my-site", "--", "sh", "-c", 'env -u TOKEN > seen; test -n "$TOKEN"', check=0)
    after = set(server.ask("LIST", "auth/token/accessors")["data"]["keys"])
    assert after <= before
    seen = (cli.cwd / "seen").read_text()
    os.unlink(cli.cwd / "seen")
    assert wrapped not in seen
    assert "IC_SECRETS" not in seen
    assert wrapped.encode() not in done.stdout + done.stderr
