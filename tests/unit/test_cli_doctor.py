"""How the doctor's findings are shown."""

from grav_actors.cli.doctor import WIDTH, lines, summary
from grav_actors.doctor.finding import ok, warning, wrong


def test_finding_is_one_line_and_its_remedy_stands_below() -> None:
    assert lines(ok("port", "is free")) == ["ok       port             is free"]
    assert lines(wrong("port", "is taken", "choose another")) == [
        "wrong    port             is taken",
        "                          -> choose another",
    ]


def test_long_finding_is_wrapped_below_its_beginning() -> None:
    shown = lines(warning("keys", "word " * 60, "other " * 60))
    assert len(shown) > 4
    assert all(len(line) <= WIDTH for line in shown)
    assert all(line.startswith(" " * 26) for line in shown[1:])


def test_summary_counts_what_is_not_ok() -> None:
    assert summary([ok("a", "")]) == "all is well"
    assert summary([ok("a", ""), warning("b", "", "x")]) == "1 warning"
    assert summary([wrong("a", "", "x"), wrong("a", "", "x"), warning("b", "", "x")]) == (
        "2 things are wrong, 1 warning"
    )
