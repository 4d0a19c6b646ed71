"""Let a folder export names of its modules without importing these before they are needed."""

from collections.abc import Callable


def make_face(package: str, /, **modules: str) -> Callable[[str], object]:
    """Return a `__getattr__` for the package (PEP 562), which finds each name in the module of that folder.

    `modules` are the names that each module gives, separated by spaces. A module is imported at the first use.
    """
    found = {name: module for module, names in modules.items() for name in names.split()}

    def find(name: str) -> object:
        if name not in found:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        # Unlike `import_module`, this is seen by `python -X importtime`, on which the tests of start-up rely.
        return vars(__import__(f"{package}.{found[name]}", fromlist=[name]))[name]

    return find
