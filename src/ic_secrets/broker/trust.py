"""The authorities that a person's programs trust, in one bundle with the system's and the broker's own."""

import base64
import binascii
import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..composer.auth_json import Document
from ..core.files import read_regular

GitLines = Sequence[tuple[str, str]]
# The system's, as composer/ca-bundle and libcurl look for them: the first that exists.
_SYSTEM = """
    /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/certs/ca-certificates.crt /etc/ssl/ca-bundle.pem
    /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem /usr/local/share/certs/ca-root-nss.crt
    /opt/homebrew/etc/ca-certificates/cert.pem /usr/local/etc/ca-certificates/cert.pem
    /opt/homebrew/etc/openssl@3/cert.pem /usr/local/etc/openssl@3/cert.pem /etc/ssl/cert.pem
""".split()
_FILES = """COMPOSER_CAFILE SSL_CERT_FILE CURL_CA_BUNDLE GIT_SSL_CAINFO NODE_EXTRA_CA_CERTS npm_config_cafile
    NPM_CONFIG_CAFILE REQUESTS_CA_BUNDLE PIP_CERT AWS_CA_BUNDLE CARGO_HTTP_CAINFO DENO_CERT""".split()
_DIRECTORIES = ("SSL_CERT_DIR", "GIT_SSL_CAPATH")
_PHP_INI = """
    /etc/php/*/cli/php.ini /etc/php/*/cli/conf.d/*.ini /etc/php.ini /etc/php.d/*.ini
    /usr/local/etc/php/php.ini /usr/local/etc/php/conf.d/*.ini /opt/homebrew/etc/php/*/php.ini
""".split()
_PHP_LINE = rb"""(?m)^[ \t]*(?:openssl\.cafile|curl\.cainfo)[ \t]*=[ \t]*["']?([^"'\r\n;]+)"""
_NPM_LINE = rb"(?m)^[ \t]*cafile[ \t]*=[ \t]*(.+?)[ \t\r]*$"
_WGET_LINE = rb"(?m)^[ \t]*ca_?-?certificate[ \t]*=[ \t]*(.+?)[ \t\r]*$"
_CURL_LINE = rb"(?m)^[ \t]*(?:--)?cacert(?:[ \t]*[=:][ \t]*|[ \t]+)(.+?)[ \t\r]*$"
# As curl looks for it: the first that exists.
_CURLRC = (
    ("CURL_HOME", ".curlrc"),
    ("XDG_CONFIG_HOME", "curlrc"),
    ("XDG_CONFIG_HOME", ".curlrc"),
    ("HOME", ".curlrc"),
    ("HOME", ".config/curlrc"),
)
_CERTIFICATE = rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----"
_LARGEST = 16 << 20


def find_authorities(environment: Mapping[str, str], config: Document, git: GitLines) -> tuple[str, ...]:
    """Return the files of authorities that the person names, those that exist.

    `config` is that section of the config.json of the person's Composer, `git` are the lines of git's configuration.
    """
    values = [environment.get(name) for name in _FILES]
    values += [config.get("cafile"), *(value for key, value in git if key.endswith(".sslcainfo"))]
    values += _find_in_files(environment)
    directories = [config.get("capath"), *(value for key, value in git if key.endswith(".sslcapath"))]
    for name in _DIRECTORIES:
        directories += environment.get(name, "").split(os.pathsep)
    for directory in directories:
        if isinstance(directory, str) and directory:
            values += _list_files(_expand(directory, environment))
    found: dict[tuple[int, int], str] = {}  # a directory of OpenSSL's has each file by two names
    for path in (_expand(value, environment) for value in values if isinstance(value, str) and value):
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode):
                found.setdefault((status.st_dev, status.st_ino), path)
    return tuple(found.values())


def find_system_bundle() -> str:
    """Return the file with the authorities that this system trusts, or ""."""
    found = next((path for path in _SYSTEM if os.path.isfile(path)), "")
    if not found:
        import ssl  # takes a while

        found = ssl.get_default_verify_paths().cafile or ""
    return found


def read_wgetrc(environment: Mapping[str, str]) -> bytes:
    """Return the content of the person's wgetrc."""
    return _read(_expand(environment.get("WGETRC") or "~/.wgetrc", environment))


def read_curlrc(environment: Mapping[str, str]) -> bytes:
    """Return the content of the person's curlrc."""
    paths = [os.path.join(environment[name], end) for name, end in _CURLRC if environment.get(name)]
    return _read(next((path for path in paths if os.path.isfile(path)), ""))


def render_bundle(paths: Iterable[str], certificate: str = "") -> bytes:
    """Return the certificates of the system, of the files and of our authority (PEM), each once.

    A program that meets something else in a bundle falls on silently to the system's own: so nothing else is in it.
    """
    files = dict.fromkeys(path for path in (find_system_bundle(), *paths) if path)
    texts = dict.fromkeys(text for path in files for text in re.findall(_CERTIFICATE, _read(path)))
    found = dict.fromkeys(block for text in texts for block in _unify(text))
    blocks = [b"-----BEGIN CERTIFICATE-----\n%s-----END CERTIFICATE-----\n" % block for block in found]
    return b"".join([*blocks, certificate.encode()])


def _unify(text: bytes) -> Iterator[bytes]:
    """Yield what is between the lines of a certificate in lines of one length; nothing where it is not one."""
    with contextlib.suppress(ValueError):
        content = binascii.a2b_base64(text)
        if content[:1] == b"\x30":  # a sequence of ASN.1, as every certificate is
            yield base64.encodebytes(content)


def _find_in_files(environment: Mapping[str, str]) -> list[str]:
    """Return the authorities named in the configuration files of PHP, npm, wget and curl."""
    directories = environment.get("PHP_INI_SCAN_DIR", "").split(os.pathsep)
    paths = [path for pattern in _PHP_INI for path in _expand_stars(pattern)]
    paths += [path for each in directories if each for path in _list_files(each, ".ini")]
    paths += [os.path.join(environment["PHPRC"], "php.ini")] if environment.get("PHPRC") else []
    files = dict.fromkeys(paths, _PHP_LINE)
    files[_expand(environment.get("NPM_CONFIG_USERCONFIG") or "~/.npmrc", environment)] = _NPM_LINE
    found = [value for path, line in files.items() for value in re.findall(line, _read(path))]
    found += re.findall(_WGET_LINE, read_wgetrc(environment)) + re.findall(_CURL_LINE, read_curlrc(environment))
    return [os.fsdecode(value).strip().strip("'\"") for value in found]


def _expand_stars(pattern: str) -> list[str]:
    """Return the paths of the pattern, in which a star begins a name; to import `glob` takes longer than this."""
    before, star, after = pattern.partition("*")
    if not star:
        return [pattern]
    end, slash, rest = after.partition("/")
    return [each for path in _list_files(before, end) for each in _expand_stars(path + slash + rest)]


def _list_files(directory: str, end: str = "") -> list[str]:
    """Return the paths in the directory that have that end."""
    with contextlib.suppress(OSError, ValueError):
        return [os.path.join(directory, name) for name in sorted(os.listdir(directory)) if name.endswith(end)]
    return []


def _expand(path: str, environment: Mapping[str, str]) -> str:
    home = environment.get("HOME") or os.path.expanduser("~")
    return re.sub(r"^(?:~(?=/|$)|\$\{?HOME\}?)", lambda _: home, path)


def _read(path: str) -> bytes:
    try:
        return read_regular(path, _LARGEST) or b""
    except OSError:
        return b""
