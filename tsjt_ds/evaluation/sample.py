"""BLEU of the first dev segments, from a checkpoint of a training that goes on meanwhile.

A program of its own, so that training loads neither Transformers nor CTranslate2:
``python -m tsjt_ds.evaluation.sample RUN CHECKPOINT --capacity low --segments 50`` prints
``{capacity: {direction: BLEU}}`` as one line of JSON.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.errors import UserError
from tsjt_ds.evaluation.decoding import SearchOptions, Translator
from tsjt_ds.evaluation.scoring import score
from tsjt_ds.export.current import decoded_form
from tsjt_ds.export.run import Run, TrainedCheckpoint
from tsjt_ds.export.write import export_capacity


def sample_bleu(
    run: Run, capacity: str, checkpoint: TrainedCheckpoint, segments: int, device: str = "cpu"
) -> dict[str, float]:
    """BLEU of each trained direction's first dev segments, by greedy search with one CPU thread."""
    search = SearchOptions(beam_size=1, length_penalty=run.recipe.evaluation.length_penalty)
    result = {}
    with tempfile.TemporaryDirectory() as directory:
        export = Path(directory) / "export"
        form = decoded_form(run.recipe.model, capacity)
        export_capacity(run, capacity, form, export, checkpoint)
        translator = Translator(export, search, device, threads=1)
        for direction in run.recipe.data.trained_directions:
            bitext = checkpoint.prepared.bitext("dev", direction)[:segments]
            sources, references = zip(*bitext, strict=True)
            source, target = languages_of(direction)
            hypotheses = translator.translate(sources, source, target)
            result[direction] = score(hypotheses, references, target).bleu
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures; a user's mistake ends in exit status 1 and one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m tsjt_ds.evaluation.sample")
    parser.add_argument("run_directory", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--capacity", action="append", required=True, dest="capacities")
    parser.add_argument("--segments", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(arguments)
    try:
        # Libraries that export imports write to stdout.
        with redirect_stdout(sys.stderr):
            run = Run.open(args.run_directory)
            checkpoint = run.trained(args.checkpoint)
            figures = {
                name: sample_bleu(run, name, checkpoint, args.segments, args.device)
                for name in args.capacities
            }
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    # Leave no export behind when training ends this early.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
