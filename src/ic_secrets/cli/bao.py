"""`ic-secrets bao policy`: what a token of the OpenBao server needs, and no more."""

from __future__ import annotations

from ..errors import ConfigError, UsageError
from ..model.secret import parse_owner
from ..stores.openbao.policy import PURPOSES, render_policy
from ..stores.registry import find_scheme, split_url
from . import Call
from .call import choose_action, read_call
from .parser import Parser, add_store_options

ACTIONS = {"policy": "print the policy of a site's build, of who manages the site, or of who reads it"}


def run_bao(call: Call) -> int:
    """Do the action that the first word names."""
    chosen = choose_action(call, "bao", ACTIONS, "ic-secrets bao policy my-site | bao policy write my-site-build -")
    return _print_policy(chosen[1]) if chosen else 0


def make_parser(action: str) -> Parser:
    """The arguments of an action."""
    parser = Parser(
        f"bao {action}",
        "Print one policy, in HCL: what a token may do so that a build of the site, a person who manages it, or one\n"
        "who reads it gets all that they need, and nothing else.",
        "ic-secrets bao policy my-site | bao policy write my-site-build -",
    )
    parser.add_argument("target", metavar="SITE[.ENV]", help="the site; for a build, its environment (dev)")
    parser.add_argument("--for", dest="purpose", choices=PURPOSES, default="build", help="who will have it (build)")
    add_store_options(parser)
    return parser


def _print_policy(call: Call) -> int:
    arguments, context = read_call(call, make_parser("policy"))
    owner, environment = parse_owner(arguments.target)
    if not owner.is_site:
        raise UsageError(f"{owner} is an organization", hint="a policy is that of a site: SITE[.ENV]")
    if environment and arguments.purpose != "build":
        raise UsageError("only the policy of a build is for one environment", hint=f"leave .{environment} out")
    url = context.settings.store.value
    scheme, (name, path) = find_scheme(url), split_url(url)
    if not scheme or not scheme.has_policies:
        raise ConfigError(f"a {name}: store has no policies", hint="IC_SECRETS_STORE=bao+https://HOST:8200/MOUNT")
    with context.open_store(read_only=True) as store:
        site = store.site(owner.name)
    mount = path.removeprefix("//").partition("/")[2].strip("/")
    print(render_policy(mount, site, arguments.purpose, environment or "dev"), end="")
    return 0
