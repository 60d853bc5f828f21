"""Export for CTranslate2."""

import shutil
from pathlib import Path

from ctranslate2.converters.transformers import M2M100Loader

from tsjt_ds.data.tokenizer import BOS_ID, EOS_ID, UNK_ID, Tokenizer
from tsjt_ds.errors import UserError
from tsjt_ds.export.capacity import TrainedCapacity
from tsjt_ds.export.record import TOKENIZER_FILE


def write_ctranslate2(trained: TrainedCapacity, directory: Path) -> None:
    """Write a CTranslate2 model with its SentencePiece model beside it.

    Args:
        trained: the capacity.
        directory: exists and is empty.

    Raises:
        UserError: the capacity has experts.
        ValueError: the tokenizer has another number of pieces than the model has embeddings.
    """
    if trained.experts > 1:
        raise UserError(
            f"capacity {trained.record.capacity!r} has {trained.experts} experts, which "
            "CTranslate2 cannot compute (export it with --format hf, without --verify)"
        )
    vocabulary = Tokenizer(trained.tokenizer_path).pieces
    rows = trained.model.config.vocab_size
    if len(vocabulary) != rows:
        raise ValueError(f"{len(vocabulary)} pieces for {rows} embeddings")
    spec = M2M100Loader().get_model_spec(trained.model)
    spec.register_source_vocabulary(vocabulary)
    spec.register_target_vocabulary(vocabulary)
    spec.config.bos_token = vocabulary[BOS_ID]
    spec.config.eos_token = vocabulary[EOS_ID]
    spec.config.unk_token = vocabulary[UNK_ID]
    spec.config.decoder_start_token = vocabulary[EOS_ID]
    spec.validate()
    spec.optimize()
    spec.save(str(directory))
    shutil.copyfile(trained.tokenizer_path, directory / TOKENIZER_FILE)
    trained.record.write(directory)
