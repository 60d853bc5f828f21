"""Export of a run's capacity in a named format."""

from collections.abc import Callable
from pathlib import Path

from tsjt_ds.export.capacity import TrainedCapacity, load_capacity
from tsjt_ds.export.ctranslate2 import write_ctranslate2
from tsjt_ds.export.directory import whole_directory
from tsjt_ds.export.huggingface import write_huggingface
from tsjt_ds.export.record import ExportRecord
from tsjt_ds.export.run import Run, TrainedCheckpoint

WRITERS: dict[str, Callable[[TrainedCapacity, Path], None]] = {
    "hf": write_huggingface,
    "ct2": write_ctranslate2,
}


def export_capacity(
    run: Run, capacity: str, form: str, out: Path, checkpoint: TrainedCheckpoint
) -> ExportRecord:
    """Write one capacity to a new directory.

    Args:
        run: the run.
        capacity: which capacity.
        form: a key of ``WRITERS``.
        out: must not exist, or be empty.
        checkpoint: the one to export.

    Raises:
        UserError: ``out`` is occupied, the run has no such capacity, or the format cannot hold it.
    """
    with whole_directory(out) as directory:
        trained = load_capacity(run, capacity, checkpoint)
        WRITERS[form](trained, directory)
    return trained.record
