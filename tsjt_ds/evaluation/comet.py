"""COMET (Rei et al. 2020) by its own program, ``comet-score``.

A program and not a library: unbabel-comet 2.2 needs another transformers, numpy and protobuf than
this package does, so that it lives in an environment of its own.
"""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from tsjt_ds.errors import UserError

PROGRAM = "comet-score"
DEFAULT_MODEL = "Unbabel/wmt22-comet-da"
_INSTALL = (
    "python -m venv comet; comet/bin/pip install unbabel-comet; put comet/bin at the end of PATH"
)


class CometScorer:
    """Scores with one COMET model.

    Args:
        model: its name on the hub of models, or the path of a checkpoint.
        use_gpu: score on the first GPU.

    Raises:
        UserError: the program is not installed.
    """

    def __init__(self, model: str = DEFAULT_MODEL, use_gpu: bool = False) -> None:
        program = shutil.which(PROGRAM)
        if program is None:
            raise UserError(f"{PROGRAM}: is not on PATH ({_INSTALL}; or leave out --comet)")
        self.program, self.model, self.use_gpu = program, model, use_gpu

    def __call__(
        self, sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str]
    ) -> float:
        """The mean of the segments' scores.

        Raises:
            UserError: the model is not to be had, or the program fails otherwise.
        """
        with tempfile.TemporaryDirectory() as scratch:
            files = {}
            for name, lines in (("s", sources), ("t", hypotheses), ("r", references)):
                files[name] = Path(scratch, name)
                files[name].write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            output = Path(scratch, "scores.json")
            self._run([f"-{name}{path}" for name, path in files.items()], output)
            segments = next(iter(json.loads(output.read_text(encoding="utf-8")).values()))
        return fmean(segment["COMET"] for segment in segments)

    def _run(self, files: list[str], output: Path) -> None:
        command = [self.program, *files, "--model", self.model, "--to_json", str(output)]
        command += ["--gpus", str(int(self.use_gpu)), "--quiet", "--only_system"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not output.exists():
            said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            cause = said[-1].strip() if said else f"exit status {done.returncode}"
            raise UserError(
                f"{PROGRAM} --model {self.model}: {cause} (download the model where there is a "
                "connection and name its checkpoint: --comet PATH)"
            )
