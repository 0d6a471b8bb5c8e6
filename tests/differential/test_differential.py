"""Random dialogues with PostgreSQL and through the gateway: every message must be the same.

Four clients share two server connections. `make test-differential` looks longer, at other
dialogues each time; set DIFFERENTIAL_EXAMPLES for another number.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings

from tests.differential.inside import Halfway
from tests.differential.script import Script
from tests.differential.scripts import scripts
from tests.differential.twins import Twins

LONG = "DIFFERENTIAL_EXAMPLES" in os.environ
EXAMPLES = int(os.environ.get("DIFFERENTIAL_EXAMPLES", "50"))
TIMEOUT_S = 0 if LONG else 120
"""0: none. Every step has a limit of its own."""
_LEFT_OUT = {Phase.explain} if LONG else {Phase.explain, Phase.shrink}
"""Only the long run makes a dialogue that differs as short as can be: that takes minutes."""


def explored(examples: int) -> settings:
    """How a property is looked at: the same examples each time, or for long others."""
    return settings(
        max_examples=examples,
        derandomize=not LONG,
        deadline=None,
        phases=[phase for phase in Phase if phase not in _LEFT_OUT],
        print_blob=LONG,
        suppress_health_check=list(HealthCheck),
    )


@explored(EXAMPLES)
@given(script=scripts())
@pytest.mark.timeout(TIMEOUT_S)
async def test_random_dialogues_are_as_with_the_server(twins: Twins, script: Script) -> None:
    await _play(twins, script)


@explored(max(1, EXAMPLES // 3))
@given(script=scripts())
@pytest.mark.timeout(TIMEOUT_S)
async def test_those_of_a_service_login_too(roaming_twins: Twins, script: Script) -> None:
    """BEGIN is answered ahead, each unit waits for the one before, and nobody can tell."""
    await _play(roaming_twins, script)


async def _play(twins: Twins, script: Script) -> None:
    try:
        await twins.play(script)
    except Halfway:
        reject()
