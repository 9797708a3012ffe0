"""Exports as people have them: every layout of every adapter's golden example lands the same rows."""

from __future__ import annotations

import csv
import gzip
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas
import pytest

from health_pipeline.settings import Settings, load_settings
from health_pipeline.sources.adapters import ADAPTERS
from health_pipeline.sources.ingest import ingest

Layout = Callable[[Path], object]


def each(change: Callable[[Path], object]) -> Layout:
    """A change of every file of a folder."""

    def apply(folder: Path) -> None:
        for path in list(folder.iterdir()):
            change(path)

    return apply


def rewritten(path: Path, **dialect: object) -> None:
    with path.open(newline="") as stream:
        lines = list(csv.reader(stream))
    with path.open("w", newline="") as stream:
        csv.writer(stream, **dialect).writerows(lines)  # type: ignore[arg-type]


def header(path: Path, change: Callable[[str], str]) -> None:
    first, _, rest = path.read_text().partition("\n")
    path.write_text(f"{change(first)}\n{rest}")


def missing(path: Path, word: str) -> None:
    with path.open(newline="") as stream:
        lines = [[cell or word for cell in line] for line in csv.reader(stream)]
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(lines)


def zipped(folder: Path) -> None:
    with zipfile.ZipFile(folder / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.glob("*.csv"):
            archive.write(path, f"Export 2024/data/{path.name.swapcase()}")
            path.unlink()


def parquet(path: Path) -> None:
    duckdb.sql(f"COPY (FROM read_csv('{path}', all_varchar = true)) TO '{path.with_suffix('.parquet')}'")
    path.unlink()


def data_frame(path: Path) -> None:
    """As pandas writes it: numbers in their own types, whole ones with gaps as floats."""
    pandas.read_csv(path).to_parquet(path.with_suffix(".parquet"))
    path.unlink()


def parts(path: Path) -> None:
    """As Spark writes it: a folder of the table's name."""
    folder = path.with_suffix("")
    folder.mkdir()
    duckdb.sql(f"COPY (FROM read_csv('{path}', all_varchar = true)) TO '{folder}/part-00000-c1.snappy.parquet'")
    (folder / "_SUCCESS").touch()
    path.unlink()


def nested(folder: Path) -> None:
    inner = folder / "run 7" / "csv"
    inner.mkdir(parents=True)
    for path in folder.glob("*.csv"):
        path.rename(inner / path.name)
    (folder / "README.md").write_text("exported on a Monday")
    (folder / ".DS_Store").write_bytes(b"\0")


LAYOUTS: dict[str, Layout] = {
    "byte order mark": each(lambda path: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())),
    "CRLF": each(lambda path: path.write_bytes(b"\r\n".join(path.read_bytes().splitlines()) + b"\r\n")),
    "header in upper case": each(lambda path: header(path, str.upper)),
    "header in lower case": each(lambda path: header(path, str.lower)),
    "spaces in the header": each(lambda path: header(path, lambda line: line.replace(",", ", "))),
    "names in upper case": each(lambda path: path.rename(path.with_name(path.name.upper()))),
    "names in lower case": each(lambda path: path.rename(path.with_name(path.name.lower()))),
    "gzip": each(
        lambda path: (path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes())), path.unlink())
    ),
    "everything quoted": each(lambda path: rewritten(path, quoting=csv.QUOTE_ALL)),
    "semicolons": each(lambda path: rewritten(path, delimiter=";")),
    "tabs": each(lambda path: rewritten(path, delimiter="\t")),
    "NULL for nothing": each(lambda path: missing(path, "NULL")),
    "backslash N for nothing": each(lambda path: missing(path, "\\N")),
    "no line break at the end": each(lambda path: path.write_text(path.read_text().rstrip("\n"))),
    "folders in a zip": zipped,
    "folders in a folder": nested,
    "Parquet of text": each(parquet),
    "Parquet of a data frame": each(data_frame),
    "Parquet in parts": each(parts),
}


def landed(settings: Settings) -> dict[str, list[tuple[str, ...]]]:
    found = {}
    for folder in sorted(path for path in Path(settings.landing_uri).iterdir() if path.is_dir()):
        rows = duckdb.sql(f"SELECT * FROM read_parquet('{folder}/*.parquet', union_by_name = true) ORDER BY ALL")
        found[folder.name] = [tuple(map(str, row)) for row in rows.fetchall()]
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[tuple[str, ...]]]]:
    """Landed rows of each golden example as it lies there."""
    found = {}
    for name, adapter in ADAPTERS.items():
        settings = load_settings(home=tmp_path_factory.mktemp(name))
        ingest(name, adapter.folder / "golden" / "input", settings)
        found[name] = landed(settings)
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_layout_does_not_matter(
    adapter: str, layout: str, plain: dict[str, dict[str, list[tuple[str, ...]]]], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(ADAPTERS[adapter].folder / "golden" / "input", tmp_path / "export"))
    LAYOUTS[layout](folder)
    settings = load_settings(home=tmp_path / "home")
    ingest(adapter, folder / "export.zip" if layout == "folders in a zip" else folder, settings)
    assert landed(settings) == plain[adapter]


@pytest.mark.parametrize("adapter", ["synthea", "omop"])
def test_every_table_that_may_be_missing_may_be_missing(adapter: str, tmp_path: Path) -> None:
    """One at a time, and all at once; the stays stay."""
    golden = ADAPTERS[adapter].folder / "golden" / "input"
    optional = {name for name, wanted in ADAPTERS[adapter].inputs.items() if wanted.missing_ok}
    files = {name: {file.lower() for file in ADAPTERS[adapter].inputs[name].files} for name in optional}
    present = {name for name in optional if any(path.name.lower() in files[name] for path in golden.iterdir())}
    whole = ingest(adapter, golden, load_settings(home=tmp_path / "whole"))
    for number, gone in enumerate([*({name} for name in sorted(present)), present]):
        folder = Path(shutil.copytree(golden, tmp_path / f"export-{number}"))
        for path in list(folder.iterdir()):
            if any(path.name.lower() in files[name] for name in gone):
                path.unlink()
        report = ingest(adapter, folder, load_settings(home=tmp_path / f"home-{number}"))
        assert report.rows["admissions"] == whole.rows["admissions"], gone
        assert gone <= set(report.missing_inputs)
    assert len(present) > 3
