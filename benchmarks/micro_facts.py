"""What the facts of a statement cost: seen before, seen with other literals, never seen.

    .venv/bin/python benchmarks/micro_facts.py

Prints the best of several rounds, in microseconds of CPU per statement. ``scan`` and ``parse``
are libpg_query's parts of it (parse: with its answer decoded), ``hint`` is ``hints.hint``.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

from gateway.router import sqlparse
from gateway.router.facts import FactsCache
from gateway.router.hints import hint

STATEMENTS = {
    "Prisma findMany": (
        'SELECT "public"."Lead"."id", "public"."Lead"."userId", "public"."Lead"."name", '
        '"public"."Lead"."email", "public"."Lead"."createdAt" FROM "public"."Lead" WHERE '
        '("public"."Lead"."userId" = $1 AND "public"."Lead"."status" = $2) '
        'ORDER BY "public"."Lead"."createdAt" DESC LIMIT $3 OFFSET $4'
    ),
    "Prisma create": (
        'INSERT INTO "public"."Lead" ("id","userId","name","email","createdAt","updatedAt") '
        'VALUES ($1,$2,$3,$4,$5,$6) RETURNING "public"."Lead"."id"'
    ),
    "Django get": (
        'SELECT "crm_lead"."id", "crm_lead"."userId", "crm_lead"."name" FROM "crm_lead" '
        'WHERE ("crm_lead"."userId" = \'u1\' AND "crm_lead"."id" = 42) LIMIT 21'
    ),
    "Django update": (
        'UPDATE "crm_lead" SET "name" = \'Ann\', "score" = 7 '
        'WHERE ("crm_lead"."userId" = \'u1\' AND "crm_lead"."id" = 42)'
    ),
    "ActiveRecord join": (
        'SELECT "leads".* FROM "leads" INNER JOIN "deals" ON "deals"."lead_id" = "leads"."id" '
        'WHERE "leads"."userId" = \'u1\' AND "deals"."stage" = \'won\' '
        "/*application:Crm,controller:leads*/"
    ),
    "pgbench -S": "SELECT abalance FROM pgbench_accounts WHERE aid = 42",
    "BEGIN": "BEGIN",
    "SET": "SET search_path = 'crm', public",
}
BULK = 'INSERT INTO "Lead" ("userId", name, score) VALUES ' + ", ".join(
    f"('u1', 'name {number}', {number})" for number in range(1_000)
)


def best_us(call: Callable[[], object], calls: int, rounds: int = 7) -> float:
    """Microseconds per call, in the best round."""
    best = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(calls):
            call()
        best = min(best, (time.process_time() - began) / calls)
    return best * 1e6


def measure(name: str, sql: str, calls: int) -> None:
    text = sql.encode()
    cache = FactsCache(10_000, 64 << 20)
    cache.facts(text)
    serial = itertools.count()

    def other_literals() -> bytes:
        number = next(serial)
        return sql.replace("'u1'", f"'u{number}'").replace("42", str(number)).encode() + (
            b" /*%d*/" % number
        )

    texts = iter([other_literals() for _ in range(calls * 7)])
    # One entry and two texts in turn: each is forgotten before it is asked for again.
    forgetful = FactsCache(1, 64 << 20)
    either = itertools.cycle((text, b" " + text))
    scanned = sqlparse.scan(text)
    figures = (
        best_us(lambda: cache.facts(text), calls * 10),
        best_us(lambda: cache.facts(next(texts)), calls),
        best_us(lambda: forgetful.facts(next(either)), calls),
        best_us(lambda: sqlparse.scan(text), calls),
        best_us(lambda: sqlparse.parse(scanned), calls),
        best_us(lambda: hint(text), calls * 10),
    )
    print(f"{name:20}{len(text):7}" + "".join(f"{figure:10.2f}" for figure in figures))


def main() -> None:
    columns = ("hit", "literals", "miss", "(scan)", "(parse)", "hint")
    print(f"{'µs per statement':20}{'bytes':>7}" + "".join(f"{column:>10}" for column in columns))
    for name, sql in STATEMENTS.items():
        measure(name, sql, 1_000)
    measure("insert, 1000 rows", BULK, 3)


if __name__ == "__main__":
    main()
