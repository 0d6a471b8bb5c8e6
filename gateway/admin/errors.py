"""What the console answers when a command can't be carried out, by PostgreSQL's codes."""

from __future__ import annotations

from gateway.errors import GatewayError


class CommandSyntax(GatewayError):
    """A command that can't be understood."""

    sqlstate = "42601"


class ReloadFailed(GatewayError):
    """The settings can't be used (config_file_error)."""

    sqlstate = "F0000"


class Remark(GatewayError):
    """Something to know about an answer (warning)."""

    sqlstate = "01000"


class InternalError(GatewayError):
    """A mistake of the gateway's own."""

    sqlstate = "XX000"


class DuplicateStatement(GatewayError):
    """A prepared statement of this name is there already."""

    sqlstate = "42P05"


class DuplicatePortal(GatewayError):
    """A portal of this name is there already."""

    sqlstate = "42P03"


class UnknownStatement(GatewayError):
    """No prepared statement of this name."""

    sqlstate = "26000"


class UnknownPortal(GatewayError):
    """No portal of this name."""

    sqlstate = "34000"


class WrongParameters(GatewayError):
    """A Bind with values for a statement that takes none."""

    sqlstate = "08P01"


class TooManyStatements(GatewayError):
    """The bound on what one console may hold is reached."""

    sqlstate = "53400"


class NothingLikeIt(GatewayError):
    """What a command names is not there, or not in a state for it (undefined_object)."""

    sqlstate = "42704"


class StillRunning(GatewayError):
    """A pause was given up: what ran there did not end in time (lock_not_available)."""

    sqlstate = "55P03"


class NotText(GatewayError):
    """Bytes that are not UTF-8."""

    sqlstate = "22021"


class UnknownLogin(GatewayError):
    """There is no login of this name (undefined_object)."""

    sqlstate = "42704"
