"""``docs/reference/settings.md``: every setting with its variable, default, accepted values and meaning."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from health_pipeline.reference.markdown import GENERATED, table
from health_pipeline.settings import PREFIX, Settings

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_TEXTS = {"date": "month, `YYYY-MM`", "path": "path", "password": "text, secret"}
_INTRO = """\
Every setting is read once, when a process starts: first from the environment, then from a TOML file
(`HEALTH_PIPELINE_CONFIG`, else `settings.toml` in the home), else the default holds. Sections are joined by two
underscores. Lists and tables are JSON in the environment:

```bash
export HEALTH_PIPELINE_HOME=/srv/readmissions
export HEALTH_PIPELINE_WINDOWS__HOLDOUT_MONTHS=4
export HEALTH_PIPELINE_TRAINING__FAMILIES='["logistic_regression", "xgboost", "random_forest"]'
```

```toml
# settings.toml
start_month = "2023-01"

[windows]
holdout_months = 4
```

A wrong value or an unknown name in the file ends the command with the name of the setting and exit code 2.
`health-pipeline doctor` reads the settings without doing anything else. Keys, passwords and tokens belong into the
environment of the process, not into a file that is shared."""


@dataclass(frozen=True)
class SettingRow:
    """One setting as the page shows it."""

    section: str
    variable: str
    default: str
    accepts: str
    meaning: str


def setting_rows() -> list[SettingRow]:
    """Every setting, section by section; those without a section come first."""
    schema = Settings.model_json_schema()
    return [*_rows_of(Settings, schema, schema["$defs"], ""), *_sections(schema)]


def _sections(schema: Mapping[str, Any]) -> Iterator[SettingRow]:
    for name, model in _section_models():
        yield from _rows_of(model, schema["$defs"][model.__name__], schema["$defs"], name)


def _section_models() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation


def _rows_of(
    model: type[BaseModel], schema: Mapping[str, Any], definitions: Mapping[str, Any], section: str
) -> Iterator[SettingRow]:
    nested = {name for name, _ in _section_models()} if model is Settings else set()
    for name, field in model.model_fields.items():
        if name in nested:
            continue
        path = [section, name] if section else [name]
        yield SettingRow(
            section=section,
            variable=PREFIX + "__".join(path).upper(),
            default=_default(field.default),
            accepts=_accepts(schema["properties"][name], definitions),
            meaning=field.description or "",
        )


def _default(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, dt.date):
        return f"`{value:%Y-%m}`"
    if isinstance(value, str) and not value:
        return "empty"
    if isinstance(value, bool | tuple | dict):
        return f"`{json.dumps(value)}`"
    return f"`{value}`"


def _accepts(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Words for a JSON schema, such as ``integer ≥ 1``."""
    if "$ref" in schema:
        return _accepts(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in schema:
        kinds = [_accepts(each, definitions) for each in schema["anyOf"] if each.get("type") != "null"]
        empty = any(each.get("type") == "null" for each in schema["anyOf"])
        return " or ".join(dict.fromkeys(kinds)) + (", or empty" if empty else "")
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    bounds = ", ".join(f"{sign} {schema[name]:g}" for name, sign in _BOUNDS.items() if name in schema)
    words = {
        "boolean": "`true`, `false`",
        "array": f"JSON list of: {_accepts(schema['items'], definitions)}" if "items" in schema else "",
        "object": "JSON object",
        "string": _TEXTS.get(schema.get("format", ""), "text"),
    }
    return words.get(schema["type"], f"{schema['type']} {bounds}".strip())


def settings_page() -> str:
    """The page as Markdown."""
    lines = ["# Settings", "", GENERATED, "", _INTRO, ""]
    rows = setting_rows()
    about = {name: (model.__doc__ or "").strip().splitlines()[0] for name, model in _section_models()}
    for section in ["", *about]:
        lines += [f"## {section or 'general'}", ""]
        if section:
            lines += [about[section], ""]
        shown = [row for row in rows if row.section == section]
        lines += table(
            ("variable", "default", "accepts", "meaning"),
            [(f"`{row.variable}`", row.default, row.accepts, row.meaning) for row in shown],
        )
    return "\n".join(lines)
