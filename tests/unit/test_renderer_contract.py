"""The contract of renderers, kept by the example plugin, and what it finds in renderers that do not keep it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ic_secrets.build.render import RenderContext, Rendered
from ic_secrets.errors import BuildError
from ic_secrets.testing import RendererContract

_SPEC = importlib.util.spec_from_file_location(
    "ic_secrets_npmrc",
    Path(__file__).parent.parent.parent / "hooks/example-plugin/src/ic_secrets_npmrc/__init__.py",
)
assert _SPEC
assert _SPEC.loader
npmrc = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(npmrc)


class TestExamplePlugin(RendererContract):
    render = staticmethod(npmrc.ic_secrets_render_secrets)
    secrets = (
        ("composer", "bearer.npm.example.org", "a-token-of-npm"),
        ("composer", "bearer.other.example.org", "another-token"),
        ("composer", "http-basic.repo.example.org", "deploy a-password"),
        ("env", "NPM_TOKEN", "a-token-of-the-registry"),
    )

    def test_what_a_netrc_cannot_say_is_left_out(self, tmp_path: Path) -> None:
        value = '{"username": "deploy", "password": "two words"}'
        assert self.render(self.make_context(tmp_path, [("composer", "http-basic.a.example.org", value)])) is None


def _value(context: RenderContext) -> str:
    return "".join(secret.value.reveal() for secret in context.secrets if secret.value)


def _touch(context: RenderContext) -> Rendered:
    Path(context.project, "x").touch()
    return Rendered({"a/x": b""})


_seen: list[bytes] = []


def _remember(context: RenderContext) -> Rendered | None:
    _seen.append(_value(context).encode())
    return Rendered({"a/x": b"".join(_seen)}) if context.secrets else None


WRONG: dict[str, tuple[Callable[[RenderContext], object], str]] = {
    "nothing": (lambda context: None, "test_it_renders_something"),
    "always the same file": (lambda context: Rendered({"a/x": b""}), "test_without_secrets_it_adds_nothing"),
    "text": (lambda context: Rendered({"a/x": "text"}), "test_what_it_gives_may_be_given"),  # type: ignore[dict-item]
    "ours": (lambda context: Rendered({"composer/x": b""}), "test_what_it_gives_may_be_given"),
    "a value in a name": (lambda context: Rendered({_value(context): b""}), "test_no_name_holds_a_value"),
    "a file of its own": (_touch, "test_it_touches_nothing"),
    "more each time": (_remember, "test_the_same_secrets_give_the_same"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_the_contract_finds_what_is_wrong(tmp_path: Path, wrong: str) -> None:
    render, test = WRONG[wrong]
    contract = RendererContract()
    contract.render = render  # type: ignore[assignment]
    contract.secrets = (("env", "TOKEN", "a-canary-of-a-value"),)
    with pytest.raises((AssertionError, BuildError)):
        getattr(contract, test)(tmp_path)
    assert "TOKEN" not in os.environ
