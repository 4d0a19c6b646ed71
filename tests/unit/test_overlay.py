"""The private Composer home shows the user's own, and gives back what a build adds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ic_secrets.composer.home import ComposerHome, Overlay
from ic_secrets.core.files import write_private


def make(tmp_path: Path, files: dict[str, str]) -> tuple[Overlay, Path, Path]:
    real = tmp_path / "real"
    real.mkdir()
    for name, text in files.items():
        (real / name).parent.mkdir(parents=True, exist_ok=True)
        (real / name).write_text(text)
    private = tmp_path / "private"
    private.mkdir()
    home = ComposerHome(str(real), str(tmp_path / "cache"), str(tmp_path / "data"))
    overlay = Overlay(str(private), home, {"auth.json": b"ours"})
    overlay.make(write_private)
    return overlay, real, private


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_everything_is_seen_but_auth_json(tmp_path: Path) -> None:
    _, _, private = make(tmp_path, {"config.json": "{}", "vendor/a.php": "<?php", "auth.json": "theirs"})
    assert (private / "config.json").read_text() == "{}"
    assert (private / "vendor" / "a.php").exists()
    assert (private / "auth.json").read_text() == "ours"
    assert not (private / "auth.json").is_symlink()
    assert (private / "auth.json").stat().st_mode & 0o777 == 0o600
    assert (private / "cache").resolve() == tmp_path / "cache"


def test_a_build_that_adds_nothing_changes_nothing(tmp_path: Path) -> None:
    overlay, real, private = make(tmp_path, {"config.json": "{}", "auth.json": "theirs"})
    before = snapshot(tmp_path / "real")
    (private / "auth.json").write_text("minted")
    assert overlay.carry_back(lambda path: ()) == ()
    assert snapshot(real) == before
    assert not (tmp_path / "cache").exists()


def test_what_a_build_creates_is_carried_back(tmp_path: Path) -> None:
    overlay, real, private = make(tmp_path, {})
    (private / "vendor" / "bin").mkdir(parents=True)
    (private / "vendor" / "bin" / "tool").write_text("#!")
    (private / "vendor" / "link").symlink_to("bin/tool")
    (private / "composer.json").write_text("{}")
    assert overlay.carry_back(lambda path: ()) == ()
    assert (real / "vendor" / "bin" / "tool").read_text() == "#!"
    assert (real / "vendor" / "link").is_symlink()
    assert sorted(p.name for p in real.iterdir()) == ["composer.json", "vendor"]


def test_a_file_replaced_by_an_atomic_write_replaces_the_real_one(tmp_path: Path) -> None:
    overlay, real, private = make(tmp_path, {"config.json": "old"})
    (private / "new").write_text("new")
    (private / "new").rename(private / "config.json")
    assert overlay.carry_back(lambda path: ()) == ()
    assert (real / "config.json").read_text() == "new"


def test_what_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    overlay, real, private = make(tmp_path, {})
    (private / "composer.json").write_text("ours")
    (real / "composer.json").write_text("another build's")
    assert overlay.carry_back(lambda path: ()) == ("composer.json",)
    assert (real / "composer.json").read_text() == "another build's"
    assert [p.name for p in real.iterdir()] == ["composer.json"]


def test_what_is_not_clean_is_not_carried_back(tmp_path: Path) -> None:
    overlay, real, private = make(tmp_path, {})
    (private / "auth.json.bak").write_text("canary")
    (private / "composer.json").write_text("{}")
    assert overlay.carry_back(lambda path: {path} if "canary" in Path(path).read_text() else ()) == ("auth.json.bak",)
    assert [p.name for p in real.iterdir()] == ["composer.json"]


def test_of_a_tree_only_what_is_unfit_stays_behind(tmp_path: Path) -> None:
    overlay, real, private = make(tmp_path, {})
    (private / "vendor" / "a").mkdir(parents=True)
    (private / "vendor" / "a" / "closed.7z").write_text("7z")
    (private / "vendor" / "a" / "open.php").write_text("<?php")
    unfit = {str(private / "vendor" / "a" / "closed.7z")}
    assert overlay.carry_back(lambda path: unfit) == ("vendor/a/closed.7z",)
    assert snapshot(real) == {"vendor/a/open.php": b"<?php"}


def test_a_home_is_made_only_when_there_is_something_for_it(tmp_path: Path) -> None:
    home = ComposerHome(str(tmp_path / "a" / "home"), str(tmp_path / "cache"), str(tmp_path / "data"))
    private = tmp_path / "private"
    private.mkdir()
    overlay = Overlay(str(private), home, {"auth.json": b"ours"})
    overlay.make(write_private)
    overlay.carry_back(lambda path: ())
    assert not (tmp_path / "a").exists()
    (private / ".htaccess").write_text("Deny from all")
    overlay.carry_back(lambda path: ())
    assert [p.name for p in (tmp_path / "a" / "home").iterdir()] == [".htaccess"]


def test_keys_of_the_data_directory_are_seen(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "keys.tags.pub").write_text("key")
    _, _, private = make(tmp_path, {})
    assert (private / "keys.tags.pub").read_text() == "key"


PLACES = [
    ({"COMPOSER_HOME": "/h"}, ("/h", "/h/cache", "/h")),
    ({"COMPOSER_HOME": "/h", "COMPOSER_CACHE_DIR": "/c"}, ("/h", "/c", "/h")),
    ({"HOME": "/u", "XDG_CONFIG_HOME": "/x"}, ("/x/composer", "/u/.cache/composer", "/u/.local/share/composer")),
    ({"HOME": "/u", "XDG_CACHE_HOME": "/c"}, ("/u/.config/composer", "/c/composer", "/u/.local/share/composer")),
    ({"HOME": "/u", "XDG_DATA_HOME": "/d"}, ("/u/.config/composer", "/u/.cache/composer", "/d/composer")),
]


@pytest.mark.parametrize(("environment", "expected"), PLACES)
def test_the_home_is_where_composer_looks(environment: dict[str, str], expected: tuple[str, str, str]) -> None:
    home = ComposerHome.find(environment)
    assert (home.path, home.cache, home.data) == expected


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("/elsewhere", "/elsewhere"),
        ("{$home}/kept", "HOME/.config/composer/kept"),
        ("~/kept", "HOME/kept"),
        ("$XDG_DATA_HOME/kept", "/data/kept"),
        (["no path"], "HOME/.cache/composer"),
    ],
)
def test_a_persons_own_config_json_names_the_cache(tmp_path: Path, named: Any, expected: str) -> None:
    home = tmp_path / ".config" / "composer"
    home.mkdir(parents=True)
    (home / "config.json").write_text(json.dumps({"config": {"cache-dir": named}}))
    environment = {"HOME": str(tmp_path), "XDG_DATA_HOME": "/data"}
    assert ComposerHome.find(environment).cache == expected.replace("HOME", str(tmp_path))
    assert ComposerHome.find({**environment, "COMPOSER_CACHE_DIR": "/c"}).cache == "/c"


@pytest.mark.parametrize("text", ["[", "\udcff", '{"config": []}', "[]"])
def test_a_config_json_that_is_none_names_no_cache(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text, errors="surrogateescape")
    assert ComposerHome.find({"COMPOSER_HOME": str(tmp_path)}).cache == str(tmp_path / "cache")


def test_a_cache_in_composers_home_is_the_real_one_in_the_overlay_too(tmp_path: Path) -> None:
    real, private = tmp_path / "real", tmp_path / "private"
    private.mkdir()
    home = ComposerHome(str(real), str(real / "kept"), str(real))
    overlay = Overlay(str(private), home, {})
    overlay.make(write_private)
    (private / "kept" / "file").write_text("kept")
    assert overlay.carry_back(lambda path: ()) == ()
    assert (real / "kept" / "file").read_text() == "kept"


def test_an_existing_old_home_is_used(tmp_path: Path) -> None:
    (tmp_path / ".composer" / "cache").mkdir(parents=True)
    home = ComposerHome.find({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": "/run"})
    old = str(tmp_path / ".composer")
    assert (home.path, home.cache, home.data) == (old, f"{old}/cache", old)
