"""Boxes of many images in one table."""

from __future__ import annotations

from pathlib import Path

import pytest

from bundle.batch.prompt_table import names_in, prompts_of
from bundle.errors import PromptError

HEAD = "image,name,label,i0,i1,j0,j1,k0,k1\n"


@pytest.fixture
def table(tmp_path):
    def write(text, head=HEAD, encoding="utf-8"):
        path = tmp_path / "boxes.csv"
        path.write_text(head + text, encoding=encoding)
        return path

    return write


def test_each_row_is_a_box_of_its_image(table):
    path = table(
        "a,liver,1,62,109,23,82,21,50\nb,tumour,1,1,2,3,4,5,6\na, spleen, 3, 17,38, 27,68, 33,44\n",
        encoding="utf-8-sig",
    )
    assert names_in(path) == {"a", "b"}
    liver, spleen = prompts_of(path, Path("a.nii.gz"))
    assert (liver.name, liver.label, liver.box.tolist()) == ("liver", 1, [[62, 23, 21], [109, 82, 50]])
    assert (spleen.name, spleen.label, spleen.box.tolist()) == ("spleen", 3, [[17, 27, 33], [38, 68, 44]])


def test_an_image_may_be_named_with_its_ending(table):
    path = table("a.nii.gz,liver,1,62,109,23,82,21,50\na.b,spleen,3,17,38,27,68,33,44\na.PNG,aorta,5,1,2,3,4,5,6\n")
    assert [prompt.name for prompt in prompts_of(path, Path("a.nii.gz"))] == ["liver"]
    assert [prompt.name for prompt in prompts_of(path, Path("a.PNG"))] == ["aorta"]  # another picture of that name
    assert [prompt.name for prompt in prompts_of(path, Path("a.b.nii.gz"))] == ["spleen"]


def test_names_and_labels_may_be_left_out(table):
    path = table("a,1,2,3,4,5,6\na,1,2,3,4,5,7\n", head="image,i0,i1,j0,j1,k0,k1\n")
    assert [(prompt.name, prompt.label) for prompt in prompts_of(path, Path("a.nii.gz"))] == [
        ("object 1", 1),
        ("object 2", 2),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,liver,1,x,2,3,4,5,6\n", "a box of a must have numbers"),
        ("a,liver,1,1,2,3\n", "a box of a must have numbers"),
        ("a,liver,0,1,2,3,4,5,6\n", "at least 1, got 0"),
        ("a,liver,1,1,2,3,4,5,6\na,spleen,1,1,2,3,4,5,6\n", "same label"),
    ],
)
def test_a_row_that_is_no_box_is_refused(text, message, table):
    with pytest.raises(PromptError, match=message):
        prompts_of(table(text), Path("a.nii.gz"))


def test_a_table_without_a_column_and_one_that_is_missing_are_refused(table, tmp_path):
    with pytest.raises(PromptError, match="k1 is missing"):
        names_in(table("a,1,2,3,4,5\n", head="image,i0,i1,j0,j1,k0\n"))
    with pytest.raises(PromptError, match="cannot be read"):
        names_in(tmp_path / "none.csv")


def test_a_table_that_was_changed_is_read_again(table):
    assert names_in(table("a,liver,1,1,2,3,4,5,6\n")) == {"a"}
    assert names_in(table("longer name,liver,1,1,2,3,4,5,6\n")) == {"longer name"}
