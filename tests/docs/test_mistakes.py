"""The test of the tests: one mistake of each kind in a command, a setting, a block; and each is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.findings import block_findings, findings, shell_findings, shellcheck
from tests.docs.pages import Shown, shown


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("orchestrator inspect stable_syncnet.pt --depp", "No such option"),
        ("orchestrator inspekt stable_syncnet.pt", "No such command"),
        ("orchestrator normalize stable_syncnet.pt", "Missing option '--out'"),
        ("orchestrator train configs/wav2lip.yaml", "Missing option '--name'"),
        ("orchestrator export CKPT --format latent --out FILE", "Invalid value for '--format'"),
        ("orchestrator evaluate CKPT --data DIR --pairs few", "Invalid value for '--pairs'"),
        ("orchestrator plan configs/wav2lip.yml", "there is no configs/wav2lip.yml"),
        ("orchestrator plan my_run", "my_run is no configuration"),
        ("orchestrator plan CONFIG optim.lrr=1", "did you mean `optim.lr`?"),
        ("orchestrator plan CONFIG optim.lr=-1", "must be > 0"),
        ("orchestrator plan CONFIG optim.speed=VALUE", "there is no setting"),
        ("orchestrator sweep my_run.yaml --name search --trials 0", "Invalid value for '--trials'"),
        ("orchestrator sweep extend search optim.lrr=1", "did you mean `optim.lr`?"),
        ("orchestrator data sumary DIR", "No such command"),
        ("python jobs/trains.py CONFIG --name N", "no jobs/trains.py"),
        ("python jobs/train.py CONFIG --nam N", "No such option"),
        ("python -m tests.soak --kill 50", "no option --kill"),
        ("python -m tests.soack", "tests.soack"),
        ("python benchmarks/loader.py --quik", "no option --quik"),
        ("ray job submit --workingdir . -- python jobs/train.py ...", "No such option"),
        (
            "ray job submit --working-dir . -- python jobs/train.py CONFIG --name N optim.lrr=1",
            "did you mean `optim.lr`",
        ),
        ("ray job submit -- python jobs/train.py CONFIG", "Missing option '--name'"),
        ("ray job submit --runtime-env-json '{\"env\": {}}' -- python jobs/train.py ...", "has no 'env'"),
        ("ray job submit --runtime-env-json '{' -- python jobs/train.py ...", "no JSON"),
        ("ray job submit --working-dir .", "Missing argument"),
        ("ray start --head --port many", "Invalid value for '--port'"),
        ("ray up cluster/vms/azure.yaml", "there is no cluster/vms/azure.yaml"),
        ("make tests", "no target tests"),
        ("make bench QUIK=1", "no variable QUIK"),
        ("pip install 'syncnet-orchestrator[aligned]'", "no extra 'aligned'"),
        ("pip install '.[alignment]'", "no extra 'alignment'"),
        ("pip install -c constraint.txt .", "no file constraint.txt"),
        ("pip instal .", "invalid choice"),
        ("docker compose -f cluster/compose/compose.yml up", "there is no cluster/compose/compose.yml"),
        ("docker compose -f cluster/compose/compose.yaml up --scale workers=2", "no service 'workers'"),
        ("docker compose -f cluster/compose/compose.yaml --profile metrics up", "no profile 'metrics'"),
        ("docker compose -f cluster/compose/compose.yaml upp", "invalid choice"),
        ("docker build -f cluster/image/Dockerfile --build-arg EXTRA=x .", "no ARG EXTRA"),
        ("kubectl aply -k cluster/kubernetes/overlays/gpu", "unknown command"),
        ("kubectl apply -k cluster/kubernetes/overlays/gpus", "there is no cluster/kubernetes/overlays/gpus"),
        ("kubectl get rayjob smoke --wach", "unknown flag"),
        ("kubectl get rayjob smoker", "names 'smoker'"),
        ("kubectl create secret generic ray-tokens --from-literal=a=b", "names 'ray-tokens'"),
        ("kubectl port-forward service/head 8265", "leads to 'head'"),
        ("sbatch cluster/slurm/trainer.sbatch jobs/train.py ...", "no script cluster/slurm/trainer.sbatch"),
        ("sbatch cluster/slurm/train.sbatch jobs/train.py CONFIG", "Missing option '--name'"),
        ("sbatch --node=4 cluster/slurm/train.sbatch", "unrecognized arguments"),
        ("openssl rnd -hex 32", "invalid choice"),
        ("cp cluster/compose/.env.sample cluster/compose/.env", "cp: there is no cluster/compose/.env.sample"),
        ("export RAY_AUTH_MOD=token", "nobody reads the variable RAY_AUTH_MOD"),
        ("RAY_ADRESS=x orchestrator doctor", "nobody reads the variable RAY_ADRESS"),
        ("for name in a b; do orchestrator list; done", "Missing argument"),
        ("orchestrator list states | orchestrator verfy states", "No such command"),
        ("echo $(orchestrator lst states)", "No such command"),
        ("frobnicate --now", "nobody checks commands of 'frobnicate'"),
        ("orchestrator list 'states", "cannot be read as shell"),
    ],
)
def test_a_wrong_command_is_found(text: str, finding: str) -> None:
    found = list(block_findings(Shown("a page", 1, f"# a comment\n{text}\n", "bash")))
    assert any(finding in each for each in found), found


@pytest.mark.slow  # MLflow's commands bring all of MLflow along
def test_a_wrong_command_of_mlflow_is_found() -> None:
    assert list(shell_findings("mlflow server --port 5000")) == []
    assert "No such option" in next(shell_findings("mlflow server --prt 5000"))


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("orchestrator evaluate CHECKPOINT --dat DIR", "No such option"),
        ("orchestrator plan CONFIG [--prob] [a.b=c ...]", "No such option"),
        ("orchestrator foresee", "No such command"),
        ("ray job sumbit", "No such command"),
        ("make lok", "no target lok"),
        ("make 'lock", "cannot be read as shell"),
        ("python jobs/tune.py ...", "no jobs/tune.py"),
        ("optim.learning_rate", "there is no setting"),
        ("scale.num_workers=-1", "must be >= 0"),
        ("checkpoint.metric=val/acc", "`checkpoint.metric`"),
        ("MLFLOW_URI", "nobody reads the variable"),
        ("orchestrator/config/schemas.py", "there is no orchestrator/config/schemas.py"),
    ],
)
def test_wrong_inline_code_is_found(text: str, finding: str) -> None:
    found = list(findings(Shown("a page", 1, text, kind="inline")))
    assert any(finding in each for each in found), found


@pytest.mark.parametrize(
    ("language", "text", "finding"),
    [
        ("yaml", "train: {stepps: 3}", "did you mean"),
        ("yaml", "sweep: {space: {optim.lr: {loguniform: [1.0e-3]}}}", "sweep"),
        ("yaml", "trian: {steps: 3}", "no part of a configuration"),
        ("yaml", "apiVersion: v1\nkind: Pod\n", "no test builds"),
        ("json", '{"time": 1,}', "no JSON"),
        ("", "orchestrator doctor", "nobody checks a block in ''"),
        ("console", "$ orchestrator docter\n1. ok\n", "No such command"),
        ("python", "import orchestrator\norchestrator.inspect(", "line 2"),
        ("python", "import orchestrator\norchestrator.inspekt('a.pt')", "has no inspekt"),
        ("python", "import orchestrator\norchestrator.normalize('a.pt', 'states', to='x')", "argument 'to'"),
        ("python", "import orchestrator\nprint(orchestrator.normalize('a.pt', 'states').pth)", "has no pth"),
        (
            "python",
            "import orchestrator\norchestrator.load_config('configs/wav2lip.yaml', ['optim.lrr=1'])",
            "optim.lrr",
        ),
        ("python", "from orchestrator.runtime.sweeps import extend", "No module named"),
        ("python", "print(reslt)", "reslt is not defined"),
        ("python", "from ray.job_submission import JobSubmissionClient as C\nC('a').submit_job(entry='x')", "entry"),
        (
            "python",
            "from ray.job_submission import JobSubmissionClient as C\nC('a').submit_job(entrypoint='python jobs/x.py')",
            "no jobs/x.py",
        ),
    ],
)
def test_a_wrong_block_is_found(language: str, text: str, finding: str) -> None:
    found = list(findings(Shown("a page", 1, text, language)))
    assert any(finding in each for each in found), found


def test_shellcheck_notices_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "000.bash").write_text('cd "$HOME\norchestrator doctor\n')
    (tmp_path / "001.bash").write_text("cp $(ls *.pt) states\nif [ $a = b ]\n")
    assert {name for name, _ in shellcheck(tmp_path)} == {"000", "001"}


def test_markdown_is_read_as_a_renderer_reads_it() -> None:
    page = "Text `a b`.\n\n| x |\n|---|\n| `c d` |\n\n1. list\n   ```bash\n   ls\n   ```\n\n    indented\n"
    found = [(each.kind, each.language, each.text, each.line) for each in shown(page, "p")]
    assert ("inline", "", "a b", 1) in found and ("inline", "", "c d", 5) in found
    assert ("fence", "bash", "ls\n", 8 + 1) in found


@pytest.mark.parametrize(("option", "right"), [("--out", True), ("--to", False)])
def test_arguments_beside_a_job_are_checked_as_its_own(option: str, right: bool) -> None:
    row = f"| `jobs/align.py` | `VIDEOS {option} DIR [--faces reject, largest]` | `scale.num_workers` |"
    found = list(shown(f"| script | arguments | where |\n|---|---|---|\n{row}\n", "p"))
    assert [each.text for each in found if " " in each.text] == [
        f"python jobs/align.py VIDEOS {option} DIR [--faces reject, largest]"
    ]
    assert bool([finding for each in found for finding in findings(each)]) is not right
