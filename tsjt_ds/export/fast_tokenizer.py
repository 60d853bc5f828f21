"""A SentencePiece model as a ``tokenizers`` pipeline with the same ids."""

from pathlib import Path

from sentencepiece import sentencepiece_model_pb2 as sentencepiece_proto
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram
from tokenizers.processors import TemplateProcessing

from tsjt_ds.data.cleaning import INVISIBLE_CHARACTER
from tsjt_ds.errors import UserError

SPACE_SYMBOL = "▁"
MOST_SPACES = 1024
"""Stripped in front of a decoded text, where SentencePiece strips all."""
UNIGRAM, BYTE_PAIR = 1, 2
UNKNOWN, CONTROL = 2, 3
# What str.split() calls white space; a regular expression's own class is another set.
WHITE_SPACE = (
    r"[\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680"
    r"\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
)


def fast_tokenizer(model_path: Path) -> Tokenizer:
    """Convert a SentencePiece model, unigram or bpe: the same ids, from raw text, as
    :class:`tsjt_ds.data.tokenizer.Tokenizer` gives.

    Control symbols (language tags among them) written in a text are recognised as such, as in
    every tokenizer of Transformers; SentencePiece itself reads them as plain text. ``</s>`` is
    appended to each text.

    Raises:
        UserError: the file is no SentencePiece model of a kind that is known here.
    """
    proto = read_proto(model_path)
    tokenizer = Tokenizer(_model(proto, model_path))
    tokenizer.normalizer = _normalizer(proto)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE_SYMBOL, prepend_scheme="never")
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE_SYMBOL, " "),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=MOST_SPACES, right=0),
        ]
    )
    special = [piece.piece for piece in proto.pieces if piece.type in (UNKNOWN, CONTROL)]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    end = proto.pieces[proto.trainer_spec.eos_id].piece
    tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, proto.trainer_spec.eos_id)]
    )
    return tokenizer


def read_proto(model_path: Path) -> sentencepiece_proto.ModelProto:
    """The parsed model file.

    Raises:
        UserError: the file cannot be read, or is no SentencePiece model.
    """
    try:
        return sentencepiece_proto.ModelProto.FromString(model_path.read_bytes())
    except OSError as error:
        raise UserError(f"{model_path}: {error.strerror} (run tsjt prepare again)") from None
    except Exception:
        raise UserError(f"{model_path}: no SentencePiece model (run tsjt prepare again)") from None


def _model(proto: sentencepiece_proto.ModelProto, model_path: Path) -> Unigram | BPE:
    kind = proto.trainer_spec.model_type
    if kind == UNIGRAM:
        pieces = [(piece.piece, piece.score) for piece in proto.pieces]
        return Unigram(pieces, unk_id=proto.trainer_spec.unk_id, byte_fallback=False)
    if kind == BYTE_PAIR:
        ids = {piece.piece: index for index, piece in enumerate(proto.pieces)}
        unknown = proto.pieces[proto.trainer_spec.unk_id].piece
        return BPE(vocab=ids, merges=_merges(proto), unk_token=unknown, fuse_unk=True)
    raise UserError(f"{model_path}: model type {kind} (train a unigram or a bpe model)")


def _merges(proto: sentencepiece_proto.ModelProto) -> list[tuple[str, str]]:
    """All pairs of pieces that join to a piece, the best-scored piece first."""
    normal = [piece for piece in proto.pieces if piece.type not in (UNKNOWN, CONTROL)]
    known = {piece.piece for piece in normal}
    merges = []
    for piece in sorted(normal, key=lambda piece: -piece.score):
        text = piece.piece
        for cut in range(1, len(text)):
            if text[:cut] in known and text[cut:] in known:
                merges.append((text[:cut], text[cut:]))
    return merges


def _normalizer(proto: sentencepiece_proto.ModelProto) -> normalizers.Normalizer:
    """``tsjt_ds.data.cleaning.normalise``, then SentencePiece's own treatment of spaces."""
    steps: list[normalizers.Normalizer] = [
        normalizers.Replace(Regex(INVISIBLE_CHARACTER), ""),
        normalizers.NFC(),
        normalizers.Replace(Regex(WHITE_SPACE), " "),
        normalizers.Replace(Regex("^ +| +$"), ""),
        normalizers.Replace(Regex(" {2,}"), " "),
    ]
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE_SYMBOL))
    steps.append(normalizers.Replace(" ", SPACE_SYMBOL))
    # SentencePiece drops the space symbol at the end even where the text itself holds it.
    steps.append(normalizers.Replace(Regex(f"{SPACE_SYMBOL}+$"), ""))
    return normalizers.Sequence(steps)
