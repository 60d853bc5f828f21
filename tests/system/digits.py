"""Digit strings to copy and to reverse, as two made-up languages."""

import random
from pathlib import Path

DIGITS = "0123456789abcdef"
"""Hexadecimal: 16 digits, alone and after a space, and 7 special tokens make a vocabulary of 40."""


def write_digits(directory: Path, train: int = 6000, test: int = 100, seed: int = 1) -> None:
    """``{train,dev,test}.{dig-cpy,dig-rev}.tsv``; no test string is a training string."""
    chooser = random.Random(seed)
    for pair, step in (("dig-cpy", 1), ("dig-rev", -1)):
        lines: dict[str, None] = {}
        while len(lines) < train + 2 * test:
            digits = chooser.choices(DIGITS, k=chooser.randint(4, 8))
            lines[f"{' '.join(digits)}\t{' '.join(digits[::step])}\n"] = None
        rows = list(lines)
        splits = {"test": rows[:test], "dev": rows[test : 2 * test], "train": rows[2 * test :]}
        for split, text in splits.items():
            (directory / f"{split}.{pair}.tsv").write_text("".join(text))


def digits_recipe(directory: Path, steps: int) -> str:
    """A recipe over the files of :func:`write_digits`, as YAML."""
    return f"""
name: digits
run_directory: {directory}/run
data:
  prepared: {directory}/prepared
  pairs: [dig-cpy, dig-rev]
  train: {directory}/train.{{pair}}.tsv
  dev: {directory}/dev.{{pair}}.tsv
  test: {directory}/test.{{pair}}.tsv
  max_segment_tokens: 14
  cleaning: {{copies: false}}
  row_source_tokens: 64
  row_target_tokens: 64
tokenizer: {{vocab_size: 40, character_coverage: 1.0}}
model:
  d_model: 64
  attention_heads: 4
  ffn_dim: 256
  dropout: 0.0
  label_smoothing: 0.0
  capacities:
    low: {{encoder_layers: 1, decoder_layers: 1}}
    high: {{encoder_layers: 2, decoder_layers: 2}}
schedule:
  stages:
    - {{name: joint, steps: {steps * 3 // 4}, weights: {{low: 0.5, high: 0.5}}}}
    - name: favour_low
      steps: {steps - steps * 3 // 4}
      weights: {{low: 0.7, high: 0.3}}
      learning_rate: {{factor: 0.1}}
evaluation: {{beam_size: 2, samples: 2}}
"""
