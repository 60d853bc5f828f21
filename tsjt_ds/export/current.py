"""The exports that a run keeps for evaluation and translation."""

from pathlib import Path

from tsjt_ds.config.model import ModelConfig
from tsjt_ds.export.directory import whole_directory
from tsjt_ds.export.record import ExportRecord
from tsjt_ds.export.run import Run, TrainedCheckpoint


def decoded_form(model: ModelConfig, capacity: str) -> str:
    """The format that a capacity is decoded from: ``ct2``, or ``hf`` if it has experts."""
    return "ct2" if model.capacities[capacity].experts == 1 else "hf"


def current_export(
    run: Run, capacity: str, checkpoint: TrainedCheckpoint
) -> tuple[Path, ExportRecord]:
    """The run's own export of a capacity, written anew if of another checkpoint.

    Raises:
        UserError: the run has no such capacity, or its directory cannot be written.
    """
    form = decoded_form(run.recipe.model, run.check_capacity(capacity))
    target = run.path / "exports" / capacity / form
    record = ExportRecord.read(target)
    wanted = (checkpoint.identity, checkpoint.prepared.fingerprint)
    if record is None or (record.checkpoint, record.prepared) != wanted:
        # A fresh export is used without the seconds that importing these takes.
        from tsjt_ds.export.capacity import load_capacity
        from tsjt_ds.export.write import WRITERS

        with whole_directory(target, replace=True) as directory:
            trained = load_capacity(run, capacity, checkpoint)
            WRITERS[form](trained, directory)
        record = trained.record
    return target, record
