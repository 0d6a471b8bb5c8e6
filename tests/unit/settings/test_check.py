"""The summary that `gateway check-config` prints."""

from __future__ import annotations

from gateway.settings.check import describe
from tests.unit.settings.samples import SECRET, load, url


def test_one_line_per_listener_and_shard_and_no_secret() -> None:
    text = f"""\
http: {{port: null}}
meta:
  primary: {url("meta")}
  replicas: ["{url("meta", "r")}"]
  pool: {{max: 4}}
industries:
  LAW:
    shards:
      - {{primary: "{url("law_a")}", slots: 0-99}}
      - {{primary: "{url("law_b")}", slots: 100-1023, name: second}}
  MEDICAL:
    shards: [primary: "{url("medical")}"]
    pool: {{mode: session}}
"""
    assert describe(load(text)) == [
        "listen           127.0.0.1:6432   TLS allow",
        "http             off",
        "meta             db:5432/meta     transaction pool of 0 to 4, replicas r:5432/meta",
        "LAW law_1        db:5432/law_a    transaction pool of 0 to 20, slots 0-99",
        "LAW second       db:5432/law_b    transaction pool of 0 to 20, slots 100-1023",
        "MEDICAL medical  db:5432/medical  session pool of 0 to 20",
        "2 industries, 3 shards",
    ]
    assert SECRET not in "\n".join(describe(load(text)))
