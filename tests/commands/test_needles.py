"""What PHP and bash make of a value."""

from __future__ import annotations

import re
import subprocess

import pytest

from ic_secrets.masking.masker import mask_bytes
from ic_secrets.model.secret import SecretType, SecretValue
from needles import derive

ENV = SecretType.ENV
PLAIN = "example-value_0123"
ODD = "p@ss/w\"rd's $x`+é&<b>\\ ~!,;%"


@pytest.mark.parametrize(
    "code",
    [
        "json_encode($v)",
        "json_encode($v, JSON_UNESCAPED_SLASHES)",
        "json_encode($v, JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES | JSON_PRETTY_PRINT)",
        "json_encode($v, JSON_HEX_TAG | JSON_HEX_APOS | JSON_HEX_AMP | JSON_HEX_QUOT)",
        "var_export($v, true)",
        "rawurlencode($v)",
        "urlencode($v)",
        "http_build_query(['v' => $v])",
        "htmlspecialchars($v)",
        "htmlspecialchars($v, ENT_NOQUOTES)",
        "htmlspecialchars($v, ENT_QUOTES | ENT_XML1)",
        "escapeshellarg($v)",
        "addslashes($v)",
        "base64_encode($v)",
        "base64_encode('user:' . $v)",
        "rtrim(strtr(base64_encode('xy' . $v), '+/', '-_'), '=')",
        "bin2hex($v)",
        "strtoupper(bin2hex($v))",
    ],
)
def test_what_php_makes_of_a_value_is_masked(code: str) -> None:
    """All of it, but for the quotes around, and the characters of base64 that also depend on what stands before."""
    for value in (ODD, "Ünïcode/\u20ac-\U0001f600-value", PLAIN):
        program = f"setlocale(LC_ALL, 'C.UTF-8'); $v = $argv[1]; echo '<', {code}, '>';"
        shown = mask_bytes(run_program("php", "-r", program, value), derive("N", ENV, SecretValue(value)))
        assert re.fullmatch(rb"<(v=|dXNlcj.|eH..?)?['\"]?\*\*\*['\"]?>", shown)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
@pytest.mark.parametrize("code", ["printf '<%q>' \"$1\"", 'v=$1; declare -p v; set -x; : "$1"', 'echo "<${1@Q}>"'])
def test_what_bash_makes_of_a_value_is_masked(code: str, locale: str) -> None:
    """`printf %q`, `declare -p`, `set -x` and `@Q`, in a locale of bytes as well."""
    for value in (ODD, "two words", "tab\tand $'quote'", "a,b{c}[d]*?e^f", "line one\nline two"):
        shown = run_program("bash", "-c", code, "bash", value, locale=locale)
        masked = mask_bytes(shown, derive("N", ENV, SecretValue(value)))
        assert b"***" in masked
        assert not any(word in masked for word in value.encode().split() if len(word) > 3)


def run_program(*command: str, locale: str = "C.UTF-8") -> bytes:
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": locale}
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    return done.stdout + done.stderr
