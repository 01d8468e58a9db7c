"""Layers compressed and read back: the same bytes on any machine, bounded memory, no damage overlooked."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import subprocess
import threading
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.compression import GZIP, KINDS, LEVELS, NONE, ZSTD, Compression, compressed
from cache.decompression import decompress, sniff
from cache.errors import CacheError, FormatError

MIB = 1 << 20


def squeeze(data: bytes, how: Compression, *, cut: int = 1 << 16, **options: int) -> bytes:
    out = io.BytesIO()
    with compressed(out, how, **options) as sink:
        for start in range(0, len(data), cut):
            sink.write(data[start : start + cut])
    return out.getvalue()


def mixed(size: int, seed: int = 1) -> bytes:
    """Bytes that compress somewhat: runs, repeats from far back, noise."""
    dice = random.Random(seed)
    parts = [dice.randbytes(3000), b"\0" * 5000, b"pybuild " * 700]
    data = bytearray()
    while len(data) < size:
        data += dice.choice(parts) + dice.randbytes(200)
    return bytes(data[:size])


@pytest.mark.parametrize("how", [GZIP, ZSTD, NONE, Compression("gzip", 0), Compression("gzip", 6)])
@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 5 * MIB + 12345])
def test_what_is_compressed_reads_back(how: Compression, size: int) -> None:
    data = mixed(size)
    assert decompress(io.BytesIO(squeeze(data, how))).read() == data


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_every_level_reads_back(kind: str) -> None:
    data = mixed(2 * MIB)
    for level in LEVELS[kind]:  # type: ignore[index]
        if (kind, level) > ("zstd", 9):
            data = data[:100_000]  # the slow ones
        assert decompress(io.BytesIO(squeeze(data, Compression.parse(kind, level)))).read() == data


@pytest.mark.parametrize("how", [GZIP, ZSTD, Compression("gzip", 6), Compression("zstd", 9)])
def test_neither_threads_nor_cuts_change_the_bytes(how: Compression) -> None:
    data = mixed(9 * MIB + 77)
    wanted = squeeze(data, how, threads=1)
    for cut, threads in ((1000, 3), (MIB, 2), (3 * MIB + 5, 4), (len(data), 8)):
        assert squeeze(data, how, cut=cut, threads=threads) == wanted


@pytest.mark.parametrize("size", [0, 5000, 400_000, 600_000, 3 * MIB])
def test_a_known_size_is_written_alike_by_any_number_of_threads(size: int) -> None:
    data = mixed(size)
    wanted = squeeze(data, ZSTD, size=size, threads=1)
    assert squeeze(data, ZSTD, size=size, threads=4) == wanted
    assert zstandard.get_frame_parameters(wanted).content_size == size


def test_gzip_is_one_member_without_name_or_time() -> None:
    data = mixed(3 * MIB)
    packed = squeeze(data, GZIP)
    assert packed[:10] == b"\x1f\x8b\x08\x00" + bytes(4) + b"\x04\xff"
    one = zlib_member(packed)
    assert one == (data, b"")


def zlib_member(packed: bytes) -> tuple[bytes, bytes]:
    import zlib

    member = zlib.decompressobj(31)
    return member.decompress(packed) + member.flush(), member.unused_data


def test_the_tools_of_the_field_read_it() -> None:
    data = mixed(3 * MIB + 1)
    for tool, how in (
        (["gzip", "-dc"], GZIP),
        (["zstd", "-dc"], ZSTD),
        (["gzip", "-dc"], Compression("gzip", 9)),
    ):
        assert subprocess.run(tool, input=squeeze(data, how), stdout=-1, check=True).stdout == data


def test_a_better_level_is_smaller() -> None:
    data = mixed(4 * MIB)
    sizes = [len(squeeze(data, Compression("gzip", level))) for level in (0, 1, 9)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3


def test_an_announced_size_that_is_not_met_is_refused() -> None:
    with pytest.raises(CacheError):
        squeeze(b"four", ZSTD, size=5)
    with pytest.raises(CacheError):
        squeeze(b"four" * 1_000_000, ZSTD, size=5)


def test_failing_in_the_middle_leaves_no_thread_and_no_end() -> None:
    before = threading.active_count()
    for how in (GZIP, ZSTD):
        out = io.BytesIO()
        with pytest.raises(RuntimeError), compressed(out, how, threads=3) as sink:
            sink.write(mixed(6 * MIB))
            raise RuntimeError
        if out.getvalue():
            with pytest.raises(FormatError):
                decompress(io.BytesIO(out.getvalue())).read()
    assert threading.active_count() == before


def test_a_sink_that_fails_is_reported_as_it_is() -> None:
    class Full:
        def write(self, data: bytes) -> None:
            raise OSError(28, "No space left on device")

    for how in (GZIP, ZSTD, NONE):
        with pytest.raises(OSError, match="No space"), compressed(Full(), how) as sink:
            sink.write(mixed(8 * MIB))


@pytest.mark.parametrize(
    ("kind", "level"),
    [("brotli", None), ("", None), ("gzip", 10), ("gzip", -1), ("zstd", 0), ("zstd", 23), ("none", 1)],
)
def test_what_there_is_not_is_refused(kind: str, level: int | None) -> None:
    with pytest.raises(CacheError) as caught:
        Compression.parse(kind, level)
    assert caught.value.code.startswith("compression/")


def test_every_kind_has_a_default() -> None:
    assert [Compression.parse(kind) for kind in KINDS] == [GZIP, ZSTD, NONE]


PACKERS = {
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("kind", PACKERS)
def test_other_writers_are_read_by_their_magic(kind: str) -> None:
    data = mixed(700_000)
    packed = PACKERS[kind](data)
    assert sniff(packed) == kind
    assert decompress(io.BytesIO(packed)).read() == data


@pytest.mark.parametrize("kind", PACKERS)
def test_members_one_after_the_other_are_one_stream(kind: str) -> None:
    pack = PACKERS[kind]
    packed = pack(b"one " * 100_000) + pack(b"") + pack(b"two")
    assert decompress(Dribble(packed)).read() == b"one " * 100_000 + b"two"


@pytest.mark.parametrize("kind", PACKERS)
def test_a_stream_cut_anywhere_is_an_error(kind: str) -> None:
    packed = PACKERS[kind](mixed(60_000))
    for cut in (7, 12, 100, len(packed) // 2, len(packed) - 9, len(packed) - 1):
        with pytest.raises(FormatError):
            decompress(io.BytesIO(packed[:cut])).read()


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_a_flipped_bit_is_an_error(kind: str) -> None:
    packed = bytearray(PACKERS[kind](mixed(60_000)))
    packed[len(packed) // 2] ^= 8
    with pytest.raises(FormatError):
        decompress(io.BytesIO(packed)).read()


@pytest.mark.parametrize("kind", PACKERS)
def test_something_else_after_the_end_is_an_error(kind: str) -> None:
    packed = PACKERS[kind](b"layer" * 1000)
    with pytest.raises(FormatError):
        decompress(io.BytesIO(packed + b"and then some more bytes")).read()


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_zeros_after_the_end_are_padding(kind: str) -> None:
    assert decompress(io.BytesIO(PACKERS[kind](b"layer") + bytes(1024))).read() == b"layer"


def test_skippable_zstd_frames_are_skipped() -> None:
    skippable = b"\x52\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"stamp"
    packed = skippable + zstandard.compress(b"layer") + skippable
    assert decompress(io.BytesIO(packed)).read() == b"layer"
    with pytest.raises(FormatError):
        decompress(io.BytesIO(packed[:-1])).read()


def test_zstd_with_every_kind_of_header_is_followed_to_its_end() -> None:
    noise, zeros = mixed(300_000), bytes(300_000)
    for data in (b"", b"x", noise, zeros, noise + zeros):
        for checksum in (False, True):
            for size in (False, True):
                packer = zstandard.ZstdCompressor(write_checksum=checksum, write_content_size=size)
                packed = packer.compress(data)
                assert decompress(Dribble(packed)).read() == data
                with pytest.raises(FormatError):
                    decompress(io.BytesIO(packed[:-1])).read()


def test_plain_bytes_stay_plain() -> None:
    for data in (b"", b"B", b"BZ", b"BZh", b"BZh0 is no level", b"\x1f\x8b", b"./\0\0\0", mixed(400_000)):
        assert decompress(Dribble(data)).read() == data


class Dribble:
    """A stream that gives few bytes at a time, as sockets may."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)
        self._dice = random.Random(7)

    def read(self, size: int) -> bytes:
        return self._data.read(min(size, self._dice.choice((1, 3, 500, 70_000))))


@given(
    st.binary(max_size=300), st.sampled_from([b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"BZh9", b"\xfd7zXZ\0"])
)
@settings(max_examples=300, deadline=None)
def test_nonsense_behind_a_magic_is_an_error_or_bytes_and_nothing_else(data: bytes, magic: bytes) -> None:
    try:
        decompress(io.BytesIO(magic + data)).read(1 << 20)
    except FormatError as error:
        assert error.code in ("compression/damaged", "compression/truncated")


@pytest.mark.parametrize("kind", PACKERS)
def test_a_bomb_is_read_in_little_memory(kind: str) -> None:
    packed = PACKERS[kind](bytes(64 * MIB))
    tracemalloc.start()
    stream = decompress(io.BytesIO(packed))
    total = 0
    while piece := stream.read(1 << 18):
        total += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 64 * MIB
    assert peak < 12 * MIB  # xz alone keeps a dictionary of 8 MiB


@pytest.mark.parametrize("how", [GZIP, ZSTD, Compression("gzip", 6)])
def test_compressing_much_takes_little_memory(how: Compression) -> None:
    class Null:
        def write(self, data: bytes) -> None: ...

    piece = random.Random(3).randbytes(MIB)
    tracemalloc.start()
    with compressed(Null(), how, threads=2) as sink:
        for _ in range(48):
            sink.write(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * MIB
