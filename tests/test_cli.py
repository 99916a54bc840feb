"""What a person meets first: the table of contents, how much is said, and what the shell completes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from call_tree import LEAVES
from factories import done, run, store_rows
from kstock_batch.bot.reader import PredictionReader
from kstock_batch.cli.app import SECTIONS, cli
from kstock_batch.cli.completion import SHELLS, VARIABLE
from kstock_batch.market.contract import FEATURE_NAMES
from kstock_batch.registry import Registry
from kstock_batch.settings import SOURCES, Settings
from kstock_batch.store.warehouse import Warehouse


def completed(*words: str, root: Path | None = None) -> list[str]:
    """Return what a shell would offer for the last word."""
    words = (*(("--root", str(root)) if root else ()), *words)
    line = {"COMP_WORDS": " ".join(["kstock-batch", *words]), "COMP_CWORD": str(len(words))}
    result = CliRunner().invoke(cli, prog_name="kstock-batch", env={VARIABLE: "bash_complete", **line})
    assert result.stderr == "" and not isinstance(result.exception, Exception)
    return [offered.partition(",")[2] for offered in result.stdout.split()]


# Help


def test_every_command_is_in_one_section_of_the_help_in_the_order_of_the_list():
    listed = [name for section in SECTIONS.values() for name in section]
    assert listed == list(cli.commands)


def test_a_command_takes_one_line_of_the_help_in_eighty_columns():
    shown = CliRunner().invoke(cli, ["--help"], terminal_width=80).stdout.splitlines()
    for section in SECTIONS.values():
        for name, what in section.items():
            (line,) = [line for line in shown if line.startswith(f"  {name} ")]
            assert line.endswith(what) and len(line) <= 80


def test_the_help_of_a_group_cuts_no_sentence():
    groups = [name for name, command in cli.commands.items() if isinstance(command, click.Group)]
    assert len(groups) >= 7
    for name in groups:
        assert "..." not in CliRunner().invoke(cli, [name, "--help"], terminal_width=80).stdout.replace("[ARGS]...", "")


def test_every_command_takes_json():
    lacking = [path for path, leaf in LEAVES.items() if "--json" not in {opt for p in leaf.params for opt in p.opts}]
    assert lacking == []


# How much is said


def test_quiet_leaves_the_result_and_the_error_alone(trained_root):
    Settings(root=trained_root).published.unlink()
    loud, quiet = run(trained_root, "features"), run(trained_root, "--quiet", "features")
    assert quiet.stdout and quiet.stderr == ""
    assert quiet.stdout == loud.stdout
    failed = run(trained_root, "--quiet", "predictions", "show")
    assert failed.exit_code == 13 and failed.stderr.startswith("error: ") and "fix: " in failed.stderr


def test_a_note_is_told_again_after_a_quiet_command(capsys):
    from kstock_batch import console

    console.be_quiet(True)
    console.note("unheard")
    console.error(ValueError("heard"))
    console.be_quiet(False)
    console.note("heard too")
    assert capsys.readouterr().err == "error: heard\nheard too\n"


def test_quiet_and_verbose_contradict_each_other(tmp_path):
    result = run(tmp_path, "-q", "-v", "status")
    assert result.exit_code == 2 and "--verbose and --quiet contradict each other" in result.stderr


def test_a_promotion_is_told_as_json(trained_root):
    version = Registry(trained_root / "models").champion_version()
    told = json.loads(done(trained_root, "models", "promote", version, "--json").stdout)
    assert told["version"] == version


# Completion


def test_commands_options_and_known_values_are_completed(trained_root):
    assert completed("sco") == ["score"]
    assert completed("score", "--fo") == ["--force"]
    best = PredictionReader(Settings(root=trained_root).published, None).top(3)
    assert best[0].ticker in completed("explain", best[0].ticker[:3], root=trained_root)
    assert set(completed("predictions", "show", "--ticker", "", root=trained_root)) > {one.ticker for one in best}
    version = Registry(trained_root / "models").champion_version()
    for words in (("models", "promote", ""), ("models", "show", ""), ("models", "rollback", "--to", "")):
        assert completed(*words, root=trained_root) == [version]
    run_id = store_rows(trained_root, "SELECT run_id FROM run WHERE command = 'retrain' LIMIT 1")[0][0]
    assert run_id in completed("runs", "show", run_id[:4], root=trained_root)
    assert completed("predictions", "rollback", "--to", "2", root=trained_root)
    assert completed("features", "describe", "rs") == [name for name in FEATURE_NAMES if name.startswith("rs")]
    assert completed("ingest", "--source", "") == list(SOURCES)
    assert "feature_daily_range" in completed("audit", "feature_daily_r")


def test_where_nothing_can_be_read_nothing_is_offered_and_nothing_said(tmp_path):
    for words in (
        ("explain", ""),
        ("models", "promote", ""),
        ("runs", "show", ""),
        ("predictions", "rollback", "--to", ""),
    ):
        assert completed(*words, root=tmp_path) == []
    settings = Settings(root=tmp_path)
    settings.published.parent.mkdir(parents=True)
    settings.published.write_bytes(b"garbage" * 3000)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "champion.json").write_text("{")
    (tmp_path / "kstock.toml").write_text("unknown = 1")
    for words in (("explain", ""), ("models", "promote", ""), ("runs", "show", "")):
        assert completed(*words, root=tmp_path) == []


def test_a_store_that_is_being_written_keeps_nobody_waiting(trained_root):
    with Warehouse.open(Settings(root=trained_root)):
        assert completed("explain", "", root=trained_root)
        assert completed("runs", "show", "", root=trained_root)


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_its_script(shell, tmp_path):
    if shell == "bash" and not shutil.which("bash"):
        pytest.skip("there is no bash")
    result = run(tmp_path, "completion", shell)
    assert result.exit_code == 0 and VARIABLE in result.stdout and result.stderr == ""
    told = json.loads(done(tmp_path, "completion", shell, "--json").stdout)
    assert (told["script"], told["shell"]) == (result.stdout.removesuffix("\n"), shell)


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_a_real_bash_completes_with_it(trained_root, tmp_path):
    program = tmp_path / "kstock-batch"
    program.write_text(
        f'#!{sys.executable}\nimport sys\nfrom kstock_batch.cli import main\nsys.argv[0] = "kstock-batch"\nmain()\n'
    )
    program.chmod(0o755)
    best = PredictionReader(Settings(root=trained_root).published, None).top(1)[0].ticker
    script = (
        'eval "$(kstock-batch completion bash)"; COMP_WORDS=(kstock-batch explain "$1"); COMP_CWORD=2;'
        ' _kstock_batch_completion kstock-batch; echo "${COMPREPLY[@]}"'
    )
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "KSTOCK_ROOT": str(trained_root)}
    environ["PYTHONPATH"] = str(Path(__file__).parents[1])
    told = subprocess.run(["bash", "-c", script, "bash", best], env=environ, capture_output=True, text=True, check=True)
    assert (told.stdout.split(), told.stderr) == ([best], "")
