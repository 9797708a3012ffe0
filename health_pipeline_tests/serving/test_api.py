"""The application in this process: answers, refusals, routing, fallback, shadow."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from health_pipeline.errors import DeploymentError
from health_pipeline.modeling.bundle import Bundle
from health_pipeline.serving.app import create_app
from health_pipeline.serving.auth import BearerAuth
from health_pipeline.serving.counters import Counters
from health_pipeline.serving.engine import Engine
from health_pipeline.serving.input_counts import read_counts
from health_pipeline.serving.predict import PredictApp
from health_pipeline.serving.prediction_log import Hasher, PredictionLog, read_log
from health_pipeline.serving.release import Release
from health_pipeline.serving.scorers import load_scorer
from health_pipeline.serving.traffic import Route, Traffic
from health_pipeline.settings import ServingSettings
from health_pipeline_tests.serving.bundles import RECORD, linear_bundle, pack

TOKEN = "a-token-of-some-length"
ONE = {"patient_id": "p1", "features": RECORD}


class Api:
    """An application with its parts, and a client."""

    def __init__(self, home: Path, load=load_scorer, **settings) -> None:
        self.home = home
        self.counters = Counters()
        self.log = PredictionLog(home / "log", Hasher(b"0123456789abcdef"), 0.01)
        self.settings = ServingSettings(**settings)
        self.engine = Engine(home / "releases", load, self.counters, self.log, self.settings.max_records)
        self.app: PredictApp = create_app(
            self.engine,
            BearerAuth(TOKEN, "127.0.0.1"),
            self.counters,
            prediction_log=self.log,
            settings=self.settings,
        )
        self.generation = 0

    def switch(self, *routes: tuple[Release, float], fallback: Release | None = None, shadow: Release | None = None):
        self.generation += 1

        def route(release: Release | None, weight: float = 1.0):
            return None if release is None else Route(release.release_id, release.digest, weight)

        traffic = Traffic(
            generation=self.generation,
            routes=tuple(route(release, weight) for release, weight in routes),
            fallback=route(fallback),
            shadow=route(shadow),
        )
        self.engine.take_over(self.engine.prepare(traffic))

    def call(self, method: str, path: str, *, token: str | None = TOKEN, **arguments) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
                headers = {**({"authorization": f"Bearer {token}"} if token else {}), **arguments.pop("headers", {})}
                return await client.request(method, path, headers=headers, **arguments)

        return asyncio.run(send())

    def predict(self, body=ONE, **arguments) -> httpx.Response:
        return self.call("POST", "/v1/predict", json=body, **arguments)

    def rows(self) -> list[dict]:
        time.sleep(0.05)
        self.log.close()
        return list(read_log(self.home / "log"))

    def close(self) -> None:
        self.engine.close()
        self.log.close()


@pytest.fixture
def api(tmp_path, linear: Bundle) -> Iterator[Api]:
    with contextlib.closing(Api(tmp_path)) as made:
        made.release = pack(linear, tmp_path)
        made.switch((made.release, 1.0))
        yield made


def test_one_record_many_records_and_the_bundle_agree(api, linear):
    import pyarrow as pa

    expected = float(linear.probabilities(pa.table({name: [value] for name, value in RECORD.items()}))[0])
    one = api.predict()
    assert one.status_code == 200
    (prediction,) = one.json()["predictions"]
    assert prediction["probability"] == pytest.approx(expected, abs=1e-9)
    assert prediction["label"] is (expected >= linear.threshold)
    assert prediction["model_id"] == linear.model_id
    many = api.predict({"records": [{"features": RECORD}, {"features": {}}, {"features": RECORD}]}).json()[
        "predictions"
    ]
    assert many[0] == many[2] == prediction
    assert many[1]["probability"] != prediction["probability"]


def test_nulls_and_unseen_categories_are_scored(api):
    for features in (
        dict.fromkeys(RECORD),
        {**RECORD, "payer": "never seen"},
        {**RECORD, "payer": None, "age": None},
    ):
        assert api.predict({"features": features}).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("{", 400, "not valid JSON"),
        ("\xff", 400, "not valid JSON"),
        ("[" * 100_000, 422, "Expected `object`"),
        ("[]", 422, "Expected `object`"),
        ("{}", 422, "needs `features`"),
        ('{"records": []}', 422, "length >= 1"),
        ('{"features": {}, "records": [{"features": {}}]}', 422, "both"),
        ('{"features": {"age": "71"}}', 422, "Expected `float | null`, got `str` - at `$.features.age`"),
        ('{"features": {"age": true}}', 422, "got `bool`"),
        ('{"features": {"age": 1e300}}', 422, "<= 1000000000000000"),
        ('{"features": {"age": NaN}}', 400, "not valid JSON"),
        ('{"features": {"payer": 3}}', 422, "got `int`"),
        ('{"features": {"is_emergency": 1}}', 422, "got `int`"),
        ('{"features": {"agee": 3}}', 422, "unknown field `agee`"),
        ('{"features": {}, "patient_id": 12}', 422, "got `int`"),
        (json.dumps({"features": {"payer": "x" * 201}}), 422, "length <= 200"),
        (json.dumps({"records": [{"features": {}}] * 1001}), 422, "length <= 1000"),
        (json.dumps({"records": [{"features": {}}] * 51, "explain": True}), 422, "at most 50"),
    ],
)
def test_what_does_not_fit_is_refused_clearly(api, body, status, says):
    answer = api.call("POST", "/v1/predict", content=body.encode("latin-1"))
    assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text


def test_refusals_name_no_value(api):
    answer = api.predict({"features": {"age": "SECRET-71", "payer": "medicare"}})
    assert answer.status_code == 422
    assert "SECRET" not in answer.text


def test_size_limits(api):
    big = api.call("POST", "/v1/predict", content=b" " * (api.settings.max_body_bytes + 1))
    assert big.status_code == 413

    async def endless():
        for _ in range(100):
            yield b" " * 100_000

    chunked = api.call("POST", "/v1/predict", content=endless())
    assert chunked.status_code == 413
    assert chunked.headers["connection"] == "close"


def test_a_body_that_does_not_come_times_out(tmp_path, linear):
    with contextlib.closing(Api(tmp_path, timeout_seconds=0.05)) as api:
        api.switch((pack(linear, tmp_path), 1.0))

        async def ask() -> list[dict]:
            sent: list[dict] = []

            async def receive():
                await asyncio.sleep(5)

            async def send(message):
                sent.append(message)

            headers = [(b"authorization", f"Bearer {TOKEN}".encode())]
            await api.app({"type": "http", "method": "POST", "path": "/v1/predict", "headers": headers}, receive, send)
            return sent

        assert asyncio.run(ask())[0]["status"] == 408


def test_only_json_and_only_post(api):
    assert api.call("POST", "/v1/predict", content=b"a=1", headers={"content-type": "text/plain"}).status_code == 415
    assert api.call("GET", "/v1/predict").status_code == 405
    assert api.call("GET", "/nowhere").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/predict"),
        ("GET", "/v1/model"),
        ("GET", "/v1/traffic"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("GET", "/nowhere"),
    ],
)
def test_everything_but_health_needs_the_token(api, method, path):
    for token in (None, "another-token-of-some-length"):
        answer = api.call(method, path, token=token)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
    assert api.call("GET", "/health/live", token=None).status_code == 200
    assert api.call("GET", "/health/ready", token=None).status_code == 200


def test_without_a_model_it_is_not_ready(tmp_path):
    with contextlib.closing(Api(tmp_path)) as api:
        assert api.call("GET", "/health/live").status_code == 200
        for path in ("/health/ready", "/v1/model", "/v1/traffic"):
            assert api.call("GET", path).status_code == 503
        assert api.predict().status_code == 503


def test_model_says_what_serves(api, linear):
    model = api.call("GET", "/v1/model").json()
    assert model["model_id"] == linear.model_id
    assert model["digest"] == api.release.digest
    assert model["metrics"]["roc_auc"]["ci_low"] == 0.68
    assert [feature["name"] for feature in model["features"]] == list(RECORD)


def test_openapi_describes_the_features(api):
    document = api.call("GET", "/openapi.json").json()
    assert set(document["components"]["schemas"]["Features"]["properties"]) == set(RECORD)
    operation = document["paths"]["/v1/predict"]["post"]
    for example in operation["requestBody"]["content"]["application/json"]["examples"].values():
        assert api.predict(example["value"]).status_code == 200
    assert operation["security"] == [{"token": []}]


def test_contributions_on_request(api, trees, tmp_path):
    assert "contributions" not in api.predict().json()["predictions"][0]
    assert set(api.predict({**ONE, "explain": True}).json()["predictions"][0]["contributions"]) == {"bias", *RECORD}
    api.switch((pack(trees, tmp_path), 1.0))
    assert set(api.predict({**ONE, "explain": True}).json()["predictions"][0]["contributions"]) == {"bias", *RECORD}


def test_every_prediction_is_logged_without_values(api, linear):
    api.predict({"records": [{"features": RECORD, "patient_id": f"SECRET-{number}"} for number in range(40)]})
    rows = api.rows()
    assert len(rows) == 40
    assert len({row["patient_hash"] for row in rows}) == 40
    assert {row["model_id"] for row in rows} == {linear.model_id}
    assert "SECRET" not in json.dumps(rows)


def test_inputs_of_every_answer_are_counted_and_of_probes_not(api):
    assert api.predict().status_code == 200
    assert api.predict({"records": [ONE, {"features": {}}]}).status_code == 200
    assert api.predict(headers={"x-probe": "1"}).status_code == 200
    api.log.close()
    (found,) = read_counts(api.home / "log", f"{dt.datetime.now(dt.UTC):%Y-%m}")
    assert (found.answered, found.counted) == (3, 3)
    assert set(found.features) >= set(RECORD)
    for name in RECORD:
        counts = found.features[name]
        assert counts.missing + sum(counts.cells.values()) + sum(counts.words.values()) + counts.others == 3, name
        assert counts.missing >= 1, "left out means missing"


def test_metrics_are_prometheus_text(api):
    from prometheus_client.parser import text_string_to_metric_families

    for _ in range(3):
        api.predict()
    api.predict({"features": 1})
    text = api.call("GET", "/metrics").text
    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["predict_responses_total", ("200",)] == 3
    assert samples["predict_responses_total", ("422",)] == 1
    assert samples["predict_release_rows_total", (api.release.release_id,)] == 3
    assert samples["predict_seconds_count", (api.release.release_id,)] == 3


def test_canary_gets_its_share_and_patients_stay(api, tmp_path):
    challenger = pack(linear_bundle(0.5), tmp_path)
    api.switch((api.release, 0.8), (challenger, 0.2))
    records = [{"features": RECORD, "patient_id": f"p{number}"} for number in range(900)]
    first = [item["model_id"] for item in api.predict({"records": records}).json()["predictions"]]
    assert first == [item["model_id"] for item in api.predict({"records": records}).json()["predictions"]]
    assert first.count(challenger.facts.model_id) / 900 == pytest.approx(0.2, abs=0.05)
    single = api.predict(records[5]).json()["predictions"][0]["model_id"]
    assert single == first[5]


def test_a_release_can_be_asked_for(api, tmp_path):
    challenger = pack(linear_bundle(0.5), tmp_path)
    api.switch((api.release, 1.0), (challenger, 0.0))
    pinned = api.predict(headers={"x-release": challenger.release_id}).json()["predictions"][0]
    assert pinned["model_id"] == challenger.facts.model_id
    assert api.predict(headers={"x-release": "unknown"}).status_code == 404


def test_shadow_is_scored_and_logged_but_never_answers(api, tmp_path):
    challenger = pack(linear_bundle(0.5), tmp_path)
    api.switch((api.release, 1.0), shadow=challenger)
    answers = [api.predict().json()["predictions"][0]["model_id"] for _ in range(5)]
    assert set(answers) == {api.release.facts.model_id}
    time.sleep(0.2)
    roles = [(row["role"], row["model_id"]) for row in api.rows()]
    assert roles.count(("shadow", challenger.facts.model_id)) == 5
    assert roles.count(("primary", api.release.facts.model_id)) == 5


class Held:
    """A scorer that waits once it is armed."""

    def __init__(self, scorer) -> None:
        self.scorer, self.features, self.is_explainable = scorer, scorer.features, False
        self.is_armed, self.entered, self.may_go_on = False, threading.Event(), threading.Event()

    def probability(self, values):
        if self.is_armed:
            self.entered.set()
            assert self.may_go_on.wait(10)
        return self.scorer.probability(values)


def test_what_the_shadow_had_not_come_to_at_the_end_is_counted(tmp_path):
    release, challenger = pack(linear_bundle(), tmp_path), pack(linear_bundle(0.5), tmp_path)
    held: dict[str, Held] = {}

    def load(folder, loaded):
        return held.setdefault(loaded.release_id, Held(load_scorer(folder, loaded)))

    with contextlib.closing(Api(tmp_path, load=load)) as api:
        api.switch((release, 1.0), shadow=challenger)
        shadow = held[challenger.release_id]
        shadow.is_armed = True
        for _ in range(5):
            api.predict()
        assert shadow.entered.wait(10)
        threading.Timer(0.2, shadow.may_go_on.set).start()
        api.engine.close()
        assert api.counters.shadow_dropped == 4
        assert [row["role"] for row in api.rows()].count("shadow") == 1


class Failing:
    """A scorer that fails as told; before, it was accepted by the load test."""

    def __init__(self, scorer, how: str) -> None:
        self.scorer, self.how, self.is_armed = scorer, how, False
        self.features, self.is_explainable = scorer.features, True

    def probability(self, values):
        if not self.is_armed:
            return self.scorer.probability(values)
        if self.how == "raises":
            raise RuntimeError("SECRET value 71")
        return float("nan") if self.how == "nan" else 1.5

    def probabilities(self, rows):
        return [self.probability(values) for values in rows]


@pytest.mark.parametrize("how", ["raises", "nan", "outside"])
@pytest.mark.parametrize("count", [1, 20])
def test_the_fallback_answers_for_a_release_that_fails(tmp_path, linear, capsys, how, count):
    scorers = {}

    def load(folder, release):
        scorers[release.release_id] = Failing(load_scorer(folder, release), how)
        return scorers[release.release_id]

    with contextlib.closing(Api(tmp_path, load)) as api:
        good, bad = pack(linear, tmp_path), pack(linear_bundle(0.5), tmp_path)
        api.switch((bad, 1.0), fallback=good)
        scorers[bad.release_id].is_armed = True
        body = {"records": [ONE] * count}
        answer = api.predict(body)
        assert answer.status_code == 200
        assert {item["model_id"] for item in answer.json()["predictions"]} == {linear.model_id}
        assert api.counters.release(bad.release_id).errors == 1
        api.switch((bad, 1.0))
        assert api.predict(body).status_code == 500
        assert {row["role"] for row in api.rows()} == {"fallback"}
    assert "SECRET" not in "".join(capsys.readouterr())


def test_a_manifest_that_cannot_be_loaded_changes_nothing(api, tmp_path):
    challenger = pack(linear_bundle(0.5), tmp_path)
    (tmp_path / "releases" / challenger.release_id / "bundle" / "bundle.json").unlink()
    with pytest.raises(DeploymentError):
        api.switch((challenger, 1.0))
    with pytest.raises(DeploymentError, match="cannot be read"):
        api.switch((Release(**{**_fields(challenger), "release_id": "missing"}), 1.0))
    wrong = Release(**{**_fields(api.release), "digest": "sha256:other"})
    with pytest.raises(DeploymentError, match="the manifest names sha256:other"):
        Api.switch(api, (wrong, 1.0))
    assert api.predict().json()["predictions"][0]["model_id"] == api.release.facts.model_id


def _fields(release: Release) -> dict:
    return {name: getattr(release, name) for name in release.__struct_fields__}


def test_draining_closes_connections_and_readiness(api):
    assert "connection" not in api.predict().headers
    api.app.is_draining = True
    assert api.predict().headers["connection"] == "close"
    ready = api.call("GET", "/health/ready")
    assert (ready.status_code, ready.headers["connection"]) == (503, "close")
