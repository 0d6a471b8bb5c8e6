"""Every option there is: its type, its default, its unit and its meaning.

This is the one source: config/schema.json and docs/configuration.md are generated from it.
Units stand last in the names: ``_s`` seconds, ``_ms`` milliseconds, ``_bytes`` bytes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_core import PydanticCustomError

from gateway.settings import dsn

SLOTS = 1024
"""Hash slots per industry. Fixed for the life of a deployment: part of where the data lies."""

INDUSTRIES = (
    "ACCOUNTING",
    "RESTAURANT",
    "SPORTS_CLUB",
    "CONSTRUCTION",
    "LAW",
    "MEDICAL",
    "DENTIST",
    "MEDICAL_SPA",
    "OPTOMETRIST",
    "HEALTH_CLINIC",
    "HOSPITAL",
    "ORTHODONTIST",
    "REAL_ESTATE",
    "TECHNOLOGY",
)
"""The industries of today. A file may name fewer or more; the environment must name these."""

NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_\-]*$"
SLOTS_PATTERN = r"^[0-9]{1,4}-[0-9]{1,4}(,[0-9]{1,4}-[0-9]{1,4})*$"


def _usable_url(url: SecretStr) -> SecretStr:
    """The URL itself when it can be read; the error never quotes it, for it holds a password."""
    try:
        dsn.parse(url.get_secret_value())
    except ValueError as error:
        raise PydanticCustomError("database_url", "{reason}", {"reason": str(error)}) from None
    return url


def _as_text(value: object) -> object:
    """An owner's id that YAML reads as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


WORKERS_MAX = 63
"""Workers of one gateway; a client's number has room for so many."""

AUTO = 0
"""``workers: auto``."""

Milliseconds = Annotated[int, Field(ge=1, le=86_400_000)]
MillisecondsOrNever = Annotated[int, Field(ge=0, le=86_400_000)]
Seconds = Annotated[float, Field(gt=0, le=31_536_000)]
SecondsOrNever = Annotated[float, Field(ge=0, le=31_536_000)]
PortNumber = Annotated[int, Field(ge=0, le=65535)]
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=NAME_PATTERN)]
Weight = Annotated[float, Field(gt=0, le=1000)]
Rate = Annotated[float, Field(gt=0, le=1_000_000)]
PlanName = Annotated[str, Field(min_length=1, max_length=255)]
OwnerId = Annotated[str, Field(min_length=1, max_length=255), BeforeValidator(_as_text)]
LoginName = Annotated[str, Field(min_length=1, max_length=255)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_usable_url)]
PatroniUrl = Annotated[str, Field(pattern=r"^https?://[^/@\s]+/?$")]
"""Without a user or password: what is asked takes none."""
WorkerCount = Annotated[
    int,
    Field(ge=0, le=WORKERS_MAX),
    BeforeValidator(
        lambda value: AUTO if value == "auto" else value,
        json_schema_input_type=Annotated[int, Field(ge=0, le=WORKERS_MAX)] | Literal["auto"],
    ),
]


class Section(BaseModel):
    """A block of options; an option that isn't one is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class TlsMode(StrEnum):
    """Whether clients may, must or can't use TLS."""

    DISABLE = "disable"
    ALLOW = "allow"
    REQUIRE = "require"


class TransportChoice(StrEnum):
    """Who reads and writes plain connections."""

    AUTO = "auto"
    UVLOOP = "uvloop"
    OWN = "own"


class KeyType(StrEnum):
    """What owners' ids are."""

    INTEGER = "integer"
    UUID = "uuid"
    TEXT = "text"


class KeyMismatch(StrEnum):
    """What to do with a statement whose tenant key names another owner than the one it is for."""

    REFUSE = "refuse"
    LOG = "log"
    ALLOW = "allow"


class PoolMode(StrEnum):
    """How long a client keeps its server connection."""

    TRANSACTION = "transaction"
    SESSION = "session"


class ReadPolicy(StrEnum):
    """Where reads go that are provably reads."""

    PRIMARY = "primary"
    PREFER_REPLICA = "prefer-replica"
    REPLICA_ONLY = "replica-only"


class ClientTls(Section):
    """TLS towards clients."""

    mode: TlsMode = Field(
        TlsMode.ALLOW,
        description="disable, allow or require TLS; allow without a certificate answers 'N'.",
    )
    certificate_file: str | None = Field(None, description="PEM file with the certificate chain.")
    key_file: str | None = Field(
        None, description="PEM file with the private key; empty when certificate_file holds it."
    )
    minimum_version: Literal["1.2", "1.3"] = Field(
        "1.2", description="Oldest TLS version accepted."
    )


class Listen(Section):
    """Where clients connect, and how many may."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 or :: for all.")
    port: PortNumber = Field(6432, description="TCP port; 0 lets the system choose.")
    unix_socket_dir: str | None = Field(
        None, description="Folder for a Unix socket .s.PGSQL.<port>; none when empty."
    )
    backlog: int = Field(1024, ge=1, le=65535, description="Connections the kernel queues for us.")
    max_client_connections: int = Field(
        10_000,
        ge=1,
        description="Clients at one time; one more gets 53300 and a closed connection.",
    )
    login_timeout_s: Seconds = Field(15, description="Time from connect to the end of the login.")
    shutdown_timeout_s: Seconds = Field(
        30, description="How long SIGTERM waits for running transactions before it closes clients."
    )
    tls: ClientTls = Field(default_factory=ClientTls, description="TLS towards clients.")


class Http(Section):
    """Metrics and health over HTTP."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: PortNumber | None = Field(
        6480, description="TCP port; 0 lets the system choose, null turns HTTP off."
    )


class Console(Section):
    """The admin console, spoken over the wire protocol."""

    database: Name = Field("gateway", description="Database name that opens the console.")


class Log(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="debug also names the database that each statement went to."
    )
    format: Literal["text", "json"] = Field("text", description="One line per event, in this form.")


class Auth(Section):
    """How clients prove who they are."""

    allow_md5_verifiers: bool = Field(
        False, description="Accept logins whose stored verifier is md5 (old and weak)."
    )
    api_keys: bool = Field(
        True,
        description="Accept an API key in place of the password, in clear text inside TLS only.",
    )
    owner_in_user: bool = Field(
        False,
        description="Take user app.7, if there is no login of that name, for the service login app"
        " that acts for owner 7.",
    )
    failure_delay_ms: Annotated[int, Field(ge=0, le=60_000)] = Field(
        200, description="Pause before a failed login is answered."
    )
    max_logins_in_progress: int = Field(
        500, ge=1, description="Logins worked on at one time; further ones wait their turn."
    )


class Directory(Section):
    """Look-ups in the meta database and how long their answers are kept."""

    login_query: str = Field(
        "SELECT name, kind, verifier, owner_id, extract(epoch FROM valid_until) AS valid_until,"
        " disabled FROM gateway.login WHERE name = $1",
        description="Finds a login by name ($1): name, kind, verifier, owner_id, valid_until"
        " (seconds since 1970 UTC or null), disabled.",
    )
    owner_query: str = Field(
        "SELECT * FROM gateway.owner WHERE id = $1",
        description="Finds an owner by id ($1, text): id, industry, shard (or null), epoch and, for"
        " grants to agencies, agency and, for weights, plan (both may be left out).",
    )
    connections_max: int = Field(4, ge=1, le=100, description="Connections to the meta database.")
    cache_entries_max: int = Field(200_000, ge=1, description="Logins and owners kept, each.")
    ttl_s: Seconds = Field(300, description="How long an answer is fresh, give or take a tenth.")
    negative_ttl_s: Seconds = Field(2, description="How long 'no such login or owner' is kept.")
    outage_ttl_s: Seconds = Field(
        3600, description="How long known answers serve while the meta database is down."
    )
    lookup_timeout_ms: Milliseconds = Field(3000, description="Longest wait for one look-up.")


class PoolLimits(Section):
    """Bounds of the server connections to one endpoint, database and role.

    Here every option may be left out; what is left out comes from the level above.
    """

    mode: PoolMode | None = Field(None, description="In place of `pool.mode`.")
    min: int | None = Field(None, ge=0, le=10_000, description="In place of `pool.min`.")
    max: int | None = Field(None, ge=1, le=10_000, description="In place of `pool.max`.")
    queue_max: int | None = Field(
        None, ge=0, le=1_000_000, description="In place of `pool.queue_max`."
    )
    queue_timeout_ms: Milliseconds | None = Field(
        None, description="In place of `pool.queue_timeout_ms`."
    )
    server_idle_timeout_s: Seconds | None = Field(
        None, description="In place of `pool.server_idle_timeout_s`."
    )
    server_lifetime_s: Seconds | None = Field(
        None, description="In place of `pool.server_lifetime_s`."
    )
    connect_timeout_ms: Milliseconds | None = Field(
        None, description="In place of `pool.connect_timeout_ms`."
    )
    query_timeout_ms: MillisecondsOrNever | None = Field(
        None, description="In place of `pool.query_timeout_ms`."
    )
    idle_transaction_timeout_s: SecondsOrNever | None = Field(
        None, description="In place of `pool.idle_transaction_timeout_s`."
    )
    operator_reserve: int | None = Field(
        None, ge=0, le=10_000, description="In place of `pool.operator_reserve`."
    )


class Pool(Section):
    """Server connections, per endpoint, database and role. Industries may override."""

    mode: PoolMode = Field(
        PoolMode.TRANSACTION,
        description="transaction: a server per transaction; session: per client.",
    )
    min: int = Field(0, ge=0, le=10_000, description="Connections kept open once a pool is in use.")
    max: int = Field(20, ge=1, le=10_000, description="Connections at most.")
    queue_max: int = Field(
        2000, ge=0, le=1_000_000, description="Clients that may wait; one more gets 53300."
    )
    queue_timeout_ms: Milliseconds = Field(
        10_000, description="Longest wait for a connection; then 53300."
    )
    server_idle_timeout_s: Seconds = Field(
        600, description="Idle connections above min are closed after this, give or take a tenth."
    )
    server_lifetime_s: Seconds = Field(
        3600, description="Connections are replaced after this, give or take a tenth."
    )
    connect_timeout_ms: Milliseconds = Field(
        5000, description="Longest connect and login to a server."
    )
    connect_backoff_min_ms: Milliseconds = Field(
        50, description="Pause after the first failed connect; doubles from there."
    )
    connect_backoff_max_ms: Milliseconds = Field(
        500, description="Longest pause between failed connects."
    )
    clean_timeout_ms: Milliseconds = Field(
        5000, description="Longest cleaning of a used connection; then it is closed."
    )
    query_timeout_ms: MillisecondsOrNever = Field(
        0,
        description="A statement that runs for longer is cancelled: 57014; 0: never. Looked at ten"
        " times a second.",
    )
    idle_transaction_timeout_s: SecondsOrNever = Field(
        0, description="A transaction idle for longer ends its client with 25P03; 0: never."
    )
    operator_reserve: int = Field(
        0,
        ge=0,
        le=10_000,
        description="How many of max only operators may use, so that one always gets in; one is"
        " everybody's in any case.",
    )
    pinned_max: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Connections that clients may keep for session state; one more is closed with"
        " 53400. All of them when empty.",
    )
    share_depth: int = Field(
        1,
        ge=1,
        le=32,
        description="When none is free, so many clients may send a short read of tables by itself"
        " over one connection, one behind the other; 1: none but the one that has it.",
    )
    share_ms: float = Field(
        2.0,
        gt=0,
        le=1000,
        description="Reads that took less than this, by what was measured of them, are short.",
    )
    audit_interval: int = Field(
        1000,
        ge=0,
        description="Every so many transactions of a connection it is asked whether a function"
        " changed its session unseen, ever less often, down to a sixteenth, while nothing is found"
        " and no table changes; 0: never.",
    )
    server_statements_max: int = Field(
        500, ge=1, le=100_000, description="Prepared statements kept on one connection."
    )
    client_statements_max: int = Field(
        10_000, ge=1, le=1_000_000, description="Prepared statements one client may have at a time."
    )


class Reads(Section):
    """Which replicas may serve reads. `meta` and every industry may override."""

    policy: ReadPolicy = Field(
        ReadPolicy.PRIMARY,
        description="primary; prefer-replica: a replica that has the owner's own writes and is"
        " within the bounds, else the primary; replica-only: such a replica, else 57P03.",
    )
    lag_max_ms: Milliseconds = Field(
        10_000, description="A replica further behind the primary serves no reads."
    )
    lag_max_bytes: int | None = Field(
        None,
        ge=0,
        description="The same in bytes of write-ahead log not replayed yet; no bound when empty.",
    )


class ReadOverrides(Section):
    """Reads of one industry, or of the meta database.

    What is left out comes from the level above.
    """

    policy: ReadPolicy | None = Field(None, description="In place of `reads.policy`.")
    lag_max_ms: Milliseconds | None = Field(None, description="In place of `reads.lag_max_ms`.")
    lag_max_bytes: int | None = Field(None, ge=0, description="In place of `reads.lag_max_bytes`.")


class Health(Section):
    """How databases are watched, each on a connection of its own."""

    interval_ms: Milliseconds = Field(
        250, description="Pause between two looks where replicas serve reads."
    )
    idle_interval_ms: Annotated[int, Field(ge=0, le=86_400_000)] = Field(
        5000, description="Pause between two looks at all other databases; 0: never looked at."
    )
    timeout_ms: Milliseconds = Field(
        1000, description="Longest look, with name look-up, connect and login; then it is down."
    )
    backoff_max_ms: Milliseconds = Field(
        2000, description="Longest pause between looks at a database that is down."
    )
    patroni: list[PatroniUrl] = Field(
        default_factory=list,
        description="Patroni's REST API, http://host:8008, of each member of the cluster that all"
        " databases are in; shards of other clusters name their own. It says who the primary is.",
    )


class Fairness(Section):
    """How much of the server time that is wanted each owner gets: docs/fairness.md."""

    plans: dict[PlanName, Weight] = Field(
        default_factory=dict,
        description="Weights by plan, the owner's `plan` in `directory.owner_query`; 1 for all"
        " others. Twice the weight gets twice the time.",
    )


class Limits(Section):
    """What an owner, a login or an industry may use. What is left out is not limited here."""

    clients: int | None = Field(
        None, ge=0, description="Clients connected at a time; one more gets 53300."
    )
    servers: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Connections held of any one pool, which is statements at a time; who comes"
        " then waits as for a full pool.",
    )
    rate: Rate | None = Field(
        None, description="Statements, or batches up to a Sync, per second; too early gets 53R01."
    )
    burst: int | None = Field(
        None,
        ge=1,
        description="Statements that may come at once after a rest; as many as in a second when"
        " empty.",
    )
    queue_timeout_ms: Milliseconds | None = Field(
        None, description="In place of `pool.queue_timeout_ms`."
    )
    query_timeout_ms: MillisecondsOrNever | None = Field(
        None, description="In place of `pool.query_timeout_ms`."
    )
    idle_transaction_timeout_s: SecondsOrNever | None = Field(
        None, description="In place of `pool.idle_transaction_timeout_s`."
    )
    login_timeout_s: Seconds | None = Field(
        None,
        description="In place of `listen.login_timeout_s`; an owner's, login's or industry's from"
        " when it is known.",
    )


class LimitSettings(Section):
    """Who may use how much. All bounds that apply hold; of the times the first that is set.

    An operator has the limits under its own name in `logins`, and no others.
    """

    owners: dict[OwnerId, Limits] = Field(
        default_factory=dict, description="By owner's id; in place of `every_owner` altogether."
    )
    logins: dict[LoginName, Limits] = Field(
        default_factory=dict, description="By login; in place of `every_login` altogether."
    )
    industries: dict[Name, Limits] = Field(
        default_factory=dict,
        description="By industry; its times are better set in `industries.<NAME>.pool`.",
    )
    every_owner: Limits = Field(
        default_factory=Limits, description="Of each owner without limits of its own."
    )
    every_login: Limits = Field(
        default_factory=Limits, description="Of each login without limits of its own."
    )


class RoleCredentials(Section):
    """Database role and password to use in place of the URL's."""

    user: str = Field(min_length=1, description="Database role.")
    password: SecretStr = Field(SecretStr(""), description="Its password; empty for none.")


class ShardSettings(Section):
    """One database of an industry."""

    name: Name | None = Field(
        None,
        description="Name for operators (psql -d NAME); <industry>, or <industry>_<n>, when empty.",
    )
    primary: DatabaseUrl = Field(description="URL of the primary.")
    replicas: list[DatabaseUrl] = Field(
        default_factory=list, description="URLs of the read replicas."
    )
    patroni: list[PatroniUrl] | None = Field(
        None, description="In place of `health.patroni`, for this database's cluster."
    )
    slots: Annotated[str, Field(pattern=SLOTS_PATTERN)] | None = Field(
        None,
        description="Hash slots, such as 0-511 (of 1024); evenly split when no shard names any.",
    )


class IndustrySettings(Section):
    """One industry: its shards and its pool limits."""

    shards: list[ShardSettings] = Field(min_length=1, description="One entry per database.")
    pool: PoolLimits = Field(default_factory=PoolLimits, description="Overrides of `pool`.")
    reads: ReadOverrides = Field(default_factory=ReadOverrides, description="Overrides of `reads`.")


class Failover(Section):
    """What happens to statements when a primary is lost."""

    hold_ms: Annotated[int, Field(ge=0, le=600_000)] = Field(
        5000,
        description="How long a statement that was not sent waits for the database to come back, or"
        " for another one to take its place; then 08001. 0: not at all.",
    )
    hold_clients_max: int = Field(
        10_000, ge=0, description="Clients that may wait like this; one more gets 08001 at once."
    )
    repeat_reads_ms: Annotated[int, Field(ge=0, le=600_000)] = Field(
        5000,
        description="A read by itself whose server dies before it has answered anything is asked"
        " once more, if it came less long ago than this; 0: never.",
    )


class Pause(Section):
    """What happens to statements while an operator has paused where they go."""

    limit_s: Seconds = Field(
        300, description="A pause that names no time of its own (PAUSE ... FOR) ends after this."
    )
    hold_ms_max: Milliseconds = Field(
        120_000, description="Longest wait of a statement for the end of a pause; then 57P03."
    )
    hold_clients_max: int = Field(
        10_000, ge=0, description="Clients that may wait like this; one more gets 57P03 at once."
    )


class MetaSettings(Section):
    """The meta database."""

    primary: DatabaseUrl = Field(description="URL of the primary.")
    replicas: list[DatabaseUrl] = Field(
        default_factory=list, description="URLs of the read replicas."
    )
    patroni: list[PatroniUrl] | None = Field(
        None, description="In place of `health.patroni`, for this database's cluster."
    )
    pool: PoolLimits = Field(default_factory=PoolLimits, description="Overrides of `pool`.")
    reads: ReadOverrides = Field(default_factory=ReadOverrides, description="Overrides of `reads`.")


class HubSettings(Section):
    """The hub, in which operators ask questions over all industries."""

    primary: DatabaseUrl = Field(
        description="URL of the database; `gateway provision` builds it, psql -d hub opens it."
    )


TableName = Annotated[str, Field(min_length=1, max_length=200)]


class AssignedKeys(StrEnum):
    """Whether UPDATE ... SET "userId" = 7 says that the rows are owner 7's already."""

    REFUSE = "refuse"
    TRUST = "trust"


class Routing(Section):
    """How statements are read for whose they are, and where their tables live."""

    key_type: KeyType = Field(
        KeyType.INTEGER,
        description="What owners' ids are: integer, uuid or text. Decides how keys are read.",
    )
    tenant_columns: list[str] = Field(
        default_factory=lambda: ["userId", "User.id"],
        min_length=1,
        description="Columns that hold an owner's id: userId in any table, User.id in one.",
    )
    parents: dict[str, str] = Field(
        default_factory=lambda: {"ConversationMessage.conversationId": "Conversation.id"},
        description="Columns that name a row of a table with an owner, for tables without one of"
        " their own, such as ConversationMessage.conversationId: Conversation.id. Whose that row"
        " is gets looked up in the industries' databases, and is kept; its id must be unique.",
    )
    meta_tables: list[TableName] = Field(
        default_factory=lambda: [
            "User",
            "Session",
            "Account",
            "Agency",
            "UserSubscription",
            "ApiKey",
            "UserFeatureToggle",
            "VerificationToken",
        ],
        description="Tables of the meta database, table or schema.table; all others are the"
        " industries'.",
    )
    shared_tables: list[TableName] = Field(
        default_factory=lambda: ["User"],
        description="Meta tables of which each industry's database keeps the part that joins need.",
    )
    open_meta_tables: list[TableName] = Field(
        default_factory=lambda: ["Agency"],
        description="Meta tables that service logins which act for some owners only may use without"
        " a key. Rows of all others are somebody's, and need one; a login that acts for all owners"
        " needs none. Add Session where such an application finds sessions by their token.",
    )
    views: dict[TableName, list[TableName]] = Field(
        default_factory=dict, description="Views, with the tables that they read."
    )
    harmless_functions: list[str] = Field(
        default_factory=list,
        description="Functions, name or schema.name, that aren't PostgreSQL's own and yet read and"
        " change nothing.",
    )
    stamps: bool = Field(
        True,
        description="Tell a database whose work may write, and by which epoch it was routed, so"
        " that one that knows of a newer place refuses it (docs/decisions/0004-epochs.md).",
    )
    two_phase: bool = Field(
        False,
        description="Let a transaction of a service login go on in several databases, and commit"
        " all of it or nothing, by prepared transactions (docs/decisions/0007-two-phase.md)."
        " Needs max_prepared_transactions above 0 on every server.",
    )
    two_phase_resolve_interval_s: Seconds = Field(
        30.0,
        description="How often to look for transactions that a crash left prepared, and how old"
        " they must be to be ended by what the log says.",
    )
    assigned_keys: AssignedKeys = Field(
        AssignedKeys.REFUSE,
        description='UPDATE "Lead" SET "userId" = 7 WHERE id = 3 does not say whose row 3 is now:'
        " refuse it where nothing else does, or trust that it is owner 7's, for ORMs that write all"
        " columns of a row (Django's save(), Hibernate).",
    )
    key_mismatch: KeyMismatch = Field(
        KeyMismatch.REFUSE,
        description="A statement for one owner whose tenant key names another: refuse (42501), log"
        " or allow.",
    )


class Settings(Section):
    """The whole file."""

    workers: WorkerCount = Field(
        1,
        description="Processes that share the port, all bounds and the console: a number, or auto"
        " (or 0) for one per core.",
    )
    transport: TransportChoice = Field(
        TransportChoice.AUTO,
        description="Who reads and writes connections without TLS: uvloop, the gateway's own socket"
        " loop within it (Linux), or auto: its own where it is compiled, else uvloop.",
    )
    runtime_dir: str | None = Field(
        None,
        description="Folder where several workers and their supervisor meet, and nobody else may"
        " enter; one below $RUNTIME_DIRECTORY, or the folder for temporary files, when empty.",
    )
    listen: Listen = Field(
        default_factory=Listen, description="Where clients connect, and how many may."
    )
    http: Http = Field(default_factory=Http, description="Metrics and health over HTTP.")
    console: Console = Field(default_factory=Console, description="The admin console.")
    log: Log = Field(default_factory=Log, description="What is logged, and how.")
    auth: Auth = Field(default_factory=Auth, description="How clients prove who they are.")
    directory: Directory = Field(
        default_factory=Directory, description="Look-ups in the meta database."
    )
    pool: Pool = Field(
        default_factory=Pool, description="Server connections; industries may override."
    )
    fairness: Fairness = Field(
        default_factory=Fairness, description="How owners share the connections."
    )
    limits: LimitSettings = Field(
        default_factory=LimitSettings, description="What owners, logins and industries may use."
    )
    routing: Routing = Field(
        default_factory=Routing, description="Whose a statement is, and where its tables live."
    )
    reads: Reads = Field(
        default_factory=Reads, description="Which replicas serve reads; industries may override."
    )
    health: Health = Field(default_factory=Health, description="How databases are watched.")
    failover: Failover = Field(
        default_factory=Failover, description="What happens to statements when a primary is lost."
    )
    pause: Pause = Field(
        default_factory=Pause,
        description="What happens to statements while an operator has paused where they go.",
    )
    operator_role: RoleCredentials | None = Field(
        None, description="Database role that operator logins use; the URL's when empty."
    )
    meta: MetaSettings = Field(
        description="The meta database: who the owners are, where they live."
    )
    hub: HubSettings | None = Field(
        None, description="Database over all industries, for operators; none when empty."
    )
    industries: dict[Name, IndustrySettings] = Field(
        min_length=1,
        description="Industries by name; a new one is a new entry here and nothing else.",
    )
