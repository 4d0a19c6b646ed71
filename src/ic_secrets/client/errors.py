"""What can fail between us and a server. No text of it holds a value: what a server says in words is left out."""

from ..errors import StoreError, StoreFormatError, StoreUnreachableError, StoreUntrustedError


class HttpError(Exception):
    """The server was not asked, or did not reply; the text is a short reason, such as "connection refused"."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint


class TransientError(HttpError):
    """The next try may succeed. `wait` is how many seconds the server asks us to wait before it."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class InvalidReplyError(TransientError):
    """The reply does not come from the server that we mean, but from a machine in between."""


class UnavailableError(HttpError):
    """This node cannot answer and asking it again does not help; another node might."""


class UnansweredError(HttpError):
    """No answer came to a request that must not be sent again: what it uses up may be used up."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; it was not asked again, since a secret id may be good for one login")
        self.hint = "create a new secret id, and run the command again"


class UntrustedError(HttpError):
    """The server cannot prove who it is."""


class CertificateError(UntrustedError):
    """The server's certificate is not trusted."""


class DemandedCertificateError(UntrustedError):
    """The server asks for a certificate of ours, and was not shown one that it trusts."""


class TlsError(UntrustedError):
    """Whoever listens there does not speak TLS, or none that we understand."""


class ReplyTooLargeError(HttpError):
    """The reply is larger than any that we expect."""


def to_store_error(error: HttpError, server: object, hint: str = "", doing: str = "") -> StoreError:
    """Return the error that a store raises for it; `hint` is used where the error does not bring its own.

    `doing` says what failed, as in "read the secrets of my-site".
    """
    hint = error.hint or hint
    task = f" to {doing}" if doing else ""
    if isinstance(error, UntrustedError):
        return StoreUntrustedError(str(error), hint=hint)
    if isinstance(error, ReplyTooLargeError):
        return StoreFormatError(f"{server}: {error}", hint=hint)
    if isinstance(error, UnavailableError):
        return StoreUnreachableError(str(error), hint=hint)
    kind = StoreUntrustedError if isinstance(error, InvalidReplyError) else StoreUnreachableError
    return kind(f"{server} does not answer{task}: {error}", hint=hint)
