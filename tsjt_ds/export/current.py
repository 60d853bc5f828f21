"""The CTranslate2 exports that a run keeps for evaluation and translation."""

from pathlib import Path

from tsjt_ds.export.directory import whole_directory
from tsjt_ds.export.record import ExportRecord
from tsjt_ds.export.run import Run, TrainedCheckpoint


def current_export(
    run: Run, capacity: str, checkpoint: TrainedCheckpoint
) -> tuple[Path, ExportRecord]:
    """The run's own CTranslate2 export of a capacity, written anew if of another checkpoint.

    Raises:
        UserError: the run has no such capacity, or its directory cannot be written.
    """
    target = run.path / "exports" / run.check_capacity(capacity) / "ct2"
    record = ExportRecord.read(target)
    wanted = (checkpoint.identity, checkpoint.prepared.fingerprint)
    if record is None or (record.checkpoint, record.prepared) != wanted:
        # A fresh export is used without the seconds that importing these takes.
        from tsjt_ds.export.capacity import load_capacity
        from tsjt_ds.export.ctranslate2 import write_ctranslate2

        with whole_directory(target, replace=True) as directory:
            trained = load_capacity(run, capacity, checkpoint)
            write_ctranslate2(trained, directory)
        record = trained.record
    return target, record
