"""The secrets of a running application: a secrets.json as Pantheon's PHP SDK reads it where there is no platform."""

from ..stores.pantheon import secrets_json as secretsjson
from .render import RenderContext, Rendering, given_value

# The place, in the private directory, and the variable that names it to `pantheon_get_secret()` and the SDK.
APPLICATION = "application"
SECRETS_FILE = f"{APPLICATION}/secrets.json"
VARIABLE = "CUSTOMER_SECRETS_FAKE_FILE"


def render_application(context: RenderContext) -> Rendering:
    """The `runtime` secrets in the shape that `terminus secret:site:local-generate` writes, and the variable for it.

    Each Value is the one that the target resolves to, so the SDK, which knows no environments here, gets that.
    """
    entries = {
        secret.name: secretsjson.render_entry(secret.type, secret.scopes, given_value(secret).reveal())
        for secret in context.secrets
    }
    text = secretsjson.render(context.target.site, entries, [context.scope.value])
    return Rendering({SECRETS_FILE: text.encode()}, {}, {VARIABLE: SECRETS_FILE})
