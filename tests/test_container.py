"""The container: every step of the Containerfile is tried here, on what it would be given, without an engine.

A real build and run is described in docs/deploying.md; it needs docker or podman and a base image.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from call_tree import parsed

REPOSITORY = Path(__file__).parents[1]
GUIDE = (REPOSITORY / "docs" / "deploying.md").read_text(encoding="utf-8")
COMPOSE = REPOSITORY / "docs" / "examples" / "compose.yaml"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions(text):
    """Return (instruction, its words) of a Containerfile; comments gone, continued lines joined."""
    joined = re.sub(r"\\\n", "", "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]


STEPS = instructions((REPOSITORY / "Containerfile").read_text(encoding="utf-8"))
LAST_STAGE = STEPS[max(n for n, (word, _) in enumerate(STEPS) if word == "FROM") :]


def only(word, steps=LAST_STAGE):
    (found,) = [rest for name, rest in steps if name == word]
    return found


def tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout: what is tracked cannot be told")
    return listed.stdout.splitlines()


def in_context(path):
    """Return whether .dockerignore lets a path into the build: the last line that matches it or a folder of it."""
    is_in = True
    for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip().removeprefix("!").removeprefix("**/")
        anywhere = "**/" in line
        whole = [str(part) for part in (Path(path), *Path(path).parents)]
        parts = Path(path).parts if anywhere else whole
        if pattern and not line.startswith("#") and any(fnmatch(part, pattern) for part in parts):
            is_in = line.startswith("!")
    return is_in


def copied():
    """Yield the sources that are copied out of the build's context."""
    for word, rest in STEPS:
        if word == "COPY" and "--from" not in rest:
            yield from shlex.split(rest)[:-1]


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """A folder of what the build is given and copies."""
    folder = tmp_path_factory.mktemp("context")
    for path in filter(in_context, tracked()):
        if any(path == source or path.startswith(f"{source}/") for source in copied()):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / path, folder / path)
    return folder


def test_what_is_copied_is_tracked_and_let_in():
    files = tracked()
    for source in copied():
        assert source in files or any(path.startswith(f"{source}/") for path in files), source
        assert in_context(source), source


@pytest.mark.parametrize(
    "kept_out",
    [
        *(".git/config", ".venv/bin/python", "warehouse/store.duckdb", "models/champion.json", "kstock.env"),
        *("kstock.toml", "warehouse/serving/predictions.duckdb", "kstock_batch/__pycache__/x.pyc", ".env"),
        "tests/conftest.py",
    ],
)
def test_neither_history_nor_data_nor_secrets_travel_into_a_build(kept_out):
    assert not in_context(kept_out)


def test_the_dependencies_are_those_of_the_project_and_every_one_is_pinned(context, tmp_path):
    (step,) = [rest for word, rest in STEPS if word == "RUN" and "requirements.txt" in rest]
    told = step.partition(" && ")[2].partition(" && ")[0]  # between making the environment and installing into it
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(context / name, tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    for extras in (only("ARG", [s for s in STEPS if s[1].startswith("EXTRAS")]).partition("=")[2], ""):
        subprocess.run(["sh", "-ec", told], cwd=tmp_path, env={"PATH": path, "EXTRAS": extras}, check=True)
        asked = (tmp_path / "requirements.txt").read_text(encoding="utf-8").splitlines()
        more = [one for extra in extras.split(",") if extra for one in PROJECT["optional-dependencies"][extra]]
        assert asked == [*PROJECT["dependencies"], *more]
        pins = (context / "constraints.txt").read_text(encoding="utf-8").lower()
        for line in asked:
            name = re.match(r"[\w-]+", line)[0].lower()
            if "!= 'Linux'" not in line:
                assert re.search(rf"^{re.sub('[-_]', '[-_]', name)}==", pins, re.MULTILINE), name
    assert "--constraint constraints.txt" in step
    assert re.search(r"PIP_CONSTRAINT=constraints\.txt \S+ -m pip wheel", str(STEPS))


def test_a_whole_wheel_is_built_from_what_is_copied_alone(context, tmp_path):
    build = f"import hatchling.build; print(hatchling.build.build_wheel({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=context, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    sql = {f"kstock_batch/{path}" for path in tracked() if path.startswith("sql/")}
    assert {path for path in tracked() if path.startswith("kstock_batch/")} | sql <= inside
    entry = zipfile.ZipFile(wheel).read(next(name for name in inside if name.endswith("entry_points.txt"))).decode()
    assert json.loads(only("ENTRYPOINT"))[0] in entry


def test_the_job_is_started_without_a_shell_by_a_user_who_owns_nothing_but_the_data():
    (program,) = json.loads(only("ENTRYPOINT"))
    assert program in PROJECT["scripts"]
    assert parsed(json.loads(only("CMD"))[:-1] or ["check"])
    made = next(rest for word, rest in LAST_STAGE if word == "RUN" and rest.startswith("useradd"))
    user, volume = only("USER"), only("VOLUME")
    assert re.search(rf"useradd --uid [1-9]\d+ .* {user}\b", made)
    assert f"--owner {user} --group {user} {volume}" in made
    assert [word for word, _ in LAST_STAGE].index("USER") > max(
        n for n, (word, _) in enumerate(LAST_STAGE) if word in {"RUN", "COPY"}
    )
    environ = dict(pair.split("=", 1) for pair in shlex.split(only("ENV")))
    assert environ["KSTOCK_ROOT"] == volume == only("WORKDIR")
    assert environ["LANG"] == "C.UTF-8"


def test_the_health_check_asks_the_programs_own_check():
    options, _, command = only("HEALTHCHECK").partition(" CMD ")
    called, _, otherwise = command.partition(" || ")
    program, *words = shlex.split(called)
    assert (program, otherwise) == (*json.loads(only("ENTRYPOINT")), "exit 1")  # an engine knows 0 and 1 only
    assert parsed(words).command_path.endswith(" check")
    assert {option.partition("=")[0] for option in options.split()} == {"--interval", "--timeout", "--start-period"}


def test_no_registry_is_named_and_no_base_is_a_digest():
    bases = [rest for word, rest in STEPS if word == "FROM"]
    assert {base.split()[0] for base in bases} == {"${BASE}", "dependencies"}
    assert re.fullmatch(r"BASE=python:3\.\d+-slim", STEPS[0][1])
    assert not re.search(r"https?:|\w+\.(io|org|com)\b", str(STEPS))


def test_process_one_ends_at_the_stop_signal_as_the_engine_sends_it(tmp_path):
    """The kernel spares process 1 what it does not handle: the wrong signal would take ten seconds and a kill."""
    job = [sys.executable, "-m", "kstock_batch", "--root", str(tmp_path), "demo", "--sessions", "2000"]
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare may not make a process 1 here")
    with subprocess.Popen([*alone, *job], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as outer:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        try:
            until = time.monotonic() + 60
            while not (tmp_path / "warehouse").exists():  # it is at work
                assert outer.poll() is None and time.monotonic() < until, outer.communicate()
                time.sleep(0.02)
            (first,) = map(int, children.read_text().split())
            os.kill(first, getattr(signal, only("STOPSIGNAL")))
            assert outer.wait(timeout=10) == 1
            assert "Aborted!" in outer.stderr.read()
        finally:
            outer.kill()


def calls_of_the_guide():
    """Yield the words after the image's name in each container command of the guide."""
    for block in re.findall(r"```(?:bash|ini|text)\n(.*?)```", GUIDE, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if found := re.search(
                r"\b(?:docker|podman) (?:compose )?run\b.*? (?:kstock-batch|--rm(?= \w+$)) (.+)", line
            ):
                yield shlex.split(found[1], comments=True)


def test_every_container_command_of_the_guide_is_one_of_the_program(tmp_path, monkeypatch):
    calls = list(calls_of_the_guide())
    assert len(calls) >= 6
    for words in calls:
        assert parsed(words), words


def test_the_services_are_jobs_of_the_image_that_no_up_begins():
    composed = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    assert set(composed["services"]) == {"nightly", "retrain", "check"}
    for service in composed["services"].values():
        assert parsed(service["command"])
        assert (COMPOSE.parent / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert service["profiles"] == ["job"]
        (mounted,) = service["volumes"]
        volume, _, path = mounted.partition(":")
        assert path == only("VOLUME")
        assert volume in composed["volumes"]
