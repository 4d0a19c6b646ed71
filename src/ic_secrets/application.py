"""The secrets of a running application: a secrets.json as Pantheon's PHP SDK reads it where there is no platform."""

import json
import uuid
from typing import Any

from .rendering import RenderContext, Rendering, given_value
from .secret import format_scopes

# The place, in the private directory, and the variable that names it to `pantheon_get_secret()` and the SDK.
APPLICATION = "application"
SECRETS_FILE = f"{APPLICATION}/secrets.json"
VARIABLE = "CUSTOMER_SECRETS_FAKE_FILE"
# Site ids are derived in here: the platform's own is not known.
_SITES = uuid.uuid5(uuid.NAMESPACE_URL, "https://ic-secrets.invalid/sites")


def render_application(context: RenderContext) -> Rendering:
    """The `runtime` secrets in the shape that `terminus secret:site:local-generate` writes, and the variable for it.

    Each Value is the one that the target resolves to, so the SDK, which knows no environments here, gets that. The
    SiteID is made of the site's name, and always the same.
    """
    secrets: dict[str, Any] = {
        secret.name: {
            "Type": secret.type.value,
            "Value": given_value(secret).reveal(),
            "Scopes": format_scopes(secret.scopes).split(","),
            "EnvValues": {},
            "OrgValues": {},
        }
        for secret in context.secrets
    }
    document = {
        "SiteID": str(uuid.uuid5(_SITES, context.target.site)),
        "Secrets": secrets,
        "Count": len(secrets),
        "Version": "",
        "Scopes": [context.scope.value],
    }
    files = {SECRETS_FILE: json.dumps(document, indent=4, ensure_ascii=False).encode()}
    return Rendering(files, {}, {VARIABLE: SECRETS_FILE})
