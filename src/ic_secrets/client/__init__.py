"""The one HTTP client for every server that we ask, on urllib3.

- `addresses`: where a server is, and that only this machine is asked without TLS
- `http`: kept connections, retries, several requests side by side, one budget of time for all tries
- `connection`: one connection; each exchange on it has a time limit and a largest size
- `errors`: what can fail, without any value
"""

from typing import TYPE_CHECKING

from ..core.faces import make_face

if TYPE_CHECKING:
    from .addresses import Address as Address, parse_address as parse_address
    from .connection import Connection as Connection, Request as Request
    from .errors import HttpError as HttpError, to_store_error as to_store_error
    from .http import parse_timeout as parse_timeout
else:
    __getattr__ = make_face(
        __name__,
        addresses="Address parse_address",
        connection="Connection Request",
        errors="HttpError to_store_error",
        http="parse_timeout",
    )
