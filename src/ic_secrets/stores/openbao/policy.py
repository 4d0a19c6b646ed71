"""The policy of an OpenBao token, in HCL. Pure.

A path that no policy names is refused, so a policy says what is allowed. It denies new tokens alone, which another
policy of the same token could allow.

Of all policies of a token the rule with the most specific path counts, and rules of the same path add up
(https://openbao.org/docs/concepts/policies/). So the policy of who manages names the paths of who reads as well. The
path of a build's environment it cannot name: a build has a token of its own.
"""

from collections.abc import Iterator

from ...model.secret import Owner, Site
from . import layout

PURPOSES = ("build", "manage", "read")
_READ = ("read",)
_LIST = ("list",)
_DATA = ("create", "read", "update")
# `create` without `update` on metadata: type and scopes can be written once, with the secret, and never changed.
_METADATA = ("create", "read", "delete", "list")

_Rule = tuple[str, tuple[str, ...]]


def render_policy(mount: str, site: Site, purpose: str, environment: str = "dev") -> str:
    """Return the policy of a build of that environment, of a person who manages the site, or of one who reads it."""
    owner = Owner("site", site.name)
    organization = Owner("organization", site.organization) if site.organization else None
    described = {
        "build": f"# What a build of {site.name}.{environment} reads.",
        "manage": f"# What whoever manages {site.name} needs: everything of the site but its organizations,\n"
        "# and to see what it inherits. Not beside the policy of a build: of two paths the more specific one counts.",
        "read": f"# What whoever reads {site.name} needs: all names that it holds and inherits, and the values of the\n"
        "# secrets whose scopes include user.",
    }
    rules: list[_Rule] = [(f"{mount}/data/{layout.get_record_path(site.name)}", _READ)]
    if purpose == "build":
        for each in (owner, organization):
            rules += _rules_of_build(mount, each, environment) if each else ()
    else:
        if purpose == "manage":
            root, record = layout.get_owner_folder(owner), layout.get_record_path(site.name)
            # Whose secrets reach the site, and so what the next policy opens, is not for who manages it to say.
            rules += [(f"{mount}/metadata/{record}", _READ)]
            rules += [(f"{mount}/data/{root}*", _DATA), (f"{mount}/metadata/{root}*", _METADATA)]
            rules += [(path, _DATA) for path in _list_readable(mount, owner)]
        else:
            rules += _rules_of_reader(mount, owner)
        rules += _rules_of_reader(mount, organization) if organization else ()
    rules += [("auth/token/lookup-self", _READ), ("auth/token/revoke-self", ("update",))]
    rules += [(path, ("deny",)) for path in ("auth/token/create", "auth/token/create/*", "auth/token/create-orphan")]
    return "\n\n".join([described[purpose], *(_format(*rule) for rule in rules)]) + "\n"


def _rules_of_reader(mount: str, owner: Owner) -> Iterator[_Rule]:
    """Yield what people may see of the owner: all but the values that may not be read back."""
    root = layout.get_owner_folder(owner)
    yield f"{mount}/metadata/{root}*", ("read", "list")
    for path in _list_readable(mount, owner):
        yield path, _READ


def _list_readable(mount: str, owner: Owner) -> Iterator[str]:
    """Yield the paths of values that a person may read back."""
    for kind in layout.CLASSES:
        for environment in (None, "+"):
            yield f"{mount}/data/{layout.get_folder(owner, kind, environment)}{layout.USER}*"


def _rules_of_build(mount: str, owner: Owner, environment: str) -> Iterator[_Rule]:
    """Yield what builds may read of the owner: bases with the scope `ic`, and their overrides for the environment."""
    for where in (None, environment):
        path = layout.get_folder(owner, layout.BUILD, where)
        yield f"{mount}/data/{path}*", _READ
        yield f"{mount}/metadata/{path}", _LIST


def _format(path: str, capabilities: tuple[str, ...]) -> str:
    listed = ", ".join(f'"{one}"' for one in capabilities)
    return f'path "{path}" {{\n  capabilities = [{listed}]\n}}'
