"""SQL that reads landed files as text: scans of single files and the bronze rows of files of one shape."""

from __future__ import annotations

from collections.abc import Sequence

from health_pipeline.contracts.declarations import LandingTable
from health_pipeline.sources.landing_files import LandedFile

RESERVED = "__landed_"
FILE = f"{RESERVED}file"
PATH = f"{RESERVED}path"
ROW = f"{RESERVED}row"

_FLOATS = ("DOUBLE", "FLOAT")
_NESTED = ("STRUCT", "MAP", "UNION", "JSON")


def literal(path: str) -> str:
    """A path as SQL literal in which glob characters stand for themselves."""
    for character in "[*?":
        path = path.replace(character, f"\0{character}]")
    return text_literal(path.replace("\0", "["))


def text_literal(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def quoted(name: str) -> str:
    """A SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def parquet_scan(files: Sequence[LandedFile]) -> str:
    """FROM item over Parquet files of one shape, with file name and row number (from 0)."""
    paths = ", ".join(literal(file.path) for file in files)
    return f"read_parquet([{paths}], filename = '{FILE}', file_row_number = true, hive_partitioning = false)"


def csv_scan(file: LandedFile, header: Sequence[str]) -> str:
    """FROM item over a CSV file, in the order of its rows; nothing is guessed from the content."""
    columns = ", ".join(f"{text_literal(name)}: 'VARCHAR'" for name in header)
    compression = "gzip" if file.kind == "csv.gz" else "none"
    return (
        f"read_csv({literal(file.path)}, auto_detect = false, header = true, delim = ',', quote = '\"', escape = '\"', "
        f"nullstr = '', strict_mode = true, parallel = false, compression = '{compression}', "
        f"hive_partitioning = false, columns = {{{columns}}})"
    )


def bronze_select(table: LandingTable, files: Sequence[LandedFile], columns: Sequence[tuple[str, str]]) -> str:
    """Bronze rows of files that have the same columns and types.

    Args:
        table: contract.
        files: Parquet files, or exactly one CSV file.
        columns: (name, DuckDB type) of the files.
    """
    if files[0].kind == "parquet":
        source = f"SELECT *, {FILE} AS {PATH}, file_row_number + 1 AS {ROW} FROM {parquet_scan(files)}"
    else:
        scan = csv_scan(files[0], [name for name, _ in columns])
        source = f"SELECT *, {text_literal(files[0].path)} AS {PATH}, row_number() OVER () AS {ROW} FROM {scan}"
    types = {name.lower(): (name, kind) for name, kind in columns}
    landed = ", ".join(
        f'{_landed(*types[name])} AS "{name}"' if name in types else f'CAST(NULL AS VARCHAR) AS "{name}"'
        for name in table.column_names
    )
    unknown = [(name, kind) for name, kind in columns if name.lower() not in table.column_names]
    hashed = ", ".join(f"coalesce({quoted(name)}, chr(30))" for name in (*table.column_names, "extra"))
    return f"""
SELECT *, md5(concat_ws(chr(31), {hashed})) AS row_hash
FROM (
  SELECT
    CAST(left(parse_filename({PATH}), 7) || '-01' AS DATE) AS month,
    {landed},
    '{table.name}/' || parse_filename({PATH}) AS source_file,
    {ROW} AS source_row,
    {_extra(unknown)} AS extra
  FROM ({source})
)"""


def empty_select(table: LandingTable) -> str:
    """A bronze SELECT without rows."""
    texts = ", ".join(f'CAST(NULL AS VARCHAR) AS "{name}"' for name in (*table.column_names, "source_file"))
    return (
        f"SELECT CAST(NULL AS DATE) AS month, {texts}, CAST(NULL AS BIGINT) AS source_row, "
        "CAST(NULL AS VARCHAR) AS extra, CAST(NULL AS VARCHAR) AS row_hash WHERE false"
    )


def _landed(name: str, kind: str) -> str:
    """A value as text, the same on every machine.

    A whole number that a data frame turned into a float (because the column has gaps) is written without ``.0``, so
    that identifiers agree between tables; the NaN it writes into the gaps is no value. Instants are written in UTC.
    """
    column = quoted(name)
    if kind in _FLOATS:
        whole = f"{column} = trunc({column}) AND abs({column}) < 9007199254740992"
        text = f"CASE WHEN {whole} THEN CAST(CAST({column} AS BIGINT) AS VARCHAR) ELSE CAST({column} AS VARCHAR) END"
        return f"CASE WHEN NOT isnan({column}) THEN {text} END"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"CAST({column} AT TIME ZONE 'UTC' AS VARCHAR)"
    if kind.startswith(_NESTED) or kind.endswith("]"):
        return f"CAST(to_json({column}) AS VARCHAR)"
    return f"CAST({column} AS VARCHAR)"


def _extra(unknown: Sequence[tuple[str, str]]) -> str:
    if not unknown:
        return "CAST(NULL AS VARCHAR)"
    fields = ", ".join(f"{text_literal(name)}: {_landed(name, kind)}" for name, kind in unknown)
    return f"CAST(to_json({{{fields}}}) AS VARCHAR)"
