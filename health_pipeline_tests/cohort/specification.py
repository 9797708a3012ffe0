"""The rules of the cohort as small patient tables with the expected outcome; docs/cohort.md shows the same tables."""

# ruff: noqa: E501 (prose and tables)

from __future__ import annotations

from dataclasses import dataclass, field

# Short names of the tables below -> columns of silver.admissions.
COLUMNS = {
    "stay": "encounter_id",
    "patient": "patient_key",
    "facility": "facility_id",
    "admitted": "admitted_at",
    "discharged": "discharged_at",
    "type": "admission_type",
    "source": "admission_source",
    "disposition": "discharge_disposition",
    "planned": "is_planned",
    "stated": "readmitted_30d",
}


@dataclass(frozen=True)
class Case:
    """A rule, its reason, and a table of stays with what each becomes.

    Attributes:
        table: columns of ``COLUMNS``, ``diagnosis`` (principal, ICD-10-CM) and ``expected``: ``readmitted <date>``,
            ``readmitted`` (no date stated), ``not readmitted``, ``no index: <reason>`` or ``open``.
        changes: rules of ``cms_30_day`` that this case changes, as ``section.rule``.
        born: birth dates by patient.
        died: dates of death by patient, recorded the day after.
        closed: last month that has landed.
    """

    title: str
    why: str
    table: str
    changes: dict[str, object] = field(default_factory=dict)
    born: dict[str, str] = field(default_factory=dict)
    died: dict[str, str] = field(default_factory=dict)
    closed: str = "2022-04"

    @property
    def rows(self) -> list[dict[str, str]]:
        """Cells by column name."""
        lines = [[cell.strip() for cell in line.split("|")] for line in self.table.strip().splitlines()]
        return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


CASES = (
    Case(
        "Coming back within 30 days",
        "The window is counted in calendar days: day 30 lies inside, day 31 does not. The stay that is a readmission is"
        " itself an index admission.",
        """
        stay | patient | admitted         | discharged       | expected
        a1   | ann     | 2022-01-03 09:00 | 2022-01-05 10:00 | readmitted 2022-02-04
        a2   | ann     | 2022-02-04 23:00 | 2022-02-09 12:00 | not readmitted
        b1   | bob     | 2022-01-03 09:00 | 2022-01-05 10:00 | not readmitted
        b2   | bob     | 2022-02-05 01:00 | 2022-02-09 12:00 | not readmitted
        """,
    ),
    Case(
        "A month that is still open",
        "The outcome of a month is known when the month after it has closed. Until then there is no row: not 0, not"
        " 'nobody came back'. It makes no difference that the readmission of a1 is already there.",
        """
        stay | patient | admitted         | discharged       | expected
        a1   | ann     | 2022-01-03 09:00 | 2022-01-05 10:00 | open
        a2   | ann     | 2022-01-20 08:00 | 2022-01-24 12:00 | open
        """,
        closed="2022-01",
    ),
    Case(
        "Who is no index",
        "Only what is known at the discharge decides. The rules apply in the order of the definition and each discharge"
        " is counted under the first that fits.",
        """
        stay | patient | admitted         | discharged       | disposition    | type      | expected
        a1   | ann     | 2022-01-03 09:00 | 2022-01-05 10:00 | expired        | emergency | no index: died_in_hospital
        b1   | bob     | 2022-01-03 09:00 | 2022-01-05 10:00 | hospice        | emergency | no index: discharged_to_hospice
        c1   | cat     | 2022-01-03 09:00 | 2022-01-05 10:00 | against_advice | emergency | no index: left_against_advice
        d1   | dan     | 2022-01-03 09:00 | 2022-01-05 10:00 | still_patient  | emergency | no index: not_discharged
        e1   | eve     | 2022-01-03 09:00 | 2022-01-05 10:00 | home           | newborn   | no index: birth
        f1   | fay     | 2022-01-03 09:00 | 2022-01-05 10:00 | expired        | newborn   | no index: died_in_hospital
        g1   | gus     | 2022-01-03 09:00 | 2022-01-05 10:00 | home_health    | elective  | not readmitted
        """,
    ),
    Case(
        "Adults",
        "Age counts at the admission. A patient whose age nobody recorded is kept.",
        """
        stay | patient | admitted         | discharged       | expected
        a1   | ann     | 2022-01-03 09:00 | 2022-01-05 10:00 | no index: under_age
        b1   | bob     | 2022-01-03 09:00 | 2022-01-05 10:00 | not readmitted
        c1   | cat     | 2022-01-03 09:00 | 2022-01-05 10:00 | not readmitted
        """,
        born={"ann": "2004-01-04", "bob": "2004-01-03"},
    ),
    Case(
        "A planned stay",
        "It does not count, and when it comes first it ends the window: what follows belongs to it. Where the source does"
        " not say whether a stay was planned, elective ones are, and so is chemotherapy.",
        """
        stay | patient | admitted         | discharged       | type      | planned | diagnosis | expected
        a1   | ann     | 2022-01-03 09:00 | 2022-01-05 10:00 | emergency | no      | I50.9     | not readmitted
        a2   | ann     | 2022-01-10 09:00 | 2022-01-12 10:00 | emergency | yes     | M17.11    | readmitted 2022-01-20
        a3   | ann     | 2022-01-20 09:00 | 2022-01-22 10:00 | emergency | no      | T84.5     | not readmitted
        b1   | bob     | 2022-01-03 09:00 | 2022-01-05 10:00 | emergency |         | I50.9     | not readmitted
        b2   | bob     | 2022-01-10 09:00 | 2022-01-12 10:00 | elective  |         | M17.11    | not readmitted
        c1   | cat     | 2022-01-03 09:00 | 2022-01-05 10:00 | emergency | no      | C18.2     | not readmitted
        c2   | cat     | 2022-01-10 09:00 | 2022-01-12 10:00 | urgent    | no      | Z51.11    | not readmitted
        d1   | dan     | 2022-01-03 09:00 | 2022-01-05 10:00 | emergency | no      | I50.9     | readmitted 2022-01-08
        d2   | dan     | 2022-01-08 09:00 | 2022-01-09 10:00 | emergency | no      | I50.9     | not readmitted
        d3   | dan     | 2022-01-10 09:00 | 2022-01-12 10:00 | elective  | yes     | M17.11    | not readmitted
        """,
    ),
    Case(
        "A planned stay, where it does not end the window",
        "With `outcome.planned.ends_window = false` the first unplanned stay counts, whatever came before it.",
        """
        stay | patient | admitted         | discharged       | planned | expected
        a1   | ann     | 2022-01-03 09:00 | 2022-01-05 10:00 | no      | readmitted 2022-01-20
        a2   | ann     | 2022-01-10 09:00 | 2022-01-12 10:00 | yes     | readmitted 2022-01-20
        a3   | ann     | 2022-01-20 09:00 | 2022-01-22 10:00 | no      | not readmitted
        """,
        changes={"outcome.planned.ends_window": False},
    ),
    Case(
        "A chain of transfers",
        "A discharge to another acute hospital goes on there: it is no index, and the last discharge of the chain is. For"
        " the stay before, the first stay of the chain is the readmission.",
        """
        stay | patient | facility | admitted         | discharged       | disposition    | source         | expected
        a0   | ann     | north    | 2022-01-01 09:00 | 2022-01-02 10:00 | home           | emergency_room | readmitted 2022-01-03
        a1   | ann     | north    | 2022-01-03 09:00 | 2022-01-05 10:00 | acute_transfer | emergency_room | no index: transferred_to_acute_care
        a2   | ann     | south    | 2022-01-05 12:00 | 2022-01-12 10:00 | acute_transfer | transfer_acute | no index: transferred_to_acute_care
        a3   | ann     | west     | 2022-01-13 09:00 | 2022-01-15 10:00 | home           | transfer_acute | readmitted 2022-01-30
        a4   | ann     | north    | 2022-01-30 09:00 | 2022-01-31 10:00 | home           | emergency_room | not readmitted
        """,
    ),
    Case(
        "A transfer that the first hospital called a discharge",
        "A stay in another facility that names an acute hospital as its source and begins within one day continues the"
        " one before: it is no readmission. The eligibility of the first discharge does not change, because the transfer"
        " was not known then.",
        """
        stay | patient | facility | admitted         | discharged       | source         | expected
        a1   | ann     | north    | 2022-01-03 09:00 | 2022-01-05 10:00 | emergency_room | not readmitted
        a2   | ann     | south    | 2022-01-06 08:00 | 2022-01-12 10:00 | transfer_acute | not readmitted
        b1   | bob     | north    | 2022-01-03 09:00 | 2022-01-05 10:00 | emergency_room | readmitted 2022-01-07
        b2   | bob     | south    | 2022-01-07 08:00 | 2022-01-12 10:00 | transfer_acute | not readmitted
        c1   | cat     | north    | 2022-01-03 09:00 | 2022-01-05 10:00 | emergency_room | readmitted 2022-01-20
        c2   | cat     | south    | 2022-01-05 12:00 | 2022-01-12 10:00 | transfer_acute | readmitted 2022-01-20
        c3   | cat     | south    | 2022-01-20 12:00 | 2022-01-22 10:00 | emergency_room | not readmitted
        """,
    ),
    Case(
        "The same day",
        "Back in the same facility on the same day for the same cause (three characters of the principal diagnosis) is one"
        " stay that was interrupted; for another cause it is a readmission.",
        """
        stay | patient | admitted         | discharged       | diagnosis | expected
        a1   | ann     | 2022-01-03 09:00 | 2022-01-05 10:00 | I50.9     | not readmitted
        a2   | ann     | 2022-01-05 18:00 | 2022-01-08 10:00 | I50.23    | not readmitted
        b1   | bob     | 2022-01-03 09:00 | 2022-01-05 10:00 | I50.9     | readmitted 2022-01-05
        b2   | bob     | 2022-01-05 18:00 | 2022-01-08 10:00 | S72.001A  | not readmitted
        c1   | cat     | 2022-01-03 09:00 | 2022-01-05 10:00 | I50.9     | readmitted 2022-01-06
        c2   | cat     | 2022-01-06 08:00 | 2022-01-08 10:00 | I50.9     | not readmitted
        """,
    ),
    Case(
        "Death after the discharge",
        "As in the CMS measure, dying at home is not being readmitted. The patient stays in the cohort.",
        """
        stay | patient | admitted         | discharged       | expected
        a1   | ann     | 2022-01-03 09:00 | 2022-01-05 10:00 | not readmitted
        """,
        died={"ann": "2022-01-20"},
    ),
    Case(
        "Death after the discharge, where it counts",
        'With `outcome.death = "counted"` the outcome is readmission or death, whichever comes first. Only deaths that had'
        " landed when the label matured can count.",
        """
        stay | patient | admitted         | discharged       | expected
        a1   | ann     | 2022-01-03 09:00 | 2022-01-05 10:00 | readmitted 2022-01-20
        b1   | bob     | 2022-01-03 09:00 | 2022-01-05 10:00 | readmitted 2022-01-09
        b2   | bob     | 2022-01-09 09:00 | 2022-01-15 10:00 | readmitted 2022-01-20
        c1   | cat     | 2022-01-03 09:00 | 2022-01-05 10:00 | not readmitted
        """,
        changes={"outcome.death": "counted"},
        died={"ann": "2022-01-20", "bob": "2022-01-20", "cat": "2022-02-20"},
    ),
    Case(
        "An outcome stated by the source",
        "Where the extract states `readmitted_30d`, it wins over what its dates seem to say: the readmission may lie outside"
        " the file. `outcome_source` keeps the two apart.",
        """
        stay | patient | admitted         | discharged       | stated | expected
        a1   | ann     | 2022-01-03 09:00 | 2022-01-05 10:00 | no     | not readmitted
        a2   | ann     | 2022-01-10 09:00 | 2022-01-12 10:00 | yes    | readmitted
        b1   | bob     | 2022-01-03 09:00 | 2022-01-05 10:00 |        | readmitted 2022-01-10
        b2   | bob     | 2022-01-10 09:00 | 2022-01-12 10:00 |        | not readmitted
        """,
    ),
    Case(
        "A condition-specific measure",
        'With `index.principal_diagnoses = ["I50"]` and `index.days_since_last_discharge = 30`: index admissions are those'
        " for heart failure that do not themselves follow another stay; any unplanned stay counts as the readmission.",
        """
        stay | patient | admitted         | discharged       | diagnosis | expected
        a1   | ann     | 2022-01-03 09:00 | 2022-01-05 10:00 | I50.9     | readmitted 2022-01-12
        a2   | ann     | 2022-01-12 09:00 | 2022-01-14 10:00 | J44.1     | no index: other_condition
        b1   | bob     | 2022-01-03 09:00 | 2022-01-05 10:00 | I50.9     | readmitted 2022-01-12
        b2   | bob     | 2022-01-12 09:00 | 2022-01-14 10:00 | I50.9     | no index: follows_another_stay
        """,
        changes={"index.principal_diagnoses": ["I50"], "index.days_since_last_discharge": 30},
    ),
    Case(
        "A stay that is billed in parts, in a condition-specific measure",
        "A part that ends as `still_patient` is no discharge that its own continuation could follow: the last part is the"
        " index.",
        """
        stay | patient | admitted         | discharged       | disposition   | expected
        a1   | ann     | 2022-01-03 09:00 | 2022-01-31 23:59 | still_patient | no index: not_discharged
        a2   | ann     | 2022-01-31 23:59 | 2022-02-09 10:00 | home          | readmitted 2022-02-20
        a3   | ann     | 2022-02-20 09:00 | 2022-02-22 10:00 | home          | no index: follows_another_stay
        """,
        changes={"index.days_since_last_discharge": 30},
    ),
    Case(
        "What a month later cannot show",
        "Stays land in the month of their discharge. A readmission that is still in hospital when the next month closes, or"
        " that begins on the last days of the window after a discharge on the 29th to 31st of January, is not visible when"
        " the label matures, and is not looked up later: a1 and b1 came back within 30 days and are labelled as not"
        " readmitted.",
        """
        stay | patient | admitted         | discharged       | expected
        a1   | ann     | 2022-01-25 09:00 | 2022-01-28 10:00 | not readmitted
        a2   | ann     | 2022-02-20 09:00 | 2022-03-04 10:00 | not readmitted
        b1   | bob     | 2022-01-25 09:00 | 2022-01-31 10:00 | not readmitted
        b2   | bob     | 2022-03-01 09:00 | 2022-03-04 10:00 | not readmitted
        """,
    ),
)
