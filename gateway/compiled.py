"""Whether the hot modules run compiled or interpreted: decided before the first one is imported.

Beside a hot module's source there may be the same, compiled (`setup.py`), which Python prefers. It
is left aside when ``GATEWAY_PURE`` is set in the environment, and in a folder of sources when one
of them is newer than what was compiled.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec
from importlib.machinery import SourceFileLoader as Loader
from pathlib import Path
from types import ModuleType

PURE_VARIABLE = "GATEWAY_PURE"
"""Set to anything but nothing or 0: all modules are interpreted, and none is compiled."""


class SourcesOnly:
    """Finds this package's modules as sources, whatever is compiled beside them."""

    def __init__(self, package: str) -> None:
        self._inside = package + "."

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The source of a module of the package; None for all others."""
        if not name.startswith(self._inside) or path is None:
            return None
        found = (FileFinder(folder, (Loader, SOURCE_SUFFIXES)).find_spec(name) for folder in path)
        return next((spec for spec in found if spec is not None), None)


def choose() -> str:
    """Make all later imports of this package's modules follow the decision.

    Why what is compiled is left aside, or would be; empty when it is not.
    """
    package = Path(__file__).parent
    reason = _why_interpreted(package, os.environ)
    if reason:
        sys.meta_path.insert(0, SourcesOnly(package.name))
    return reason


def _why_interpreted(package: Path, environ: Mapping[str, str]) -> str:
    if environ.get(PURE_VARIABLE, "0") not in ("", "0"):
        return f"{PURE_VARIABLE} is set"
    if (package.parent / "setup.py").exists() and is_out_of_date(package):
        return "sources are newer than what was compiled"
    return ""


def is_out_of_date(package: Path) -> bool:
    """Whether a source or declaration has changed since its module was compiled."""
    suffix = EXTENSION_SUFFIXES[0]
    for built in package.glob(f"*/*{suffix}"):
        stem = built.with_name(built.name.removesuffix(suffix))
        sources = [stem.with_suffix(suffix) for suffix in (".py", ".pxd", ".pyx")]
        built_at = built.stat().st_mtime
        if any(source.stat().st_mtime > built_at for source in sources if source.exists()):
            return True
    return False
