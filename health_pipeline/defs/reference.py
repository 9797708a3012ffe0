"""``docs/reference/assets.md``: assets, checks, sensors, schedules and jobs as the definitions have them.

Belongs here: reading the graph. Does not belong here: Markdown, which is in ``reference``.
"""

from collections.abc import Iterator, Mapping

import dagster as dg

from health_pipeline.defs.build import build_definitions, tables
from health_pipeline.reference import GENERATED, table
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Table

_INTRO = """\
The graph as it is with default settings. An asset's key is its DuckDB schema and table: `gold/features` is stored in
`gold.features`. Every table has the DATE column `month`, the first day of its month. A check gives one verdict for
each month; *blocks* means that a failure of severity ERROR keeps the assets behind it from running.
What a failed check means and what to do is in the [runbooks](../operations/incidents.md)."""


def graph_page() -> str:
    """The page as Markdown; built from the default settings, whatever the environment says."""
    settings = Settings.model_construct()
    definitions = build_definitions(settings)
    stored = {each.qualified.replace(".", "/"): each for each in tables(settings)}
    lines = ["# Assets, checks, sensors, schedules, jobs", "", GENERATED, "", _INTRO, ""]
    lines += ["## Assets", "", *_assets(definitions, stored)]
    lines += ["## Sensors", "", *_sensors(definitions)]
    lines += ["## Schedules", "", *_schedules(definitions)]
    lines += ["## Jobs", "", *_jobs(definitions)]
    return "\n".join(lines)


def _assets(definitions: dg.Definitions, stored: Mapping[str, Table]) -> Iterator[str]:
    graph = definitions.resolve_asset_graph()
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        if not node.is_materializable:
            continue
        name = key.to_user_string()
        yield from (f"### {name}", "")
        if node.description:
            yield from (" ".join(node.description.split()), "")
        parents = [f"`{each.to_user_string()}`" for each in sorted(node.parent_keys)]
        yield f"- group: `{node.group_name}`"
        yield f"- partitions: {_partitions(node.partitions_def)}"
        yield f"- reads: {', '.join(parents) or 'landing files'}"
        if name in stored:
            yield f"- key: {', '.join(f'`{each}`' for each in stored[name].key)}"
        yield ""
        if name in stored:
            yield from table(
                ("column", "type", "unit", "meaning"),
                [(f"`{each.name}`", each.type, each.unit or "", each.description) for each in stored[name].columns],
            )
        checks = sorted(graph.get_check_keys_for_assets({key}), key=lambda each: each.name)
        if checks:
            yield from table(
                ("check", "blocks", "guards"),
                [
                    (f"`{each.name}`", "yes" if node_spec.blocking else "", node_spec.description or "")
                    for each in checks
                    for node_spec in [graph.get_check_spec(each)]
                ],
            )


def _partitions(partitions: dg.PartitionsDefinition[str] | None) -> str:
    if not isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        return "none"
    first = partitions.get_first_partition_key() or ""
    return f"months, first {first[:7]}"


def _sensors(definitions: dg.Definitions) -> list[str]:
    found = sorted(definitions.get_repository_def().sensor_defs, key=lambda each: each.name)
    return table(
        ("sensor", "looks every", "does"),
        [(f"`{each.name}`", f"{each.minimum_interval_seconds} s", each.description or "") for each in found],
    )


def _schedules(definitions: dg.Definitions) -> list[str]:
    found = sorted(definitions.get_repository_def().schedule_defs, key=lambda each: each.name)
    return table(
        ("schedule", "cron", "does"),
        [(f"`{each.name}`", f"`{each.cron_schedule}`", each.description or "") for each in found],
    )


def _jobs(definitions: dg.Definitions) -> list[str]:
    jobs = [each for each in definitions.get_repository_def().get_all_jobs() if not each.name.startswith("__")]
    return table(
        ("job", "does"), [(f"`{each.name}`", each.description or "") for each in sorted(jobs, key=lambda job: job.name)]
    )
