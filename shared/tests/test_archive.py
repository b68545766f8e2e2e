"""Zip-like files: what is read, and every way in which an archive is refused."""

from __future__ import annotations

import io
import random
import stat
import struct
import warnings
import zipfile
from pathlib import Path

import pytest

from pentatonic.archive import Archive, ArchiveLimits
from pentatonic.errors import FormatError


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # of duplicate names
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def refused(data: bytes, match: str, **limits: int) -> None:
    with pytest.raises(FormatError, match=match):
        Archive(data, limits=ArchiveLimits(**limits))


def test_reads_members_of_a_file_and_of_bytes(tmp_path: Path) -> None:
    data = zipped(
        ("META-INF/container.xml", b"<container/>"), ("folder/", b""), ("Étude.xml", b"x" * 200_000)
    )
    path = tmp_path / "score.mxl"
    path.write_bytes(data)
    for source in (data, path):
        with Archive(source) as archive:
            assert archive.names == ("META-INF/container.xml", "Étude.xml")
            assert archive.read("Étude.xml") == b"x" * 200_000
            with pytest.raises(FormatError, match=r"'nothing\.xml' is not in it"):
                archive.read("nothing.xml")


def test_an_error_names_archive_and_member(tmp_path: Path) -> None:
    path = tmp_path / "bad.mxl"
    path.write_bytes(zipped(("../up.xml", b"")))
    with pytest.raises(FormatError) as caught:
        Archive(path)
    assert caught.value.path == path
    assert (
        str(caught.value) == f"{path}: member '../up.xml' is not named by a relative path inside the archive"
    )
    with pytest.raises(FormatError, match="cannot be read: No such file"):
        Archive(tmp_path / "missing.mxl")


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "C:\\a", "C:a", "a\\b", "a//b", ".."])
def test_names_that_leave_the_archive_are_refused(name: str) -> None:
    member = zipfile.ZipInfo("placeholder")
    member.filename = name  # past the cleaning of its constructor
    refused(zipped((member, b"")), "relative path")


def test_a_name_with_nul_is_refused() -> None:
    refused(zipped(("a_b.xml", b"data")).replace(b"a_b.xml", b"a\0b.xml"), "relative path")


def test_links_duplicates_encryption_and_other_methods_are_refused() -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(zipped((link, b"/etc/passwd")), "'link' is a link")
    refused(zipped(("a", b"1"), ("a", b"2")), "'a' is listed twice")
    refused(zipped(("a", b"1"), method=zipfile.ZIP_BZIP2), "compressed by method 12")
    deflate64 = bytearray(zipped(("a", b"1")))
    central = deflate64.index(b"PK\x01\x02")
    deflate64[central + 10] = 9
    refused(bytes(deflate64), r"compressed by method 9 \(Deflate64\); stored and deflated are allowed")
    data = bytearray(zipped(("secret", b"1")))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    refused(bytes(data), "'secret' is encrypted")


def test_bombs_are_refused_before_they_are_read() -> None:
    refused(zipped(("bomb", bytes(8 << 20))), "expands more than 200 times")
    refused(zipped(("big", bytes(5000))), "has 5000 bytes; at most 4999", member_bytes=4999)
    refused(zipped(("a", bytes(600)), ("b", bytes(600))), "holds 1200 bytes", total_bytes=1000)
    many = zipped(*((f"{i}", b"") for i in range(11)))
    refused(many, "has 11 members; at most 10", members=10)
    refused(many, "lists more than 0 members", members=0)


def test_what_is_read_counts_towards_the_total() -> None:
    data = zipped(("a", bytes(600)))
    with Archive(data, limits=ArchiveLimits(total_bytes=1000)) as archive:
        archive.read("a")
        with pytest.raises(FormatError, match="'a' is larger than the limits allow"):
            archive.read("a")


def test_the_64_bit_form_is_refused() -> None:
    data = zipped(("a", b"1"))
    at = data.index(b"PK\x05\x06")
    refused(data[:at] + struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1) + data[at:], "64-bit form")


def test_a_damaged_member_is_a_format_error() -> None:
    data = bytearray(zipped(("a", bytes(range(256)) * 10)))
    data[40] ^= 0xFF  # inside the compressed bytes
    with Archive(bytes(data)) as archive, pytest.raises(FormatError, match="member 'a' is damaged"):
        archive.read("a")


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"no zip at all", b"PK\x05\x06", b"PK\x05\x06" + bytes(10)]
)
def test_other_bytes_are_no_archive(data: bytes) -> None:
    refused(data, "is not a zip file")


def test_mutated_archives_give_nothing_but_format_errors() -> None:
    original = zipped(("META-INF/container.xml", b"<a/>" * 50), ("b.xml", b"text" * 100))
    rng = random.Random(5)
    outcomes = set()
    for _ in range(1500):
        data = bytearray(original)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        try:
            with Archive(bytes(data)) as archive:
                for name in archive.names:
                    archive.read(name)
            outcomes.add("read")
        except FormatError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_a_limit_for_one_file() -> None:
    with Archive(zipped(("a", b"x" * 100))) as archive:
        assert archive.read("a", at_most=100) == b"x" * 100
        with pytest.raises(FormatError, match="member 'a' is larger than the limits allow"):
            archive.read("a", at_most=99)
