"""Bodies that nobody should send: no crash, no 5xx, steady memory, nothing of them in the log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from health_pipeline_tests.serving.bundles import RECORD, pack
from health_pipeline_tests.serving.test_api import TOKEN, Api

CLIENT_ERRORS = {200, 400, 413, 415, 422}
AWKWARD = [None, True, 0, -1, 1e15, -1e308, 1e-320, 2**70, "", "\u0000", "é" * 300, "NaN", [], {}, [[]], {"a": {}}]


def fuzzed(generator: random.Random) -> bytes:
    """A body that is valid, nearly valid, or noise."""
    kind = generator.random()
    record = {name: generator.choice(AWKWARD) if generator.random() < 0.2 else value for name, value in RECORD.items()}
    if generator.random() < 0.2:
        record[generator.choice(["agee", "", "__class__", "f0"])] = generator.choice(AWKWARD)
    body: object = {"features": record, "patient_id": generator.choice(["p", "p", None, *AWKWARD[:4]])}
    if kind < 0.3:
        body = {
            "records": [body] * generator.choice([0, 1, 2, 30]),
            "explain": generator.choice([True, False, *AWKWARD]),
        }
    elif kind < 0.4:
        body = generator.choice(AWKWARD)
    content = json.dumps(body).encode()
    if generator.random() < 0.4:
        changed = bytearray(content)
        for _ in range(generator.randint(1, 5)):
            position = generator.randrange(len(changed) + 1)
            if generator.random() < 0.5 and position < len(changed):
                changed[position] = generator.randrange(256)
            else:
                changed[position:position] = generator.randbytes(generator.randint(0, 20))
        content = bytes(changed[: generator.randint(0, len(changed))] if generator.random() < 0.3 else changed)
    return content


async def post(app, body: bytes) -> int:
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    headers = [(b"authorization", f"Bearer {TOKEN}".encode()), (b"content-type", b"application/json")]
    await app({"type": "http", "method": "POST", "path": "/v1/predict", "headers": headers}, receive, send)
    json.loads(sent[1]["body"])
    return sent[0]["status"]


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_fuzzed_bodies_do_no_harm(tmp_path, linear, capsys, count):
    generator = random.Random(7)
    with contextlib.closing(Api(tmp_path)) as api:
        api.switch((pack(linear, tmp_path), 1.0))

        async def run() -> tuple[Counter[int], float]:
            statuses: Counter[int] = Counter()
            for _ in range(300):
                await post(api.app, fuzzed(generator))
            before = resident_mib()
            for _ in range(count):
                statuses[await post(api.app, fuzzed(generator))] += 1
            return statuses, resident_mib() - before

        statuses, grown = asyncio.run(run())
        assert set(statuses) <= CLIENT_ERRORS, statuses
        assert statuses[200] > count * 0.02
        assert statuses[422] > count * 0.3
        assert statuses[400] > count * 0.1
        assert grown < 30
        assert api.predict().status_code == 200
    assert "predict_failed" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # schemathesis's own dependencies
def test_schemathesis_finds_no_5xx(tmp_path, trees):
    """At least 5,000 cases that the OpenAPI document gives rise to, valid and invalid ones."""
    import schemathesis
    from hypothesis import HealthCheck, given, settings

    with contextlib.closing(Api(tmp_path)) as api:
        api.switch((pack(trees, tmp_path), 1.0))
        document = api.call("GET", "/openapi.json").json()
        schema = schemathesis.openapi.from_dict(document)
        statuses: Counter[int] = Counter()

        operation = schema["/v1/predict"]["POST"]
        modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            for mode in modes:

                @settings(max_examples=2600, deadline=None, suppress_health_check=list(HealthCheck), database=None)
                @given(case=operation.as_strategy(generation_mode=mode))
                def answered(case) -> None:
                    body = case.body
                    sent = body if isinstance(body, bytes) else json.dumps(body, default=str).encode()
                    statuses[loop.run_until_complete(post(api.app, sent))] += 1

                answered()
        assert sum(statuses.values()) >= 5000
        assert set(statuses) <= CLIENT_ERRORS, statuses
        assert statuses[200] > 0
