import pytest

from tsjt_ds.cli import build_parser

TRANSLATE = "translate run --capacity low --from en --to de"
EXPORT = "export run --capacity low --format hf out"


@pytest.mark.parametrize(
    ("command", "option", "least"),
    [
        (TRANSLATE, "--block", 1),
        (TRANSLATE, "--beam-size", 1),
        (TRANSLATE, "--threads", 0),
        ("evaluate run", "--beam-size", 1),
        ("evaluate run", "--max-segments", 0),
        ("evaluate run", "--samples", 0),
        ("evaluate run", "--threads", 0),
        (EXPORT, "--verify", 0),
    ],
)
def test_numbers_out_of_range_are_refused(capsys, command, option, least):
    parser = build_parser()
    name = option.removeprefix("--").replace("-", "_")
    args = parser.parse_args([*command.split(), option, str(least)])
    assert getattr(args, name) == least
    for value, message in ((str(least - 1), f"is less than {least}"), ("x", "no whole number")):
        with pytest.raises(SystemExit):
            parser.parse_args([*command.split(), option, value])
        assert f"argument {option}: " in (err := capsys.readouterr().err)
        assert message in err
