"""What the pages tell people to type exists: commands with options, selections, make targets, variables, imports."""

import importlib
import importlib.util
import json
import re
import shlex

import apprise
import pytest
import typer.main

from health_pipeline.cli.app import app
from health_pipeline.defs.build import build_definitions
from health_pipeline.defs.runner import plan_runs
from health_pipeline.errors import PipelineError
from health_pipeline.months import MonthRange, parse_month
from health_pipeline.reference import setting_rows
from health_pipeline.settings import load_settings
from health_pipeline_tests.doc_blocks import PAGES, ROOT, SHELL, blocks_of, prose_of

# Variables that are no settings: where the file of settings is, and what tests and charts take.
OTHER_VARIABLES = {"HEALTH_PIPELINE_CONFIG", "HEALTH_PIPELINE_TEST_POSTGRES", "HEALTH_PIPELINE_TEST_S3"}
NO_MONTH = (None, "YYYY-MM")
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(text, languages):
    return [block.content for block in blocks_of(ROOT, text) if block.language in languages]


def shell_lines(text):
    """Lines of shell blocks and of inline code, without what a here-document holds."""
    for block in blocks(text, SHELL):
        kept = re.sub(r"<<'(\w+)'\n.*?^ *\1$", "", block, flags=re.MULTILINE | re.DOTALL)
        yield from kept.replace("\\\n", " ").splitlines()
    prose = prose_of(text)
    yield from (code for code in re.findall(r"`([^`\n]+)`", prose) if code.startswith(("health-pipeline ", "make ")))


def command_lines(text):
    """Words after ``health-pipeline`` of each command."""
    for line in shell_lines(text):
        for part in re.split(r"&&|;|\|(?!\w)", line.partition(" #")[0]):
            words = shlex.split(part, comments=False) if part.count("'") % 2 == 0 else []
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words and words[0].rpartition("/")[2] == "health-pipeline":
                yield [word.strip("[]") for word in words[1:]]  # brackets: may be left out


def refused(words):
    """Why the command line would not take these words; empty when it would."""
    command = typer.main.get_command(app)
    words = list(words)
    name = []
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-"):
            return "" if words == ["--version"] else f"{name}: no command"
        if "|" in words[0]:  # one of several is meant: `ingest uci|synthea|omop`
            words[0] = words[0].split("|")[0]
        if words[0] not in command.commands:
            return f"no command {' '.join([*name, words[0]])}"
        name.append(words.pop(0))
        command = command.commands[name[-1]]
    if not words:
        return ""  # the command is named, not shown
    try:
        context = command.make_context(" ".join(name), words)
    except Exception as error:  # noqa: BLE001  # whatever the parser says is the answer
        return f"{' '.join(name)}: {type(error).__name__} {error}"
    return wrong_values(context.params)


def wrong_values(values):
    try:
        first, last = (
            parse_month(values[name]) if values.get(name, "YYYY-MM") not in NO_MONTH else None
            for name in ("first", "last")
        )
        if values.get("select"):
            settings = load_settings()
            plan_runs(
                build_definitions(settings), MonthRange(settings.start_month, settings.end_month), values["select"]
            )
    except (PipelineError, ValueError) as error:
        return str(error)
    return "" if not (first and last) or first <= last else "months the wrong way round"


@pages
def test_every_command_shown_is_one_the_command_line_takes(page):
    for words in command_lines(page.read_text()):
        assert refused(words) == "", f"{page.name}: health-pipeline {shlex.join(words)}"


@pytest.mark.parametrize(
    "line",
    [
        "health-pipeline fly",
        "health-pipeline quarantine burn",
        "health-pipeline run --fast",
        "health-pipeline run --from 2024-13",
        "health-pipeline run --from 2024-05 --to 2024-04",
        "health-pipeline run --select group:nothing",
        "FOO=1 .venv/bin/health-pipeline up --port many",
        "health-pipeline restore --verify archive.tar",
    ],
)
def test_the_reader_of_commands_says_no(line):
    (words,) = command_lines(f"```bash\n{line}\n```")
    assert refused(words)


def test_commands_are_found_where_people_see_them():
    text = (
        "```bash\nexport A=1   # health-pipeline no\nhealth-pipeline \\\n  status\n```\n`health-pipeline doctor`, `x`"
    )
    assert list(command_lines(text)) == [["status"], ["doctor"]]
    assert sum(len(list(command_lines(page.read_text()))) for page in PAGES) > 40


@pages
def test_every_make_target_shown_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in shell_lines(page.read_text()):
        match = re.match(r"\s*make ((?:[a-z-]+ ?)+)", line.partition(" #")[0])
        for target in match[1].split() if match else ():
            assert target in targets, f"{page.name}: make {target}"


@pages
def test_every_variable_named_is_a_setting(page):
    known = {row.variable for row in setting_rows()} | OTHER_VARIABLES
    for name in re.findall(r"HEALTH_PIPELINE_\w+", page.read_text()):
        # Options of adapters have names of their own; a name that ends in underscores stands for its section.
        is_option = name.startswith("HEALTH_PIPELINE_INGEST__OPTIONS__")
        is_section = name.endswith("__") and any(each.startswith(name) for each in known)
        assert name in known or is_option or is_section, f"{page.name}: {name}"


@pages
def test_every_module_and_name_imported_exists(page):
    text = page.read_text()
    code = "\n".join([*blocks(text, ("python",)), *re.findall(r"<<'PYTHON'\n(.*?)PYTHON", text, re.DOTALL)])
    for module, names in re.findall(r"^ *from (health_pipeline[\w.]*) import ([\w, ]+)", code, re.MULTILINE):
        found = importlib.import_module(module)
        for name in names.split(","):
            assert hasattr(found, name.strip()) or importlib.util.find_spec(f"{module}.{name.strip()}"), (
                f"{module} {name}"
            )
    for module in re.findall(r"python -m ((?:health_pipeline|benchmarks)[\w.]*)", text):
        assert importlib.util.find_spec(module.rstrip(".")), f"{page.name}: python -m {module}"


def test_every_alert_address_shown_has_a_form_that_apprise_knows():
    text = "".join(page.read_text() for page in PAGES)
    shown = [
        url for urls in re.findall(r"HEALTH_PIPELINE_NOTIFY__\w*URLS='(\[.*?\])'", text) for url in json.loads(urls)
    ]
    assert len(shown) > 3
    assert [url for url in shown if apprise.Apprise.instantiate(url) is None] == []
    assert apprise.Apprise.instantiate("slack://token-a/token-b/token-c/#on-call") is None


def test_markers_of_blocks_are_understood():
    text = "<!-- run: no, it takes hours -->\n```bash\nmake x\n```\n1. ```sh\n   a\n   b\n   ```\n\n```python\nc\n```\n"
    first, second, third = blocks_of(ROOT, text)
    assert (first.marker, first.content, first.line) == ("no, it takes hours", "make x\n", 2)
    assert (second.marked, second.language, second.content) == (False, "sh", "a\nb\n")
    assert (third.marked, third.language) == (False, "python")
    assert prose_of(text).strip() == ""


@pages
def test_what_is_not_run_says_why(page):
    for block in blocks_of(page):
        kind, _, rest = block.marker.partition(" ")
        assert kind.rstrip(",") in {"", "deployed", "fresh", "serve", "no"}, block.name
        assert kind != "no," or len(rest) > 10, f"{block.name}: no reason"
        assert kind != "serve" or rest.startswith("http://127.0.0.1:"), block.name
        assert not block.marked or block.language in {*SHELL, "python"}, f"{block.name}: nothing that could run"
