"""Servers that sell plugins, and check the licence key that comes in the query, in a Basic pair, or in a form."""

from __future__ import annotations

import io
import secrets
import zipfile
from dataclasses import dataclass, field

from servers.network.base import Answer, Asked, Host, basic

BUCKET = "s3.amazonaws.com"
_REFUSED = Answer(403, {"code": "invalid_key"})


@dataclass
class Licences(Host):
    """ACF PRO, Gravity Forms, WPML, and a shop that takes forms and JSON; each has its own `keys`, by host.

    Gravity Forms and WPML lead to a signed archive in a bucket, which refuses any Authorization beside the signature.
    """

    names: tuple[str, ...] = (
        "connect.advancedcustomfields.com",
        "gravityapi.com",
        "wpml.org",
        "shop.example.org",
        BUCKET,
    )
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    site: str = "https://my-site.example.org"
    signature: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)

    def __post_init__(self) -> None:
        # The first is base64, with characters that a URL escapes; the last has those that a form and JSON escape.
        characters = ["+/=", "", "", '&"\\ é']
        for host, more in zip(self.names, characters, strict=False):
            self.keys[host] = f"{secrets.token_hex(16)}{more}{secrets.token_hex(4)}"
        self.forms = {basic(self.keys["connect.advancedcustomfields.com"], self.site): "pair"}

    def answer(self, asked: Asked, sender: str) -> Answer:
        archive = Answer(200, _ARCHIVE, {"Content-Type": "application/zip"})
        key = self.keys.get(asked.host)
        signed = f"https://{BUCKET}/plugins/plugin.zip?Signature={self.signature}"
        match asked.host, asked.path:
            case ["connect.advancedcustomfields.com", "/v2/plugins/download"]:
                return archive if asked.query.get("k") == key else _REFUSED
            case ["connect.advancedcustomfields.com", "/packages/plugin.zip"]:
                return archive if sender == "pair" else Answer(401, {}, {"WWW-Authenticate": "Basic"})
            case ["gravityapi.com", "/wp-content/plugins/gravitymanager/api.php"]:
                is_right = asked.query.get("key") == key and asked.query.get("op") == "get_plugin"
                return Answer(200, {"download_url_latest": signed} if is_right else {})
            case ["wpml.org", "/"]:
                is_right = asked.query.get("subscription_key") == key
                return Answer(302, b"", {"Location": signed}) if is_right else _REFUSED
            case ["shop.example.org", "/edd"]:
                return Answer(200, {"package": signed}) if asked.form.get("license") == key else _REFUSED
            case ["s3.amazonaws.com", "/plugins/plugin.zip"]:
                if sender:
                    return Answer(400, b"Only one auth mechanism allowed")
                return archive if asked.query.get("Signature") == self.signature else _REFUSED
        return Answer(404, {})


def _make_archive() -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("plugin/plugin.php", "<?php\n")
    return memory.getvalue()


_ARCHIVE = _make_archive()
