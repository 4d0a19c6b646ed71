"""A `NamedTuple` that costs next to nothing until it is used; to type checkers it is that of `typing`.

`typing.NamedTuple` compiles a constructor for every class as it is imported. A build imports some ninety records and
makes a third of them, and every build waits for its start: here a constructor is compiled when it is first called. What
a record can do is the same (https://docs.python.org/3/library/typing.html#typing.NamedTuple).
"""

import sys
from typing import TYPE_CHECKING

# From 3.14 on the body of a class no longer holds its annotations.
if TYPE_CHECKING or sys.version_info >= (3, 14):
    from typing import NamedTuple as NamedTuple
else:
    from _collections import _tuplegetter

    class _RecordType(type):
        """Makes a tuple with a name for each place of a class that derives from `NamedTuple`."""

        def __new__(mcs, name, bases, body):
            if any(type(base) is mcs and not hasattr(base, "_fields") for base in bases):
                fields = tuple(body.get("__annotations__", ()))
                body["_fields"] = body["__match_args__"] = fields
                body["_field_defaults"] = {field: body[field] for field in fields if field in body}
                body |= {field: _tuplegetter(place, None) for place, field in enumerate(fields)}
            return super().__new__(mcs, name, bases, {"__slots__": (), **body})

    class NamedTuple(tuple, metaclass=_RecordType):
        """The base of every record."""

        def __new__(cls, /, *values, **named):
            """Compile the constructor of this record, which replaces this one, and call it."""
            defaults = cls._field_defaults
            parameters = ", ".join(f"{f}=_defaults[{f!r}]" if f in defaults else f for f in cls._fields)
            source = f"lambda _cls, {parameters}: _new(_cls, ({''.join(f'{f}, ' for f in cls._fields)}))"
            construct = eval(source, {"_new": tuple.__new__, "_defaults": defaults})  # noqa: S307 -- names of fields
            construct.__name__ = construct.__qualname__ = f"{cls.__qualname__}.__new__"
            owner = next(each for each in cls.__mro__ if "_fields" in vars(each))
            owner.__new__ = staticmethod(construct)
            return construct(cls, *values, **named)

        @classmethod
        def _make(cls, values):
            """Return the record of the values, in the order of the fields."""
            return cls(*values)

        def _replace(self, /, **changes):
            """Return the record with other values in some fields."""
            return type(self)(**(self._asdict() | changes))

        def _asdict(self):
            """Return the values by field."""
            return dict(zip(self._fields, self, strict=True))

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(f'{f}={v!r}' for f, v in self._asdict().items())})"

        def __getnewargs__(self):
            return tuple(self)
