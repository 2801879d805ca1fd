"""Headers of NRRD are checked before any library sees the file."""

from __future__ import annotations

import contextlib

import pytest
from header_files import NRRD, nrrd

from bundle.data.headers import check_header
from bundle.data.volume import VolumeError, read_volume


@pytest.mark.parametrize(
    "line",
    [
        *("spacings: 1 .5 nan", "centers: cell cell node", "kinds: domain domain ???", 'labels: "a b" "c" "d"'),
        *("content: anything: at all", 'Space Units: "mm" "mm" "mm"', "byte skip: -1", "old min: 0", "key:=value"),
        *("space: RAS\nspacedirections: (1, 0,0) (0,1,0)  (0,0,1)", "# comment", "ENDIAN: little", "a: b:=c"),
    ],
)
def test_the_spellings_of_nrrd_pass(tmp_path, line):
    check_header(nrrd(tmp_path, f"{NRRD}{line}\n"))


@pytest.mark.parametrize("encoding", ["txt", "text", "ascii", "hex", "bzip2", "bz2", "zrl", "x" * 5000])
def test_nrrd_that_is_text_never_reaches_its_parser(tmp_path, encoding):
    text = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 8 8 4\nencoding: {encoding}\n"
    with pytest.raises(VolumeError, match="encoding must be raw or gzip"):
        read_volume(nrrd(tmp_path, text, b"1" * 1100))


# Each of these ends ITK 5.4 with a segmentation fault.
@pytest.mark.parametrize(
    "line",
    [
        *("space: {}", "space dimension: {}", "spacings: {} 1 1", "thicknesses: {} 1 1", "axis mins: {} 1 1"),
        *("centers: {} cell cell", "kinds: {} domain domain", "old max: {}", "endian: {}", "line skip: {}"),
        *(
            "space dimension: 3\nspace origin: ({},1,1)",
            "space dimension: 3\nspace directions: ({},0,0) (0,1,0) (0,0,1)",
        ),
        *("space dimension: 3\nmeasurement frame: ({},0,0) (0,1,0) (0,0,1)", "{}: 1", "type: {}", "sizes: {} 1 1"),
    ],
)
@pytest.mark.parametrize("letter", "1x")
def test_long_words_in_a_field_of_nrrd_are_refused(tmp_path, line, letter):
    with pytest.raises(VolumeError, match=r"cannot be used|no such field|two fields|no field"):
        read_volume(nrrd(tmp_path, f"{NRRD}{line.format(letter * 1100)}\n"))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("dimension: 3", "dimension: 16", "'dimension' of its header cannot be used, got '16'"),
        ("dimension: 3", "dimension: -1", "'dimension'"),
        ("sizes: 4 4 4", "sizes: 4 4", "'sizes' must have 3 entries"),
        ("sizes: 4 4 4", "sizes: 4 0 4", "must have voxels"),
        ("sizes: 4 4 4", "sizes: 4 -4 4", "'sizes'"),
        (
            "sizes: 4 4 4",
            "sizes: 99999999999 99999999999 4",
            "too large: 99999999999 x 99999999999 x 4 voxels, the limit is",
        ),
        ("sizes: 4 4 4", "sizes: 4 4 5", "announces 80 bytes of voxels, the file holds 64"),
        ("type: uchar", "type: block", "type must be an integer"),
        ("type: uchar\n", "", "no field 'type'"),
        ("type: uchar", "type: uchar\nblock size: 3", "no such field as 'block size'"),
        ("type: uchar", "type: uchar\nline skip: 1", "'line skip'"),
        ("type: uchar", "type: uchar\nbyte skip: 99", "'byte skip'"),
        ("type: uchar", "type: uchar\nspace dimension: 3\nspace origin: (nan,0,0)", "'space origin'"),
        ("type: uchar", "type: uchar\nspace dimension: 3\nspace origin: (inf,0,0)", "'space origin'"),
        ("type: uchar", "type: uchar\nspace: RAS\nspace directions: (1,0,1e308) (0,1,0) (0,0,1)", "'space directions'"),
        ("type: uchar", "type: uchar\nTYPE: float", "two fields 'type'"),
        ("type: uchar", "type: uchar\rtype: float", "control characters"),
        ("type: uchar", "type: uchar\x00", "control characters"),
        ("NRRD0004", "NRRD0009", "expected it to begin with NRRD"),
        ("encoding: raw", "encoding: gzip", "expected its voxels to be a gzip stream"),
    ],
)
def test_a_wrong_nrrd_header_is_refused_in_one_sentence(tmp_path, old, new, sentence):
    with pytest.raises(VolumeError, match=sentence) as refusal:
        read_volume(nrrd(tmp_path, NRRD.replace(old, new)))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("space", "is_known"),
    [("RPI", False), ("left-posterior-inferior", False), ("rast", True), ("3D-left-handed", True)],
)
def test_a_nrrd_lies_in_a_space_that_the_format_knows(tmp_path, space, is_known):
    head = f"NRRD0005\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\nspace: {space}\n\n"
    (tmp_path / "a.nrrd").write_bytes(head.encode() + bytes(8))
    with contextlib.nullcontext() if is_known else pytest.raises(VolumeError, match="'space' of its header"):
        check_header(tmp_path / "a.nrrd")
