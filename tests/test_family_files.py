"""A family file of a stranger is read, or refused with its name, the section and what would be right."""

from __future__ import annotations

import json
import re

import pytest

from bundle.errors import FamilyError
from bundle.families.builders import sam_vit
from bundle.families.family import FAMILIES_FOLDER, load_family
from bundle.families.family_files import builder_named, read_family_file, variants_of

SAM = json.loads((FAMILIES_FOLDER / "sam_vit_b.json").read_text())
CHECKPOINT = {"file": "models/a.pth"}


def refusal(tmp_path, content):
    path = tmp_path / "own.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(FamilyError) as error:
        load_family(path)
    assert "own.json" in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("section", "value", "message"),
    [
        ("name", 3, "name of own.json must be a text, got 3"),
        ("title", None, "title of own.json must be a text, got None"),
        ("network_def", "sam", "network_def of own.json must be an object, got 'sam'"),
        ("contract", [], "contract of own.json must be an object, got []"),
        ("contract", {**SAM["contract"], "size": "large"}, "the contract of own.json cannot be read"),
        ("contract", {**SAM["contract"], "carried": ["box"]}, "option propagated of its network_def"),
        ("contract", {**SAM["contract"], "channels": 3}, "the contract of own.json cannot be read"),
        ("prompts", "box", "prompts of own.json must be a list, got 'box'"),
        ("prompts", [["box"]], "prompts of own.json must be a list of texts, got [['box']]"),
        ("prompts", ["lasso"], "prompts of own.json must be among box, point, mask, none, got 'lasso'"),
        ("trainable", "*", "trainable of own.json must be a list, got '*'"),
        ("trainable", [1], "trainable of own.json must be a list of texts, got [1]"),
        ("start", ["sam"], "start of own.json must be a text or null, got ['sam']"),
        ("notes", {}, "notes of own.json must be a text, got {}"),
        ("checkpoint", "a.pth", "checkpoint of own.json must be an object or null, got 'a.pth'"),
        ("checkpoint", {"url": None}, "checkpoint of own.json lacks the key 'file'"),
        ("checkpoint", {**CHECKPOINT, "size": "1 MB"}, "checkpoint.size of own.json must be a whole number or null"),
        ("checkpoint", {"file": "../../a.pth"}, "checkpoint.file of own.json must be a path below the bundle"),
        ("checkpoint", {"file": "/a.pth"}, "checkpoint.file of own.json must be a path below the bundle"),
        ("checkpoint", {"file": ""}, "checkpoint.file of own.json must be a path below the bundle"),
        ("variants", {"vit_b": {}}, "variants of own.json must be a list of objects"),
        ("variants", [{"vit_b": 1}], "the variant 'vit_b' of own.json must be an object"),
        ("variants", [{"vit_b": {"network_def": 1}}], "the variant 'vit_b' of own.json must be an object"),
    ],
)
def test_a_section_of_another_type_is_named(tmp_path, section, value, message):
    assert message in refusal(tmp_path, {**SAM, section: value})


@pytest.mark.parametrize("section", ["name", "title", "network_def", "contract"])
def test_a_missing_section_is_named(tmp_path, section):
    message = refusal(tmp_path, {key: value for key, value in SAM.items() if key != section})
    assert message == f"own.json lacks the section {section!r}"


@pytest.mark.parametrize(
    ("content", "message"),
    [("[" * 100_000, "nested too deep"), ("[]", "must hold one JSON object, got a list"), ("{", "is not JSON")],
)
def test_what_is_no_family_at_all_is_refused(tmp_path, content, message):
    assert message in refusal(tmp_path, content)


@pytest.mark.parametrize(
    "target",
    [
        "bundle.families.builders.nn.modules.module.torch.hub.load",  # modules that it imports lead to all others
        "bundle.families.builders.nn.Linear",
        "bundle.families.builders.PromptedUNet",
        "bundle.families.builders.apply_tuning",
        "bundle.families.builders._assemble",
        "bundle.families.builders",
        "bundle.families.builders.",
        "os.system",
        "",
        None,
        3,
        ["bundle.families.builders.sam_vit"],
    ],
)
def test_a_family_can_name_our_builders_and_nothing_that_is_reached_from_them(tmp_path, target):
    with pytest.raises(FamilyError, match=re.escape("must have a builder in bundle.families.builders")):
        builder_named(target, "own.json")
    assert "as _target_" in refusal(tmp_path, {**SAM, "network_def": {"_target_": target}})


def test_a_builder_is_found_by_its_whole_name():
    assert builder_named("bundle.families.builders.sam_vit", "own.json") is sam_vit


def test_a_variant_is_laid_over_its_family():
    path = FAMILIES_FOLDER / "finetune_sam.json"
    names = [next(iter(axis)) for axis in variants_of(path)]
    config = read_family_file(path, names)
    assert config["name"] == "-".join(["finetune_sam", *names])
    assert "variants" not in config and None not in config["network_def"].values()
