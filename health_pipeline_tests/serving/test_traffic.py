from __future__ import annotations

import pytest

from health_pipeline.errors import DeploymentError
from health_pipeline.serving.traffic import Route, Router, Traffic, read_traffic, write_traffic

OLD, NEW = Route("old", "sha256:1", 0.9), Route("new", "sha256:2", 0.1)


def keys(count: int) -> list[bytes]:
    return [f"patient-{number}".encode() for number in range(count)]


def test_shares_follow_the_weights():
    router = Router(Traffic(generation=1, routes=(OLD, NEW)))
    share = sum(router.pick(key) == "new" for key in keys(20_000)) / 20_000
    assert share == pytest.approx(0.1, abs=0.01)


def test_a_patient_stays_where_it_is_and_a_growing_canary_keeps_its_patients():
    small = Router(Traffic(generation=1, routes=(OLD, NEW)))
    large = Router(Traffic(generation=2, routes=(Route("old", "sha256:1", 0.5), Route("new", "sha256:2", 0.5))))
    on_small = {key for key in keys(5000) if small.pick(key) == "new"}
    assert on_small == {key for key in keys(5000) if small.pick(key) == "new"}
    assert on_small < {key for key in keys(5000) if large.pick(key) == "new"}


def test_a_single_route_needs_no_hash():
    assert Router(Traffic(generation=1, routes=(OLD,))).only == "old"
    assert Router(Traffic(generation=1, routes=(OLD, NEW))).only is None


@pytest.mark.parametrize(
    "routes",
    [
        (),
        (Route("a", "d", -1.0), Route("b", "d", 2.0)),
        (Route("a", "d", 0.0),),
        (Route("a", "d", float("nan")),),
        (Route("a", "d", 1.0), Route("a", "d", 1.0)),
    ],
)
def test_senseless_routes_are_refused(routes):
    with pytest.raises(ValueError, match=r"route|weight"):
        Traffic(generation=1, routes=routes)


def test_manifest_round_trip_and_damage(tmp_path):
    path = tmp_path / "traffic.json"
    assert read_traffic(path) is None
    traffic = Traffic(generation=3, routes=(OLD, NEW), fallback=OLD)
    write_traffic(path, traffic)
    assert read_traffic(path) == traffic
    assert [item.name for item in tmp_path.iterdir()] == ["traffic.json"]
    path.write_text('{"generation": 4, "routes": []}')
    with pytest.raises(DeploymentError, match="cannot be read"):
        read_traffic(path)
