"""The page of the training data credits every source that the shipped weights name."""

from __future__ import annotations

import runpy

import pytest

LISTED = """{begin}

   one-set
      A set
      Licence: CC BY 4.0. Masks: human.
      Credit: Somebody 2020.

   no-credit
      Another set
      Licence: CC0 1.0. Masks: human.

{end}
Generated phantoms of this project
"""


@pytest.fixture(scope="module")
def script(repository):
    return runpy.run_path(str(repository / "scripts" / "data_license.py"))


def test_every_source_of_the_shipped_weights_is_credited(script, capsys):
    assert script["main"](["--check"]) == 0, capsys.readouterr().out


def test_what_is_missing_is_named(script):
    page = LISTED.format(begin=script["BEGIN"], end=script["END"])
    sources = ["one-set", "no-credit", "phantom", "labelled", "another"]
    assert script["missing_from"](page, sources) == ["no-credit", "labelled", "another"]


@pytest.mark.parametrize(
    "text",
    [
        "Original data set : A set\nLicence : MIT: ../LICENSES/MIT.txt\nAttribution  : A. B.\nMasks : human\n",
        "Data set: A set\n\nLicence: MIT\nLicence text: https://example.org\n\nAttribution: A. B\n\nMasks: human\n",
    ],
)
def test_both_forms_of_a_licence_file_give_the_same_entry(script, text):
    expected = "   name\n      A set\n      Licence: MIT. Masks: human.\n      Credit: A. B.\n"
    assert script["entry"]("name", text) == expected


def test_a_set_without_a_licence_file_is_refused(script, tmp_path):
    with pytest.raises(ValueError, match=r"nobody has no LICENSE.txt"):
        script["licence_file"]("nobody", tmp_path)


def test_a_page_without_a_place_for_the_sets_is_refused(script, tmp_path):
    with pytest.raises(ValueError, match="has no lines"):
        script["filled"]("a page", ["one-set"], tmp_path)


@pytest.mark.real_data
def test_the_page_says_what_the_licence_files_say(script, repository, real_data):
    page = (repository / "docs" / "data_license.txt").read_text(encoding="utf-8")
    sources = list(script["open_checkpoint"](script["WEIGHTS"]).metadata["training_data"])
    assert script["filled"](page, sources, real_data) == page
