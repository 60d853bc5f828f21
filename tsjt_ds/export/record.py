"""What an export directory says of itself."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tsjt_ds.data.tokenizer import BOS_ID, PAD_ID, UNK_ID
from tsjt_ds.engine.checkpoint_files import MANIFEST, name_in_run
from tsjt_ds.files import sha256_of

MAX_LENGTH_RATIO = 2.0
MAX_LENGTH_OFFSET = 20
"""A target has at most ``MAX_LENGTH_RATIO`` × source tokens + ``MAX_LENGTH_OFFSET`` tokens, unless
the user says otherwise."""
NEVER_GENERATED = (BOS_ID, PAD_ID, UNK_ID)
"""Transformers gives a generated ``<pad>`` no position, CTranslate2 gives it one."""
RECORD_FILE = "export.json"
TOKENIZER_FILE = "tokenizer.model"
"""The SentencePiece model of a CTranslate2 export."""
HF_TOKENIZER_FILE = "sentencepiece.model"
"""The SentencePiece model of a Hugging Face export."""


@dataclass(frozen=True)
class ExportRecord:
    """What an export directory holds and where it came from; kept in it as ``export.json``."""

    capacity: str
    checkpoint: str
    """Name and content hash of the checkpoint; two exports of one checkpoint have the same."""
    prepared: str
    """Fingerprint of the prepared data, whose tokenizer the export holds."""
    parameters: int
    """Trained parameters of the capacity alone, tied ones counted once."""
    languages: list[str]
    directions: list[str]
    """The trained directions."""

    def write(self, directory: Path) -> None:
        """Keep the record in ``directory``."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (directory / RECORD_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> "ExportRecord | None":
        """The record of an export; None where there is none that can be read."""
        try:
            return cls(**json.loads((directory / RECORD_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None


def checkpoint_identity(checkpoint: Path) -> str:
    """A checkpoint's name within its run and a hash of its content."""
    return f"{name_in_run(checkpoint)}@{sha256_of(checkpoint / MANIFEST)[:16]}"
