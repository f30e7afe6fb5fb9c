"""What a person types: answers, exit codes, one clear message for what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from orchestrator import __version__
from orchestrator.checkpoint import read_state, save_state
from orchestrator.checkpoint.state import TrainState
from orchestrator.cli import main
from orchestrator.config import RunConfig
from orchestrator.config.model import Wav2LipSyncNetConfig
from orchestrator.models import build_model
from orchestrator.storage import open_folder


@pytest.fixture
def config_file(tiny_config: RunConfig, tmp_path: Path) -> Path:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(tiny_config.model_dump(mode="json")))
    return file


@pytest.fixture
def checkpoint(tiny_config: RunConfig, tmp_path: Path) -> Path:
    save_state(TrainState(tiny_config.model, build_model(tiny_config.model).state_dict()), tmp_path / "state")
    return tmp_path / "state"


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in (
        "demo",
        "inspect",
        "normalize",
        "list",
        "verify",
        "diff",
        "export",
        "prepare",
        "plan",
        "train",
        "sweep",
        "status",
        "evaluate",
        "score",
        "compare",
        "doctor",
    ):
        assert command in shown
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from orchestrator.cli import main; main(['--help']); print(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'typer'" in shown
    assert not any(f"'{heavy}'" in shown for heavy in ("torch", "ray", "mlflow", "pyarrow"))


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "No such command" in capsys.readouterr().err


def test_inspect_normalize_evaluate_export(
    checkpoint: Path, config_file: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.pt"
    assert main(["export", str(checkpoint), "--format", "latentsync", "--out", str(weights)]) == 0
    assert set(torch.load(weights, weights_only=True)) == {"state_dict"}
    capsys.readouterr()
    options = ["--config", str(config_file), "--json"]
    assert main(["inspect", str(weights), *options]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "latentsync.weights_only"
    assert main(["normalize", str(weights), "--out", str(tmp_path / "states"), *options]) == 0
    state = json.loads(capsys.readouterr().out)["state"]
    kept = ["--storage", str(tmp_path / "runs")]
    assert main(["evaluate", state, "--data", str(tiny_corpus), "--pairs", "16", "--json", *kept]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["pairs"] == 16 and 0 <= report["metrics"]["auc"] <= 1
    assert main(["evaluate", state, "--data", str(tiny_corpus), "--pairs", "16", *kept]) == 0
    shown = capsys.readouterr().out
    assert "pair accuracy" in shown and "0.097" in shown  # chance stands beside the offsets
    (finding,) = (tmp_path / "runs" / "findings").iterdir()
    assert json.loads((finding / "evaluate.json").read_text()) == report
    assert main(["inspect", state]) == 0
    assert "stable_syncnet" in capsys.readouterr().out


def test_list_verify_diff(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = read_state(checkpoint)
    save_state(replace(state, step=9), tmp_path / "later")
    assert main(["list", str(tmp_path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {(each["name"], each["step"], each["complete"]) for each in listed} == {
        ("state", 0, True),
        ("later", 9, True),
    }
    assert main(["list", str(tmp_path)]) == 0 and "step 9" in capsys.readouterr().out
    assert main(["diff", str(checkpoint), str(checkpoint)]) == 0
    assert "no difference" in capsys.readouterr().out
    assert main(["diff", str(checkpoint), str(tmp_path / "later"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["fields"] == [{"name": "step", "a": 0, "b": 9}]
    assert main(["verify", str(tmp_path)]) == 0 and capsys.readouterr().out.count(": ok,") == 2
    (tmp_path / "later" / "state.json").write_text("{}")
    assert main(["verify", str(tmp_path), "--json"]) == 1
    assert [each["ok"] for each in json.loads(capsys.readouterr().out)["states"]] == [False, True]
    assert main(["verify", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "damaged" in shown and "state.json" in shown
    assert main(["verify", str(tmp_path / "none")]) == 2 and "there is no folder" in capsys.readouterr().err


def test_options_of_inspect_and_normalize(
    checkpoint: Path, config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {name: tensor.half() for name, tensor in read_state(checkpoint).weights.items()}
    bad = {**weights, next(iter(weights)): next(iter(weights.values())) / 0}
    for name, content in (("half.pt", weights), ("bad.pt", bad)):
        torch.save(content, tmp_path / name)
    model = ["--model-config", str(config_file)]
    assert main(["inspect", str(tmp_path / "half.pt"), *model, "--shallow"]) == 0
    shown = capsys.readouterr().out
    assert "values were not read" in shown and "safety: it names nothing but tensors" in shown
    assert f"next: orchestrator normalize {tmp_path / 'half.pt'} --out states {' '.join(model)}" in shown
    assert main(["inspect", str(tmp_path / "half.pt"), *model, "--weights", "ema"]) == 2
    normalize = ["normalize", "--out", str(tmp_path / "out"), *model, "--json"]
    capsys.readouterr()
    assert main([*normalize, str(tmp_path / "half.pt"), "--dtype", "keep"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["written"] and made["state"].endswith(made["state_hash"])
    assert {tensor.dtype for tensor in read_state(made["state"]).weights.values()} == {torch.float16}
    assert main([*normalize, str(tmp_path / "bad.pt")]) == 2 and "--allow-non-finite" in capsys.readouterr().err
    assert main([*normalize, str(tmp_path / "bad.pt"), "--allow-non-finite"]) == 0


def test_cards_on_a_terminal(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    torch.save(
        {"state_dict": build_model(Wav2LipSyncNetConfig()).state_dict(), "x": Payload()}, tmp_path / "hostile.pt"
    )
    monkeypatch.setattr("orchestrator.cli.console.out._force_terminal", True)
    assert main(["inspect", str(tmp_path / "hostile.pt")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "DANGER" in shown and "posix.system" in shown and not (tmp_path / "ran").exists()
    assert "missing:" in shown and "orchestrator normalize" in shown and "configs/wav2lip.yaml" in shown
    assert main(["list", str(tmp_path)]) == 0 and "parameters" in capsys.readouterr().out
    assert main(["verify", str(tmp_path)]) == 0 and "ok" in capsys.readouterr().out
    save_state(replace(read_state(checkpoint), step=9, weights={}), tmp_path / "other")
    assert main(["diff", str(checkpoint), str(tmp_path / "other")]) == 1
    assert "only in a" in capsys.readouterr().out and main(["diff", str(checkpoint), str(checkpoint)]) == 0


def test_prepare_plan_train_status(
    config_file: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(config_file), "train.steps=20", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["steps"], plan["samples"], plan["start"]) == (20, 160, "scratch: fresh weights")
    assert plan["batch"] == "8 = 1 x 2 x 4"
    assert main(["train", str(config_file), "--name", "a", "train.steps=3", "optim.warmup_steps=1"]) == 0
    shown = capsys.readouterr().out
    assert "a: starts from scratch" in shown and "mlflow ui" in shown and "ended early" not in shown
    assert "AT_CHANCE: nothing shows" in shown and "likely cause 1" in shown
    early = ["eval.every=1", "train.stop_at_chance=2", "optim.lr=1e-12"]
    for again in (False, True):
        assert main(["train", str(config_file), "--name", "early", *early]) == 0
        shown = capsys.readouterr().out
        assert "2 validations in a row found it AT_CHANCE" in shown and ("finished already" in shown) == again
    assert main(["status", "--storage", str(tmp_path / "runs")]) == 0
    assert "finished" in capsys.readouterr().out
    assert main(["plan", str(config_file), "--name", "a"]) == 0
    assert "continue from this run's own step-000000003" in capsys.readouterr().out


def test_an_address_is_shown_without_its_credentials(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"memory://somebody:hidden-word@corpora/{tmp_path.name}"
    with open_folder(uri).writer("manifest.parquet") as file:
        file.write((tiny_corpus / "manifest.parquet").read_bytes())
    assert main(["data", "summary", uri]) == 0
    shown = capsys.readouterr().out
    assert "hidden-word" not in shown and shown.splitlines()[0] == f"memory://corpora/{tmp_path.name}"


def test_a_plan_lists_problems_and_says_so_in_its_exit_code(
    config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = [f"data.path={tmp_path / 'none'}", f"start.checkpoint={tmp_path / 'none.pt'}"]
    assert main(["plan", str(config_file), *missing]) == 1
    shown = capsys.readouterr().err
    assert shown.count("problem:") == 2 and "none.pt" in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["inspect", "nothing.pt"], "nothing.pt"),
        (["train", "nothing.yaml", "--name", "x"], "there is no file nothing.yaml"),
        (["status", "nobody"], "there is no run 'nobody'"),
        (["prepare", "nowhere", "--out", "x"], "nowhere"),
        (["prepare", ".", "--out", "x", "--resolution", "1"], "`resolution` must be >= 16, but is 1"),
        (["prepare", ".", "--out", "x", "--resolution", "100000000"], "`resolution` must be <= 4096"),
        (["prepare", ".", "--out", "x", "--set", "min_rms=["], "`min_rms=[` cannot be read as YAML"),
        (["prepare", ".", "--out", "x", "--set", "max_frames=9"], "- `max_frames` must be >= `min_frames` (32)"),
        (["prepare", "", "--out", "x"], "the address of a folder is empty"),
    ],
)
def test_what_is_wrong_is_one_message(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert expected in " ".join(shown.split()) and "Traceback" not in shown


def test_an_interrupt_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr("orchestrator.runtime.prepare.prepare", interrupted)
    try:
        assert main(["prepare", str(tmp_path), "--out", str(tmp_path / "out")]) == 130
        # from here on another signal ends the process, in no exit handler's traceback
        assert {signal.getsignal(number) for number in before} == {signal.SIG_DFL}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert "give the same command again" in capsys.readouterr().err


def test_doctor_numbers_its_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--storage", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "1. ok Python" in shown and "MLflow" in shown
    (tmp_path / "file").write_text("")
    assert main(["doctor", "--storage", str(tmp_path / "file" / "runs")]) == 1
    assert "problem storage" in capsys.readouterr().out


@pytest.mark.parametrize(
    "script", sorted((Path(__file__).parents[1] / "jobs").glob("*.py")), ids=lambda path: path.stem
)
def test_every_job_is_its_command(script: Path) -> None:
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and f"orchestrator {script.stem}" in done.stdout
    refused = subprocess.run([sys.executable, script, "--no-such-option"], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2


def test_the_public_names_are_there_and_errors_share_a_base() -> None:
    import orchestrator

    for name in orchestrator.__all__:
        assert getattr(orchestrator, name) is not None
    assert callable(orchestrator.plan) and callable(orchestrator.inspect)
    import orchestrator.planning  # a module must never hide a function of the API

    assert callable(orchestrator.plan)
    with pytest.raises(AttributeError, match="nothing"):
        _ = orchestrator.nothing
    assert issubclass(orchestrator.DataError, orchestrator.OrchestratorError)


def test_a_refusal_is_json_too_where_json_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "page.pt").write_text("<html><title>404</title></html>")
    assert main(["inspect", str(tmp_path / "page.pt"), "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["refused"] == "not_a_checkpoint"
    assert "web page" in printed.err
