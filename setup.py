"""Compiles the hot modules where that can be done; where it can't, everything runs interpreted.

The sources are the same: plain Python, with declarations for Cython in the .pxd files beside them.
``GATEWAY_PURE=1`` compiles nothing. All else about the package is in pyproject.toml.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

CYTHON = "Cython>=3.1"

HOT = (
    "net/ends",
    "net/sockets",
    "protocol/framing",
    "protocol/replies",
    "router/recent",
    "router/identity",
    "router/topology",
    "router/statement",
    "router/literals",
    "router/sqlparse",
    "router/facts",
    "router/tables",
    "router/values",
    "router/route",
    "router/demand",
    "router/roaming",
    "directory/cache",
    "pool/prepared",
    "pool/server",
    "pool/core",
    "pool/fairness",
    "pool/counters",
    "pool/plain",
    "pool/permits",
    "pool/sharing",
    "pool/pool",
    "session/inbox",
    "session/holdings",
    "session/listens",
    "session/standing",
    "session/pauses",
    "session/aims",
    "session/known_routes",
    "session/context",
    "session/translate",
    "session/unit",
    "session/demands",
    "session/outbound",
    "session/client",
    "session/reading_client",
    "session/gate",
    "session/roaming",
    "session/branched_roaming",
    "session/scattering_client",
    "session/roaming_client",
    "session/branching_client",
)
"""What runs for every message or transaction. docs/performance.md says what it gains."""

IN_C = ("net/calls", "net/instant", "protocol/octets")
"""What the interpreter does by modules of Python's own, and compiled code by the C library."""

LINUX_ONLY = ("net/sockets", "net/calls")

DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,  # hints are for people and mypy; C types stand in the .pxd files
}


class CompileAllOrNone(build_ext):
    """All hot modules or none of them, for they reach into each other's structures."""

    def build_extensions(self) -> None:
        """Needs Cython, which pip provides, and a C compiler, which it can't."""
        from Cython.Build import cythonize

        made = cythonize(
            [Extension(one.name, one.sources) for one in self.extensions],
            build_dir=self.build_temp,
            compiler_directives=DIRECTIVES,
            nthreads=_cores() if sys.platform == "linux" else 0,
            quiet=True,
        )
        for extension, translated in zip(self.extensions, made, strict=True):
            extension.sources = translated.sources
        self.parallel = self.parallel or _cores()
        super().build_extensions()

    def run(self) -> None:
        """Builds them; without a compiler it says so and leaves nothing behind."""
        try:
            super().run()
        except (BaseError, CCompilerError, OSError) as error:
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions = []
            print(f"not compiled, the gateway will run interpreted: {error}", file=sys.stderr)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _extensions() -> list[Extension]:
    if os.environ.get("GATEWAY_PURE", "0") not in ("", "0"):
        return []
    sources = {name: f"gateway/{name}.py" for name in HOT}
    sources |= {name: f"gateway/{name}.pyx" for name in IN_C}
    return [
        Extension(
            f"gateway/{name}".replace("/", "."),
            [source],
            depends=[f"gateway/{name}{suffix}" for suffix in (".py", ".pxd")],
            extra_compile_args=["-O1", "-g0"] if sys.platform != "win32" else [],
        )
        for name, source in sources.items()
        if sys.platform == "linux" or name not in LINUX_ONLY
    ]


def _requirements() -> list[str]:
    """What pip is to bring for the build, over what pyproject.toml names."""
    return [CYTHON] if _extensions() and find_spec("Cython") is None else []


setup(
    ext_modules=_extensions(),
    cmdclass={"build_ext": CompileAllOrNone},
    setup_requires=_requirements(),
)
