"""What one command, or one build from Python, works with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ..config import Settings
from ..core import Notify
from ..model import Target
from ..stores import Store

if TYPE_CHECKING:
    from ..audit import BuildRecord, Record
    from ..keys import MasterKey
    from ..plugins import Plugins


class Context:
    """The one `Settings` of a command, who hears its notices, and its plugins, which are loaded by their first use."""

    def __init__(
        self, settings: Settings, notify: Notify, *, reserved: Sequence[str] = (), owns_process: bool = True
    ) -> None:
        """`reserved` are names of commands that no plugin may take.

        Without `owns_process` this is another's program: other threads may be writing to stdout, so that what plugins
        print stays there, and nothing watches for a plugin that ends the process.
        """
        self.settings = settings
        self.notify = notify
        self._reserved = tuple(reserved)
        self._owns_process = owns_process

    def load_plugins(self) -> Plugins | None:
        """Return the plugins that the person names, None where none is; PluginError for the first that is broken."""
        setting = self.settings.plugins
        if setting is None:
            return None
        from ..plugins import load

        return load(setting.value, setting.source, self._reserved, owns_process=self._owns_process)

    def load_plugins_for(self, *urls: str) -> None:
        """Load the plugins if one of the stores is of a kind that is not ours: before several stores are open."""
        from ..stores import find_scheme

        if not all(map(find_scheme, urls)):
            self.load_plugins()

    # --- stores -------------------------------------------------------------------------------------

    def open_store(
        self,
        *,
        read_only: bool = False,
        load_keys: Callable[[], Sequence[MasterKey]] | None = None,
        build: Target | None = None,
    ) -> AbstractContextManager[Store]:
        """Open the store of the settings for the time of the block; see `stores.open_configured`."""
        from .stores import open_configured

        return open_configured(
            self.settings, self.notify, self.load_plugins, read_only=read_only, load_keys=load_keys, build=build
        )

    def open_url(
        self, url: str, load_keys: Callable[[], Sequence[MasterKey]], *, read_only: bool = False, create: bool = False
    ) -> Store:
        """Open another store, which the caller closes, with the plugins and the servers' settings of this command."""
        from .stores import open_by_settings

        return open_by_settings(url, load_keys, self.settings, self.load_plugins, read_only=read_only, create=create)

    def guard(
        self, open_it: Callable[[], Store], *, read_only: bool, is_configured: bool = True
    ) -> AbstractContextManager[Store]:
        """Open a store by that function for the time of the block; see `stores.guard`."""
        from .stores import guard

        return guard(open_it, self.settings, self.notify, read_only=read_only, is_configured=is_configured)

    # --- the audit log ------------------------------------------------------------------------------

    def observed(
        self,
        store: Store | None,
        *,
        command: str,
        owner: str | None = None,
        names: Iterable[str] = (),
        url: str | None = None,
    ) -> AbstractContextManager[Record]:
        """Log what the block reveals; see `audit.recording.observed`. `url` is that of a store not of the settings."""
        from ..audit import observed

        settings = self.settings if url is None else self.settings.replace_flags(store=url)
        return observed(store, settings, self.notify, command=command, owner=owner, names=names)

    def recorded(
        self, store: Store, *, command: str, owner: str | None = None, names: Iterable[str] = ()
    ) -> AbstractContextManager[Record]:
        """Log what the block changes; see `audit.recording.recorded`."""
        from ..audit import recorded

        return recorded(store, self.settings, self.notify, command=command, owner=owner, names=names)

    def make_build_record(self, store: Store, target: Target, command: str = "run") -> BuildRecord:
        """Return what keeps the entries of a build in the audit log."""
        from ..audit import BuildRecord

        return BuildRecord(store, self.settings, self.notify, str(target), command)
