"""Requests of one turn of the loop are scored together; each gets its own answer, whatever befalls its neighbours."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator

import pytest
import uvicorn
from uvicorn.server import ServerState

from health_pipeline.serving.heads import LONGEST, MOST, KnownHeads
from health_pipeline.serving.protocol import PredictProtocol
from health_pipeline.serving.scorers import load_scorer
from health_pipeline_tests.serving.bundles import RECORD, linear_bundle, pack, tree_bundle
from health_pipeline_tests.serving.test_api import TOKEN, Api
from health_pipeline_tests.serving.test_protocol import request

POISON = -77.0


class Counted:
    """A scorer that counts its calls and cannot bear one value of the first feature."""

    def __init__(self, scorer, scorers: Scorers) -> None:
        self._scorer, self._scorers, self.calls = scorer, scorers, []
        self.features, self.is_explainable = scorer.features, scorer.is_explainable

    def probability(self, values):
        return self.probabilities([values])[0]

    def probabilities(self, rows):
        self.calls.append(len(rows))
        found = list(self._scorer.probabilities(rows))
        for index, row in enumerate(rows):
            if POISON in row:
                found[index] = self._scorers.fault()
        return found


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = [], False

    def write(self, data) -> None:
        assert not self.closed
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Clients:
    """Connections to the application in this process."""

    def __init__(self, api: Api, count: int, **config) -> None:
        state = ServerState()
        loaded = uvicorn.Config(api.app, log_config=None, lifespan="off", proxy_headers=False, **config)
        self.protocols, self.transports = [], []
        for _ in range(count):
            protocol = PredictProtocol(loaded, state, {})
            self.transports.append(Transport())
            protocol.connection_made(self.transports[-1])
            self.protocols.append(protocol)

    def ask(self, index: int, body, **headers) -> None:
        self.protocols[index].data_received(request(body, **{"token": TOKEN, **headers}))

    def answers(self, index: int) -> list[tuple[int, dict]]:
        found = []
        for written in self.transports[index].written:
            head, _, body = written.partition(b"\r\n\r\n")
            found.append((int(head.split()[1]), json.loads(body)))
        return found

    def probability(self, index: int) -> float:
        ((status, body),) = self.answers(index)
        assert status == 200
        return body["predictions"][0]["probability"]


def record(age: float) -> dict:
    return {"patient_id": f"p{age}", "features": {**RECORD, "age": age}}


def broken() -> float:
    raise ZeroDivisionError


class Scorers:
    """Builds scorers and keeps them by model."""

    def __init__(self) -> None:
        self.fault, self.made = broken, {}

    def __call__(self, folder, release):
        scorer = load_scorer(folder, release)
        if release.facts.model_id.startswith("xgb"):
            return scorer
        made = self.made[release.facts.model_id] = Counted(scorer, self)
        return made


@pytest.fixture
def scorers() -> Scorers:
    return Scorers()


@pytest.fixture
def api(tmp_path, scorers) -> Iterator[Api]:
    with contextlib.closing(Api(tmp_path, load=scorers)) as made:
        made.release = pack(linear_bundle(), tmp_path)
        made.switch((made.release, 1.0))
        made.scorer = scorers.made[made.release.facts.model_id]
        made.scorer.calls.clear()
        yield made


def alone(api: Api, age: float) -> float:
    return api.predict(record(age)).json()["predictions"][0]["probability"]


def test_a_single_connection_is_answered_at_once_and_without_a_task(api):
    async def scene() -> None:
        clients = Clients(api, 1)
        tasks = len(asyncio.all_tasks())
        clients.ask(0, record(50))
        clients.ask(0, record(60))
        assert len(asyncio.all_tasks()) == tasks
        assert [status for status, _ in clients.answers(0)] == [200, 200]

    asyncio.run(scene())
    assert api.scorer.calls == [1, 1]


def test_what_arrives_in_one_turn_is_scored_in_one_call(api):
    ages = [20.0 + age for age in range(30)]
    expected = [alone(api, age) for age in ages]
    api.scorer.calls.clear()

    async def scene() -> list[float]:
        clients = Clients(api, len(ages))
        for index, age in enumerate(ages):
            clients.ask(index, record(age))
        assert not any(clients.answers(index) for index in range(len(ages)))
        await asyncio.sleep(0)
        return [clients.probability(index) for index in range(len(ages))]

    assert asyncio.run(scene()) == expected
    assert len(set(expected)) == len(ages)
    assert api.scorer.calls == [len(ages)]
    counters = api.counters.release(api.release.release_id)
    assert (counters.requests, counters.rows, counters.errors) == (60, 60, 0)
    assert sum(counters.seconds.counts) == sum(counters.probabilities.counts) == 60
    assert api.counters.responses == {200: 60}
    rows = api.rows()
    assert len(rows) == 60
    assert len({row["patient_hash"] for row in rows}) == 30


def test_trees_give_the_same_together_and_alone(api, tmp_path):
    api.switch((pack(tree_bundle(), tmp_path), 1.0))
    ages = [20.0 + age for age in range(60)]
    expected = [alone(api, age) for age in ages]

    async def scene() -> list[float]:
        clients = Clients(api, len(ages))
        for index, age in enumerate(ages):
            clients.ask(index, record(age))
        await asyncio.sleep(0)
        return [clients.probability(index) for index in range(len(ages))]

    assert asyncio.run(scene()) == expected


@pytest.mark.parametrize("fault", [broken, lambda: float("nan"), lambda: 1.5], ids=["raises", "nan", "beyond one"])
@pytest.mark.parametrize("with_fallback", [False, True])
def test_a_record_that_breaks_the_model_costs_its_neighbours_nothing(api, scorers, tmp_path, fault, with_fallback):
    scorers.fault = fault
    if with_fallback:
        api.switch((api.release, 1.0), fallback=pack(tree_bundle(), tmp_path))
    expected = alone(api, 50.0)

    async def scene() -> list[tuple[int, dict]]:
        clients = Clients(api, 5)
        for index in range(5):
            clients.ask(index, record(POISON if index == 2 else 50.0))
        await asyncio.sleep(0)
        return [clients.answers(index)[0] for index in range(5)]

    answers = asyncio.run(scene())
    good = [body["predictions"][0]["probability"] for index, (_, body) in enumerate(answers) if index != 2]
    assert good == [expected] * 4
    status, body = answers[2]
    if with_fallback:
        assert status == 200
        assert body["predictions"][0]["model_id"].startswith("xgb")
    else:
        assert (status, body) == (500, {"detail": "the model failed on this request"})
    counters = api.counters.release(api.release.release_id)
    assert (counters.requests, counters.errors) == (6, 1)


def test_routes_and_shadow_apply_to_each(api, tmp_path):
    challenger, shadow = pack(linear_bundle(0.5), tmp_path), pack(linear_bundle(1.0), tmp_path)
    api.switch((api.release, 0.5), (challenger, 0.5), shadow=shadow)
    expected = [api.predict(record(20.0 + age)).json()["predictions"][0]["model_id"] for age in range(40)]

    async def scene() -> list[str]:
        clients = Clients(api, 40)
        for index in range(40):
            clients.ask(index, record(20.0 + index))
        await asyncio.sleep(0)
        return [clients.answers(index)[0][1]["predictions"][0]["model_id"] for index in range(40)]

    assert asyncio.run(scene()) == expected
    assert set(expected) == {api.release.facts.model_id, challenger.facts.model_id}
    assert [row["role"] for row in api.rows()].count("shadow") == 80


def test_a_switch_in_between_leaves_each_request_to_the_state_it_was_decoded_with(api, tmp_path):
    former, challenger = api.release, pack(linear_bundle(0.5), tmp_path)

    async def scene() -> list[str]:
        clients = Clients(api, 2)
        clients.ask(0, record(50))
        api.switch((challenger, 1.0))
        clients.ask(1, record(50))
        await asyncio.sleep(0)
        return [clients.answers(index)[0][1]["predictions"][0]["model_id"] for index in range(2)]

    assert asyncio.run(scene()) == [former.facts.model_id, challenger.facts.model_id]


def test_pipelined_requests_keep_their_order(api):
    async def scene() -> list[int]:
        clients = Clients(api, 2)
        sent = [request(record(age), token=TOKEN) for age in (30, 40, 50)]
        clients.protocols[0].data_received(sent[0])
        clients.protocols[0].data_received(sent[1] + sent[2])
        clients.ask(0, {"features": {"unknown": 1}})
        for _ in range(5):
            await asyncio.sleep(0)
        return clients.transports[0].written

    written = b"".join(asyncio.run(scene()))
    statuses = [int(part.split()[0]) for part in written.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200, 200, 422]


def test_an_answer_that_is_due_leaves_before_the_server_goes(api):
    async def scene() -> None:
        clients = Clients(api, 3)
        for index in range(3):
            clients.ask(index, record(50))
        clients.protocols[0].shutdown()
        assert [len(clients.answers(index)) for index in range(3)] == [1, 1, 1]
        assert clients.transports[0].closed

    asyncio.run(scene())


def test_a_client_that_went_away_costs_the_others_nothing(api):
    async def scene() -> None:
        clients = Clients(api, 3)
        for index in range(3):
            clients.ask(index, record(50))
        clients.transports[1].closed = True
        clients.protocols[1].connection_lost(ConnectionResetError())
        await asyncio.sleep(0)
        assert [len(clients.answers(index)) for index in range(3)] == [1, 0, 1]

    asyncio.run(scene())


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(api):
    async def scene() -> None:
        clients = Clients(api, 1, timeout_keep_alive=1)
        (transport,) = clients.transports
        for _ in range(4):
            clients.ask(0, record(50))
            await asyncio.sleep(0.4)
            assert not transport.closed
        await asyncio.sleep(0.4)
        assert not transport.closed
        await asyncio.sleep(0.5)
        assert transport.closed

    asyncio.run(scene())


def test_a_request_at_the_last_moment_is_answered(api):
    async def scene() -> None:
        clients = Clients(api, 2, timeout_keep_alive=1)
        clients.ask(0, record(50))
        await asyncio.sleep(0)
        clients.protocols[0]._answered_at -= 10
        clients.ask(0, record(50))
        clients.protocols[0].timeout_keep_alive_handler()
        assert [status for status, _ in clients.answers(0)] == [200, 200]
        assert not clients.transports[0].closed

    asyncio.run(scene())


def test_a_known_head_does_not_open_the_door_for_another_token(api):
    async def scene() -> list[int]:
        clients = Clients(api, 2)
        body = record(50)
        clients.ask(0, body)
        assert api.app.heads.body_of(request(body, token=TOKEN)) is not None
        for token in (TOKEN[:-1] + "x", TOKEN.upper(), ""):
            assert api.app.heads.body_of(request(body, token=token)) is None
            clients.ask(1, body, token=token)
            for _ in range(5):
                await asyncio.sleep(0)
        return [int(part.split()[0]) for part in b"".join(clients.transports[1].written).split(b"HTTP/1.1 ")[1:]]

    assert asyncio.run(scene()) == [401, 401, 401]


def test_draining_ends_the_short_way_for_known_heads_too(api):
    async def scene() -> bytes:
        clients = Clients(api, 1)
        clients.ask(0, record(50))
        api.app.is_draining = True
        clients.ask(0, record(50))
        for _ in range(5):
            await asyncio.sleep(0)
        return b"".join(clients.transports[0].written[1:])

    answer = asyncio.run(scene())
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer


def test_heads_that_are_not_whole_requests_are_not_learned():
    body = b'{"features":{}}'
    plain = b"POST / HTTP/1.1\r\ncontent-length: 15\r\n\r\n" + body
    chunked = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nf\r\n" + body + b"\r\n0\r\n\r\n"
    long = b"POST / HTTP/1.1\r\nx: " + b"y" * LONGEST + b"\r\n\r\n" + body
    for data in (chunked, plain + plain, plain + b"GET", plain[:-1], long, body):
        heads = KnownHeads()
        heads.learn(data, body)
        assert heads.body_of(data) is None
        assert heads.body_of(plain) is None
    heads.learn(plain, body)
    assert heads.body_of(plain) == body
    assert heads.body_of(plain[:-1]) is None
    assert heads.body_of(plain + b" ") is None
    assert heads.body_of(plain.replace(b"15", b"14")) is None


def test_the_number_of_known_heads_is_bounded():
    heads = KnownHeads()
    for number in range(3 * MOST):
        heads.learn(b"POST / HTTP/1.1\r\nx-request: %d\r\n\r\n{}" % number, b"{}")
        assert len(heads._lengths) <= MOST
    assert heads.body_of(b"POST / HTTP/1.1\r\nx-request: %d\r\n\r\n{}" % number) == b"{}"
