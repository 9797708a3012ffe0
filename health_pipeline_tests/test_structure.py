"""The domain does not know the orchestrator, and heavy libraries are imported late."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "health_pipeline"
MAY_IMPORT_DAGSTER = {"defs", "cli", "definitions.py", "warehouse/io_manager.py", "warehouse/materializations.py"}
HEAVY = {"mlflow", "xgboost", "sklearn", "pandas", "evidently", "plotly", "optuna", "onnxruntime", "scipy"}


def imported_roots(source: str, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(source)
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    roots: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            roots.add(node.module.split(".")[0])
    return roots


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def may_import_dagster(path: Path) -> bool:
    relative = path.relative_to(PACKAGE).as_posix()
    return relative in MAY_IMPORT_DAGSTER or relative.split("/")[0] in MAY_IMPORT_DAGSTER


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_domain_does_not_import_dagster(path):
    offenders = {root for root in imported_roots(path.read_text()) if root.startswith("dagster")}
    assert may_import_dagster(path) or not offenders


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_heavy_libraries_are_imported_where_they_are_used(path):
    assert not imported_roots(path.read_text(), top_level_only=True) & HEAVY


def test_the_guard_sees_an_import_when_there_is_one():
    assert imported_roots("def f():\n    import dagster as dg\n") == {"dagster"}
    assert imported_roots("from dagster_duckdb import x\nimport a.b\n") == {"dagster_duckdb", "a"}


def test_loading_the_definitions_imports_nothing_heavy():
    # Arrow and NumPy may stand at the top of a room's module; only the definitions have to come without them.
    unwanted = HEAVY | {"numpy", "pyarrow"}
    code = f"import sys, health_pipeline.defs.build; print(sorted(set(sys.modules) & {unwanted!r}))"
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_instance_of_a_home_is_the_one_at_the_top():
    top, packaged = PACKAGE.parent / "dagster.yaml", PACKAGE / "defs" / "dagster.yaml"
    assert top.read_text() == packaged.read_text()
