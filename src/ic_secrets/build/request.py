"""A build as it was asked for."""

from collections.abc import Mapping

from ..core.records import NamedTuple
from ..model.secret import Scope, Target
from ..model.variables import Preserve

# How long before its end a secret is warned of, in seconds.
EXPIRY_WARNING = 14 * 86_400.0


class BuildRequest(NamedTuple):
    """A build as it was asked for. `grace` and `expiry_warning` are in seconds; `leaks` is `fail`, `warn` or `off`.

    The command is empty where somebody else runs the build, in the directory. The scope is `ic` for a build, `web` for
    an application that runs. `allowed_names` are reserved variables that `env` secrets may set. With `broker` the build
    holds no credential; `writable` are the hosts (`HOST[:PORT]`) at which it may then do more than read. `isolate` is
    empty, `best`, `bubblewrap` or `landlock`: of the machine, such a build sees the hosts that its packages come from
    and the `reachable` ones (`HOST[:PORT]`), its own project and the `allowed_paths` (`PATH` or `PATH:rw`), and
    never the `concealed` files and directories: the store, its key and what else belongs to us.
    """

    target: Target
    command: tuple[str, ...]
    directory: str
    environment: Mapping[str, str]
    only: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()
    preserve: Preserve = Preserve()
    pristine: bool = False
    mask: bool = True
    run_dir: str | None = None
    grace: float = 10.0
    allow_background: bool = False
    leaks: str = "fail"
    leaks_allowed: tuple[str, ...] = ()
    receipt: str | None = None
    expiry_warning: float = EXPIRY_WARNING
    scope: Scope = Scope.IC
    allowed_names: frozenset[str] = frozenset()
    broker: bool = False
    writable: frozenset[str] = frozenset()
    isolate: str = ""
    reachable: frozenset[str] = frozenset()
    allowed_paths: tuple[str, ...] = ()
    concealed: tuple[str, ...] = ()
