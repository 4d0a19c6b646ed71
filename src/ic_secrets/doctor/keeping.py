"""What is kept: settings, plugins, keys, the store, the audit log. All of it is only read, and no value is shown."""

from __future__ import annotations

import contextlib
import os

from ..audit.recording import check_log, is_writable
from ..config import Settings
from ..core.moments import format_time
from ..errors import ConfigError, IcSecretsError
from ..model import Owner, Scope, Target
from ..stores import Identity, find_scheme
from ..stores.rollback import check_minimum, look_at_state
from .finding import OK, WARN, Finding, Place


def look_at_settings(place: Place) -> Finding:
    """Say which files they come from; ConfigError for one that is wrong."""
    settings = place.context.settings
    for name in ("broker", "isolate", "audit", "leaks", "leaks-allow", "pristine", "no-mask", "allow-background"):
        settings.get(name)
    for name in ("grace", "expiry-warning"):
        settings.get_duration(name)
    person, is_there = settings.person_file
    files = [*([settings.project_file] if settings.project_file else []), *([person] if is_there else [])]
    return Finding(OK, f"from {' and '.join(files)}" if files else "no file has any; the defaults hold")


def look_at_plugins(place: Place) -> Finding:
    """Load them, as a run does; PluginError."""
    setting = place.context.settings.plugins
    if setting is None:
        return Finding(OK, "none is named")
    place.context.load_plugins()
    return Finding(OK, f"{setting.value.replace(',', ', ')} ({setting.source})")


def look_at_key(place: Place) -> Finding:
    """Say where the keys come from; MasterKeyError where one is missing that the store needs."""
    settings = place.context.settings
    scheme = find_scheme(settings.store.value)
    is_needed = bool(scheme and scheme.read_key_id) or settings.get("cache").value not in {"", "0"}
    if not is_needed:
        return Finding(OK, "this kind of store needs none of ours")
    keys = settings.load_keys()
    source = settings.key_sources[0]
    where = source.place if source.kind == "file" else source.origin
    more = f", and {len(keys) - 1} more" if len(keys) > 1 else ""
    return Finding(OK, f"{keys[0].id}{more}, from {where}", facts={"id": keys[0].id})


def look_at_store(place: Place) -> Finding:
    """Open it to read; every StoreError. What remembers its generation is compared, and not written to."""
    settings, context = place.context.settings, place.context
    minimum, state = settings.find("min-generation"), settings.find("state-file")
    target = _find_target(settings)
    with contextlib.closing(context.open_url(settings.store.value, settings.load_keys, read_only=True)) as store:
        with store.snapshot():
            identity = store.identify()
            if target:
                owner = Owner.site(target.site)
                store.read_chain(owner, environment=target.environment, scope=Scope.IC, values=False)
        if minimum:
            check_minimum(store.url, identity, _parse(minimum.value), minimum.source)
        if state:
            look_at_state(store.url, identity, state.value)
        cached = store.cached
        notices = store.take_notices()
        text = f"{store.url}{_describe(identity)}"
    if cached and cached.moment is not None:
        return Finding(WARN, f"{text}: {cached.reason}; what is known is from {format_time(cached.moment)}")
    return Finding(WARN, f"{text}: {notices[0]}") if notices else Finding(OK, f"{text} can be read")


def _find_target(settings: Settings) -> Target | None:
    with contextlib.suppress(IcSecretsError):
        return settings.target(None)
    return None


def _parse(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"min-generation is {text!r}, which is not a generation")
    return int(text)


def _describe(identity: Identity | None) -> str:
    return f", generation {identity.generation}," if identity else ""


def look_at_log(place: Place) -> Finding:
    """Say where it is; AuditError where it is required and cannot be written."""
    settings = place.context.settings
    if settings.audit == "off":
        return Finding(OK, "turned off by the setting audit")
    check_log(settings)
    if settings.audit_file is None:
        return Finding(WARN, "this kind of store has no place for one", "IC_SECRETS_AUDIT_FILE names a file")
    if os.path.isdir(os.path.dirname(settings.audit_file)) and not is_writable(settings.audit_file):
        return Finding(WARN, f"{settings.audit_file} cannot be written", "IC_SECRETS_AUDIT_FILE names another file")
    return Finding(
        OK, f"{settings.audit_file} ({'required' if settings.audit == 'required' else 'a failure only warns'})"
    )
