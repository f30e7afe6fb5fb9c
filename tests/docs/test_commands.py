"""Every command, setting, configuration and line of Python in the documentation is one that the programs would take.

Nothing is started here: `test_walk.py` runs what is cheap to run. The second half is the test of the tests: one mistake
of each kind, and each must be found.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import JOBS, PAGES, ROOT, SHELL, Shown, all_shown, shown
from tests.docs.programs import PROGRAMS, missing_paths, problems
from tests.docs.python import python_problems
from tests.docs.settings import is_setting, setting_problems, yaml_problems
from tests.docs.shell import Command, ShellError, commands, usage
from tests.docs.tools import is_variable, variable_problems

_LANGUAGES = SHELL | {"python", "yaml", "json", "text"}
_OVERLAYS = {"cluster/README.md"}
"""Pages whose Kubernetes objects tests/cluster builds."""
_NAMES = [path.relative_to(ROOT).as_posix() for path in (*PAGES, *JOBS)]
_SHELLCHECK_IGNORES = ("SC2155",)
"""`export X=$(...)` hides the code of what gives X; a person sees the message."""


@pytest.fixture(scope="module")
def everything() -> dict[str, list[Shown]]:
    """What each page shows."""
    found: dict[str, list[Shown]] = {name: [] for name in _NAMES}
    for each in all_shown():
        found[each.page].append(each)
    return found


@pytest.mark.parametrize("page", _NAMES)
def test_what_a_page_shows_is_right(everything: dict[str, list[Shown]], page: str) -> None:
    assert {str(each): found for each in everything[page] if (found := list(findings(each)))} == {}


def test_shellcheck_has_nothing_to_say(everything: dict[str, list[Shown]], tmp_path: Path) -> None:
    blocks = [each for page in everything.values() for each in page if each.kind == "fence" and each.language in SHELL]
    for number, block in enumerate(blocks):
        (tmp_path / f"{number:03}.bash").write_text(block.script)
    assert {f"{blocks[int(name)]}: {what}" for name, what in _shellcheck(tmp_path)} == set()


def test_the_documentation_shows_each_kind(everything: dict[str, list[Shown]]) -> None:
    """A reader of Markdown that finds nothing would find nothing wrong."""
    shells = [each for page in everything.values() for each in page if each.kind == "fence" and each.language in SHELL]
    programs = {command.words[0] for block in shells for command in commands(block.script) if command.words}
    assert {"orchestrator", "ray", "make", "kubectl", "docker", "sbatch", "pip"} <= programs
    assert {each.language for page in everything.values() for each in page} >= {"bash", "python", "yaml", "text"}
    assert {each.page for each in all_shown() if each.kind == "inline"} >= {path for path in _NAMES if "jobs/" in path}


def findings(each: Shown) -> Iterator[str]:
    """What is wrong with one block or piece of inline code."""
    if each.kind == "inline":
        yield from _inline_findings(each.text)
    elif each.kind == "fence":
        yield from _block_findings(each)


def _block_findings(block: Shown) -> Iterator[str]:
    if block.language not in _LANGUAGES:
        yield f"nobody checks a block in {block.language!r}; it may be any of {', '.join(sorted(_LANGUAGES))}"
    elif block.language in SHELL:
        yield from _shell_findings(block.script)
    elif block.language == "python":
        yield from python_problems(block.text)
    elif block.language == "json":
        yield from _json_findings(block.text)
    elif block.language == "yaml" and "apiVersion:" not in block.text:
        yield from yaml_problems(block.text)
    elif block.language == "yaml" and block.page not in _OVERLAYS:
        yield "no test builds this Kubernetes object"


def _shell_findings(text: str) -> Iterator[str]:
    try:
        for command in commands(text):
            yield from (f"{' '.join(command.words[:4])}: {problem}" for problem in problems(command))
    except ShellError as error:
        yield str(error)


def _inline_findings(text: str) -> Iterator[str]:
    yield from missing_paths(text.split())
    if is_setting(text):
        yield from setting_problems(text)
    if is_variable(text):
        yield from variable_problems(Command((), ((text.partition("=")[0], ""),), 0))
    program, space, _ = text.partition(" ")
    if space and program in PROGRAMS:
        for command in commands(usage(text)):
            yield from problems(command, mention=True)


def _json_findings(text: str) -> Iterator[str]:
    try:
        json.loads(text)
    except ValueError as error:
        yield f"no JSON: {error}"


def _shellcheck(folder: Path) -> Iterator[tuple[str, str]]:
    """(name of the file, what is to say about it)"""
    program = Path(sys.executable).with_name("shellcheck")
    ignored = [f"--exclude={','.join(_SHELLCHECK_IGNORES)}", "--severity=warning", "--shell=bash", "--format=json"]
    command = [program, *ignored, *sorted(folder.glob("*.bash"))]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout)
    for each in said:
        yield Path(each["file"]).stem, f"line {each['line']}: SC{each['code']} {each['message']}"


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
    found = list(_block_findings(Shown("a page", 1, f"# a comment\n{text}\n", "bash")))
    assert any(finding in each for each in found), found


@pytest.mark.slow  # MLflow's commands bring all of MLflow along
def test_a_wrong_command_of_mlflow_is_found() -> None:
    assert list(_shell_findings("mlflow server --port 5000")) == []
    assert "No such option" in next(_shell_findings("mlflow server --prt 5000"))


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("orchestrator evaluate CHECKPOINT --dat DIR", "No such option"),
        ("orchestrator plan CONFIG [--prob] [a.b=c ...]", "No such option"),
        ("orchestrator foresee", "No such command"),
        ("ray job sumbit", "No such command"),
        ("make lok", "no target lok"),
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
    assert {name for name, _ in _shellcheck(tmp_path)} == {"000", "001"}


def test_markdown_is_read_as_a_renderer_reads_it() -> None:
    page = "Text `a b`.\n\n| x |\n|---|\n| `c d` |\n\n1. list\n   ```bash\n   ls\n   ```\n\n    indented\n"
    found = [(each.kind, each.language, each.text, each.line) for each in shown(page, "p")]
    assert ("inline", "", "a b", 1) in found and ("inline", "", "c d", 5) in found
    assert ("fence", "bash", "ls\n", 8 + 1) in found
