"""Export for Hugging Face Transformers."""

import json
import shutil
from pathlib import Path

from sentencepiece import sentencepiece_model_pb2 as sentencepiece_proto
from transformers.utils import logging as transformers_logging

from tsjt_ds.config.corpora import languages_of
from tsjt_ds.config.data import MAX_POSITIONS
from tsjt_ds.export import nllb_moe_routing
from tsjt_ds.export.capacity import TrainedCapacity
from tsjt_ds.export.fast_tokenizer import CONTROL, fast_tokenizer, read_proto
from tsjt_ds.export.record import HF_TOKENIZER_FILE

CARD = """\
# {capacity}: {directions}

```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
{imports}
tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForSeq2SeqLM.from_pretrained(".")
{mend}batch = tokenizer(["__{source}__ First line.", "__{source}__ Second."], padding=True, return_tensors="pt")
target = tokenizer.convert_tokens_to_ids("__{target}__")
print(tokenizer.batch_decode(model.generate(**batch, forced_bos_token_id=target), skip_special_tokens=True))
```

The source language's tag stands before each text; the target language's is forced on the decoder.
{note}"""  # noqa: E501
ROUTING = {
    "imports": "from nllb_moe_routing import route_to_chosen_experts\n",
    "mend": "route_to_chosen_experts(model)\n",
    "note": """
Do not leave out `route_to_chosen_experts`, which is in `nllb_moe_routing.py` beside this file:
Transformers 5 (5.0 to 5.23, the newest seen) sends an NLLB-MoE model's tokens to the wrong experts.
""",
}
"""What a capacity with experts has in its card."""


def write_huggingface(trained: TrainedCapacity, directory: Path) -> None:
    """Write a model and a tokenizer that the Auto classes load.

    Args:
        trained: the capacity.
        directory: exists and is empty.
    """
    transformers_logging.disable_progress_bar()
    trained.model.save_pretrained(directory)
    proto = read_proto(trained.tokenizer_path)
    fast_tokenizer(trained.tokenizer_path).save(str(directory / "tokenizer.json"))
    text = json.dumps(_tokenizer_config(proto), indent=2, ensure_ascii=False)
    (directory / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
    shutil.copyfile(trained.tokenizer_path, directory / HF_TOKENIZER_FILE)
    (directory / "README.md").write_text(_card(trained), encoding="utf-8")
    if trained.experts > 1:
        shutil.copy(nllb_moe_routing.__file__, directory)
    trained.record.write(directory)


def _card(trained: TrainedCapacity) -> str:
    source, target = languages_of(trained.record.directions[0])
    return CARD.format(
        capacity=trained.record.capacity,
        directions=", ".join(trained.record.directions),
        source=source,
        target=target,
        **(ROUTING if trained.experts > 1 else dict.fromkeys(ROUTING, "")),
    )


def _tokenizer_config(proto: sentencepiece_proto.ModelProto) -> dict[str, object]:
    spec, pieces = proto.trainer_spec, proto.pieces
    named = {
        "bos_token": pieces[spec.bos_id].piece,
        "eos_token": pieces[spec.eos_id].piece,
        "unk_token": pieces[spec.unk_id].piece,
        "pad_token": pieces[spec.pad_id].piece,
    }
    tags = [piece.piece for piece in pieces if piece.type == CONTROL]
    return {
        # The name that Transformers 4 and 5 both know for a tokenizer.json read as it stands.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_POSITIONS,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "additional_special_tokens": [tag for tag in tags if tag not in named.values()],
        **named,
    }
