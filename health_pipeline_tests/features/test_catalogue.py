"""The catalogue: complete, in order, documented."""

from __future__ import annotations

import re

import pytest

from health_pipeline.features import FEATURE_TABLE, FEATURES, model_features, schema_hash
from health_pipeline.features.code_lists import comorbidities, expand, laboratory_tests, medicine_classes
from health_pipeline.features.medicines import DRUGS
from health_pipeline.settings import FeatureSettings, Settings
from health_pipeline_tests.features.page import PAGE, render

WITHOUT_DEMOGRAPHICS = Settings(features=FeatureSettings(demographics=False))


def test_every_feature_is_described() -> None:
    assert len({item.name for item in FEATURES}) == len(FEATURES) >= 80
    for item in FEATURES:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", item.name)
        assert item.meaning
        assert item.window
        assert item.source.startswith("silver.")
        assert item.as_of in {"recorded_at", "processed_at", "discharged_at"}
        if item.kind == "boolean":
            assert re.search(r"(^|_)(is|has)_|^(charlson|elixhauser)_", item.name)


def test_dropping_demographics_is_one_setting() -> None:
    dropped = {item.name for item in FEATURES} - {item.name for item in model_features(WITHOUT_DEMOGRAPHICS)}
    assert dropped == {item.name for item in FEATURES if item.group == "demographics"}
    assert {"age_years", "sex", "race", "ethnicity", "language", "marital_status", "income_log"} == dropped
    assert schema_hash(WITHOUT_DEMOGRAPHICS) != schema_hash(Settings())


def test_features_do_not_depend_on_demographics_outside_their_group() -> None:
    assert not [item.name for item in FEATURES if "demographic" in item.sql and item.group != "demographics"]


def test_no_feature_reads_the_outcome() -> None:
    assert not [item.name for item in FEATURES if "readmitted" in item.sql or "deceased" in item.sql]


def test_the_schema_hash_is_stable() -> None:
    assert schema_hash(Settings()) == schema_hash(Settings())
    assert re.fullmatch(r"[0-9a-f]{16}", schema_hash(Settings()))


def test_the_table_has_the_catalogue_in_order() -> None:
    assert FEATURE_TABLE.column_names[:4] == ("month", "encounter_id", "patient_key", "discharged_at")
    assert FEATURE_TABLE.column_names[4:] == tuple(item.name for item in FEATURES)


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run `python -m health_pipeline_tests.features.page`"


def test_ranges_of_prefixes() -> None:
    assert expand("4254-4256 428") == ("4254", "4255", "4256", "428")
    assert expand("K700-K702") == ("K700", "K701", "K702")
    for wrong in ("K70-L72", "10-9", "K7-K71"):
        with pytest.raises(ValueError, match="range"):
            expand(wrong)


def test_code_lists_are_whole() -> None:
    assert len(comorbidities("charlson")) == 17
    assert len(comorbidities("elixhauser")) == 31
    for index in ("charlson", "elixhauser"):
        for item in comorbidities(index):
            assert {system for system, _ in item.prefixes} == {"ICD9CM", "ICD10CM"}
    codes = [code for test in laboratory_tests() for code in test.loinc]
    assert len(set(codes)) == len(codes)
    assert all(test.plausible_low < test.low < test.high < test.plausible_high for test in laboratory_tests())
    drugs = {code: drug for item in medicine_classes() for code, drug in item.rxnorm}
    assert len(drugs) == sum(len(item.rxnorm) for item in medicine_classes())
    assert all(drug in {None, *item.names} for item in medicine_classes() for _, drug in item.rxnorm)
    # A drug whose own state is kept is known by its code too: "no" would say that it was not given.
    assert set(DRUGS) <= set(drugs.values())
