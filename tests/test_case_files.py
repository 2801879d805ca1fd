"""Which files belong to one case."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.batch.case_files import CaseFiles, find_cases
from bundle.errors import CaseError


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_one_image_takes_the_files_it_is_given(tmp_path):
    image, prompts = touch(tmp_path / "ct.nii.gz"), touch(tmp_path / "p.json")
    assert find_cases(image, prompts=prompts) == [CaseFiles("ct", image, prompts)]


def test_images_of_a_folder_find_their_labels_by_name_with_or_without_the_channel(tmp_path):
    images = [touch(tmp_path / "images" / name) for name in ("a_0000.nii.gz", "b.nii.gz")]
    labels = [touch(tmp_path / "labels" / name) for name in ("a.nii.gz", "b.nrrd")]
    found = find_cases(tmp_path / "images", label=tmp_path / "labels")
    assert [(case.image, case.label) for case in found] == list(zip(images, labels, strict=True))


def test_a_list_of_images_finds_prompts_in_a_folder(tmp_path):
    images = [touch(tmp_path / name) for name in ("a.nrrd", "b.png")]
    prompts = [touch(tmp_path / "prompts" / name) for name in ("a.json", "b.json")]
    assert [case.prompts for case in find_cases(images, prompts=tmp_path / "prompts")] == prompts


def test_a_folder_without_volume_files_is_one_dicom_series(tmp_path):
    touch(tmp_path / "series" / "IM0001")
    (case,) = find_cases(tmp_path / "series", prompts=touch(tmp_path / "p.json"))
    assert case.name == "series"


def test_a_folder_whose_name_is_a_number_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "20240101" / "a.nrrd"), touch(tmp_path / "7" / "a.json")
    (case,) = find_cases(20240101, prompts=7)  # as Python code may give them
    assert (case.image, case.prompts) == (Path("20240101/a.nrrd"), Path("7/a.json"))


def test_files_that_only_look_like_images_are_no_cases(tmp_path):
    image = touch(tmp_path / "images" / "a.nii.gz")
    touch(tmp_path / "images" / "._a.nii.gz")
    label = touch(tmp_path / "labels" / "a.nii.gz")
    (case,) = find_cases(tmp_path / "images", label=tmp_path / "labels")
    assert (case.image, case.label) == (image, label)


def test_a_preview_beside_dicom_slices_is_no_image(tmp_path):
    touch(tmp_path / "series" / "IM1").write_bytes(b"\0" * 128 + b"DICM")
    touch(tmp_path / "series" / "preview.jpg")
    (case,) = find_cases(tmp_path / "series", prompts=touch(tmp_path / "p.json"))
    assert case.image == tmp_path / "series"


def test_files_that_do_not_belong_together_are_refused_with_what_to_do(tmp_path):
    a, b = touch(tmp_path / "a.nrrd"), touch(tmp_path / "x" / "a.nrrd")
    label, empty = touch(tmp_path / "label.nrrd"), tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CaseError, match="add --image"):
        find_cases(None, label=label)
    with pytest.raises(CaseError, match="there is no image"):
        find_cases(tmp_path / "none.nrrd", label=label)
    with pytest.raises(CaseError, match="add --prompts"):
        find_cases(a)
    with pytest.raises(CaseError, match="there is no label"):
        find_cases(a, label=tmp_path / "none.nrrd")
    with pytest.raises(CaseError, match="expected a folder of label files"):
        find_cases([a, b], label=label)
    with pytest.raises(CaseError, match="no prompts for a"):
        find_cases(a, prompts=empty)
    touch(empty / "a.json")
    with pytest.raises(CaseError, match="results of one name"):
        find_cases([a, b], prompts=empty)


def test_a_list_names_images_beside_it_and_may_hold_remarks(tmp_path):
    images = [touch(tmp_path / name) for name in ("a.nrrd", "b c.png")]
    listed = tmp_path / "list.txt"
    listed.write_text("# the first round\na.nrrd\n\nb c.png\n", encoding="utf-8-sig")
    prompts = tmp_path / "prompts"
    for name in ("a", "b c"):
        touch(prompts / f"{name}.json")
    assert [case.image for case in find_cases(listed, prompts=prompts)] == images


@pytest.mark.parametrize(("content", "message"), [(b"# nothing\n", "names no image"), (b"\xff\xfe\x00", "UTF-8")])
def test_a_list_without_a_name_and_one_that_is_no_text_are_refused(content, message, tmp_path):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(CaseError, match=message):
        find_cases(tmp_path / "list.txt", prompts=tmp_path)


def test_a_folder_of_dicom_folders_is_one_case_for_each(tmp_path):
    for name in ("one", "two"):
        touch(tmp_path / "images" / name / "IM1").write_bytes(b"\0" * 128 + b"DICM")
        touch(tmp_path / "prompts" / f"{name}.json")
    found = find_cases(tmp_path / "images", prompts=tmp_path / "prompts")
    assert [case.name for case in found] == ["one", "two"]


def test_a_table_gives_prompts_to_the_images_that_it_names(tmp_path):
    table = tmp_path / "boxes.csv"
    table.write_text("image,i0,i1,j0,j1,k0,k1\na,1,2,3,4,5,6\n")
    assert find_cases(touch(tmp_path / "a.nrrd"), prompts=table)[0].prompts == table
    with pytest.raises(CaseError, match=r"no prompts for b.nrrd .* has a$"):
        find_cases(touch(tmp_path / "b.nrrd"), prompts=table)
