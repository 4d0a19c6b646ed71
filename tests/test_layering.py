"""A module imports only what stands above it in the list of layers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "ic_secrets"

LAYERS = [
    ["errors"],
    ["core"],
    ["model"],
    ["keys"],
    ["client"],
    ["ci"],
    ["masking"],
    ["process"],
    ["composer"],
    ["git"],
    ["broker"],
    ["isolation"],
    ["stores"],
    ["leaks"],
    ["build"],
    ["two_steps"],
    ["hookspecs"],
    ["plugins"],
    ["config"],
    ["plan"],
    ["audit"],
    ["transfer"],
    ["report"],
    ["assembly"],
    ["doctor"],
    ["cli"],
    ["api"],
    ["plugin"],
    ["testing"],
]
RANK = {module: rank for rank, modules in enumerate(LAYERS) for module in modules}


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path.name != "__main__.py")


def layer_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """The layers that the module imports from, wherever in it."""
    package = path.relative_to(SOURCE).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {(*base, *name.split("."))[0] for name in names if name}
    return found - {"__version__"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_only_from_layers_above_its_own(path: Path) -> None:
    layer = layer_of(path)
    if layer == "__init__":
        return
    assert layer in RANK, f"{layer} has no place in the list of layers"
    below = {name for name in imports(path) if name != layer and RANK[name] >= RANK[layer]}
    assert not below


def test_every_layer_exists() -> None:
    assert set(RANK) <= {layer_of(path) for path in modules()}
