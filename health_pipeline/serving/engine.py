"""The engine: loaded releases, and the scoring of decoded records with routing, fallback, shadow and log.

State that requests read is one immutable object (:class:`Live`); a switch replaces the reference between two
requests. A release that fails on a request costs the client nothing: the fallback answers, the failure is counted.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog

from health_pipeline.errors import DeploymentError
from health_pipeline.serving.counters import Counters, ReleaseCounters
from health_pipeline.serving.prediction_log import Prediction, PredictionLog
from health_pipeline.serving.release import Release, read_release
from health_pipeline.serving.schema import Feature, Record, RequestSchema, Values, values_of
from health_pipeline.serving.traffic import Router, Traffic

SHADOW_QUEUE = 2_000

_log = structlog.get_logger(__name__)


class Scorer(Protocol):
    """Turns feature values (in the order of ``features``) into probabilities."""

    @property
    def features(self) -> Sequence[Feature]:
        """Inputs, in the order of the values."""
        ...

    @property
    def is_explainable(self) -> bool:
        """Whether contributions can be given."""
        ...

    def probability(self, values: Values) -> float:
        """Probability of one record."""
        ...

    def probabilities(self, rows: Sequence[Values]) -> Sequence[float]:
        """Probabilities of many records."""
        ...

    def contributions(self, values: Values) -> Mapping[str, float]:
        """Additive contributions in log-odds per feature, and ``bias``."""
        ...


class Answer(msgspec.Struct, omit_defaults=True):
    """One record's part of the answer."""

    probability: float
    label: bool
    model_id: str
    contributions: Mapping[str, float] | None = None


class Answers(msgspec.Struct):
    """Body of the answer; the order is the order of the records."""

    predictions: list[Answer]


class ScoringError(Exception):
    """No release could score the records; the message holds no value."""


class NotExplainableError(Exception):
    """Contributions were asked of a model that cannot give them."""


class UnknownReleaseError(Exception):
    """A request asks for a release that is not loaded."""


@dataclass(slots=True)
class Loaded:
    """A release in memory."""

    release: Release
    scorer: Scorer
    counters: ReleaseCounters
    columns: tuple[int, ...] | None = None

    def values(self, values: Values) -> Values:
        """The values this release wants, out of those of the request schema."""
        return values if self.columns is None else tuple(values[column] for column in self.columns)


@dataclass(frozen=True, slots=True)
class Live:
    """Everything a request needs; never changed after it was made."""

    traffic: Traffic
    router: Router
    schema: RequestSchema
    loaded: Mapping[str, Loaded]
    only: Loaded | None
    fallback: Loaded | None
    shadow: Loaded | None


class Engine:
    """Holds the live state and scores.

    Args:
        releases: folder of the releases.
        load_scorer: builds the scorer of a release folder.
        counters: fed by every request.
        prediction_log: receives every prediction.
        max_records: most records in one request.
    """

    def __init__(
        self,
        releases: Path,
        load_scorer: Callable[[Path, Release], Scorer],
        counters: Counters,
        prediction_log: PredictionLog,
        max_records: int,
    ) -> None:
        self._releases, self._load_scorer, self._counters = releases, load_scorer, counters
        self._prediction_log, self._max_records = prediction_log, max_records
        self.live: Live | None = None
        self._shadow_queue: deque[tuple[Loaded, Record, Values]] = deque()
        self._shadow_wake = threading.Event()
        self._stopped = False
        self._shadow_thread = threading.Thread(target=self._run_shadow, name="shadow", daemon=True)
        self._shadow_thread.start()

    def prepare(self, traffic: Traffic) -> Live:
        """Load what the manifest names; releases already in memory are kept. Takes nothing over.

        Raises:
            DeploymentError: a release is missing, damaged, not the one named, or cannot be loaded or scored with.
        """
        known = self.live.loaded if self.live is not None else {}
        loaded: dict[str, Loaded] = {}
        for release_id, digest in traffic.releases.items():
            old = known.get(release_id)
            loaded[release_id] = (
                Loaded(old.release, old.scorer, old.counters)
                if old is not None and old.release.digest == digest
                else self._load(release_id, digest)
            )
        try:
            schema = RequestSchema([item.scorer.features for item in loaded.values()], max_records=self._max_records)
        except ValueError as error:
            raise DeploymentError(str(error), remedy="switch in two steps: first the control, then the rest") from error
        for item in loaded.values():
            item.columns = schema.columns_of(item.scorer.features)
        router = Router(traffic)
        return Live(
            traffic=traffic,
            router=router,
            schema=schema,
            loaded=loaded,
            only=loaded[router.only] if router.only is not None else None,
            fallback=loaded[traffic.fallback.release_id] if traffic.fallback is not None else None,
            shadow=loaded[traffic.shadow.release_id] if traffic.shadow is not None else None,
        )

    def _load(self, release_id: str, digest: str) -> Loaded:
        folder = self._releases / release_id
        release = read_release(folder)
        if release.digest != digest:
            raise DeploymentError(
                f"release {release_id} has digest {release.digest}, the manifest names {digest}", where=str(folder)
            )
        try:
            scorer = self._load_scorer(folder, release)
            nulls: Values = (None,) * len(scorer.features)
            _checked(scorer.probability(nulls))  # warm, and proof that it scores at all
        except Exception as error:
            raise DeploymentError(
                f"the model of release {release_id} cannot be loaded: {type(error).__name__}: {error}",
                where=str(folder),
                remedy="keep the former release, and train the month again",
            ) from error
        return Loaded(release, scorer, self._counters.release(release_id))

    def take_over(self, live: Live) -> None:
        """The atomic switch."""
        self.live = live
        _log.info("traffic_taken_over", generation=live.traffic.generation, releases=sorted(live.loaded))

    def retire(self) -> None:
        """Serve nothing: the manifest was taken away."""
        self.live = None
        _log.info("retired")

    def close(self) -> None:
        """Stop the shadow thread."""
        self._stopped = True
        self._shadow_wake.set()
        self._shadow_thread.join(timeout=5)

    def answer(self, live: Live, records: Sequence[Record], *, explain: bool, pin: str | None, role: str) -> Answers:
        """Score decoded records.

        Args:
            live: state taken at the beginning of the request.
            records: decoded with ``live.schema``.
            explain: add contributions.
            pin: release that must answer, without routing.
            role: ``primary`` or ``probe``.

        Raises:
            ScoringError: no release could score.
            UnknownReleaseError: ``pin`` is not loaded.
            NotExplainableError: the model gives no contributions.
        """
        if len(records) == 1:
            record = records[0]
            values = values_of(record)
            chosen = self._choose(live, record, values, pin)
            return Answers([self._score(live, chosen, (record,), (values,), explain=explain, role=role)[0]])
        rows = [values_of(record) for record in records]
        groups: dict[str, list[int]] = {}
        for index, record in enumerate(records):
            groups.setdefault(self._choose(live, record, rows[index], pin).release.release_id, []).append(index)
        answers: list[Any] = [None] * len(records)
        for release_id, indexes in groups.items():
            part = self._score(
                live,
                live.loaded[release_id],
                [records[index] for index in indexes],
                [rows[index] for index in indexes],
                explain=explain,
                role=role,
            )
            for index, answer in zip(indexes, part, strict=True):
                answers[index] = answer
        return Answers(answers)

    @staticmethod
    def _choose(live: Live, record: Record, values: Values, pin: str | None) -> Loaded:
        if pin is not None:
            found = live.loaded.get(pin)
            if found is None:
                raise UnknownReleaseError
            return found
        if live.only is not None:
            return live.only
        sticky = record.patient_id.encode() if record.patient_id is not None else msgspec.json.encode(values)
        return live.loaded[live.router.pick(sticky)]

    def _score(
        self, live: Live, chosen: Loaded, records: Sequence[Record], rows: Sequence[Values], *, explain: bool, role: str
    ) -> list[Answer]:
        if explain and not chosen.scorer.is_explainable:
            raise NotExplainableError
        used = chosen
        began = time.perf_counter()
        try:
            probabilities, contributions = _apply(chosen, rows, explain)
        except Exception as error:  # noqa: BLE001  (whatever a model does wrong, the former one can answer)
            chosen.counters.failed(time.perf_counter() - began)
            _log.error("release_failed", release=chosen.release.release_id, error=type(error).__name__)
            if live.fallback is None or live.fallback is chosen or role == "probe":
                raise ScoringError(type(error).__name__) from None
            used, role = live.fallback, "fallback"
            began = time.perf_counter()
            try:
                probabilities, contributions = _apply(used, rows, explain)
            except Exception as second:  # noqa: BLE001
                used.counters.failed(time.perf_counter() - began)
                raise ScoringError(type(second).__name__) from None
        used.counters.answered(probabilities, time.perf_counter() - began)
        facts, append = used.release.facts, self._prediction_log.append
        threshold, model_id, release_id = facts.threshold, facts.model_id, used.release.release_id
        now = time.time_ns()
        answers = []
        for index, probability in enumerate(probabilities):
            record, values = records[index], rows[index]
            append(
                Prediction(now, record.patient_id, record.encounter_id, values, probability, model_id, release_id, role)
            )
            answers.append(
                Answer(
                    probability,
                    probability >= threshold,
                    model_id,
                    contributions[index] if contributions is not None else None,
                )
            )
        if live.shadow is not None and role != "probe":
            self._cast_shadow(live.shadow, records, rows)
        return answers

    def _cast_shadow(self, shadow: Loaded, records: Sequence[Record], rows: Sequence[Values]) -> None:
        room = SHADOW_QUEUE - len(self._shadow_queue)
        self._counters.shadow_dropped += max(0, len(rows) - room)
        for record, values in list(zip(records, rows, strict=True))[: max(0, room)]:
            self._shadow_queue.append((shadow, record, values))
        self._shadow_wake.set()

    def _run_shadow(self) -> None:
        while not self._stopped:
            self._shadow_wake.wait()
            self._shadow_wake.clear()
            while self._shadow_queue and not self._stopped:
                shadow, record, values = self._shadow_queue.popleft()
                try:
                    probability = _checked(shadow.scorer.probability(shadow.values(values)))
                except Exception as error:  # noqa: BLE001  (a shadow must not disturb anything)
                    shadow.counters.shadowed(None)
                    _log.error("shadow_failed", release=shadow.release.release_id, error=type(error).__name__)
                    continue
                shadow.counters.shadowed(probability)
                self._prediction_log.append(
                    Prediction(
                        time.time_ns(),
                        record.patient_id,
                        record.encounter_id,
                        values,
                        probability,
                        shadow.release.facts.model_id,
                        shadow.release.release_id,
                        "shadow",
                    )
                )


def _checked(probability: float) -> float:
    if not 0.0 <= probability <= 1.0:
        raise ArithmeticError("probability outside [0, 1]" if math.isfinite(probability) else "probability not finite")
    return probability


def _apply(
    loaded: Loaded, rows: Sequence[Values], explain: bool
) -> tuple[Sequence[float], list[Mapping[str, float]] | None]:
    scorer = loaded.scorer
    wanted = rows if loaded.columns is None else [loaded.values(values) for values in rows]
    if len(wanted) == 1:
        probabilities: Sequence[float] = (_checked(scorer.probability(wanted[0])),)
    else:
        probabilities = [_checked(probability) for probability in scorer.probabilities(wanted)]
        if len(probabilities) != len(wanted):
            raise ArithmeticError("number of probabilities")
    return probabilities, [scorer.contributions(values) for values in wanted] if explain else None
