"""Images against a program that behaves as told: what is tried again, what is refused, what is a no-op."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from health_pipeline.deployment.ecr import is_ecr
from health_pipeline.deployment.images import ImageTool
from health_pipeline.deployment.target import Package
from health_pipeline.errors import DeploymentError
from health_pipeline.settings import DeploymentSettings
from health_pipeline_tests.serving.bundles import linear_bundle, pack

# A container tool that keeps images in a JSON file, and fails with the lines of a script, one per call of `push`.
TOOL = """#!{python}
import json, os, pathlib, sys
state = pathlib.Path({state!r})
kept = json.loads(state.read_text())
words = sys.argv[1:]
kept["calls"].append(words)
out = ""
if words[0] == "build":
    labels = dict(words[i + 1].split("=", 1) for i, word in enumerate(words) if word == "--label")
    kept["images"][words[words.index("--tag") + 1]] = labels
elif words[0] == "inspect":
    if words[-1] not in kept["images"]:
        sys.exit("no such image")
    out = json.dumps({{"FromImageID": "ab" * 32, "Docker": {{"config": {{"Labels": kept["images"][words[-1]]}}}}}})
elif words[0] == "login":
    kept["password"] = sys.stdin.read()
    pathlib.Path(os.environ["REGISTRY_AUTH_FILE"]).write_text("{{}}")
    kept["login_file"] = os.environ["REGISTRY_AUTH_FILE"]
    if kept.get("login_fails"):
        sys.exit("Error: logging into registry: unauthorized")
elif words[0] == "push":
    said = kept["pushes"].pop(0) if kept["pushes"] else ""
    state.write_text(json.dumps(kept))
    if said:
        sys.exit(said)
    pathlib.Path(words[words.index("--digestfile") + 1]).write_text("sha256:" + "cd" * 32)
state.write_text(json.dumps(kept))
print(out)
"""


class Tool:
    def __init__(self, folder: Path, monkeypatch, **settings) -> None:
        self.state = folder / "state.json"
        self.state.write_text(json.dumps({"images": {}, "calls": [], "pushes": []}))
        programs = folder / "bin"
        programs.mkdir()
        program = programs / "buildah"
        program.write_text(TOOL.format(python=sys.executable, state=str(self.state)))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(programs))
        self.pauses: list[float] = []
        self.settings = DeploymentSettings(registry="registry.example/team/api", **settings)
        self.release = pack(linear_bundle(), folder / "home")
        self.images = ImageTool(self.settings, folder / "home" / "releases", self.pauses.append)

    def script(self, **values) -> None:
        self.state.write_text(json.dumps({**json.loads(self.state.read_text()), **values}))

    def calls(self, word: str) -> list[list[str]]:
        return [call for call in json.loads(self.state.read_text())["calls"] if call[0] == word]


@pytest.fixture
def tool(tmp_path, monkeypatch) -> Tool:
    return Tool(tmp_path, monkeypatch)


def test_an_image_is_built_once_for_a_release(tool):
    first, second = tool.images.build(tool.release), tool.images.build(tool.release)
    assert first == second
    assert first.digest == "sha256:" + "ab" * 32
    assert tool.release.release_id in first.reference
    (build,) = tool.calls("build")
    assert build[build.index("--target") + 1] == "release"
    assert build[build.index("--build-arg") + 1] == "BASE=python:3.11-slim"
    assert f"health-pipeline.model-id={tool.release.facts.model_id}" in build
    assert build[build.index("--format") + 1] == "docker"


def test_the_digest_of_the_registry_travels(tool):
    published = tool.images.publish(tool.images.build(tool.release))
    assert published.digest == "sha256:" + "cd" * 32
    assert published.reference == f"registry.example/team/api@{published.digest}"
    assert not tool.calls("login")


def test_network_faults_are_tried_again_with_growing_pauses(tool):
    package = tool.images.build(tool.release)
    tool.script(pushes=["dial tcp: i/o timeout", "read: connection reset by peer"])
    assert tool.images.publish(package).digest.endswith("cd")
    assert tool.pauses == [1.0, 2.0]


@pytest.mark.parametrize(
    "said",
    [
        'pushing image "registry.example/team/api:lr-202403-1a2b3c4d5e-0f0f": read: connection reset by peer',
        "writing blob sha256:77a401b2: dial tcp: i/o timeout",
        "received unexpected HTTP status: 503 Service Unavailable",
        "Patch https://registry.example/v2/: EOF",
    ],
)
def test_digits_of_a_month_or_a_digest_are_no_refusal(tool, said):
    package = tool.images.build(tool.release)
    tool.script(pushes=[said])
    assert tool.images.publish(package).digest.endswith("cd")


def test_a_registry_that_stays_away_fails_after_all_tries(tool):
    package = tool.images.build(tool.release)
    tool.script(pushes=["dial tcp: connection refused"] * 10)
    with pytest.raises(DeploymentError, match="failed after 4 tries"):
        tool.images.publish(package)
    assert len(tool.calls("push")) == 4


@pytest.mark.parametrize("said", ["unauthorized: authentication required", "denied: requested access", "received 403"])
def test_a_refusal_is_not_tried_again(tool, said):
    package = tool.images.build(tool.release)
    tool.script(pushes=[said])
    with pytest.raises(DeploymentError, match="refused the push"):
        tool.images.publish(package)
    assert len(tool.calls("push")) == 1


def test_the_password_goes_by_standard_input(tmp_path, monkeypatch):
    tool = Tool(tmp_path, monkeypatch, registry_user="me", registry_password="secret-word")
    tool.images.publish(tool.images.build(tool.release))
    (login,) = tool.calls("login")
    assert "secret-word" not in login
    kept = json.loads(tool.state.read_text())
    assert kept["password"] == "secret-word"
    assert not Path(kept["login_file"]).exists()
    tool.script(login_fails=True)
    with pytest.raises(DeploymentError, match="refused the login"):
        tool.images.publish(tool.images.build(tool.release))


def test_what_is_missing_is_said_before_anything_happens(tmp_path, monkeypatch):
    tool = Tool(tmp_path, monkeypatch)
    with pytest.raises(DeploymentError, match="no image repository is set"):
        ImageTool(DeploymentSettings(), tmp_path).check()
    with pytest.raises(DeploymentError, match="running an image for its tests needs one of: podman, docker"):
        tool.images.check()  # buildah alone builds, but cannot try
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(DeploymentError, match="one of: buildah, podman, docker"):
        tool.images.build(tool.release)
    with (
        pytest.raises(DeploymentError, match="one of: podman, docker"),
        tool.images.trial(Package(tool.release, "x", "y"), 1),
    ):
        pass


def test_what_an_ecr_is():
    assert is_ecr("123456789012.dkr.ecr.eu-central-1.amazonaws.com")
    assert not is_ecr("registry.example")
    assert not is_ecr("123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.example")


def test_the_image_recipe_travels_with_the_package():
    from importlib.resources import files

    recipe = files("health_pipeline.deployment").joinpath("Dockerfile").read_text()
    assert "ARG BASE=" in recipe
    assert "FROM api AS release" in recipe
    assert "USER 10001" in recipe
