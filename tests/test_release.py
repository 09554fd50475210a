"""What strangers rely on: the public modules, the citation, and the workflows that test and publish."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
POLICY = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
PUBLIC = re.findall(r"^\| `(fractionate[\w.]*)` \|", POLICY, re.MULTILINE)
USES = re.compile(r"[\w-]+/[\w./-]+@(v\d+|release/v\d+)|\./\.github/workflows/\w+\.yml")


def workflow(name: str) -> dict[str, Any]:
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text(encoding="utf-8")
    return yaml.load(text, yaml.BaseLoader)  # YAML 1.1 reads the key `on` as True


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job.get("steps", [])]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_lists_names_that_are_there(name: str) -> None:
    module = import_module(name)
    assert module.__doc__
    assert [each for each in module.__all__ if not hasattr(module, each) or each.startswith("_")] == []
    assert len(set(module.__all__)) == len(module.__all__) > 0


def test_the_page_of_the_api_shows_every_public_module_and_no_other() -> None:
    shown = re.findall(r"automodule:: ([\w.]+)", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"))
    assert sorted(["fractionate", *shown]) == sorted(PUBLIC)


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format requires
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == PROJECT["authors"]
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])


@pytest.mark.parametrize("name", ["ci", "release"])
def test_workflows_use_released_actions_and_little_power(name: str) -> None:
    assert workflow(name)["permissions"] == {"contents": "read"}
    used = [step["uses"] for step in steps(name) if "uses" in step]
    assert used
    assert [each for each in used if not USES.fullmatch(each)] == []
    assert all(("run" in step) != ("uses" in step) for step in steps(name))


def test_ci_runs_the_same_script_on_the_oldest_and_the_newest() -> None:
    job = workflow("ci")["jobs"]["run"]
    oldest, newest = job["strategy"]["matrix"]["include"]
    assert f"torch>={oldest['torch'].removesuffix('.*')}" in PROJECT["dependencies"]
    assert PROJECT["requires-python"] == f">={oldest['python']}"
    assert newest["torch"] == ""
    tried = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert newest["python"] == tried[-1]
    assert job["env"]["FRACTIONATE_TORCH"] == "${{ matrix.torch }}"
    assert "FRACTIONATE_TORCH" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert job["steps"][-1]["run"] == "bash .ci/run"


def test_only_the_last_job_of_a_release_may_publish_and_it_waits_for_the_tests() -> None:
    jobs = workflow("release")["jobs"]
    assert (jobs["build"]["needs"], jobs["publish"]["needs"]) == ("ci", "build")
    assert [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})] == ["publish"]
    assert workflow("release")["on"] == {"push": {"tags": ["v*"]}}


def test_a_tag_that_is_not_the_version_is_refused() -> None:
    command = [sys.executable, ROOT / ".ci" / "check_release.py", "v9.9.9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    named = [line.partition(" ")[0] for line in done.stderr.splitlines()]
    assert named == ["pyproject.toml", "src/fractionate/__init__.py", "CITATION.cff", "CHANGELOG.md"]
    assert all(PROJECT["version"] in line for line in done.stderr.splitlines())
