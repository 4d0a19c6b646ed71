"""Plugins that the person names: what they can do, what they may not, and that their faults stay theirs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from commandline import Cli
from ic_secrets.config.settings import Setting, Settings
from ic_secrets.errors import PluginError
from ic_secrets.plugins.discovery import Origin, find_named

CANARY = "a-canary-of-a-value-in-plugins"
HEADER = """
import os, sys
from ic_secrets import hookimpl
from ic_secrets.errors import VetoError
from ic_secrets.hookspecs import Command, Rendered
"""
Make = Callable[..., Path]


@pytest.fixture
def site(cli: Cli, private: Path) -> Cli:
    """A store with one `env` secret of `my-site`."""
    cli("init", check=0)
    cli("set", "my-site", "TOKEN", "--type", "env", "--scope", "ic", stdin=CANARY.encode(), check=0)
    return cli


@pytest.fixture
def plugin(cli: Cli, tmp_path: Path) -> Make:
    """`plugin(code, name)` writes a plugin file and has the environment name it, beside those made before."""

    def make(code: str, name: str = "mine") -> Path:
        path = tmp_path / "plugins" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEADER + dedent(code))
        cli.home["IC_SECRETS_PLUGINS"] = ",".join(filter(None, [cli.home.get("IC_SECRETS_PLUGINS"), str(path)]))
        return path

    return make


def install(directory: Path, distribution: str, name: str, code: str | None, entry: str = "") -> None:
    """A distribution in `directory` whose entry point `name` is a module with that code (None: it is missing)."""
    module = distribution.replace("-", "_")
    directory.mkdir(exist_ok=True)
    if code is not None:
        (directory / f"{module}.py").write_text(HEADER + dedent(code))
    information = directory / f"{module}-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (information / "entry_points.txt").write_text(f"[ic_secrets]\n{name} = {entry or module}\n")


RENDERS = """
@hookimpl
def ic_secrets_render_secrets(context):
    token = next(secret.value.reveal() for secret in context.secrets if secret.name == "TOKEN")
    files = {"npm/npmrc": f"_authToken={token}".encode()}
    return Rendered(files, {"EXTRA": "more"}, {"NPM_CONFIG_USERCONFIG": "npm/npmrc"})
"""


def test_what_a_plugin_renders_is_there_for_the_build_and_gone_afterwards(
    site: Cli, plugin: Make, private: Path
) -> None:
    plugin(RENDERS)
    script = 'file=$NPM_CONFIG_USERCONFIG; stat -c %a "$file"; wc -c < "$file"; cat "$file"; echo $EXTRA'
    done = site("run", "my-site", "--", "sh", "-c", script, check=0)
    size = len(f"_authToken={CANARY}")
    assert done.stdout.decode().split() == ["600", str(size), "_authToken=***more"]
    assert list(private.iterdir()) == []


@pytest.mark.parametrize("broker", [(), ("--broker",)])
def test_a_plugin_cannot_give_a_build_what_only_the_broker_has(
    site: Cli, plugin: Make, tmp_path: Path, broker: tuple[str, ...]
) -> None:
    """Not without meaning to: a netrc or npmrc of every secret is what some render."""
    plugin(
        """
        @hookimpl
        def ic_secrets_render_secrets(context):
            values = [secret.value.reveal() for secret in context.secrets]
            values += [str(each.content) for each in context.secrets.credentials]
            return Rendered({"all": repr(values).encode()}, {}, {"ALL": "all"})
        """
    )
    bound = ("--type", "env", "--scope", "ic", "--hosts", "a.example")
    site("set", "my-site", "BOUND", *bound, stdin=b"a-bound-canary", check=0)
    name = "http-basic.repo.example.org"
    site("set", "my-site", name, "--type", "composer", "--scope", "ic", stdin=b"me a-login-canary", check=0)
    copy = tmp_path / "copied"
    site("run", *broker, "--leaks", "off", "my-site", "--", "sh", "-c", f'cp "$ALL" {copy}', check=0)
    found = copy.read_text()
    assert CANARY in found
    assert ("a-bound-canary" in found, "a-login-canary" in found, "ics_" in found) == (
        (False, False, True) if broker else (True, True, False)
    )


def test_files_of_a_plugin_may_share_directories(site: Cli, plugin: Make, private: Path) -> None:
    """Each is made once, and a parent before what it contains."""
    plugin(
        """
        @hookimpl
        def ic_secrets_render_secrets(context):
            files = dict.fromkeys(["a/b/one", "a/two", "a/b/three", "a.b"], b"x")
            return Rendered(files, {}, {"RENDERED": "a"})
        """
    )
    done = site("run", "my-site", "--", "sh", "-c", 'cd "$RENDERED"/..; find a a.b -type f | sort', check=0)
    assert done.stdout.decode().split() == ["a.b", "a/b/one", "a/b/three", "a/two"]
    assert list(private.iterdir()) == []


@pytest.mark.parametrize(
    "rendered",
    [
        "Rendered({'composer/auth.json': b'{}'})",
        "Rendered({'../x': b''})",
        "Rendered({}, {'PATH': '/tmp'})",
        "Rendered({}, {'LD_PRELOAD': '/tmp/x.so'})",
        "Rendered({}, {'TOKEN': 'other'})",
        "Rendered({}, {'COMPOSER_AUTH': '{}'})",
        "Rendered({}, {'IC_SECRETS_KEY': 'x'})",
        "Rendered({'x': b''}, {}, {'COMPOSER_HOME': 'x'})",
        "Rendered({}, {}, {'FILE': 'nowhere'})",
        "Rendered({'x': 'text'})",
        "Rendered({'x': b'', 'x/y': b''})",
        "Rendered({'x' * 256: b''})",
        "Rendered({'\\ud800': b''})",
        "Rendered({}, {'ABC': '\\ud800'})",
        "{'x': b''}",
        "42",
    ],
)
def test_a_plugin_may_render_only_what_is_nobody_elses(site: Cli, plugin: Make, rendered: str, tmp_path: Path) -> None:
    plugin(f"""
        @hookimpl
        def ic_secrets_render_secrets(context):
            return {rendered}
    """)
    done = site("run", "my-site", "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 125
    assert re.match(rb"error: the plugin mine (may not|names|does not return)", done.stderr), done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_plugin_sees_the_build_before_it_starts_and_its_receipt_but_no_value(
    site: Cli, plugin: Make, tmp_path: Path
) -> None:
    plugin(f"""
        import json
        @hookimpl
        def ic_secrets_before_expose(plan):
            open({str(tmp_path / "plan")!r}, "w").write(repr(plan))
        @hookimpl
        def ic_secrets_after_scrub(receipt):
            open({str(tmp_path / "receipt")!r}, "w").write(json.dumps(receipt))
    """)
    site("run", "my-site.pr-17", "--receipt", str(tmp_path / "own"), "--", "sh", "-c", "exit 3", check=3)
    plan = (tmp_path / "plan").read_text()
    for part in ("'TOKEN'", "'env'", "'my-site'", "pr-17", "'variable': 'TOKEN'", "program='sh'"):
        assert part in plan
    assert CANARY not in plan
    assert json.loads((tmp_path / "receipt").read_text()) == json.loads((tmp_path / "own").read_text())


def test_a_veto_stops_the_build_and_says_why_without_a_value(site: Cli, plugin: Make, tmp_path: Path) -> None:
    plugin("""
        seen = []
        @hookimpl
        def ic_secrets_render_secrets(context):
            seen.extend(secret.value.reveal() for secret in context.secrets)
        @hookimpl
        def ic_secrets_before_expose(plan):
            raise VetoError(f"not on a Friday, with {seen[0]}", hint=f"wait, {seen[0]}")
    """)
    done = site("run", "my-site", "--", "touch", str(tmp_path / "ran"), check=125)
    assert done.stderr.decode() == (
        "error: the plugin mine does not allow this build: not on a Friday, with ***\nhint: wait, ***\n"
    )
    assert not (tmp_path / "ran").exists()


FAULTS = {
    "raises": "raise ValueError(os.environ['PLANTED'])",
    "exits": "sys.exit(0)",
    "raises what is no Exception": "raise BaseException(os.environ['PLANTED'])",
    "raises what Ctrl-C raises": "raise KeyboardInterrupt",
    "stops a generator": "raise GeneratorExit",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("hook", ["ic_secrets_render_secrets(context)", "ic_secrets_before_expose(plan)"])
def test_a_fault_before_the_build_is_charged_to_the_plugin_and_nothing_runs(
    site: Cli, plugin: Make, tmp_path: Path, hook: str, fault: str
) -> None:
    plugin(f"""
        @hookimpl
        def {hook}:
            {FAULTS[fault]}
    """)
    done = site("run", "my-site", "--", "touch", str(tmp_path / "ran"), env={"PLANTED": CANARY})
    told = done.stderr.decode()
    assert (done.returncode, done.stdout) == (125, b"")
    assert told.startswith(f"error: the plugin mine failed in {hook.partition('(')[0]}: ")
    assert "mine.py:" in told
    assert "Traceback" not in told
    assert CANARY not in told
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("own", "status"), [(0, 121), (7, 7)])
def test_a_fault_after_the_build_is_told_and_the_other_plugins_are_called(
    site: Cli, plugin: Make, tmp_path: Path, private: Path, fault: str, own: int, status: int
) -> None:
    for name in ("first", "second"):
        plugin(
            f"""
            @hookimpl
            def ic_secrets_after_scrub(receipt):
                open({str(tmp_path / name)!r}, "w").close()
                {FAULTS[fault]}
            """,
            name,
        )
    done = site("run", "my-site", "--", "sh", "-c", f"exit {own}", env={"PLANTED": CANARY})
    told = done.stderr.decode()
    assert done.returncode == status
    assert "the plugin first failed in ic_secrets_after_scrub: " in told
    assert "the plugin second failed in ic_secrets_after_scrub: " in told
    assert CANARY not in told
    assert (tmp_path / "first").exists()
    assert (tmp_path / "second").exists()
    assert list(private.iterdir()) == []


def test_the_second_of_two_steps_shows_the_receipt(site: Cli, plugin: Make, tmp_path: Path) -> None:
    plugin(f"""
        @hookimpl
        def ic_secrets_after_scrub(receipt):
            open({str(tmp_path / "receipt")!r}, "w").write(str(receipt["status"]))
    """)
    site("pre-build", "my-site", check=0)
    site("post-build", "--status", "3", check=3)
    assert (tmp_path / "receipt").read_text() == "3"


@pytest.mark.parametrize(
    "code", ["import no_such_module_at_all", "@hookimpl\ndef ic_secrets_after_scrub(receipt): 1 / 0"]
)
def test_no_plugin_keeps_the_second_step_from_scrubbing(
    site: Cli, plugin: Make, private: Path, code: str, tmp_path: Path
) -> None:
    site("pre-build", "my-site", env={"IC_SECRETS_PLUGINS": ""}, check=0)
    plugin(code)
    done = site("post-build", "--receipt", str(tmp_path / "own"), check=121)
    assert b"the plugin mine" in done.stderr
    assert list(private.iterdir()) == []
    assert json.loads((tmp_path / "own").read_text())["scrub"]["complete"] is True


def test_what_a_hook_prints_never_reaches_stdout(site: Cli, plugin: Make) -> None:
    plugin("""
        print("loading")
        @hookimpl
        def ic_secrets_before_expose(plan):
            print("printed")
            os.write(1, b"written\\n")
            os.system("echo echoed")
        @hookimpl
        def ic_secrets_after_scrub(receipt):
            print("after")
    """)
    done = site("run", "my-site", "--", "echo", "the build", check=0)
    assert done.stdout == b"the build\n"
    assert set(done.stderr.decode().split()) == {"loading", "printed", "written", "echoed", "after"}


BROKEN = {
    "a hook with a default": (
        "@hookimpl\ndef ic_secrets_before_expose(plan=None): pass",
        "has the parameter plan, which is not a plain one",
    ),
    "a hook with stars": ("@hookimpl\ndef ic_secrets_before_expose(**kw): pass", "has the parameter kw, which is not"),
    "a hook with a star": ("@hookimpl\ndef ic_secrets_before_expose(*, plan): pass", "has the parameter plan, which"),
    "an async hook": ("@hookimpl\nasync def ic_secrets_after_scrub(receipt): pass", "is async"),
    "a mistyped hook": (
        "@hookimpl\ndef ic_secrets_before_expos(plan): pass",
        "implements ic_secrets_before_expos, which",
    ),
    "an unknown argument": ("@hookimpl\ndef ic_secrets_before_expose(build): pass", "cannot be registered"),
    "a wrapper": (
        "@hookimpl(wrapper=True)\ndef ic_secrets_after_scrub(receipt):\n    return (yield)",
        "wraps ic_secrets_after_scrub",
    ),
    "no marker": ("def ic_secrets_before_expose(plan): pass", "lacks @ic_secrets.hookimpl"),
    "no hook": ("x = 1", "implements no hook"),
    "a missing module": ("import no_such_module_at_all", "ModuleNotFoundError (no module no_such_module_at_all)"),
    "a syntax error": ("def (:", "SyntaxError at mine.py:"),
    "an exit": ("sys.exit(0)", "SystemExit at mine.py:"),
    "a taken scheme": (
        "@hookimpl\ndef ic_secrets_register_stores(): return {'bao+https': print}",
        "registers bao+https:, a kind of store that is built in",
    ),
    "no schemes": ("@hookimpl\ndef ic_secrets_register_stores(): return 5", "does not return a mapping"),
    "a taken command": (
        "@hookimpl\ndef ic_secrets_register_commands(): return [Command('run', 'x', print)]",
        "registers the command run, which is built in",
    ),
    "no command": ("@hookimpl\ndef ic_secrets_register_commands(): return ['hello']", "not a hookspecs.Command"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_named_and_stops_a_run(site: Cli, plugin: Make, tmp_path: Path, fault: str) -> None:
    code, told = BROKEN[fault]
    path = plugin(code)
    done = site("run", "my-site", "--", "touch", str(tmp_path / "ran"))
    assert done.returncode == 125
    assert done.stderr.decode().startswith(("error: the plugin mine", "error: in the plugin mine"))
    assert str(path) in done.stderr.decode()
    assert told in done.stderr.decode()
    assert not (tmp_path / "ran").exists()
    assert site("plugins").returncode == 1
    assert site("--help").returncode == 0
    site("run", "--no-plugins", "my-site", "--", "touch", str(tmp_path / "ran"), check=0)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("mode", [0o666, 0o620])
def test_a_file_that_others_can_write_is_no_plugin(site: Cli, plugin: Make, tmp_path: Path, mode: int) -> None:
    path = plugin("@hookimpl\ndef ic_secrets_before_expose(plan): pass")
    Path(path).chmod(mode)
    done = site("run", "my-site", "--", "touch", str(tmp_path / "ran"), check=125)
    assert b"is writable by others" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_nothing_of_a_checkout_is_imported(site: Cli, work: Path) -> None:
    """Neither in the place of a module of ours, nor of Python's, nor of a plugin's."""
    for name in ("pluggy", "cryptography", "hyperscan"):
        (work / f"{name}.py").write_text("print('evil'); raise SystemExit(0)")
    words = [sys.executable, "-m", "ic_secrets", "run", "my-site", "--", "echo", "built"]
    done = subprocess.run(words, env=site.home | {"PYTHONPATH": ":"}, cwd=work, capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"built\n")


def test_commands_that_need_no_plugin_load_none(site: Cli, plugin: Make) -> None:
    plugin("sys.exit('never')")
    site("list", "my-site", check=0)
    site("scan", "my-site", ".", check=0)


@pytest.mark.parametrize(
    "code",
    [
        "@hookimpl\ndef ic_secrets_register_stores(): return {'vault-of-mine': print}",
        "@hookimpl\ndef ic_secrets_register_commands(): return [Command('hello', 'x', print)]",
    ],
)
def test_two_plugins_that_add_the_same_are_refused(site: Cli, plugin: Make, code: str) -> None:
    plugin(code, "one")
    plugin(code, "two")
    done = site("run", "my-site", "--", "true", check=125)
    assert re.match(rb"error: the plugins one .* and two .* both register (vault-of-mine:|hello)\n", done.stderr)


def test_the_same_plugin_twice_is_refused(site: Cli, plugin: Make) -> None:
    plugin(RENDERS)
    plugin(RENDERS)
    assert b"two plugins are called mine" in site("run", "my-site", "--", "true", check=125).stderr


@pytest.mark.parametrize("word", ["./evil.py", "evil.py", "sub/../evil.py"])
def test_a_relative_path_in_the_variable_is_refused_since_it_may_lead_into_a_checkout(
    site: Cli, work: Path, word: str
) -> None:
    (work / "evil.py").write_text("open('ran', 'w')")
    (work / "sub").mkdir()
    done = site("run", "my-site", "--", "true", cwd=work, env={"IC_SECRETS_PLUGINS": word}, check=125)
    assert b"depends on the working directory" in done.stderr
    assert not (work / "ran").exists()


def test_a_path_may_begin_at_home(site: Cli, home: dict[str, str]) -> None:
    (Path(home["HOME"]) / "mine.py").write_text(HEADER + RENDERS)
    done = site("run", "my-site", "--", "printenv", "EXTRA", env={"IC_SECRETS_PLUGINS": "~/mine.py"}, check=0)
    assert done.stdout == b"more\n"


def test_a_checkout_brings_no_plugin(site: Cli, work: Path) -> None:
    """Neither installed below the working directory, nor named by it; `python -m` has that first on its path."""
    install(work, "evil-plugin", "mine", "open('ran', 'w')")
    site("run", "my-site", "--", "true", cwd=work, check=0)
    environment = site.home | {"IC_SECRETS_PLUGINS": "mine"}
    words = [sys.executable, "-m", "ic_secrets", "run", "my-site", "--", "true"]
    done = subprocess.run(words, cwd=work, env=environment, capture_output=True)
    assert done.returncode == 125
    assert b"the plugin mine is not installed" in done.stderr
    assert not (work / "ran").exists()


def test_an_installed_plugin_does_nothing_until_it_is_named(site: Cli, tmp_path: Path) -> None:
    install(tmp_path / "site", "some-plugin", "mine", RENDERS + f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    site.home["PYTHONPATH"] = str(tmp_path / "site")
    assert site("run", "my-site", "--", "printenv", "EXTRA").returncode == 1
    listed = json.loads(site("plugins", "--json", check=0).stdout)
    assert listed["plugins"] == [
        {
            **{"name": "mine", "active": False, "distribution": "some-plugin", "version": "1.2", "file": None},
            **dict.fromkeys(["hooks", "stores", "commands"]),
        }
    ]
    assert not (tmp_path / "ran").exists()
    site.home["IC_SECRETS_PLUGINS"] = "mine"
    assert site("run", "my-site", "--", "printenv", "EXTRA", check=0).stdout == b"more\n"
    listed = json.loads(site("plugins", "--json", check=0).stdout)
    assert (listed["plugins"][0]["active"], listed["plugins"][0]["hooks"]) == (True, ["ic_secrets_render_secrets"])


def test_a_broken_distribution_is_named(site: Cli, tmp_path: Path) -> None:
    install(tmp_path / "site", "broken-plugin", "mine", None)
    environment = {"PYTHONPATH": str(tmp_path / "site"), "IC_SECRETS_PLUGINS": "mine"}
    done = site("run", "my-site", "--", "true", env=environment, check=125)
    assert b"error: the plugin mine (broken-plugin 1.2) failed to load: ModuleNotFoundError" in done.stderr


def test_two_distributions_that_bring_one_name_are_refused(site: Cli, tmp_path: Path) -> None:
    install(tmp_path / "site", "one-plugin", "mine", RENDERS)
    install(tmp_path / "site", "two-plugin", "mine", RENDERS)
    environment = {"PYTHONPATH": str(tmp_path / "site"), "IC_SECRETS_PLUGINS": "mine"}
    done = site("run", "my-site", "--", "true", env=environment, check=125)
    assert b"one-plugin 1.2 and two-plugin 1.2 both provide a plugin mine" in done.stderr


STORE = """
from ic_secrets.stores.registry import open_store
from ic_secrets.stores.embedded.store import LocalStore
class Other(LocalStore):
    def site(self, name):
        {fault}
        return super().site(name)
@hookimpl
def ic_secrets_register_stores():
    def open_other(request):
        store = open_store(f"sqlite:{{request.path}}", request.load_keys, read_only=request.read_only)
        store.__class__ = Other
        return store
    return {{"other": open_other}}
"""


def test_a_plugins_store_is_opened_by_its_scheme(site: Cli, plugin: Make, home: dict[str, str]) -> None:
    plugin(STORE.format(fault="pass"))
    url = f"other:{home['XDG_DATA_HOME']}/ic-secrets/store.db"
    done = site("run", "--store", url, "my-site", "--", "printenv", "TOKEN", check=0)
    assert done.stdout == b"***\n"
    site("set", "--store", url, "my-site", "MORE", "--type", "env", "--scope", "ic", stdin=b"more", check=0)
    assert b"MORE" in site("list", "my-site", check=0).stdout
    done = site("run", "--no-plugins", "--store", url, "my-site", "--", "true", check=125)
    assert b"unknown store scheme other:" in done.stderr


def test_what_a_plugin_opens_must_be_a_store(site: Cli, plugin: Make) -> None:
    """It is named when it is opened, and not by the first method that it lacks."""
    plugin("""
        @hookimpl
        def ic_secrets_register_stores():
            return {"other": lambda request: object()}
    """)
    done = site("run", "--store", "other:x", "my-site", "--", "true", check=125)
    assert b") opened something that is not a store" in done.stderr
    assert b"hint: its class must derive from ic_secrets.hookspecs.Store" in done.stderr


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_plugins_store_is_charged_to_it(site: Cli, plugin: Make, home: dict[str, str], fault: str) -> None:
    plugin(STORE.format(fault=FAULTS[fault]))
    url = f"other:{home['XDG_DATA_HOME']}/ic-secrets/store.db"
    done = site("run", "--store", url, "my-site", "--", "true", env={"PLANTED": CANARY}, check=125)
    assert b"failed as a store, in read_chain: " in done.stderr
    assert CANARY.encode() not in done.stderr


def test_a_plugins_store_whose_attributes_fail_is_closed(site: Cli, plugin: Make, home: dict[str, str]) -> None:
    plugin(
        STORE.format(fault="pass")
        + """
Other.only_site = property(lambda self: self.nothing)
def close(self):
    LocalStore.close(self)
    print("closed it", file=__import__("sys").stderr)
Other.close = close
"""
    )
    done = site(
        "run", "--store", f"other:{home['XDG_DATA_HOME']}/ic-secrets/store.db", "my-site", "--", "true", check=125
    )
    assert b"failed as a store, in its attributes: AttributeError" in done.stderr
    assert b"closed it" in done.stderr


def test_a_plugins_command_is_run_and_listed_only_when_it_is_active(site: Cli, plugin: Make) -> None:
    plugin("""
        def hello(words):
            print("hello", *words)
            return 4
        @hookimpl
        def ic_secrets_register_commands():
            return [Command("hello", "greet somebody", hello)]
    """)
    assert site("hello", "you", check=4).stdout == b"hello you\n"
    assert b"greet somebody" in site("--help", check=0).stdout
    assert b"greet somebody" not in site("--help", "--no-plugins", check=0).stdout
    assert b"'hello' is not a command" in site("hello", "you", env={"IC_SECRETS_PLUGINS": ""}, check=2).stderr


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("sys.exit(3)", 3, b""),
        ("sys.exit()", 0, b""),
        ("raise ValueError(words)", 1, b"error: the plugin mine (...) failed in its command hello: ValueError at "),
        ("return 'x'", 1, b"error: the plugin mine (...) does not return an exit status from its command hello"),
        ("sys.exit('words')", 1, b"error: the plugin mine (...) does not return an exit status from its command hello"),
    ],
)
def test_how_a_plugins_command_ends(site: Cli, plugin: Make, code: str, status: int, told: bytes) -> None:
    plugin(f"""
        def hello(words):
            {code}
        @hookimpl
        def ic_secrets_register_commands():
            return [Command("hello", "greet somebody", hello)]
    """)
    done = site("hello", CANARY, check=status)
    assert re.sub(rb"\(/.*?\)", b"(...)", done.stderr).startswith(told)
    assert CANARY.encode() not in done.stderr


def test_no_plugins_behind_the_dashes_is_the_builds_own(site: Cli) -> None:
    assert site("run", "my-site", "--", "echo", "--no-plugins", check=0).stdout == b"--no-plugins\n"


def test_a_file_plugin_leaves_nothing_beside_itself(site: Cli, plugin: Make) -> None:
    path = plugin(RENDERS)
    site("run", "my-site", "--", "true", check=0)
    assert os.listdir(path.parent) == ["mine.py"]


def test_an_empty_variable_means_none_whatever_else_names_some() -> None:
    assert Settings({}, {"plugins": "mine"}).plugins == Setting("mine", "--plugins", "flag")
    assert Settings({"IC_SECRETS_PLUGINS": ""}, {"plugins": "mine"}).plugins is None


def test_a_relative_path_in_a_file_begins_at_that_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    assert find_named("./mine.py", f"{tmp_path}/config.toml:3") == [Origin("mine", str(tmp_path / "mine.py"))]
    with pytest.raises(PluginError):
        find_named("./mine.py", "config.toml:3")


SHOWING = {
    "a path": "return Rendered({'../' + token: b''})",
    "a variable": "return Rendered({}, {'LD_' + token: '1'})",
    "a place that is no file": "return Rendered({}, {}, {'FILE': token})",
    "a module": "import importlib; importlib.import_module(token)",
    "a class": "raise type(token, (Exception,), {})()",
    "a file's name": "exec(compile('1/0', token, 'exec'))",
}


@pytest.mark.parametrize("fault", SHOWING)
def test_what_a_plugin_does_wrong_is_told_without_a_value(site: Cli, plugin: Make, fault: str) -> None:
    plugin(f"""
        @hookimpl
        def ic_secrets_render_secrets(context):
            token = next(secret.value.reveal() for secret in context.secrets if secret.name == "TOKEN")
            {SHOWING[fault]}
    """)
    done = site("run", "my-site", "--", "true")
    assert done.returncode == 125
    assert b"plugin mine" in done.stderr
    assert CANARY.encode() not in done.stderr + done.stdout


EXITS = {
    "_exit": "os._exit(0)",
    "exec": "os.execvp('true', ['true'])",
    "in a thread": "import threading, time; threading.Thread(target=os._exit, args=[0]).start(); time.sleep(30)",
}
HOOKS = {"before": "ic_secrets_before_expose(plan)", "render": "ic_secrets_render_secrets(context)"}
AFTER = "ic_secrets_after_scrub(receipt)"


@pytest.mark.parametrize("command", [["run", "my-site", "--", "true"], ["pre-build", "my-site"]], ids=["run", "pre"])
@pytest.mark.parametrize("fault", EXITS)
@pytest.mark.parametrize("hook", HOOKS)
def test_a_plugin_that_ends_the_process_makes_no_build_a_success(
    site: Cli, plugin: Make, private: Path, hook: str, fault: str, command: list[str]
) -> None:
    plugin(f"@hookimpl\ndef {HOOKS[hook]}:\n    {EXITS[fault]}\n")
    done = site(*command, check=125)
    assert done.stdout == (b"(exit 125)\n" if command[0] == "pre-build" else b"")  # what `eval` fails by
    name = HOOKS[hook].partition("(")[0]
    assert f"error: the plugin mine failed in {name}: it ended the process\n".encode() in done.stderr
    assert list(private.iterdir()) == []


@pytest.mark.parametrize("fault", EXITS)
@pytest.mark.parametrize(("own", "status"), [(0, 121), (7, 7)])
def test_a_plugin_that_ends_the_process_after_the_build_is_reported(
    site: Cli, plugin: Make, private: Path, fault: str, own: int, status: int
) -> None:
    plugin(f"@hookimpl\ndef {AFTER}:\n    {EXITS[fault]}\n")
    done = site("run", "my-site", "--", "sh", "-c", f"exit {own}", check=status)
    assert b"error: the plugin mine failed in ic_secrets_after_scrub: it ended the process\n" in done.stderr
    assert list(private.iterdir()) == []
    site("pre-build", "my-site", env={"IC_SECRETS_PLUGINS": ""}, check=0)
    done = site("post-build", "--status", str(own), check=status)
    assert b"the plugin mine failed in ic_secrets_after_scrub: it ended the process" in done.stderr
    (directory,) = private.iterdir()
    assert [left.name for left in directory.iterdir()] == ["note.json"]  # for the next post-build: this one did not end


@pytest.mark.parametrize(
    "command", [["run", "my-site", "--", "true"], ["plugins"], ["hello"]], ids=lambda words: words[0]
)
def test_a_plugin_that_ends_the_process_while_it_is_loaded_is_reported(
    site: Cli, plugin: Make, command: list[str]
) -> None:
    path = plugin("os._exit(0)")
    done = site(*command, check=125 if command[0] == "run" else 1)
    assert f"error: the plugin mine ({path}) failed to load: it ended the process\n".encode() in done.stderr


def test_a_plugins_store_that_ends_the_process_is_reported(site: Cli, plugin: Make, home: dict[str, str]) -> None:
    plugin(STORE.format(fault="os._exit(0)"))
    url = f"other:{home['XDG_DATA_HOME']}/ic-secrets/store.db"
    done = site("run", "--store", url, "my-site", "--", "true", check=125)
    assert b"failed as a store, in read_chain: it ended the process\n" in done.stderr


def test_a_process_that_a_plugin_forks_may_end_as_it_likes(site: Cli, plugin: Make) -> None:
    plugin(f"""
        @hookimpl
        def {HOOKS["before"]}:
            if os.fork() == 0:
                os._exit(0)
            os.wait()
    """)
    assert site("run", "my-site", "--", "echo", "built", check=0).stdout == b"built\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("to_group", [False, True])
def test_with_plugins_a_signal_reaches_the_build_once(
    site: Cli, plugin: Make, private: Path, number: int, to_group: bool
) -> None:
    """Whether it is sent to the process that was started, or to its whole group: the second would not wait."""
    plugin(RENDERS)
    script = "trap 'sleep 0.5; echo cleaned; exit 3' INT TERM; echo ready; while :; do sleep 0.05; done"
    started = site.start("run", "my-site", "--", "sh", "-c", script)
    assert started.stdout is not None
    assert started.stdout.readline() == b"ready\n"
    (os.killpg if to_group else os.kill)(started.pid, number)
    output, _ = started.communicate(timeout=30)
    assert (output, started.returncode) == (b"cleaned\n", 128 + number)
    assert list(private.iterdir()) == []


def test_with_plugins_a_killed_run_leaves_nothing(site: Cli, plugin: Make, private: Path) -> None:
    plugin(RENDERS)
    started = site.start("run", "my-site", "--", "sh", "-c", "echo ready; exec sleep 60")
    assert started.stdout is not None
    assert started.stdout.readline() == b"ready\n"
    assert list(private.iterdir()) != []
    started.kill()
    started.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while list(private.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(private.iterdir()) == []


@pytest.mark.parametrize("number", ["INT", "TERM"])
@pytest.mark.parametrize("hook", [*HOOKS.values(), AFTER])
def test_a_signal_ends_a_plugin_that_hangs(site: Cli, plugin: Make, private: Path, hook: str, number: str) -> None:
    plugin(f"""
        @hookimpl
        def {hook}:
            import signal, threading
            threading.Timer(0.1, os.kill, [os.getpid(), signal.SIG{number}]).start()
            while True:
                pass
    """)
    done = site("run", "my-site", "--", "true", timeout=30)
    assert done.returncode == {"INT": 130, "TERM": 143}[number], done.stderr
    assert f"SIG{number} came while the plugin mine ran".encode() in done.stderr
    assert list(private.iterdir()) == []
