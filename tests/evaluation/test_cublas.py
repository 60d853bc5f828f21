"""Where CTranslate2's cuBLAS is looked for, and what becomes of decoding without it."""

import ctypes
import shutil
from pathlib import Path

import pytest

from tsjt_ds.errors import UserError
from tsjt_ds.evaluation import search
from tsjt_ds.evaluation.cublas import CUBLAS, load_cublas


def path_of(library: str) -> Path:
    """Where a library that this process has loaded lies."""
    ctypes.CDLL(library)
    lines = Path("/proc/self/maps").read_text().splitlines()
    return next(Path(line.split()[-1]) for line in lines if line.endswith(library))


@pytest.fixture
def without_system_library() -> None:
    try:
        ctypes.CDLL(CUBLAS)
    except OSError:
        return
    pytest.skip("this machine has cuBLAS 12")


@pytest.mark.usefixtures("without_system_library")
def test_it_is_found_in_nvidia_s_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not load_cublas()
    name = "nvidia/cublas/lib/libcublas.so.12"
    (tmp_path / name).parent.mkdir(parents=True)
    shutil.copyfile(path_of("libm.so.6"), tmp_path / name)
    records = tmp_path / "nvidia_cublas_cu12-12.9.dist-info"
    records.mkdir()
    (records / "METADATA").write_text("Metadata-Version: 2.1\nName: nvidia-cublas-cu12\n")
    (records / "RECORD").write_text(f"nvidia/__init__.py,,\n{name},,\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_cublas()


@pytest.mark.parametrize(
    ("wanted", "gpus", "has_cublas", "chosen"),
    [
        ("auto", 0, False, "cpu"),
        ("auto", 2, True, "cuda"),
        ("auto", 2, False, "cpu"),
        ("cpu", 2, True, "cpu"),
        ("cuda", 2, True, "cuda"),
    ],
)
def test_device(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wanted: str,
    gpus: int,
    has_cublas: bool,
    chosen: str,
) -> None:
    monkeypatch.setattr("ctranslate2.get_cuda_device_count", lambda: gpus)
    monkeypatch.setattr(search, "load_cublas", lambda: has_cublas)
    assert search._chosen_device(wanted) == chosen
    told = "decoding on the CPU (pip install nvidia-cublas-cu12)"
    assert (told in capsys.readouterr().err) == (gpus > 0 and not has_cublas)


def test_a_gpu_that_is_asked_for_and_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "load_cublas", lambda: False)
    with pytest.raises(UserError, match=r"finds no libcublas\.so\.12 .* \(pip install"):
        search._chosen_device("cuda")


def test_a_search_that_fails_is_one_line() -> None:
    class Output:
        def result(self) -> None:
            raise RuntimeError("CUDA failed with error out of memory")

    with pytest.raises(UserError, match="CTranslate2: CUDA failed with error out of memory"):
        search._result(Output())
