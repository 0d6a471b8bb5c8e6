"""Whether a statement of an owner's login names another owner: by key, comment or setting.

It finds an application's mistakes. What can't be read, or names no owner at all, passes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.errors import GatewayError
from gateway.pool.prepared import Statement
from gateway.protocol.framing import HEADER_BYTES
from gateway.router.facts import Facts
from gateway.router.roaming import foreign_key_value
from gateway.router.values import Incomplete, canonical
from gateway.session.context import Context
from gateway.session.demands import Demands, said_in
from gateway.session.holdings import Holdings
from gateway.session.unit import Ask, read_bind
from gateway.settings.model import KeyMismatch

_log = logging.getLogger(__name__)


class Guard:
    """Looks at the statements of a client that is bound to one owner."""

    __slots__ = ("_context", "_demands", "_owner", "_statement", "_what")

    def __init__(
        self,
        context: Context,
        holdings: Holdings,
        login: str,
        owner: str,
        statement: Callable[[bytes], Statement | None],
    ) -> None:
        self._context = context
        self._demands = Demands(context, holdings, self._facts_of)
        self._statement = statement
        self._owner = owner
        self._what = f'login "{login}"'

    def _facts_of(self, name: bytes) -> Facts | None:
        known = self._statement(name)
        return None if known is None else known.facts

    def of_text(self, facts: Facts, text: bytes) -> GatewayError | None:
        """What stands against a text that is run as it is."""
        return self._of(Ask(facts, text), said=True)

    def of_bind(self, message: bytes, *, complete: bool) -> GatewayError | None:
        """What stands against the values of a Bind."""
        name_at = message.find(b"\0", HEADER_BYTES) + 1
        name_end = message.find(b"\0", name_at)
        known = self._statement(message[name_at:name_end]) if name_end > 0 else None
        if known is None or not known.facts.keyed:
            return None
        ask = read_bind(message, name_end + 1, known.facts, known.body, complete)
        return self._of(ask, said=False)

    def _of(self, ask: Ask, *, said: bool) -> GatewayError | None:
        routing = self._context.settings.routing
        try:
            named = set(self._demands.together([ask]).owners)
            hinted = said_in(ask.text).owner if said else None
        except Incomplete:
            return None
        except GatewayError as error:
            return error
        own = canonical(routing.key_type, self._owner) or self._owner
        if hinted is not None and (canonical(routing.key_type, hinted) or hinted) != own:
            return foreign_key_value(own, self._what, {hinted})
        if not named - {own} or routing.key_mismatch is KeyMismatch.ALLOW:
            return None
        found = foreign_key_value(own, self._what, named)
        if routing.key_mismatch is KeyMismatch.REFUSE:
            return found
        _log.warning("%s", found.message)
        return None
