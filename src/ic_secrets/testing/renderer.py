"""The contract of whatever renders secrets."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import MappingProxyType

from ..build.render import RenderContext, Rendered, render_others
from ..build.secrets import BuildSecret, BuildSecrets
from ..model.secret import (
    SecretType,
    SecretValue,
    Target,
)
from .helpers import BUILD, SITE


class RendererContract:
    """What every implementation of `ic_secrets_render_secrets` promises.

        class TestMine(RendererContract):
            render = staticmethod(my_plugin.ic_secrets_render_secrets)
            secrets = [("composer", "http-basic.repo.example.org", "user a-password"), ("env", "TOKEN", "a-token")]

    `secrets` are such (type, name, value) that it makes something of. The values stand nowhere else.
    """

    render: Callable[[RenderContext], Rendered | None]
    secrets: Sequence[tuple[str, str, str]]

    def make_context(self, directory: Path, secrets: Sequence[tuple[str, str, str]]) -> RenderContext:
        """Return a build of `my-site.dev` in that directory, which is also its home, with these secrets."""
        made = BuildSecrets(
            BuildSecret.make(name, SecretType(kind), SecretValue(value), source=str(SITE), scopes=BUILD)
            for kind, name, value in secrets
        )
        environment = MappingProxyType({"HOME": str(directory), "PATH": os.defpath})
        return RenderContext(Target("my-site", "dev"), str(directory), made, environment)

    def test_it_renders_something(self, tmp_path: Path) -> None:
        """From `secrets`, or the rest of the contract says nothing."""
        rendered = self.render(self.make_context(tmp_path, self.secrets))
        assert isinstance(rendered, Rendered)
        assert rendered.files or rendered.variables

    def test_what_it_gives_may_be_given(self, tmp_path: Path) -> None:
        """Files and variables of its own, whose types are right."""
        context = self.make_context(tmp_path, self.secrets)
        rendered = self.render(context) or Rendered()
        assert all(isinstance(path, str) and isinstance(data, bytes) for path, data in rendered.files.items())
        given = {**rendered.variables, **rendered.paths}
        assert all(isinstance(name, str) and isinstance(value, str) for name, value in given.items())
        render_others(context, Rendered(), [("the renderer", lambda _: rendered)])

    def test_without_secrets_it_adds_nothing(self, tmp_path: Path) -> None:
        """A file without a secret in it has no place in the private directory."""
        rendered = self.render(self.make_context(tmp_path, [])) or Rendered()
        assert (dict(rendered.files), dict(rendered.variables), dict(rendered.paths)) == ({}, {}, {})

    def test_the_same_secrets_give_the_same(self, tmp_path: Path) -> None:
        """It keeps nothing of the builds before, and does not depend on the order of the secrets."""
        first = self.render(self.make_context(tmp_path, self.secrets))
        self.render(self.make_context(tmp_path, []))
        again = self.render(self.make_context(tmp_path, list(reversed(self.secrets))))
        assert (first or Rendered()) == (again or Rendered())

    def test_it_touches_nothing(self, tmp_path: Path) -> None:
        """It decides; what it returns is written by others."""
        environment = dict(os.environ)
        self.render(self.make_context(tmp_path, self.secrets))
        assert list(tmp_path.iterdir()) == []
        assert dict(os.environ) == environment

    def test_no_name_holds_a_value(self, tmp_path: Path) -> None:
        """Names of files and variables are shown: in errors, to other plugins, in lists of processes."""
        rendered = self.render(self.make_context(tmp_path, self.secrets)) or Rendered()
        names = " ".join([*rendered.files, *rendered.variables, *rendered.paths, *rendered.paths.values()])
        for _, _, value in self.secrets:
            assert not [word for word in value.split() if len(word) >= 6 and word in names]
