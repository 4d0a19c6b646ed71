"""Records behave as those of `typing.NamedTuple` do."""

import copy
import pickle
import typing

import pytest

from ic_secrets.core import records


def make(base: typing.Any) -> typing.Any:
    """Make a record of two fields, the second with a default, and a method."""

    class Pair(base):  # type: ignore[misc]
        """A pair."""

        left: int
        right: str = "r"

        @property
        def both(self) -> str:
            return f"{self.left}{self.right}"

    return Pair


class Kept(records.NamedTuple):
    """A record of a module, which can be pickled."""

    left: int
    right: str = "r"


OURS, TYPINGS = make(records.NamedTuple), make(typing.NamedTuple)
QUESTIONS: dict[str, typing.Callable[[typing.Any], object]] = {
    "by place": lambda pair: tuple(pair(1, "x")),
    "by name": lambda pair: tuple(pair(right="x", left=1)),
    "with a default": lambda pair: tuple(pair(1)),
    "twice": lambda pair: (tuple(pair(1)), tuple(pair(2, "y"))),
    "fields": lambda pair: (pair._fields, pair._field_defaults, pair.__match_args__),
    "attributes": lambda pair: (pair(1).left, pair(1).right, pair(1).both),
    "replaced": lambda pair: tuple(pair(1)._replace(right="z")),
    "as a dictionary": lambda pair: pair(1)._asdict(),
    "of values": lambda pair: tuple(pair._make([3, "v"])),
    "equal": lambda pair: (pair(1) == pair(1), pair(1) == (1, "r"), pair(1) == pair(2), hash(pair(1))),
    "repr": lambda pair: repr(pair(1)),
    "unpacked": lambda pair: [*pair(1)],
    "copied": lambda pair: tuple(copy.deepcopy(pair(1))),
    "no dictionary": lambda pair: hasattr(pair(1), "__dict__"),
    "documented": lambda pair: pair.__doc__,
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_record_answers_as_a_named_tuple_does(question: str) -> None:
    assert QUESTIONS[question](OURS) == QUESTIONS[question](TYPINGS)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda pair: pair(),
        lambda pair: pair(1, "x", 3),
        lambda pair: pair(1, middle=2),
        lambda pair: pair(1, left=2),
        lambda pair: pair._make([1, 2, 3]),
        lambda pair: setattr(pair(1), "left", 2),
        lambda pair: setattr(pair(1), "other", 2),
    ],
)
def test_a_record_refuses_what_a_named_tuple_refuses(mistake: typing.Callable[[typing.Any], object]) -> None:
    for pair in (OURS, TYPINGS):
        with pytest.raises((TypeError, AttributeError)):
            mistake(pair)


def test_a_record_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(Kept(4, "k"))) == Kept(4, "k")


def test_a_derived_class_keeps_the_fields() -> None:
    class Derived(Kept):
        def double(self) -> int:
            return 2 * self.left

    assert (Derived(4).double(), Derived(4).right, Kept(5).left) == (8, "r", 5)
