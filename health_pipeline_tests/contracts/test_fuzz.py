"""Mutated rows and files over every contract: a clear error or exact balance, never a crash, never a lost row.

The normal lane plays a few hundred mutations, the slow lane more than 10,000; both are derandomised.
"""

import csv
import gzip
import io
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from health_pipeline.contracts import BRONZE, LANDING_TABLES, REJECTED_ROWS, SILVER, rejected_query, silver_query
from health_pipeline.contracts.balance import Balance, balance_sql
from health_pipeline.errors import LandingError
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.sources.landing import bronze_query
from health_pipeline.warehouse.slices import Slice
from health_pipeline_tests.contracts.landing_samples import GOOD, Tables, csv_bytes, land, row

MONTH = MonthRange.of("2023-01")
MARK = "Zq7"
ROWS = 40

NASTY = [
    "", " ", "0", "-0.0", "-1", "1e308", "1e309", "nan", "-inf", "NULL", "None", "N/A", "true", "yes", "2", "1.0",
    "2023-01-15", "2023-02-01", "2023-01-15 24:00:00", "0000-00-00", "9999-12-31", "infinity", "epoch", "15/01/2023",
    "2023-01-15T10:00:00+14:00", "290000-01-01", "LOINC//2160-0//mmol/L", "LOINC//", "//", "//2160-0",
    "LOINC//2160-0//x", "ICD10CM//i50.9//a//b", "E1", "P1", "C1", '"', "'", "a,b", "a\nb", "a\r\nb", "\ufeff",
    "\u202e", "é", "\U0001f9ec", "$pseudonym_inner", "'); DROP TABLE x; --", "=1+1", "1,000.5", "µmol/L", "\u00a0",
    "x" * 5000,
]  # fmt: skip

COUNTED: Counter[str] = Counter()

cells = st.one_of(
    st.sampled_from(NASTY),
    st.text(max_size=12).map(lambda text: f"{MARK}{text}"),
    st.text(alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8),
    st.datetimes().map(str),
    st.floats().map(repr),
    st.none(),
)


def few(count):
    """So many examples, the same each time; a failing one is shown as found, since shrinking files takes minutes."""
    return examples(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate,),
    )


@st.composite
def mutated_rows(draw, name):
    """Rows of which every one but the first differs from the good one in up to three cells; some stand there twice."""
    columns = LANDING_TABLES[name].column_names
    rows = [GOOD[name]]
    for _ in range(draw(st.integers(ROWS // 2, ROWS))):
        if draw(st.booleans()) and len(rows) > 1:
            rows.append(draw(st.sampled_from(rows)))
        changes = draw(st.dictionaries(st.sampled_from(columns), cells, min_size=1, max_size=3))
        rows.append(row(name, **changes))
    return rows


def offered(settings, name):
    try:
        return bronze_query(name, MONTH, settings)
    except LandingError as error:
        return error


def outcome(settings, name, landed=None):
    """Run one table through landing, silver and quarantine, and prove that the counts balance.

    Returns:
        The balance, or the clear error with which the landing zone refused the file.
    """
    tables = Tables(settings)
    query = offered(settings, name)
    if isinstance(query, LandingError):
        assert query.where
        assert query.remedy
        assert "2023-01" in query.what
        assert MARK not in str(query)
        return query
    tables.replace(BRONZE[name], MONTH, query)
    bronze = Slice(BRONZE[name], MONTH)
    tables.replace(SILVER[name], MONTH, silver_query(name, bronze, settings))
    tables.replace(REJECTED_ROWS, MONTH, rejected_query({name: bronze}, settings))
    (balance,) = [Balance(*found) for found in tables.rows(balance_sql(LANDING_TABLES[name], MONTH))] or [
        Balance(MONTH.first)
    ]
    assert balance.is_even, balance
    if landed is not None:
        assert balance.landed == landed
    reasons = tables.rows("SELECT count(*) FROM quarantine.rejected_rows WHERE reason = '' OR reason LIKE '%Zq7%'")
    assert reasons == [(0,)]
    tables.connection.close()
    return balance


def play_rows(name, kind, rows):
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), privacy={"pseudonym_key": "a key that only tests use"})
        land(settings, name, "2023-01", rows, kind)
        balance = outcome(settings, name, landed=len(rows))
        assert isinstance(balance, Balance), f"no row can spoil a whole file: {balance}"
    COUNTED["rows"] += len(rows) - 1


@st.composite
def mutated_file(draw, name):
    """Bytes of a file with up to three faults; text faults first, then faults of the stored bytes."""
    columns = list(LANDING_TABLES[name].column_names)
    rows = [row(name, **{columns[n % len(columns)]: f"{MARK}{n}"}) for n in range(8)]
    header = list(columns)
    fault = draw(st.sampled_from(["none", "drop", "rename", "twice", "upper", "shuffle", "unknown", "no header"]))
    place = draw(st.integers(0, len(columns) - 1))
    if fault == "drop":
        header.pop(place)
    elif fault == "shuffle":
        header = draw(st.permutations(header))
    elif fault == "unknown":
        header.insert(place, "unknown column")
    text = csv_bytes(rows, header)
    first, _, rest = text.partition(b"\n")
    names = first.split(b",")
    if fault == "rename":
        names[place] = draw(st.sampled_from([b"x", b"", b" ", b"month", b"row_hash", b"extra", b'"a""b"', b"a'b"]))
    elif fault == "twice":
        names[place] = names[place - 1]
    elif fault == "upper":
        names[place] = b" " + names[place].upper()
    text = rest if fault == "no header" else b",".join(names) + b"\n" + rest
    for _ in range(draw(st.integers(0, 2))):
        text = draw(broken_bytes(text, noise=(b'"', b",", b"\n", b"\r", b"\r\n", b"\xff", b"\0", b'""', b"'", b";")))
    kind = draw(st.sampled_from(["csv", "csv", "csv.gz", "parquet"]))
    if kind == "csv.gz":
        text = gzip.compress(text, mtime=0)
    elif kind == "parquet":
        text = draw(parquet_bytes(name, rows, header))
    if kind != "csv" and draw(st.booleans()):
        text = draw(broken_bytes(text, noise=(b"\0", b"PAR1", b"\xff\xff\xff\x7f", b"\x1f\x8b")))
    return kind, text


@st.composite
def broken_bytes(draw, content, noise):
    at = draw(st.integers(0, max(len(content) - 1, 0)))
    match draw(st.sampled_from(["cut", "insert", "remove", "flip", "repeat"])):
        case "cut":
            return content[:at]
        case "insert":
            return content[:at] + draw(st.sampled_from(noise)) + content[at:]
        case "remove":
            return content[:at] + content[at + draw(st.integers(1, 20)) :]
        case "repeat":
            return content[:at] + content[at : at + 60] + content[at:]
    return (
        content[:at] + bytes([content[at] ^ (1 << draw(st.integers(0, 7)))]) + content[at + 1 :] if content else content
    )


@st.composite
def parquet_bytes(draw, name, rows, header):
    """A Parquet file whose columns have whatever type a data frame may give them."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        path = land(settings, name, "2023-01", rows, "parquet", header)
        tables = Tables(settings)
        kind = draw(
            st.sampled_from(["VARCHAR", "TIMESTAMPTZ", "DOUBLE", "DATE", "INTEGER", "BLOB", "BOOLEAN", "VARCHAR[]"])
        )
        column = draw(st.sampled_from(header))
        out = path.with_name("typed.parquet")
        value = f'["{column}"]' if kind.endswith("]") else f'TRY_CAST("{column}" AS {kind})'
        tables.rows(f"""COPY (SELECT * REPLACE ({value} AS "{column}") FROM read_parquet('{path}')) TO '{out}'""")
        return out.read_bytes()


def play_file(name, kind, content):
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), privacy={"pseudonym_key": "a key that only tests use"})
        path = Path(settings.landing_uri) / name / f"2023-01.{kind}"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        balance = outcome(settings, name)
    if isinstance(balance, Balance) and kind == "csv":
        records = [fields for fields in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")) if fields]
        assert balance.landed == len(records) - 1
    COUNTED["files read" if isinstance(balance, Balance) else "files refused"] += 1


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("name", LANDING_TABLES)
def test_mutated_rows(name, kind):
    few(2)(given(mutated_rows(name))(lambda rows: play_rows(name, kind, rows)))()


@pytest.mark.parametrize("name", LANDING_TABLES)
def test_mutated_files(name):
    few(12)(given(mutated_file(name))(lambda content: play_file(name, *content)))()


@pytest.mark.slow
@pytest.mark.parametrize("name", LANDING_TABLES)
def test_ten_thousand_mutations(name, capsys):
    """More than 2,500 for each of the four tables."""
    COUNTED.clear()

    def play_kind(kind):
        few(25)(given(mutated_rows(name))(lambda rows: play_rows(name, kind, rows)))()

    for kind in ("csv", "csv.gz", "parquet"):
        play_kind(kind)
    few(750)(given(mutated_file(name))(lambda content: play_file(name, *content)))()
    with capsys.disabled():
        print(f"\nfuzz {name}: {dict(COUNTED)}")  # noqa: T201 - the figure that the slow lane is run for
    assert COUNTED.total() >= 2_500
    assert COUNTED["files read"] > 100
    assert COUNTED["files refused"] > 100


def test_a_lost_row_would_be_noticed(monkeypatch):
    rows = [GOOD["claims"], row("claims", claim_id="C2"), row("claims", charged="-1")]

    whole = silver_query

    def loses_one(*args):
        query = whole(*args)
        return replace(query, sql=f"SELECT * FROM ({query.sql}) LIMIT 1")

    play_rows("claims", "csv", rows)
    monkeypatch.setattr(f"{__name__}.silver_query", loses_one)
    with pytest.raises(AssertionError, match="silver=1"):
        play_rows("claims", "csv", rows)
