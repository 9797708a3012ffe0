"""Writers of one table queue on the catalog's PostgreSQL server; others do not wait."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest

from health_pipeline.errors import LockTimeoutError, WarehouseError
from health_pipeline.months import MonthRange
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse
from health_pipeline.warehouse.server_lock import table_turn
from health_pipeline_tests.warehouse.conftest import VISITS, visits

pytestmark = pytest.mark.parametrize("settings", ["ducklake-postgres"], indirect=True)
JANUARY = MonthRange.of("2022-01")
HOLD = """
import sys, time
from health_pipeline.settings import Settings
from health_pipeline.warehouse import Warehouse
from health_pipeline.warehouse.server_lock import table_turn
from health_pipeline_tests.warehouse.conftest import VISITS
warehouse = Warehouse.from_settings(Settings.model_validate_json(sys.argv[1]))
with warehouse.write("hold") as connection, table_turn(connection, warehouse.backend.server, VISITS, "nightly", 10):
    print("held", flush=True)
    time.sleep(60)
"""


def hasty(settings: Settings) -> Warehouse:
    return Warehouse(Warehouse.from_settings(settings).backend, lock_timeout_seconds=0.5)


def test_the_time_out_is_bounded_and_names_the_holder(settings: Settings, warehouse: Warehouse) -> None:
    warehouse.replace(VISITS, JANUARY, visits("2022-01"))
    text = settings.model_dump_json(include={"home", "warehouse"})
    holder = subprocess.Popen([sys.executable, "-W", "ignore", "-c", HOLD, text], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "held\n"
        begun = time.monotonic()
        with pytest.raises(LockTimeoutError) as refused:
            hasty(settings).replace(VISITS, JANUARY, visits("2022-01", cost=2.0))
        assert 0.5 <= time.monotonic() - begun < 5
        assert f"held by process {holder.pid} on " in str(refused.value)
        assert ": nightly" in str(refused.value)
        other = dataclasses.replace(VISITS, name="other")
        assert hasty(settings).replace(other, JANUARY, visits("2022-01"))[0].rows == 5  # another table waits for nobody
        assert hasty(settings).reports(VISITS, JANUARY)[0].rows == 5  # nor do readers
        os.kill(holder.pid, signal.SIGKILL)
    # The server frees what a killed process held.
    assert warehouse.replace(VISITS, JANUARY, visits("2022-01", rows=7))[0].rows == 7


def test_a_server_that_cannot_be_asked_is_said_without_its_address(warehouse: Warehouse) -> None:
    with (
        warehouse.write("look") as connection,
        pytest.raises(WarehouseError) as refused,
        table_turn(connection, "postgresql://somebody:secret@127.0.0.1:1/none", VISITS, "look", 1),
    ):
        pass
    assert "secret" not in str(refused.value)
