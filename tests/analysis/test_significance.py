import json
import subprocess
import sys

from tests.analysis.runs import sentence, translations
from tsjt_ds.analysis.significance import paired_bootstrap


def test_p_values_are_those_of_sacrebleu_s_command_line(tmp_path, monkeypatch):
    monkeypatch.delenv("SACREBLEU_SEED", raising=False)
    references = [sentence(number, "en-de") for number in range(60)]
    baseline = translations(references, 3, 5)
    systems = {
        "near": translations(references, 4, 4),
        "better": translations(references, 9, 6),
        "worse": translations(references, 2, 3),
    }
    for name, lines in {"refs": references, "baseline": baseline, **systems}.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", "refs", "-i", "baseline", *systems]
    options = ["--paired-bs", "--metrics", "bleu", "--format", "json", "--force"]
    done = subprocess.run(
        [*command, *options], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    theirs = {row["system"]: row["BLEU"]["p_value"] for row in json.loads(done.stdout)[1:]}
    ours, signature = paired_bootstrap(baseline, systems, references)
    assert ours == theirs
    assert ours["near"] > 0.05 > ours["better"]
    assert "seed:12345" in signature
    assert "bs:1000" in signature


def test_the_baseline_itself_has_no_p_value():
    lines = [sentence(number, "en-de") for number in range(5)]
    assert paired_bootstrap(lines, {"copy": list(lines)}, lines)[0] == {}
