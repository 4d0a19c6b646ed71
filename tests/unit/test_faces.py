"""The faces of the rooms: what the folder of a subject exports."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import ic_secrets

SOURCE = Path(ic_secrets.__file__).parent
ROOMS = sorted(path.parent.name for path in SOURCE.glob("*/__init__.py") if "make_face(" in path.read_text())


def read_face(room: str) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Return the modules and names that type checkers read, and those that Python finds."""
    typed, found = set(), set()
    for node in ast.walk(ast.parse((SOURCE / room / "__init__.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module != "faces":
            typed |= {(str(node.module), alias.name) for alias in node.names if alias.name == alias.asname}
        if isinstance(node, ast.Call):
            found |= {(str(word.arg), name) for word in node.keywords for name in ast.literal_eval(word.value).split()}
    return typed, found


def list_imported() -> set[tuple[str, str]]:
    """Return each room and name that another room imports from its face."""
    imported = set()
    for path in SOURCE.rglob("*.py"):
        package = path.relative_to(SOURCE).parts[:-1]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
                if base[0] in ROOMS and len(base) == 1:
                    imported |= {(base[0], alias.name) for alias in node.names}
    return imported


@pytest.mark.parametrize("room", ROOMS)
def test_a_face_is_the_same_for_type_checkers_and_for_python(room: str) -> None:
    """Each name is that of its module, and no module has it: an imported one would take the name's place."""
    typed, found = read_face(room)
    assert typed == found
    package = import_module(f"ic_secrets.{room}")
    for module, name in found:
        assert getattr(package, name) is getattr(import_module(f"ic_secrets.{room}.{module}"), name)
        assert not (SOURCE / room / f"{name}.py").exists()
        assert not (SOURCE / room / name).exists()
    with pytest.raises(AttributeError, match=f"'ic_secrets.{room}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


@pytest.mark.parametrize("room", ROOMS)
def test_a_face_is_used_by_other_rooms(room: str) -> None:
    _, found = read_face(room)
    assert {name for _, name in found} <= {name for owner, name in list_imported() if owner == room}
