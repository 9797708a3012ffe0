"""The engine: loaded releases, and the scoring of decoded records with routing, fallback, shadow and log.

State that requests read is one immutable object (:class:`Live`); a switch replaces the reference between two
requests. A release that fails on a request costs the client nothing: the fallback answers, the failure is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from health_pipeline.errors import DeploymentError
from health_pipeline.serving.answers import (
    Answer,
    Answers,
    NotExplainableError,
    Question,
    ScoringError,
    UnknownReleaseError,
)
from health_pipeline.serving.counters import Counters
from health_pipeline.serving.live import Live, Loaded, Scorer, checked
from health_pipeline.serving.prediction_log import Prediction, PredictionLog
from health_pipeline.serving.release import Release, read_release
from health_pipeline.serving.schema import Record, RequestSchema, Values, values_of
from health_pipeline.serving.shadow import Shadow
from health_pipeline.serving.traffic import Router, Traffic

_log = structlog.get_logger(__name__)


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
        self._shadow = Shadow(counters, prediction_log)

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
            item.columns, item.asked = schema.columns_of(item.scorer.features), schema.features
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
            checked(scorer.probability(nulls))  # warm, and proof that it scores at all
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
        """Stop the shadow's thread."""
        self._shadow.close()

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

    def answer_each(self, questions: Sequence[Question]) -> list[Answers | ScoringError]:
        """Answer several requests for one record each, with one call of every model that is asked.

        A record on which a model fails costs the others nothing: they are scored again, each by itself.
        """
        rows = [values_of(question.records[0]) for question in questions]
        groups: dict[int, tuple[Loaded, list[int]]] = {}
        for index, (question, values) in enumerate(zip(questions, rows, strict=True)):
            chosen = self._choose(question.live, question.records[0], values, None)
            groups.setdefault(id(chosen), (chosen, []))[1].append(index)
        answers: list[Any] = [None] * len(questions)
        for chosen, indexes in groups.values():
            began = time.perf_counter()
            try:
                probabilities = chosen.probabilities([rows[index] for index in indexes])
            except Exception:  # noqa: BLE001  (counted and logged for the one whose fault it is)
                for index in indexes:
                    answers[index] = self._alone(questions[index])
                continue
            chosen.counters.answered_each(probabilities, time.perf_counter() - began)
            now = time.time_ns()
            for index, probability in zip(indexes, probabilities, strict=True):
                live, records = questions[index]
                values = rows[index]
                answers[index] = Answers([self._tell(chosen, records[0], values, probability, "primary", now)])
                if live.shadow is not None:
                    self._shadow.cast(live.shadow, records, (values,))
        return answers

    def _alone(self, question: Question) -> Answers | ScoringError:
        try:
            return self.answer(question.live, question.records, explain=False, pin=None, role="primary")
        except ScoringError as error:
            return error

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
        now = time.time_ns()
        answers = [
            self._tell(used, record, values, probability, role, now)
            for record, values, probability in zip(records, rows, probabilities, strict=True)
        ]
        if contributions is not None:
            for answer, parts in zip(answers, contributions, strict=True):
                answer.contributions = parts
        if live.shadow is not None and role != "probe":
            self._shadow.cast(live.shadow, records, rows)
        return answers

    def _tell(
        self, used: Loaded, record: Record, values: Values, probability: float, role: str, time_ns: int
    ) -> Answer:
        """The answer for one record, which is logged."""
        release = used.release
        facts = release.facts
        self._prediction_log.append(
            Prediction(
                time_ns,
                record.patient_id,
                record.encounter_id,
                values,
                probability,
                facts.model_id,
                release.release_id,
                role,
                used.asked,
            )
        )
        return Answer(probability, probability >= facts.threshold, facts.model_id)


def _apply(
    loaded: Loaded, rows: Sequence[Values], explain: bool
) -> tuple[Sequence[float], list[Mapping[str, float]] | None]:
    probabilities = loaded.probabilities(rows)
    if not explain:
        return probabilities, None
    return probabilities, [loaded.scorer.contributions(values) for values in loaded.wanted(rows)]


__all__ = ["Engine", "Scorer"]
