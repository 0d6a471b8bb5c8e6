"""Every kind of mistake in a file, with the exact line that tells of it."""

from __future__ import annotations

import pytest

from gateway.settings.problems import PROBLEMS_MAX
from tests.unit.settings.samples import SECRET, SMALLEST, problems, url

SHARD = f"      - primary: {url('law_2')}\n"

MISTAKES = {
    "unknown option": (
        "listen:\n  prot: 1\n",
        ["f:8:3: listen.prot: unknown option (did you mean 'port'?)"],
    ),
    "unknown option, nothing like it": (
        "listen:\n  colour: red\n",
        ["f:8:3: listen.colour: unknown option"],
    ),
    "unknown section": (
        "lisen: {}\n",
        ["f:7:1: lisen: unknown option (did you mean 'listen'?)"],
    ),
    "option of another section": (
        "certificate_file: a.pem\n",
        ["f:7:1: certificate_file: unknown option (did you mean 'listen.tls.certificate_file'?)"],
    ),
    "industry at the top": (
        "Medical:\n  shards: []\n",
        ["f:7:1: Medical: unknown option (did you mean 'industries.MEDICAL'?)"],
    ),
    "enum": (
        "listen: {tls: {mode: requier}}\n",
        [
            "f:7:22: listen.tls.mode: should be one of disable, allow, require"
            " (did you mean 'require'?)"
        ],
    ),
    "literal": (
        "log:\n  level: WARN\n",
        [
            "f:8:10: log.level: should be one of debug, info, warning, error"
            " (did you mean 'warning'?)"
        ],
    ),
    "whole number": (
        "pool: {max: many, min: 1.5}\n",
        [
            "f:7:13: pool.max: should be a whole number",
            "f:7:24: pool.min: should be a whole number",
        ],
    ),
    "true is no number": (
        "listen: {port: true}\n",
        ["f:7:16: listen.port: should be a whole number"],
    ),
    "number": (
        "listen:\n  login_timeout_s: soon\n",
        ["f:8:20: listen.login_timeout_s: should be a number"],
    ),
    "true or false": (
        "auth:\n  api_keys: maybe\n",
        ["f:8:13: auth.api_keys: should be true or false"],
    ),
    "text": ("listen: {host: [a]}\n", ["f:7:16: listen.host: should be text"]),
    "too large": ("listen: {port: 70000}\n", ["f:7:16: listen.port: should be at most 65535"]),
    "too small": ("pool: {max: 0}\n", ["f:7:13: pool.max: should be at least 1"]),
    "not above zero": (
        "directory: {ttl_s: 0}\n",
        ["f:7:20: directory.ttl_s: should be more than 0"],
    ),
    "far too large": (
        "directory: {ttl_s: 1e300}\n",
        ["f:7:20: directory.ttl_s: should be at most 31536000"],
    ),
    "a block is wanted": ("pool: 5\n", ["f:7:7: pool: should be a block of options"]),
    "a list instead of a block": ("pool: [5]\n", ["f:7:7: pool: should be a block of options"]),
    "required": (
        "operator_role:\n  password: x\n",
        ["f:7:1: operator_role.user: is required"],
    ),
    "empty text": (
        "operator_role: {user: ''}\n",
        ["f:7:23: operator_role.user: should not be empty"],
    ),
    "name with bad letters": (
        "console: {database: my console}\n",
        [
            "f:7:21: console.database: should be made of letters, digits, '_' and '-',"
            " and start with a letter"
        ],
    ),
    "name too long": (
        f"console: {{database: {'x' * 64}}}\n",
        ["f:7:21: console.database: should have at most 63 letters"],
    ),
    "written twice": (
        "log: {level: info, level: debug}\n",
        ["f:7:20: log.level: is written twice"],
    ),
    "section written twice": ("log: {}\nlog: {}\n", ["f:8:1: log: is written twice"]),
    "unset variable": (
        "listen:\n  host: ${NOT_THERE}\n",
        ["f:8:9: listen.host: environment variable NOT_THERE is not set"],
    ),
    "malformed reference": (
        "listen: {host: '${not there}'}\n",
        ["f:7:16: listen.host: write ${NAME} or ${NAME:-default}, and $${ for a plain ${"],
    ),
    "tag": (
        "listen: {port: !!int 5}\n",
        ["f:7:16: listen.port: YAML tags (!...) are not used here"],
    ),
    "key that is no text": (
        "? [a]\n: 1\n",
        ["f:7:3: the name of an option should be plain text"],
    ),
    "merge of something else": (
        "listen:\n  <<: 5\n",
        ["f:8:7: listen: '<<' should be followed by an alias of a block"],
    ),
    "lone surrogate": ('listen: {host: "\\ud800"}\n', ["f:7:16: listen.host: is not valid text"]),
    "no such shard list": (
        "  MEDICAL: {shards: 5}\n",
        ["f:7:21: industries.MEDICAL.shards: should be a list"],
    ),
    "no shards": (
        "  MEDICAL:\n    shards:\n",
        ["f:8:12: industries.MEDICAL.shards: should have at least one entry"],
    ),
    "industry left empty": ("  MEDICAL:\n", ["f:7:3: industries.MEDICAL.shards: is required"]),
    "industry with a bad name": (
        f"  9LIVES: {{shards: [primary: '{url('nine')}']}}\n",
        [
            "f:7:3: industries.?: should be made of letters, digits, '_' and '-',"
            " and start with a letter"
        ],
    ),
    "shard without a primary": (
        "      - name: other\n",
        ["f:7:9: industries.LAW.shards[1].primary: is required"],
    ),
    "not a URL": (
        f"      - primary: app:{SECRET}@db/law_2\n",
        [
            "f:7:18: industries.LAW.shards[1].primary: a database URL should start with"
            " postgresql:// or postgres://"
        ],
    ),
    "URL with an unknown parameter": (
        SHARD.rstrip() + "?sslmod=require\n",
        [
            "f:7:18: industries.LAW.shards[1].primary: parameter 1 after the '?' is not known"
            " (did you mean 'sslmode'?)"
        ],
    ),
    "replica's URL": (
        SHARD + f"        replicas: ['{url('ok')}', 'nonsense']\n",
        [
            f"f:8:{24 + len(url('ok'))}: industries.LAW.shards[1].replicas[1]: a database URL"
            " should start with postgresql:// or postgres://"
        ],
    ),
    # What no single option can tell.
    "TLS required without a certificate": (
        "listen:\n  tls:\n    mode: require\n",
        ["f:9:11: listen.tls.mode: require needs a certificate_file"],
    ),
    "key without a certificate": (
        "listen:\n  tls:\n    key_file: key.pem\n",
        ["f:9:15: listen.tls.key_file: needs a certificate_file"],
    ),
    "same port twice": (
        "http: {port: 6432}\n",
        ["f:7:14: http.port: is the same as listen.port"],
    ),
    "min above max": (
        "pool: {min: 21}\n",
        ["f:7:13: pool.min: is more than pool.max, 20"],
    ),
    "backoff upside down": (
        "pool: {connect_backoff_min_ms: 2000, connect_backoff_max_ms: 1000}\n",
        ["f:7:32: pool.connect_backoff_min_ms: is more than connect_backoff_max_ms, 1000"],
    ),
    "min above the inherited max": (
        "    pool: {min: 21}\n",
        ["f:7:17: industries.LAW.pool.min: is more than max, 20"],
    ),
    "max below the inherited min": (
        "    pool: {max: 5}\npool: {min: 6}\n",
        ["f:7:17: industries.LAW.pool.max: is less than min, 6"],
    ),
    "shard with the console's name": (
        SHARD + "        name: gateway\n",
        [
            "f:8:15: industries.LAW.shards[1].name: the name 'gateway' belongs to the console"
            " already; give this shard another 'name'"
        ],
    ),
    "shard with the meta database's name": (
        SHARD + "        name: meta\n",
        [
            "f:8:15: industries.LAW.shards[1].name: the name 'meta' belongs to the meta database"
            " already; give this shard another 'name'"
        ],
    ),
    "console with the meta database's name": (
        "console: {database: meta}\n",
        ["f:7:21: console.database: 'meta' is the meta database's name"],
    ),
    "shards of two industries with one name": (
        f"  Law: {{shards: [primary: '{url('x')}']}}\n",
        [
            "f:7:18: industries.Law.shards[0]: the name 'law' belongs to industries.LAW.shards[0]"
            " already; give this shard another 'name'"
        ],
    ),
    "slots of one shard only": (
        "        slots: 0-511\n" + SHARD,
        ["f:8:9: industries.LAW.shards[1]: names no slots, though other shards of the industry do"],
    ),
    "slots that overlap": (
        "        slots: 0-511\n" + SHARD + "        slots: 511-1023\n",
        [
            "f:9:16: industries.LAW.shards[1].slots: 511-1023 overlaps:"
            " shards[0] has slot 511 already"
        ],
    ),
    "slots that overlap themselves": (
        "        slots: 0-1023,5-6\n",
        ["f:7:16: industries.LAW.shards[0].slots: 5-6 overlaps: this shard has slot 5 already"],
    ),
    "slots left out": (
        "        slots: 0-511\n" + SHARD + "        slots: 513-1023\n",
        ["f:5:5: industries.LAW.shards: no shard has slot 512"],
    ),
    "slots past the end": (
        "        slots: 0-1024\n",
        ["f:7:16: industries.LAW.shards[0].slots: 0-1024 goes past the last slot, 1023"],
    ),
    "slots backwards": (
        "        slots: 1023-0\n",
        ["f:7:16: industries.LAW.shards[0].slots: 1023-0 is backwards"],
    ),
    "slots of another form": (
        "        slots: all\n",
        ["f:7:16: industries.LAW.shards[0].slots: should be ranges such as 0-511 or 0-99,200-299"],
    ),
    "one database, two passwords": (
        "  MEDICAL: {shards: [primary: 'postgresql://app:other@db/law']}\n",
        [
            "f:7:31: industries.MEDICAL.shards[0].primary: names the same database as"
            " industries.LAW.shards[0].primary but with another user, password or parameter;"
            " they should be the same"
        ],
    ),
}


@pytest.mark.parametrize(("added", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_one_mistake_is_one_line_with_its_place(added: str, expected: list[str]) -> None:
    assert problems(SMALLEST + added) == expected


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    text = f"""\
listen: {{port: x, prot: 1}}
pool: {{min: 30}}
log: {{level: "${{NOWHERE}}"}}
log: {{}}
industries:
  LAW:
    shards:
      - primary: http://app:{SECRET}@db/law
  MEDICAL:
    shards:
      - primary: {url("medical")}
        slots: 0-5
console: {{database: meta}}
"""
    assert problems(text) == [
        "f:1:1: meta: is required",
        "f:1:16: listen.port: should be a whole number",
        "f:1:19: listen.prot: unknown option (did you mean 'port'?)",
        "f:2:13: pool.min: is more than pool.max, 20",
        "f:3:14: log.level: environment variable NOWHERE is not set",
        "f:4:1: log: is written twice",
        "f:8:18: industries.LAW.shards[0].primary: a database URL should start with"
        " postgresql:// or postgres://",
        "f:10:5: industries.MEDICAL.shards: no shard has slot 6, nor 1017 others",
        "f:13:21: console.database: 'meta' is the meta database's name",
    ]


def test_a_mistake_behind_an_alias_is_told_for_every_use_at_the_anchor() -> None:
    text = f"""\
meta: {{primary: '{url("meta")}', pool: &limits {{max: 0}}}}
industries:
  LAW: {{shards: [primary: '{url("law")}'], pool: *limits}}
"""
    column = text.index("0}}") + 1
    assert problems(text) == [
        f"f:1:{column}: meta.pool.max: should be at least 1",
        f"f:1:{column}: industries.LAW.pool.max: should be at least 1",
    ]


def test_a_variable_of_bytes_that_are_no_text() -> None:
    assert problems(f"{SMALLEST}listen:\n  host: ${{HOST}}\n", HOST="\udcff") == [
        "f:8:9: listen.host: is not valid text"
    ]


def test_an_endless_list_of_mistakes_is_cut() -> None:
    lines = problems("".join(f"nonsense_{number}: 1\n" for number in range(5000)))
    assert len(lines) == PROBLEMS_MAX + 1
    assert lines[-1] == "... and more"


UNREADABLE = {
    "empty": ("", "f:1:1: the file is empty"),
    "comments only": ("# nothing\n", "f:1:1: the file is empty"),
    "null": ("null\n", "f:1:1: the file is empty"),
    "list": (
        "\n- a\n",
        "f:2:1: the file should be a block of options, such as 'listen:'",
    ),
    "words": (
        "hello\n",
        "f:1:1: the file should be a block of options, such as 'listen:'",
    ),
    "tab": ("listen:\n\tport: 1\n", "f:2:1: a tab can't be used here; indent with spaces"),
    "two documents": ("a: 1\n---\nb: 2\n", "f:2:1: a file should hold one YAML document"),
    "control character": ("a: 1\nb: \7", "f:2:4: a control character can't be used here"),
    "escape past Unicode": ('a: "\\UFFFFFFFF"', "f:1:1: is not valid YAML"),
    "endless number": (f"%YAML {'9' * 5000}.1\n---\na: 1", "f:1:1: is not valid YAML"),
    "nested too deeply": ("[" * 100_000, "f:1:33: blocks are nested too deeply"),
    "alias of itself": ("a: &a [*a]", "f:1:4: blocks are nested too deeply"),
    "merge of itself": ("a: &a {<<: *a}", "f:1:4: blocks are nested too deeply"),
    "alias bomb": (
        "a0: &a0 [x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
        "f:1:10: the file holds too many values",
    ),
    "merge bomb": (
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)),
        "f:1:5: the file holds too many values",
    ),
    "long list": (f"a: [{'1,' * 60_000}]", "f:1:99999: the file holds too many values"),
}


@pytest.mark.parametrize(("text", "expected"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_stops_the_reading_is_the_only_problem(text: str, expected: str) -> None:
    assert problems(text) == [expected]


SLIPS = {
    "alias": ("password: *{secret}", "no such anchor above"),
    "tag": ("password: !{secret} x", "YAML tags (!...) are not used here"),
    "directive": ("password: %{secret}", "is not valid YAML"),
    "no end quote": ("password: '{secret}", "is not valid YAML"),
    "unknown escape": ('password: "\\q{secret}"', "is not valid YAML"),
    "colon": ("password: a: {secret}", "is not valid YAML"),
    "flow": ("password: [{secret}", "is not valid YAML"),
    "braces": ("password: {{{secret}, {secret}}}", "is written twice"),
    "reference": ("password: ${{-{secret}", "$${ for a plain ${"),
    "list": ("password: [{secret}]", "should be text"),
    "block": ("password:\n    {secret}: 1", "should be text"),
    "beside": ("password: x\n  'u:{secret}@db': 1", "operator_role.?: unknown option"),
    "choice": ("password: x\nlog: {{level: {secret}}}", "should be one of debug, info"),
    "number": ("password: x\nlisten: {{port: {secret}}}", "should be a whole number"),
    "name": ("password: x\nconsole: {{database: '-{secret}'}}", "should be made of letters"),
}


@pytest.mark.parametrize(("slip", "expected"), SLIPS.values(), ids=SLIPS.keys())
def test_trap_a_password_in_the_wrong_place_is_not_quoted(slip: str, expected: str) -> None:
    text = f"{SMALLEST}operator_role:\n  user: app\n  {slip.format(secret=SECRET)}\n"
    told = "\n".join(problems(text))
    assert expected in told
    assert SECRET not in told
