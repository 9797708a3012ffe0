"""Landing zone on S3: tried against a real server named by AWS_ENDPOINT_URL; what needs none runs always."""

import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import uuid4

import duckdb
import httpx
import pytest

from health_pipeline.contracts import BRONZE, LANDING_TABLES, SILVER, silver_query
from health_pipeline.errors import LandingError
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.sources import object_storage
from health_pipeline.sources.arrivals import arrivals
from health_pipeline.sources.landing import bronze_query, landing_report
from health_pipeline.warehouse import Warehouse
from health_pipeline.warehouse.slices import Slice
from health_pipeline_tests.contracts.landing_samples import land, row

MONTHS = MonthRange.of("2023-01", "2023-03")


class TestWithoutServer:
    """Faults of the connection are repeated with growing waits, others are not."""

    def test_an_unreachable_store_is_one_clear_error(self, monkeypatch, tmp_path):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
            waits = []
            with pytest.raises(LandingError, match="cannot be reached") as caught:
                object_storage.list_objects("s3://bucket/landing/admissions/*", sleep=waits.append)
        assert waits == [0.5, 1.0, 2.0, 4.0]
        assert caught.value.where == "s3://bucket/landing/admissions/*"
        assert "AWS_ENDPOINT_URL" in caught.value.remedy

    def test_what_succeeds_after_faults_is_returned(self):
        faults = [
            duckdb.IOException("IO Error: Could not connect to server error for HTTP GET to 'http://...'"),
            duckdb.HTTPException("HTTP Error: Request returned HTTP 503 for HTTP GET to 'http://...'"),
        ]

        def action():
            if faults:
                raise faults.pop()
            return "content"

        waits = []
        assert object_storage.with_retries(action, "read", sleep=waits.append) == "content"
        assert waits == [0.5, 1.0]

    @pytest.mark.parametrize(
        "fault",
        [
            duckdb.HTTPException("HTTP Error: HTTP GET error reading 's3://b/x' (HTTP 404 Not Found)"),
            duckdb.HTTPException("HTTP Error: HTTP GET error reading 's3://b/x' (HTTP 403 Forbidden)"),
            duckdb.InvalidInputException("No magic bytes found at end of file"),
        ],
    )
    def test_other_faults_are_not_repeated(self, fault):
        def action():
            raise fault

        waits = []
        with pytest.raises(type(fault)):
            object_storage.with_retries(action, "read", sleep=waits.append)
        assert waits == []


class Flaky(BaseHTTPRequestHandler):
    """Passes requests on to the store; each address fails the given number of times first."""

    upstream = ""
    failures: dict[str, int] = {}  # noqa: RUF012 - a class per test
    seen: list[str] = []  # noqa: RUF012 - a class per test

    def do_GET(self):
        self.seen.append(self.path)
        left = self.failures.setdefault(self.path, self.failures["each"])
        self.failures[self.path] = left - 1
        if left > 0 and left % 2:
            self.connection.close()
            return
        if left > 0:
            self.send_error(503)
            return
        answer = httpx.request(self.command, self.upstream + self.path, headers=dict(self.headers), timeout=30)
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in {"transfer-encoding", "connection", "content-encoding"}:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(answer.content)

    do_HEAD = do_GET  # noqa: N815 - the server calls it so

    def log_message(self, *args):
        """Silence."""


@pytest.mark.servers
class TestWithServer:
    """Everything the landing zone does, on s3://."""

    @pytest.fixture
    def bucket(self):
        endpoint = os.environ.get("AWS_ENDPOINT_URL")
        if not endpoint:
            pytest.skip("needs an S3 server: set AWS_ENDPOINT_URL and the AWS_* keys")
        name = f"landing-{uuid4().hex[:8]}"
        httpx.put(f"{endpoint}/{name}").raise_for_status()
        return name

    @pytest.fixture
    def settings(self, bucket, tmp_path):
        return Settings(
            home=tmp_path / "home", landing=f"s3://{bucket}/zone 1", start_month="2023-01", end_month="2023-03"
        )

    def put(self, bucket, path, content):
        httpx.put(f"{os.environ['AWS_ENDPOINT_URL']}/{bucket}/zone%201/{path}", content=content).raise_for_status()

    @pytest.fixture
    def local(self, tmp_path):
        return Settings(home=tmp_path / "local", start_month="2023-01", end_month="2023-03")

    @pytest.fixture
    def filled(self, bucket, local):
        """Three months in three formats, in the bucket as in the local folder."""
        for month, kind in zip(MONTHS, ("csv", "csv.gz", "parquet"), strict=True):
            day = f"{month:%Y-%m}"
            stays = [
                row("admissions", encounter_id=f"{day}-{n}", admitted_at=f"{day}-01", discharged_at=f"{day}-02")
                for n in range(30)
            ]
            path = land(local, "admissions", day, stays, kind)
            self.put(bucket, f"admissions/{path.name}", path.read_bytes())

    def stored(self, settings):
        warehouse = Warehouse.from_settings(settings)
        warehouse.replace(BRONZE["admissions"], MONTHS, bronze_query("admissions", MONTHS, settings))
        silver = silver_query("admissions", Slice(BRONZE["admissions"], MONTHS), settings)
        reports = warehouse.replace(SILVER["admissions"], MONTHS, silver)
        rows = warehouse.fetch(
            f"SELECT * FROM {Slice(BRONZE['admissions'], MONTHS)} ORDER BY ALL", "compare"
        ).to_pylist()
        return rows, [report.rows for report in reports]

    def test_a_bucket_gives_the_rows_of_a_folder(self, filled, settings, local):
        rows, counts = self.stored(settings)
        assert counts == [30, 30, 30]
        assert rows == self.stored(local)[0]
        report = landing_report(settings)["admissions"]
        assert (len(report.months), report.strangers) == (3, ())

    def test_a_late_object_changes_the_fingerprint_of_its_month(self, filled, bucket, settings):
        before = arrivals(settings, settled_before=4e9)
        assert list(before) == list(MONTHS)
        assert arrivals(settings, settled_before=4e9) == before
        self.put(bucket, "claims/2023-01.csv", b"claim_id\n")
        after = arrivals(settings, settled_before=4e9)
        assert [month for month in MONTHS if after[month] != before[month]] == [MONTHS.first]

    def test_missing_and_corrupt_objects_fail_their_months(self, bucket, settings, local):
        cut = {"csv": slice(None), "csv.gz": slice(-20), "parquet": slice(500)}
        for month, kind in zip(MONTHS, cut, strict=True):
            path = land(local, "admissions", f"{month:%Y-%m}", [row("admissions")] * 50, kind)
            self.put(bucket, f"admissions/{path.name}", path.read_bytes()[cut[kind]])
        with pytest.raises(LandingError) as caught:
            bronze_query("admissions", MonthRange.of("2023-01", "2023-04"), settings)
        assert "3 of 4 months" in caught.value.what
        for words in ("2023-02 is no whole gzip file", "2023-03 is no whole Parquet file", "2023-04 has no file"):
            assert words in caught.value.what

    def test_an_unknown_bucket_is_told(self, bucket, settings):
        unknown = settings.model_copy(update={"landing": "s3://no-such-bucket-anywhere/zone"})
        with pytest.raises(LandingError, match="cannot be listed"):
            bronze_query("admissions", MONTHS, unknown)

    @pytest.fixture
    def flaky(self, monkeypatch):
        handler = type(
            "Handler", (Flaky,), {"failures": {"each": 0}, "seen": [], "upstream": os.environ.get("AWS_ENDPOINT_URL")}
        )
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        yield handler
        server.shutdown()
        thread.join()
        server.server_close()

    def test_looking_for_new_files_asks_once_a_table_and_for_no_object(self, filled, settings, flaky):
        assert list(arrivals(settings, settled_before=4e9)) == list(MONTHS)
        assert len(flaky.seen) == len(LANDING_TABLES)
        assert not [path for path in flaky.seen if path.endswith((".csv", ".gz", ".parquet"))]

    def test_connection_faults_are_survived(self, filled, settings, local, flaky):
        expected = self.stored(local)
        flaky.failures["each"] = 2
        assert self.stored(settings) == expected
        assert len(flaky.seen) > 2 * len(set(flaky.seen))

    def test_faults_that_last_are_told(self, filled, settings, flaky, monkeypatch):
        monkeypatch.setattr(object_storage, "FIRST_WAIT_SECONDS", 0.01)
        listed = [path for path in flaky.failures if path != "each"]
        assert listed == []
        query = bronze_query("admissions", MONTHS, settings)
        assert "s3://" in query.sql
        for path in set(flaky.seen):
            flaky.failures[path] = 1000 if "2023-03" in path else 0
        with pytest.raises(LandingError, match="2023-03 could not be fetched: the connection failed again and again"):
            bronze_query("admissions", MONTHS, settings)
