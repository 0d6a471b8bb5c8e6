"""What other people's test runners say, read as outcomes."""

from __future__ import annotations

from tests.suites.results import Outcome, read_tap, read_ticks

PASSED, FAILED, SKIPPED = Outcome.PASSED, Outcome.FAILED, Outcome.SKIPPED


def test_tap() -> None:
    said = "1..4\nok 1 - Connects\nnot ok 2 - Reads \n#  got: 'ok 3'\nok 3 # skip no pg_sleep\n"
    outcomes, failures = read_tap(said, "t/a.t", 1)
    assert outcomes == {
        "t/a.t": FAILED,
        "t/a.t::1 Connects": PASSED,
        "t/a.t::2 Reads": FAILED,
        "t/a.t::3 ": SKIPPED,
    }
    assert set(failures) == {"t/a.t", "t/a.t::2 Reads"}


def test_ticks() -> None:
    said = "a-tests.js\n  connects ✔\n  reads FAILED!\n\nError: no\n  native ? - SKIPPED\n"
    outcomes, failures = read_ticks(said, "a-tests.js", 255)
    assert outcomes == {
        "a-tests.js": FAILED,
        "a-tests.js::connects": PASSED,
        "a-tests.js::reads": FAILED,
        "a-tests.js::native": SKIPPED,
    }
    assert set(failures) == {"a-tests.js", "a-tests.js::reads"}
