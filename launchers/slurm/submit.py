"""Submit a training to SLURM, or an array of trainings, one for each of several DeepSpeed files.

    python launchers/slurm/submit.py --site my_site.yaml --nodes 2 --recipe recipes/mine.yaml \\
        --deepspeed_config ds_configs/gpu8_data8_zero2.json --dry-run
"""

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, model_validator

from tsjt_ds.commands.numbers import positive
from tsjt_ds.config.overrides import DEEPSPEED_PREFIX, add_set_option, split_overrides
from tsjt_ds.config.recipe import Recipe, load_recipe
from tsjt_ds.config.schema import Section, validate
from tsjt_ds.config.strict_yaml import load_yaml
from tsjt_ds.engine.run_directory import check_resume_path
from tsjt_ds.errors import Collector, UserError, mistakes_of
from tsjt_ds.planning.checks import check

HERE = Path(__file__).resolve().parent
TIME_LIMIT = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
FIELD = re.compile(r"@\{(\w+)\}")

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]


class Site(Section):
    """A SLURM site; ``site.yaml`` explains each key."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    time_limit: str
    signal_seconds: Positive = 300
    ranks_per_node: Positive
    gpus_per_node: NotNegative = 0
    cpus_per_rank: Positive = 1
    memory_per_node: str = ""
    network_interface: str = ""
    setup: str = ""
    python: str = "python"
    logs: str = "runs/slurm"
    sbatch_options: list[str] = []
    srun_options: list[str] = []

    @model_validator(mode="after")
    def _agree(self) -> "Site":
        if self.gpus_per_node and self.ranks_per_node > self.gpus_per_node:
            raise ValueError(
                f"ranks_per_node, {self.ranks_per_node}, is more than gpus_per_node, "
                f"{self.gpus_per_node} (a rank needs a GPU; 0 GPUs for nodes without)"
            )
        if self.signal_seconds >= seconds(self.time_limit):
            raise ValueError(
                f"signal_seconds, {self.signal_seconds}, is not below time_limit, "
                f"{self.time_limit} (give a start more time)"
            )
        return self


def seconds(time_limit: str) -> int:
    """Seconds of SLURM's ``minutes[:seconds]``, ``hours:minutes:seconds`` or ``days-hours[:...]``.

    Raises:
        ValueError: it is none of these.
    """
    match = TIME_LIMIT.fullmatch(time_limit)
    if match is None:
        raise ValueError(f"time_limit: {time_limit!r} is no time (e.g. 24:00:00 or 2-00)")
    days, *rest = match.groups()
    first, second, third = (int(part or 0) for part in rest)
    if days is not None or rest[2] is not None:
        return ((int(days or 0) * 24 + first) * 60 + second) * 60 + third
    return first * 60 + second


def main(arguments: list[str] | None = None) -> int:
    """Check, then submit or print; exit status 1 and one line for each mistake of the user's."""
    args = parse_arguments(arguments)
    try:
        site = load_site(args.site, args.ranks_per_node)
        script = batch_script(args, site)
        if args.dry_run:
            print(script, end="")
        else:
            Path(site.logs).mkdir(parents=True, exist_ok=True)
            print(f"submitted: job {submit(script)} (output: {site.logs}/)")
    except (UserError, OSError) as error:
        for line in mistakes_of(error):
            print(f"submit: error: {line}", file=sys.stderr)
        return 1
    return 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", type=Path, required=True, help="YAML: what is trained")
    parser.add_argument(
        "--deepspeed_config",
        type=Path,
        required=True,
        nargs="+",
        help="DeepSpeed JSON: how it is run; several make an array, each file a run of its own",
    )
    add_set_option(
        parser, f"override a recipe key, or a DeepSpeed key behind the prefix {DEEPSPEED_PREFIX!r}"
    )
    parser.add_argument(
        "--site", type=Path, default=HERE / "site.yaml", help="default: %(default)s"
    )
    parser.add_argument("--nodes", type=positive, default=1, help="of each training (default: 1)")
    parser.add_argument("--ranks-per-node", type=positive, help="default: the site's")
    parser.add_argument(
        "--resume",
        default="auto",
        metavar="auto|none|PATH",
        help="as of train.py, until the run has a checkpoint to be requeued from (default: auto)",
    )
    parser.add_argument(
        "--launcher",
        choices=("srun", "torchrun"),
        default="srun",
        help="srun starts the ranks (default), or one torchrun a node does",
    )
    parser.add_argument(
        "--teacher-follows",
        action="store_true",
        help="the frozen teacher's run need not be there yet, only when the job starts",
    )
    parser.add_argument("--dry-run", action="store_true", help="only print the batch script")
    args = parser.parse_args(arguments)
    if len(args.deepspeed_config) > 1 and args.launcher != "srun":
        parser.error("several DeepSpeed files go with --launcher srun")
    return args


def load_site(path: Path, ranks_per_node: int | None) -> Site:
    """Read a site file.

    Raises:
        UserError: one line for each mistake.
    """
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror} (name a site file with --site)") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no keys (see {HERE / 'site.yaml'})")
    if ranks_per_node is not None:
        values["ranks_per_node"] = ranks_per_node
    return validate(Site, values, str(path))


def batch_script(args: argparse.Namespace, site: Site) -> str:
    """The batch script of a checked training, or array of trainings."""
    run_paths, name = check_trainings(args, args.nodes * site.ranks_per_node)
    files = [str(path) for path in args.deepspeed_config]
    arguments = ["--recipe", str(args.recipe)]
    is_array = len(files) > 1
    if not is_array:
        arguments += ["--deepspeed_config", *files]
    for override in args.overrides:
        arguments += ["--set", override]
    resume = resumption(args.resume, '"$run"' if is_array else shlex.quote(run_paths[0]))
    fields = {
        "job_name": shlex.quote(name),
        "logs": site.logs,
        "directives": "\n".join(f"#SBATCH {option}" for option in directives(site, args.nodes)),
        "ranks_per_node": site.ranks_per_node,
        "cpus_per_rank": site.cpus_per_rank,
        "cpus_per_node": site.cpus_per_rank * site.ranks_per_node,
        "setup": "\n".join([site.setup.rstrip(), *interface(site)]).strip("\n"),
        "requeue": shlex.quote(str(HERE / "requeue.sh")),
        "srun_options": shlex.join(site.srun_options),
        "python": site.python,
        "train": shlex.quote(str(HERE.parent / "train.py")),
        "arguments": shlex.join(arguments) + resume,
        "run_directory": shlex.quote(run_paths[0]),
        "last": len(files) - 1,
        "configs": shlex.join(files),
        "runs": shlex.join(run_paths),
    }
    template = HERE / "templates" / f"{'sweep' if is_array else args.launcher}.sbatch"
    return FIELD.sub(lambda match: str(fields[match[1]]), template.read_text(encoding="utf-8"))


def resumption(resume: str, run: str) -> str:
    """Arguments, in bash, that take up ``resume`` at the first start alone; ``run`` is quoted."""
    return "" if resume == "auto" else f' --resume "$(resume_of {run} {shlex.quote(resume)})"'


def check_trainings(args: argparse.Namespace, processes: int) -> tuple[list[str], str]:
    """Check each training as its ranks will; the run directories, and the recipe's name.

    Raises:
        UserError: one line for each mistake.
    """
    collector = Collector()
    recipes: list[Recipe] = []
    with collector.collect():
        check_resume_path(args.resume)
    for config in args.deepspeed_config:
        with collector.collect():
            recipes.append(check_training(args, config, processes))
    paths = [str(recipe.run_path) for recipe in recipes]
    for path in {path for path in paths if paths.count(path) > 1}:
        collector.mistakes.append(f"{path}: two of the DeepSpeed files have this name (rename one)")
    # A mistake in the recipe is found with each of the files.
    collector.mistakes[:] = dict.fromkeys("\n".join(collector.mistakes).splitlines())
    collector.tell()
    return paths, recipes[0].name


def check_training(args: argparse.Namespace, config: Path, processes: int) -> Recipe:
    """Check one training; its recipe, whose run directory in an array has the config's name.

    Raises:
        UserError: one line for each mistake.
    """
    overrides = list(args.overrides)
    if len(args.deepspeed_config) > 1:
        path = load_recipe(args.recipe, split_overrides(overrides)[0]).run_path
        overrides.append(f"run_directory={path.with_name(f'{path.name}-{config.stem}')}")
    checked = check(args.recipe, config, overrides, processes)
    if checked.prepared is None:
        raise UserError(
            f"{checked.recipe.prepared_path}: holds no prepared data (run `tsjt prepare`)"
        )
    if checked.awaited and not args.teacher_follows:
        raise UserError(
            f"teacher: {checked.awaited} (train it first; if this job waits for that one's end by "
            "--dependency, give --teacher-follows)"
        )
    return checked.recipe


def directives(site: Site, nodes: int) -> list[str]:
    """The options of ``sbatch`` that all templates share."""
    options = {
        "partition": site.partition,
        "account": site.account,
        "qos": site.qos,
        "nodes": nodes,
        "gpus-per-node": min(site.gpus_per_node, site.ranks_per_node),
        "mem": site.memory_per_node,
        "time": site.time_limit,
        "signal": f"B:USR1@{site.signal_seconds}",
        "open-mode": "append",
        "chdir": shlex.quote(str(Path.cwd())),
    }
    return [*(f"--{k}={v}" for k, v in options.items() if v), "--requeue", *site.sbatch_options]


def interface(site: Site) -> list[str]:
    """Bash lines that tell NCCL and gloo what to connect through."""
    names = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME") if site.network_interface else ()
    return [f"export {name}={shlex.quote(site.network_interface)}" for name in names]


def submit(script: str) -> str:
    """Hand a script to ``sbatch``; the job's number.

    Raises:
        UserError: it is not there, or refuses the script.
    """
    command = ["sbatch", "--parsable"]
    try:
        result = subprocess.run(command, input=script, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise UserError(
            "sbatch: not found (submit where SLURM is installed; --dry-run prints the script)"
        ) from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"sbatch: {error.stderr.strip()} (see --dry-run and --site)") from None
    return result.stdout.strip().partition(";")[0]


if __name__ == "__main__":
    sys.exit(main())
