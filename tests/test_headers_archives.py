"""Headers of NumPy and zarr arrays are checked before any library sees the file."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from bundle.data.formats.medsam import write_zarr
from bundle.data.headers import check_header
from bundle.data.limits import Limits
from bundle.data.volume import VolumeError, read_volume


def npy_header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (npy_header((10**6, 10**6, 10**6)), "too large"),
        (npy_header((400, 400, 400)), "announces 64000000 bytes of voxels, the file holds 8"),
        (npy_header((2, 2, 2), "|O"), "expected an array of numbers"),
        (npy_header((0, 2, 2)), "must have voxels"),
        (npy_header((-2, 2, 2)), "must have voxels"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{", "expected the header of a plain array"),
        (b"\x93NUMPY\x09\x00", "expected the header of a plain array"),
        (npy_header((2**64, 2, 2)), "expected the header of a plain array"),
        (npy_header((2, 2, 2)).replace(b"}", b"("), "expected the header of a plain array"),
        (npy_header((2, 2, 2)).replace(b"(2, 2, 2)", b"[[2, 2]] "), "expected the header of a plain array"),
    ],
)
@pytest.mark.parametrize("ending", [".npy", ".npz"])
def test_a_wrong_array_is_refused(tmp_path, content, sentence, ending):
    path = tmp_path / f"a{ending}"
    if ending == ".npy":
        path.write_bytes(content + bytes(8))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("imgs.npy", content + bytes(8))
    with pytest.raises(VolumeError, match=sentence):
        read_volume(path)


@pytest.mark.parametrize("inside", [b"\xa0", b"$", b"'"])
def test_a_header_that_is_no_python_never_comes_to_the_tokenizer(tmp_path, monkeypatch, inside):
    """Its time grows with the square of a run of blanks: 1.5 kB took 0.7 s, 10 kB half a minute."""
    fields = b"{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2, 2), }" + b" " * 200 + inside + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\1\0" + len(fields).to_bytes(2, "little") + fields + bytes(8))
    asked = []
    monkeypatch.setattr("tokenize.generate_tokens", lambda *_: asked.append(1) or iter(()))
    with pytest.raises(VolumeError, match="expected the header of a plain array"):
        check_header(tmp_path / "a.npy")
    assert not asked


def test_sizes_of_python_2_are_read(tmp_path):
    header = npy_header((2, 3, 4)).replace(b"(2, 3, 4), }   ", b"(2L, 3L, 4L), }")
    (tmp_path / "a.npy").write_bytes(header + bytes(range(24)))
    assert read_volume(tmp_path / "a.npy").array.ravel("K").tolist() == list(range(24))


def test_an_archive_has_so_many_entries(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for number in range(5):
            archive.writestr(f"{number}", b"")
    with pytest.raises(VolumeError, match="5 entries, the limit is 4"):
        check_header(tmp_path / "a.npz", Limits(entries=4))


def test_what_is_not_read_of_an_archive_may_be_anything(tmp_path):
    np.savez(tmp_path / "a.npz", imgs=np.zeros((2, 3, 4), np.uint8), about=np.array({"a": 1}, object))
    assert read_volume(tmp_path / "a.npz").shape == (4, 3, 2)


def whole(chunk: list[int]) -> dict[str, object]:
    return {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}}}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"shape": [10**6, 10**6, 10**6]}, "too large"),
        (
            {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**6, 10**6, 1]}}},
            "a chunk for each slice",
        ),
        ({"codecs": [{"name": "numcodecs.pickle"}]}, r"codecs must be .* got \['numcodecs.pickle'\]"),
        ({"data_type": "object"}, "array of numbers"),
        ({"data_type": {"name": "x"}}, "expected a shape"),
        ({"shape": [3000, 3, 4]}, "3000 chunks, the limit is 2048"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 3]}}}, "must have 3 sizes"),
        ({"shape": [500, 1000, 1000], **whole([500, 1000, 1000])}, "have 500000000 bytes, the limit is 268435456"),
        ({"shape": [500, 1000, 1000], **whole([1, 1000, 1000])}, "its chunks are"),
        ({"fill_value": 10**30}, "damaged"),
        ({"consolidated_metadata": {"kind": "inline"}}, "one array or group"),
    ],
)
def test_a_wrong_zarr_array_is_refused(tmp_path, change, sentence):
    write_zarr(tmp_path / "a.zarr", {"imgs": np.zeros((2, 3, 4), np.uint8)}, spacing=[1, 1, 1])
    check_header(tmp_path / "a.zarr")
    file = tmp_path / "a.zarr" / "imgs" / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(VolumeError, match=sentence):
        read_volume(tmp_path / "a.zarr")


def test_of_a_zarr_array_no_more_is_held_than_was_decoded(tmp_path):
    write_zarr(tmp_path / "a.zarr", {"imgs": np.ones((2, 3, 4), np.uint8)}, spacing=[1, 1, 1])
    file = tmp_path / "a.zarr" / "imgs" / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "shape": [500, 1000, 1000], **whole([1, 1000, 1000])}))
    (file.parent / "more").write_bytes(bytes(2**16))  # enough for as many zeros
    tracemalloc.start()
    with pytest.raises(VolumeError, match="damaged"):
        read_volume(tmp_path / "a.zarr")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize("affine", [[["liver"] * 4] * 4, [[{}] * 4] * 4, [[10**400] * 4] * 4, [[1, 2], [3]], {}])
@pytest.mark.parametrize("name", ["affine", "spacing"])
def test_the_place_of_a_zarr_array_is_numbers(tmp_path, name, affine):
    write_zarr(tmp_path / "a.zarr", {"imgs": np.zeros((2, 3, 4), np.uint8)}, **{name: affine})
    with pytest.raises(VolumeError):
        read_volume(tmp_path / "a.zarr")


def test_the_unpickling_filter_of_old_zarr_is_refused(tmp_path):
    (tmp_path / "a.zarr" / "imgs").mkdir(parents=True)
    (tmp_path / "a.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    array = {"zarr_format": 2, "shape": [2, 2, 2], "chunks": [2, 2, 2], "dtype": "|O", "compressor": None}
    array |= {"filters": [{"id": "pickle", "protocol": 5}], "fill_value": None, "order": "C"}
    (tmp_path / "a.zarr" / "imgs" / ".zarray").write_text(json.dumps(array))
    with pytest.raises(VolumeError, match="got \\['pickle'\\]"):
        read_volume(tmp_path / "a.zarr")


@pytest.mark.parametrize("spacing", [2.0, [1, 2], [-1, 1, 1], [0, 1, 1], [np.nan, 1, 1]], ids=str)
def test_a_spacing_beside_an_array_is_three_numbers_above_0(tmp_path, spacing):
    np.savez(tmp_path / "a.npz", imgs=np.zeros((3, 4, 5), np.uint8), spacing=spacing)
    with pytest.raises(VolumeError, match=r"expected a spacing \(x, y, z\) of three numbers above 0"):
        read_volume(tmp_path / "a.npz")
