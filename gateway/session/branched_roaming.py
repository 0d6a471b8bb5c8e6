"""The way of a client whose transactions may have branches in several databases.

Decides when a transaction branches, which branch a statement belongs to, what must be done on all
of them, and what a new branch must be told that the others know. No I/O.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import FeatureNotSupported, GatewayError
from gateway.router.demand import Demand
from gateway.router.facts import Effect, Facts, StatementFacts, Verb
from gateway.router.identity import Login
from gateway.router.roaming import MATCHES_NOTHING, NOT_RUN_YET, NeedParent, Unsaid, elsewhere
from gateway.router.route import Asked, Reject, Route
from gateway.router.tables import Place
from gateway.router.topology import Shard
from gateway.session.branches import Stay
from gateway.session.context import Context
from gateway.session.gate import Elsewhere, Join, Objection, Settle, Together
from gateway.session.holdings import Holdings
from gateway.session.repeated import repeated
from gateway.session.roaming import Roaming
from gateway.session.unit import Ask

_TEXTS_MAX = 200
"""Statements that are kept to be run on further branches."""

BRANCHES_MAX = 16
"""Databases that one transaction may have a part in."""

_SAVEPOINTS = frozenset((Verb.SAVEPOINT, Verb.RELEASE, Verb.ROLLBACK_TO))
_ENDS = frozenset((Verb.COMMIT, Verb.ROLLBACK))
_CONTROLS = (
    _SAVEPOINTS
    | _ENDS
    | {Verb.BEGIN, Verb.PREPARE_TRANSACTION, Verb.COMMIT_PREPARED, Verb.ROLLBACK_PREPARED}
)
_WRITES_NOTHING = _CONTROLS | {Verb.SET, Verb.SHOW, Verb.DEALLOCATE, Verb.FETCH, Verb.CLOSE}
_STATE = Effect.SETTING | Effect.SETTING_LOCAL | Effect.ROLE
_ANY_DATABASE = (NOT_RUN_YET, MATCHES_NOTHING)


class BranchedRoaming(Roaming):
    """One client's way, where ``routing.two_phase`` may be on."""

    def __init__(
        self,
        context: Context,
        login: Login,
        asked: Asked,
        holdings: Holdings,
        prepared: Callable[[bytes], Facts | None],
    ) -> None:
        super().__init__(context, login, asked, holdings, prepared)
        self.parked: tuple[Stay, ...] = ()
        """The branches besides the one that is linked."""
        self.wrote = False
        """The linked branch may have written."""
        self._why_not = ""
        """What no further branch could be told."""
        self._untold: list[tuple[bytes, bool]] = []
        """What was sent, and is to be told to further branches once it has succeeded; and whether
        it sets something."""

    # --- branches ---

    def park(self) -> Stay:
        """The linked branch is left for a while."""
        bound = self.bound
        assert bound is not None
        return Stay(bound, self.owner, self.soft, self.wrote, self._written)

    def begin_branch(self) -> None:
        """A server for a further branch is sought: what came before is to be run there first."""
        self.local = True
        self.bound = None
        self.wrote = False
        self._written = set()

    def resume(self, stay: Stay) -> None:
        """A branch is linked again."""
        self.local = False
        self.bound = self.last = stay.shard
        self.owner, self.soft, self.wrote, self._written = (
            stay.owner,
            stay.soft,
            stay.wrote,
            stay.written,
        )

    def answered(self, failed: bool) -> None:
        """All that was sent is answered: what succeeded holds for further branches, too."""
        if not self._untold:
            return
        untold, self._untold = self._untold, []
        for text, sets in () if failed else untold:
            if len(self.begun) >= _TEXTS_MAX:
                self._why_not = f"it has set more than {_TEXTS_MAX} things"
                return
            self.begun.append(text)
            self._sets = self._sets or sets

    def linked(self, target: Route, asks: list[Ask]) -> None:
        inside = self.inside
        Roaming.linked(self, target, asks)
        if self.parked:
            self.inside |= inside

    def end(self) -> None:
        Roaming.end(self)
        self.parked = ()
        self.wrote = False
        self._why_not = ""
        self._untold = []
        self._written = set()

    # --- what concerns all branches ---

    def concerns_all(self, ask: Ask, *, failed: bool) -> Objection | None:
        """What is to be done on every branch; None for what belongs to one, or fails anyway.

        ``failed``: the linked branch has failed, and with it the transaction.
        """
        if not ask.facts.known:
            return Reject(_refused("a text that can't be read, for it may end the transaction,"))
        verbs = {statement.verb for statement in ask.facts.statements}
        if not ask.facts.single:
            changing = any(one.effects & _STATE for one in ask.facts.statements)
            mixed = verbs & _CONTROLS or changing
            return Reject(_refused("transaction control inside of a string")) if mixed else None
        statement = ask.facts.statements[0]
        if statement.verb in _ENDS:
            chain = statement.transaction is not None and statement.transaction.chain
            if chain:
                return Reject(_refused("AND CHAIN"))
            return Settle(statement.verb is Verb.COMMIT)
        if failed:
            return Together(ask.text) if statement.verb is Verb.ROLLBACK_TO else None
        if statement.verb in _SAVEPOINTS:
            return Together(ask.text)
        if statement.verb in _CONTROLS:
            return Reject(_refused(statement.verb)) if statement.verb is not Verb.BEGIN else None
        return self._set_on_all(ask, statement)

    def _set_on_all(self, ask: Ask, statement: StatementFacts) -> Objection | None:
        if not statement.effects & _STATE:
            return None
        again = repeated(ask, statement)
        if again is None:
            return Reject(_refused("a setting that can't be repeated word by word"))
        return Together(again[0])

    def passes(self, ask: Ask) -> None:
        """It has been done on the other branches, and goes to the linked one."""
        self._note(ask)

    # --- decisions ---

    def check(self, ask: Ask) -> Objection | None:
        objection = Roaming.check(self, ask)
        stays: list[Stay] = []
        if isinstance(objection, NeedParent):  # of a row that this transaction has made, perhaps
            stays = [one for one in self.parked if objection.key.table in one.written]
        elif isinstance(objection, Unsaid) and self.parked and self._is_industrys(ask):
            stays = [one for one in self.parked if one.shard.industry and not one.soft]
        return self._back_to(stays[0]) if len(stays) == 1 else objection

    def _is_industrys(self, ask: Ask) -> bool:
        return self._demands.together([ask]).place is Place.INDUSTRY

    def _conflict(self, ask: Ask, bound: Shard, wanted: Route) -> Objection | None:
        if not self._context.settings.routing.two_phase:
            return Roaming._conflict(self, ask, bound, wanted)
        if wanted.shard.primary.address == bound.primary.address:
            self._note(ask)
            return None
        if wanted.reason in _ANY_DATABASE:
            industries = [one for one in self.parked if one.shard.industry is not None]
            if industries:
                return self._back_to(industries[0])
        if not self.parked and self.soft:
            return Elsewhere.SWITCH
        known = any(one.shard.name == wanted.shard.name for one in self.parked)
        why_not = "" if known else self._why_not_further()
        if why_not:
            error = elsewhere(bound, wanted, self._why_bound())
            error.detail = f"The transaction can't go on there as well: {why_not}."
            return Reject(error)
        return Join(wanted)

    def _why_not_further(self) -> str:
        """What keeps the transaction from another branch; empty when nothing does."""
        if not self.begun or self._context.facts.facts(self.begun[0]).first is not Verb.BEGIN:
            return "it was not begun by a BEGIN of its own, or the session is held to its server"
        if self._holdings.pins:
            return f"the connection is held by: {', '.join(self._holdings.pins)}"
        if len(self.parked) + 1 >= BRANCHES_MAX:
            return f"it is in {BRANCHES_MAX} databases already"
        return self._why_not

    @staticmethod
    def _back_to(stay: Stay) -> Join:
        return Join(Route(stay.shard, stay.shard.primary, "the transaction's branch", stay.owner))

    def _reads_its_part(self, wanted: Demand, bound: Shard) -> bool:
        """Not when the meta database has writes of this transaction: its reads must find them."""
        if any(one.shard.industry is None and one.wrote for one in self.parked):
            return False
        return Roaming._reads_its_part(self, wanted, bound)

    # --- what is sent ---

    def _note(self, ask: Ask) -> None:
        before = len(self.begun)
        Roaming._note(self, ask)
        if ask.pending or not self.begun or not self._context.settings.routing.two_phase:
            return
        if not ask.facts.known:
            self.wrote = True
            self._why_not = "it has run a text that can't be read"
            return
        if len(self.begun) > before:
            return  # told to whatever branch comes, and no more than that
        for statement in ask.facts.statements:
            if not self._remembered(ask, statement):
                reads = statement.read_only or statement.verb in _WRITES_NOTHING
                self.wrote = self.wrote or not reads

    def _remembered(self, ask: Ask, statement: StatementFacts) -> bool:
        """Keep what a further branch must be told, once it has succeeded."""
        again: bytes | None = None
        if statement.verb in _SAVEPOINTS:
            again = ask.text if ask.facts.single else None
        elif not statement.effects & _STATE:
            return False
        elif ask.facts.single and (found := repeated(ask, statement)) is not None:
            again = found[0]
            self._heed_settings(found[1])
        if again is None:
            self._why_not = "it has set what can't be repeated word by word"
            return False
        self._untold.append((again, statement.verb not in _SAVEPOINTS))
        return True


def _refused(what: str) -> GatewayError:
    return FeatureNotSupported(
        f"{what} is not possible in a transaction over several databases",
        hint="End the transaction by a COMMIT or ROLLBACK of its own; see docs/routing.md.",
    )
