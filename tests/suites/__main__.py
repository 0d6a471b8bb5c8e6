"""``python -m tests.suites [NAME ...]``: run the suites on both sides and print the table."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from gateway.router.identity import LoginKind
from tests.suites import results, runners
from tests.suites.places import direct_place, gateway_place
from tests.suites.sources import NoSource, folder_of, python_of
from tests.suites.suites import SUITES, Place, Suite

CACHE = (Path(__file__).parents[2] / ".cache" / "suites").resolve()


def main() -> int:
    """0 when every suite ended alike on both sides, 1 when a test did not."""
    options = _options()
    chosen = [suite for suite in SUITES if not options.names or suite.name in options.names]
    given = dict(_name_and_folder(source) for source in options.source)
    CACHE.mkdir(parents=True, exist_ok=True)
    return asyncio.run(_compare(chosen, given, options.select, LoginKind(options.login)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.suites", description=__doc__)
    names = [suite.name for suite in SUITES]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="take a suite's files from a folder, such as a checkout",
    )
    parser.add_argument(
        "-k",
        dest="select",
        default="",
        help="some tests of it: as pytest's -k, or a part of their name",
    )
    parser.add_argument(
        "--login",
        choices=[kind.value for kind in LoginKind],
        default=LoginKind.OPERATOR.value,
        help="of which kind the gateway's login is; a service login for libpq's drivers alone,"
        " an owner's for one suite at a time",
    )
    options = parser.parse_args()
    if options.login == LoginKind.OWNER and len(options.names) != 1:
        parser.error("an owner's login knows the database of one suite: name it")
    if unknown := set(options.names) - set(names):
        parser.error(f"unknown suite: {', '.join(sorted(unknown))}")
    return options


def _name_and_folder(source: str) -> tuple[str, Path]:
    name, _, folder = source.partition("=")
    return name, Path(folder).absolute()


async def _compare(
    chosen: Sequence[Suite], given: dict[str, Path], select: str, kind: LoginKind
) -> int:
    python = python_of(CACHE)
    rows, differ = [], 0
    async with AsyncExitStack() as stack:
        direct = await stack.enter_async_context(direct_place(chosen))
        behind = gateway_place(chosen, CACHE / "gateway.log", kind=kind)
        through = await stack.enter_async_context(behind)
        for suite in chosen:
            try:
                folder = folder_of(suite, CACHE, given)
                runners.RUNNERS[suite.runner].build(folder)
            except (NoSource, runners.NotBuilt) as error:
                rows.append(f"| {suite.name} | not run: {error} |")
                continue
            runs = [
                await asyncio.to_thread(_run, suite, python, folder, place, side, select)
                for side, place in (("direct", direct), ("gateway", through))
            ]
            found = results.differences(*runs)
            differ += len(found)
            rows.append(results.row(suite.name, *runs))
            print(f"{rows[-1]}\n{results.listing(found)}", flush=True)
    print("\n".join([results.HEADER, *rows]))
    return 1 if differ else 0


def _run(
    suite: Suite, python: Path, folder: Path, place: Place, side: str, select: str
) -> results.Run:
    stem = CACHE / f"{suite.database}.{side}"
    return runners.run(runners.Job(suite, folder, place, python, stem, select))


if __name__ == "__main__":
    sys.exit(main())
