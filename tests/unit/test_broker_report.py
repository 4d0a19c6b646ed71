"""What the broker counts."""

from __future__ import annotations

from ic_secrets.broker.report import OTHERS, Attempt, Report, Tally, Traffic


def test_counts_add_up_by_host() -> None:
    tally = Tally()
    tally.add("b.example", "one", requests=1, bytes_in=5)
    tally.add("a.example", joined=1)
    tally.add("b.example", "two", "one", "", requests=1, bytes_out=7)
    tally.note_attempt("KEY", "c.example")
    tally.note_attempt("KEY", "c.example")
    tally.note("words")
    tally.note("words")
    report = tally.make_report()
    assert report == Report(
        (Traffic("a.example", joined=1), Traffic("b.example", ("one", "two"), 2, 5, 7)),
        (Attempt("KEY", "c.example", 2),),
        (("words", ""),),
    )
    assert Report.from_json(report.to_json()) == report


def test_a_build_that_asks_any_number_of_hosts_does_not_fill_the_report() -> None:
    tally = Tally()
    for number in range(5000):
        tally.add(f"{number}.example", requests=1)
        tally.note_attempt("KEY", f"{number}.example")
        tally.note(f"words {number}")
    tally.add("0.example", requests=1)
    report = tally.make_report()
    assert len(report.to_json()) < 500_000
    assert sum(each.requests for each in report.hosts) == 5001
    assert sum(each.times for each in report.attempts) == 5000
    assert next(each.requests for each in report.hosts if each.host == OTHERS) == 3000
    assert report.hosts[0] == Traffic("0.example", requests=2)
