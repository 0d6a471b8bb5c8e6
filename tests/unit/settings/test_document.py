"""The generated files are current; config/gateway.yaml has every option with its true default."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.settings import document
from gateway.settings.load import load_file, load_text
from gateway.settings.model import INDUSTRIES, Section, Settings
from gateway.settings.options import sections
from tests.unit.settings.samples import environment, problems

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "config" / "gateway.yaml"


def test_generated_files_are_current() -> None:
    assert document.stale(ROOT) == []
    assert document.main(["--check"]) == 0


def test_check_tells_what_is_stale(tmp_path: Path) -> None:
    assert document.stale(tmp_path) == ["config/schema.json", "docs/configuration.md"]
    document.write(tmp_path)
    assert document.stale(tmp_path) == []
    (tmp_path / "docs" / "configuration.md").write_text("old")
    assert document.stale(tmp_path) == ["docs/configuration.md"]


def test_the_page_has_every_option_with_a_meaning() -> None:
    page = document.page()
    for place, section in sections():
        table = page.partition(f"### `{place}`" if place else "### The whole file")[2]
        table = table.partition("\n### ")[0]
        for name, field in section.model_fields.items():
            assert field.description, f"{place}.{name}"
            row = next(line for line in table.splitlines() if line.startswith(f"| `{name}` |"))
            assert len(re.split(r"(?<!\\)\|", row)) == 7


def test_units_and_defaults_of_the_page() -> None:
    page = document.page()
    assert "| `port` | whole number, 0 to 65535 |  | `6432` |" in page
    assert "| `ttl_s` | number, more than 0, at most 31536000 | seconds | `300` |" in page
    assert '| `password` | text, secret |  | `""` |' in page
    assert "| `primary` | text, secret |  | required |" in page


def test_the_schema_allows_references_and_nothing_unknown() -> None:
    schema = document.schema()
    reference = {"type": "string", "pattern": r"\$\{"}
    assert reference in schema["$defs"]["Listen"]["properties"]["port"]["anyOf"]
    assert reference in schema["$defs"]["TlsMode"]["anyOf"]
    sections_of_schema = {**schema["$defs"], "Settings": schema}
    for _, section in sections():
        assert sections_of_schema[section.__name__]["additionalProperties"] is False
    assert '"title": "Port"' not in json.dumps(schema)


def _uncommented() -> str:
    """The sample with what it leaves out: '#option:', and '#  option:' below it."""
    return re.sub("^#(?=(  )?[a-z_]+:)", "", SAMPLE.read_text(), flags=re.MULTILINE)


def test_the_sample_loads_with_the_variables_of_the_environment() -> None:
    settings = load_file(SAMPLE, environment())
    assert tuple(settings.industries) == INDUSTRIES
    assert load_text(_uncommented(), "sample", environment()).operator_role is not None


def test_the_sample_names_the_variables_it_needs() -> None:
    told = problems(SAMPLE.read_text())
    assert len(told) == 15
    assert all("environment variable DATABASE_URL_" in line for line in told)


def test_every_default_in_the_sample_is_the_models() -> None:
    settings = load_file(SAMPLE, environment())
    plain = Settings(meta=settings.meta, industries=settings.industries)
    assert settings == plain
    assert settings.meta.pool == type(settings.meta.pool)()
    first = settings.industries[INDUSTRIES[0]]
    assert first.pool == settings.meta.pool
    assert first.shards[0] == type(first.shards[0])(primary=first.shards[0].primary)
    uncommented = load_text(_uncommented(), "sample", environment())
    assert uncommented.operator_role is not None
    assert uncommented.operator_role.password == SecretStr("")


@pytest.mark.parametrize("place", [place for place, _ in sections()])
def test_the_sample_writes_every_option(place: str) -> None:
    settings = load_text(_uncommented(), "sample", environment())
    section: object = settings
    for part in place.split(".") if place else []:
        if part == "<NAME>":
            section = settings.industries[INDUSTRIES[0]]
        elif part.endswith("[]"):
            section = getattr(section, part.removesuffix("[]"))[0]
        else:
            section = getattr(section, part)
    assert isinstance(section, Section)
    assert section.model_fields_set == type(section).model_fields.keys()


def test_every_option_of_the_sample_says_its_unit() -> None:
    unit = {"_ms": "milliseconds", "_s": "seconds"}
    for line in SAMPLE.read_text().splitlines():
        option = re.match(r" *([a-z_]+): *(.*)", line)
        for ending, word in unit.items():
            if option and option[1].endswith(ending):
                assert word in option[2], line
