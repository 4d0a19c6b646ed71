"""`ic-secrets bao policy`: the policy of an OpenBao token that has what it needs, and no more."""

from __future__ import annotations

from ..errors import ConfigError, UsageError
from ..model.secret import parse_owner
from ..stores.openbao.policy import PURPOSES, render_policy
from ..stores.registry import find_scheme, split_url
from . import Call
from .call import choose_action, read_call
from .parser import Parser, add_store_options

ACTIONS = {"policy": "print the policy for building, managing or reading a site"}


def run_bao(call: Call) -> int:
    """Run the action that the first word names, and return the exit status."""
    chosen = choose_action(call, "bao", ACTIONS, "ic-secrets bao policy my-site | bao policy write my-site-build -")
    return _print_policy(chosen[1]) if chosen else 0


def make_parser(action: str) -> Parser:
    """Return the parser of an action."""
    parser = Parser(
        f"bao {action}",
        "Print one policy, in HCL: exactly what a token needs to build the site, to manage it, or to read it.",
        "ic-secrets bao policy my-site | bao policy write my-site-build -",
    )
    parser.add_argument("target", metavar="SITE[.ENV]", help="the site; for a build, with its environment (dev)")
    parser.add_argument(
        "--for", dest="purpose", choices=PURPOSES, default="build", help="what the token is for (build)"
    )
    add_store_options(parser)
    return parser


def _print_policy(call: Call) -> int:
    arguments, context = read_call(call, make_parser("policy"))
    owner, environment = parse_owner(arguments.target)
    if not owner.is_site:
        raise UsageError(f"{owner} is an organization", hint="a policy is for a site: SITE[.ENV]")
    if environment and arguments.purpose != "build":
        raise UsageError("only a build's policy is for one environment", hint=f"leave out .{environment}")
    url = context.settings.store.value
    scheme, (name, path) = find_scheme(url), split_url(url)
    if not scheme or not scheme.has_policies:
        raise ConfigError(f"a {name}: store has no policies", hint="IC_SECRETS_STORE=bao+https://HOST:8200/MOUNT")
    with context.open_store(read_only=True) as store:
        site = store.site(owner.name)
    mount = path.removeprefix("//").partition("/")[2].strip("/")
    print(render_policy(mount, site, arguments.purpose, environment or "dev"), end="")
    return 0
