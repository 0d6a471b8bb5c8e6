"""The corpus of targets: where each statement of a service login goes, and whether to a replica."""

from __future__ import annotations

import pytest

from tests.unit.router.targets import CASES, Case, Client


def test_the_corpus_is_all_there() -> None:
    assert len(CASES) >= 300
    assert len({(case.sql, case.values, case.world) for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{n}-{case.section}-{case.sql[:40]}" for n, case in enumerate(CASES)]
)
def test_a_statement_goes_where_it_must(case: Case) -> None:
    found = Client(case.world).run(case.data)
    if case.expected[:5].isalnum() and case.expected[:1].isdigit():
        assert found.startswith(case.expected), (case.sql, case.values)
    else:
        assert found == case.expected, (case.sql, case.values)
