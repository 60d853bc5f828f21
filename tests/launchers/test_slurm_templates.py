"""What is handed to SLURM, and what is refused before that. tests/slurm runs it on a real one."""

import importlib.util
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.system.conftest import write_config
from tests.system.digits import digits_recipe, write_digits
from tsjt_ds.config.recipe import load_recipe
from tsjt_ds.data.prepare import prepare
from tsjt_ds.errors import UserError

SLURM = Path(__file__).parents[2] / "launchers" / "slurm"
SITE = {"time_limit": "12:00:00", "ranks_per_node": 2}


@pytest.fixture(scope="module")
def submit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("submit", SLURM / "submit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("digits")
    write_digits(directory, train=300, test=8)
    (directory / "recipe.yaml").write_text(digits_recipe(directory, 8))
    prepare(load_recipe(directory / "recipe.yaml"), say=lambda message: None)
    return directory


def site_file(digits: Path, **keys: Any) -> str:
    (digits / "site.yaml").write_text(yaml.safe_dump({**SITE, **keys}))
    return str(digits / "site.yaml")


def dry_run(
    submit: ModuleType,
    digits: Path,
    capsys: pytest.CaptureFixture[str],
    *options: str,
    configs: tuple[str, ...] = ("ds",),
    **site: Any,
) -> str:
    """The script, which is sound to bash."""
    files = [str(write_config(digits / f"{name}.json", 2)) for name in configs]
    recipe = ["--recipe", str(digits / "recipe.yaml"), "--deepspeed_config", *files]
    arguments = [*recipe, "--site", site_file(digits, **site), "--dry-run", *options]
    assert submit.main(arguments) == 0
    script = capsys.readouterr().out
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "@{" not in script
    return script


def options_of(script: str) -> dict[str, str]:
    lines = [line for line in script.splitlines() if line.startswith("#SBATCH --")]
    pairs = [line.removeprefix("#SBATCH --").partition("=") for line in lines]
    return {key: value for key, _, value in pairs}


def test_a_sites_values(
    submit: ModuleType, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = dry_run(
        submit,
        digits,
        capsys,
        *("--nodes", "3", "--set", "deepspeed.gradient_clipping=0.5"),
        partition="gpu",
        account="nlp",
        qos="long",
        gpus_per_node=4,
        cpus_per_rank=7,
        memory_per_node="0",
        signal_seconds=120,
        network_interface="ib0",
        setup="module load cuda\n",
        python="apptainer exec tsjt.sif python",
        sbatch_options=["--exclude=n7"],
        srun_options=["--mpi=none"],
    )
    assert options_of(script) == {
        "job-name": "digits",
        "output": "runs/slurm/%x-%j.log",
        "partition": "gpu",
        "account": "nlp",
        "qos": "long",
        "nodes": "3",
        "ntasks-per-node": "2",
        "gpus-per-node": "2",
        "cpus-per-task": "7",
        "mem": "0",
        "time": "12:00:00",
        "signal": "B:USR1@120",
        "open-mode": "append",
        "requeue": "",
        "chdir": str(Path.cwd()),
        "exclude": "n7",
    }
    lines = script.splitlines()
    assert lines.index("module load cuda") < lines.index("export NCCL_SOCKET_IFNAME=ib0")
    assert "export GLOO_SOCKET_IFNAME=ib0" in lines
    started = script.replace("\\\n", " ").split("srun --kill")[1]
    assert "--mpi=none" in started
    assert "apptainer exec tsjt.sif python" in started
    assert "--set deepspeed.gradient_clipping=0.5" in started


def test_one_torchrun_a_node(
    submit: ModuleType, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = dry_run(submit, digits, capsys, "--launcher", "torchrun", cpus_per_rank=3)
    options = options_of(script)
    assert (options["ntasks-per-node"], options["cpus-per-task"]) == ("1", "6")
    assert "--nproc-per-node=2" in script
    assert "gpus-per-node" not in options


def test_an_array_has_a_run_directory_each(
    submit: ModuleType, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = dry_run(submit, digits, capsys, configs=("a", "b", "c"))
    assert options_of(script)["array"] == "0-2"
    [runs] = [line for line in script.splitlines() if line.startswith("runs=(")]
    assert shlex.split(runs[6:-1]) == [f"{digits}/run-{name}" for name in "abc"]


def test_a_checkpoint_of_another_run_is_taken_up_once(
    submit: ModuleType, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "o l d"
    old.mkdir()
    (old / "manifest.json").write_text("{}")
    runs = {"a": digits / "run", "b": digits / "run-b"}
    for launcher, configs, run in (
        ("srun", ("a",), runs["a"]),
        ("torchrun", ("a",), runs["a"]),
        ("srun", ("a", "b"), runs["b"]),
    ):
        options = ("--resume", str(old), "--launcher", launcher)
        script = dry_run(submit, digits, capsys, *options, configs=configs)
        assert resumed_from(script) == str(old)
        assert resumed_from(script, SLURM_RESTART_COUNT="1") == str(old)  # No checkpoint yet.
        own = run / "checkpoints" / "step-00000002"
        own.mkdir(parents=True)
        (own / "manifest.json").write_text("{}")
        assert resumed_from(script) == str(old)
        assert resumed_from(script, SLURM_RESTART_COUNT="1") == "auto"
        shutil.rmtree(run)


def resumed_from(script: str, **environment: str) -> str:
    """The ``--resume`` that a start of the second task, if it is an array, gives its training."""
    pretended = """
    scontrol() { echo node; }
    sleep() { command sleep 0.05; }
    srun() { while [[ $1 != --resume ]]; do shift; done; echo "resume=$2"; }
    SLURM_ARRAY_TASK_ID=1 SLURM_JOB_ID=7 SLURM_JOB_NODELIST=node SLURM_NNODES=1
    """
    result = subprocess.run(
        ["bash", "-c", pretended + script],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return result.stdout.strip().removeprefix("resume=")


@pytest.mark.parametrize("option", ["--nodes", "--ranks-per-node"])
@pytest.mark.parametrize("number", ["0", "-1"])
def test_no_nodes_or_ranks(
    submit: ModuleType, capsys: pytest.CaptureFixture[str], option: str, number: str
) -> None:
    with pytest.raises(SystemExit):
        submit.main(["--recipe", "r", "--deepspeed_config", "d", f"{option}={number}"])
    assert f"{option}: {number} is less than 1" in capsys.readouterr().err


def test_all_that_is_wrong_is_told_before_anything_is_submitted(
    submit: ModuleType, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--recipe", str(digits / "recipe.yaml"), "--site", site_file(digits)]
    arguments += ["--deepspeed_config", str(write_config(digits / "a.json", 3))]
    assert submit.main([*arguments, "--nodes", "2", "--set", "sede=1"]) == 1
    found = capsys.readouterr().err.splitlines()
    assert len(found) == 2
    assert any("sede: unknown key (did you mean 'seed'?)" in line for line in found)
    assert any("does not divide the number of processes, 4" in line for line in found)
    assert submit.main([*arguments, "--resume", "nowhere"]) == 1
    assert "--resume nowhere: is no checkpoint (name one" in capsys.readouterr().err
    elsewhere = "data.prepared=elsewhere"
    write_config(digits / "a.json", 2)
    assert submit.main([*arguments, "--set", elsewhere]) == 1
    assert "holds no prepared data (run `tsjt prepare`)" in capsys.readouterr().err
    teacher = "teacher={run: runs/none, capacity: high}"
    assert submit.main([*arguments, "--set", teacher]) == 1
    assert "error: teacher: runs/none: no run yet (train it first;" in capsys.readouterr().err
    assert submit.main([*arguments, "--set", teacher, "--teacher-follows", "--dry-run"]) == 0


def test_without_slurm(
    submit: ModuleType,
    digits: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(digits)
    arguments = ["--recipe", "recipe.yaml", "--site", site_file(digits)]
    arguments += ["--deepspeed_config", str(write_config(digits / "a.json", 2))]
    assert submit.main(arguments) == 1
    assert "error: sbatch: not found (submit where" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "mistake"),
    [
        ({"acount": "x"}, "acount: unknown key (did you mean 'account'?)"),
        ({"time_limit": "tomorrow"}, "time_limit: 'tomorrow' is no time"),
        ({"time_limit": "5", "signal_seconds": 300}, "signal_seconds, 300, is not below"),
        ({"gpus_per_node": 1}, "ranks_per_node, 2, is more than gpus_per_node, 1"),
        ({"cpus_per_rank": 0}, "cpus_per_rank: input should be greater than 0"),
    ],
)
def test_a_wrong_site_file(
    submit: ModuleType, digits: Path, keys: dict[str, Any], mistake: str
) -> None:
    path = Path(site_file(digits, **keys))
    with pytest.raises(UserError) as error:
        submit.load_site(path, None)
    assert mistake in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        (b"time_limit: 2024-13-45\n", "line 1: '2024-13-45' is no timestamp (quote it"),
        (b"partition: \xe4\n", "no valid YAML: 'utf-8' codec can't decode"),
    ],
)
def test_a_site_file_that_is_no_yaml(
    submit: ModuleType, tmp_path: Path, text: bytes, mistake: str
) -> None:
    (tmp_path / "site.yaml").write_bytes(text)
    with pytest.raises(UserError) as error:
        submit.load_site(tmp_path / "site.yaml", None)
    assert mistake in str(error.value)
    assert "\n" not in str(error.value)


def test_the_shipped_site_file_has_every_key(submit: ModuleType) -> None:
    site = submit.load_site(SLURM / "site.yaml", None)
    assert site.model_fields_set == set(submit.Site.model_fields)


@pytest.mark.parametrize(
    ("time_limit", "expected"),
    [
        ("90", 5400),
        ("90:30", 5430),
        ("24:00:00", 86400),
        ("2-00", 172800),
        ("1-02:30", 95400),
        ("0-00:01:05", 65),
    ],
)
def test_slurms_times(submit: ModuleType, time_limit: str, expected: int) -> None:
    assert submit.seconds(time_limit) == expected


TRAINING = """
trap 'stop SIGTERM' TERM
trap 'stop SIGUSR1' USR1
stop() { echo "{\\"signal\\": \\"$1\\"}" >run/stopped.json; exit 0; }
for _ in $(seq 100); do
    if [[ -e run/stop ]]; then rm run/stop; stop "run/stop is there"; fi
    sleep 0.1
done
"""
"""Stops as trainings do."""


@pytest.mark.parametrize(
    ("before", "training", "status", "requeued"),
    [
        ("sleep 0.5; kill -USR1 $shell", TRAINING, 0, True),
        ("sleep 0.5; pkill -USR1 -P $shell -f training", TRAINING, 0, True),
        ("sleep 0.5; touch run/stop", TRAINING, 0, False),
        ("sleep 0.5; kill -TERM $shell; pkill -TERM -P $shell -f training", TRAINING, 0, False),
        ("sleep 0.5; kill -USR1 $shell; kill -TERM $shell", TRAINING, 0, False),
        ("sleep 0.5; kill -USR1 $shell", "touch run/stopped.json; sleep 2; exit 3", 3, False),
        ("sleep 0.5; kill -USR1 $shell", "sleep 2", 0, False),
        ("true", "exit 70", 70, False),
    ],
    ids=["limit", "ranks", "file", "cancelled", "both", "failed", "finished", "hung"],
)
def test_when_a_job_is_requeued(
    tmp_path: Path, before: str, training: str, status: int, requeued: bool
) -> None:
    """The batch shell, with a training and an ``scontrol`` that only pretend."""
    (tmp_path / "run").mkdir()
    (tmp_path / "training").write_text(training)
    script = f"""
    scontrol() {{ echo "$@" >requeued; }}
    SLURM_JOB_ID=7 shell=$$
    ({before}) &
    source {shlex.quote(str(SLURM / "requeue.sh"))}
    train_or_requeue run bash training
    """
    result = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, timeout=60)
    assert result.returncode == status
    assert not (tmp_path / "run" / "stop").exists()
    said = tmp_path / "requeued"
    assert (said.read_text().split() if said.exists() else []) == ["requeue", "7"] * requeued


def test_an_array_requeues_the_task_alone(tmp_path: Path) -> None:
    """The last task's SLURM_JOB_ID is that of the array."""
    script = f"""
    scontrol() {{ echo "$@" >requeued; }}
    SLURM_JOB_ID=7 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=2
    mkdir run
    source {shlex.quote(str(SLURM / "requeue.sh"))}
    train_or_requeue run bash -c 'echo SIGUSR1 >run/stopped.json'
    """
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, timeout=60, check=True)
    assert (tmp_path / "requeued").read_text() == "requeue 7_2\n"


def test_what_a_stopped_training_writes_is_what_the_batch_shell_reads(tmp_path: Path) -> None:
    from tsjt_ds.engine.checkpoint_files import STOPPED
    from tsjt_ds.engine.stop import STOP_FILE, StoppedEarly, record_stop

    record_stop(tmp_path, StoppedEarly(3, 9, "SIGUSR1"))
    assert json.loads((tmp_path / STOPPED).read_text())["signal"] == "SIGUSR1"
    shell = (SLURM / "requeue.sh").read_text()
    assert f'"$run/{STOPPED}"' in shell
    assert f'"$run/{STOP_FILE}"' in shell
