import gc
import gzip
import io
import stat
import tarfile
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from tests.data.formats.reading import read
from tests.fuzz.packings import COMPRESSORS, archive_bombs
from tsjt_ds.data.corpora import Part
from tsjt_ds.data.formats.streams import open_part
from tsjt_ds.errors import UserError

FILES = {
    "d/x.en": b"a\nb\n",
    "d/x.de": b"c\nd\n",
    "x.tsv.gz": gzip.compress(b"e\tf\n"),
    "../../up": b"g\th\n",
    "/root": b"i\tj\n",
}


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    return out.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    return out.getvalue()


@pytest.fixture(params=["x.zip", *(f"x.tar{ending}" for ending in COMPRESSORS)])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    file = tmp_path / request.param
    ending = file.name.removeprefix("x.tar")
    file.write_bytes(COMPRESSORS[ending](tar(FILES)) if ending in COMPRESSORS else zipped(FILES))
    return file


def test_members_are_read(archive: Path) -> None:
    sides = Part(archive, "d/x.en"), Part(archive, "d/*.de")
    assert read("text", *sides)[0] == [("a", "c"), ("b", "d")]


def test_a_compressed_member_is_unpacked(archive: Path) -> None:
    assert read("tsv", Part(archive, "x.tsv*"))[0] == [("e", "f")]


@pytest.mark.parametrize("member", ["../../up", "/root"])
def test_names_that_climb_write_nothing(archive: Path, member: str) -> None:
    assert len(read("tsv", Part(archive, member))[0]) == 1
    assert list(archive.parent.iterdir()) == [archive]


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("nothing", "no member 'nothing' (its first are 'd/x.en', 'd/x.de', 'x.tsv.gz'; name"),
        ("no*", "no member 'no*' (its first are"),
        ("d/*", "'d/*' names more than one member: 'd/x.en' and 'd/x.de' (name one)"),
        ("link", "member 'link' is a link (pack it again"),
    ],
)
def test_members_that_cannot_be_read_are_told(archive: Path, member: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read("tsv", Part(archive, member))
    assert str(error.value).startswith(f"{archive}: {message}")


def test_an_archive_without_a_member_is_told(archive: Path) -> None:
    with pytest.raises(UserError, match=r"it is an archive \(unpack it\)"):
        read("tsv", archive)


def test_an_archive_cut_short_is_told(archive: Path) -> None:
    data = archive.read_bytes()
    archive.write_bytes(data[:514] if archive.suffix == ".tar" else data[: len(data) // 2])
    with pytest.raises(UserError, match="damaged or cut short"):
        read("tsv", Part(archive, "d/x.en"))


def test_a_plain_file_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"a\tb\n" * 1000)
    with pytest.raises(UserError, match=r"x\.tar\[a\]: damaged or cut short"):
        read("tsv", Part(tmp_path / "x.tar", "a"))


def test_an_encrypted_member_is_told(tmp_path: Path) -> None:
    data = bytearray(zipped({"a": b"b\tc\n"}))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(UserError, match="member 'a' is encrypted"):
        read("tsv", Part(tmp_path / "x.zip", "a"))


def test_hostile_archives_take_no_memory(tmp_path: Path) -> None:
    for number, (ending, data, member) in enumerate(archive_bombs()):
        file = tmp_path / f"{number}{ending}"
        file.write_bytes(data)
        tracemalloc.start()
        with suppress(UserError), open_part(Part(file, member)) as stream:
            while stream.read(1 << 16):
                pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 12 << 20, (ending, member)


def test_headers_are_not_kept(tmp_path: Path) -> None:
    file = tmp_path / "x.tar"
    file.write_bytes(tar({str(number): b"" for number in range(500)}))
    with pytest.raises(UserError, match="no member 'x'") as error:
        read("tsv", Part(file, "x"))
    kept = sum(isinstance(thing, tarfile.TarInfo) for thing in gc.get_objects())
    assert kept < 10
    del error  # its frames held the archive until here
