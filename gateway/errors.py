"""Every failure the gateway itself reports: a SQLSTATE, a message and what to do about it.

Source of the codes: PostgreSQL documentation, appendix A "PostgreSQL Error Codes".
"""

from __future__ import annotations


class GatewayError(Exception):
    """Base of all errors that reach a client as an ErrorResponse.

    ``sqlstate`` and ``fatal`` are class-wide defaults; a subclass is one kind of failure.
    ``hint`` says what the reader can do; ``detail`` adds facts. Neither ever holds a secret.
    """

    sqlstate = "58000"
    fatal = False

    def __init__(self, message: str, *, hint: str = "", detail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail


class ProtocolViolation(GatewayError):
    """The peer broke the wire protocol; the connection can't go on."""

    sqlstate = "08P01"
    fatal = True


class AuthenticationFailed(GatewayError):
    """Wrong password, unknown, expired or disabled login: one message for all of them."""

    sqlstate = "28P01"
    fatal = True


class AuthorizationFailed(GatewayError):
    """The login is who it says, but may not do this."""

    sqlstate = "28000"
    fatal = True


class NotPermitted(GatewayError):
    """A statement or option the login has no right to."""

    sqlstate = "42501"


class UnknownDatabase(GatewayError):
    """The named database is not in the topology."""

    sqlstate = "3D000"
    fatal = True


class NoRoute(GatewayError):
    """Nothing says which owner, industry or database is meant."""

    sqlstate = "0A000"


class UnknownOwner(GatewayError):
    """The named owner does not exist or has no home in the topology."""

    sqlstate = "22023"


class TooManyClients(GatewayError):
    """A bound on client connections is reached."""

    sqlstate = "53300"
    fatal = True


class RateExceeded(GatewayError):
    """An owner or login sends more statements per second than the settings allow."""

    sqlstate = "53R01"


class PoolExhausted(GatewayError):
    """No server connection came free in time, or the queue for one is full."""

    sqlstate = "53300"


class ServerUnavailable(GatewayError):
    """The database can't be reached, refused us, or its connection broke before it answered."""

    sqlstate = "08006"


class ConnectFailed(ServerUnavailable):
    """No connection to the database could be opened."""

    sqlstate = "08001"


class NoUsableReplica(GatewayError):
    """Only a replica may serve the read, and none has what it needs now."""

    sqlstate = "57P03"


class Paused(GatewayError):
    """The database is paused for maintenance, and the statement has waited as long as it may."""

    sqlstate = "57P03"


class Disabled(GatewayError):
    """An operator has closed the database to new clients."""

    sqlstate = "55000"
    fatal = True


class DirectoryUnavailable(GatewayError):
    """The meta database can't be asked and no fresh enough answer is cached."""

    sqlstate = "08006"


class StaleEpoch(GatewayError):
    """A transaction was on its way to where its owner no longer is; none of it has run."""

    sqlstate = "40001"


class TransactionFailed(GatewayError):
    """A statement in a transaction that has failed before."""

    sqlstate = "25P02"


class CompletionUnknown(GatewayError):
    """A transaction over several databases is prepared in all, and its decision can't be read."""

    sqlstate = "40003"


class ServerSaid(GatewayError):
    """A server's own error, told to the client under its own SQLSTATE; ``fields`` by their code."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(
            fields.get("M", "an error without a message"),
            hint=fields.get("H", ""),
            detail=fields.get("D", ""),
        )
        self.sqlstate = fields.get("C", "XX000")


class QueryCanceled(GatewayError):
    """The client cancelled a statement that was still waiting in the gateway."""

    sqlstate = "57014"


class ShuttingDown(GatewayError):
    """The gateway, or the part of it the client is on, is being stopped."""

    sqlstate = "57P01"
    fatal = True


class IdleInTransaction(GatewayError):
    """The client left a transaction idle for longer than the settings allow."""

    sqlstate = "25P03"
    fatal = True


class IdleSession(GatewayError):
    """The client was idle for longer than its own idle_session_timeout."""

    sqlstate = "57P05"
    fatal = True


class TooManyPinned(GatewayError):
    """Too many clients keep a connection for what their session holds."""

    sqlstate = "53400"
    fatal = True


class FeatureNotSupported(GatewayError):
    """Something the gateway does not do; the message names it."""

    sqlstate = "0A000"


class ConfigError(Exception):
    """The settings are not usable. ``problems`` are complete lines, one per mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
