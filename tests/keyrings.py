"""The system's keyring, as far as a machine for tests has one."""

from __future__ import annotations

from pathlib import Path

BACKEND = '''
import json, os, pathlib, time
from keyring.backend import KeyringBackend

class FileKeyring(KeyringBackend):
    """Its entries lie in the file KEYRING_FILE; with KEYRING_SLOW it takes its time to write, and says so."""

    priority = 1
    path = pathlib.Path(os.environ["KEYRING_FILE"])

    def _entries(self):
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def get_password(self, service, username):
        return self._entries().get(f"{service}|{username}")

    def set_password(self, service, username, password):
        if "KEYRING_SLOW" in os.environ:
            self.path.with_name("writing").touch()
            time.sleep(1)
        self.path.write_text(json.dumps(self._entries() | {f"{service}|{username}": password}))
'''


def install_keyring(directory: Path, home: dict[str, str]) -> Path:
    """Let the programs that run in `home` use a keyring below the directory; the file behind it."""
    modules = directory / "modules"
    modules.mkdir()
    (modules / "filekeyring.py").write_text(BACKEND)
    home |= {
        "PYTHONPATH": str(modules),
        "PYTHON_KEYRING_BACKEND": "filekeyring.FileKeyring",
        "KEYRING_FILE": str(directory / "keyring.json"),
    }
    return directory / "keyring.json"
