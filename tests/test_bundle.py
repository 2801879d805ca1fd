"""What MONAI's tools and the model zoo ask of a bundle."""

from __future__ import annotations

import importlib.metadata
import json
import re
import runpy
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from monai.bundle import ConfigWorkflow, ckpt_export, verify_metadata, verify_net_in_out
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bundle
from bundle.data.synthetic.phantom import make_phantom
from bundle.data.volume import write_label, write_volume
from bundle.families.checkpoints import load_checkpoint, open_checkpoint, save_checkpoint
from bundle.families.family import build_network, load_family

script = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "scripts" / "make_bundle.py")))
LARGEST = 25_000_000  # bytes; the model zoo takes no larger file into its repository
SCHEMA = "docs/schema/meta_schema_20240725.json"


@pytest.fixture(scope="module")
def metadata(repository):
    return json.loads((repository / "configs" / "metadata.json").read_text())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of the default family, as its training writes them."""
    family = load_family("default")
    path = tmp_path_factory.mktemp("weights") / "default.safetensors"
    network = build_network(family, random=True, seed=3)
    return save_checkpoint(network, path, metadata={"family": "default", "contract": dict(family.contract_def)})


@pytest.fixture(scope="module")
def published(tmp_path_factory, weights):
    """The published zip, built with random weights."""
    return script.make_bundle(tmp_path_factory.mktemp("zoo"), weights=weights)


@pytest.fixture(scope="module")
def unzipped(published):
    """The published zip, unzipped elsewhere."""
    with zipfile.ZipFile(published) as archive:
        archive.extractall(published.parent)
    return published.parent / "monai_sam"


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A small generated CT and its label map."""
    folder = tmp_path_factory.mktemp("phantom")
    image, label, _ = make_phantom(shape=(32, 28, 6), spacing=(12.0, 12.0, 40.0))
    return write_volume(image, folder / "ct.nii.gz"), write_label(label.array, label, folder / "label.nii.gz")


# ---- metadata -------------------------------------------------------------------------------------------------------


def test_the_metadata_fit_the_schema(repository):
    verify_metadata(meta_file=repository / "configs" / "metadata.json", filepath=repository / SCHEMA)


@pytest.mark.parametrize("key", ["version", "network_data_format", "authors"])
def test_the_schema_notices_what_is_missing(repository, metadata, key, tmp_path):
    damaged = tmp_path / "metadata.json"
    damaged.write_text(json.dumps({name: value for name, value in metadata.items() if name != key}))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(meta_file=damaged, filepath=repository / SCHEMA)


def test_the_version_is_the_packages_and_has_a_line_in_the_changelog(repository, metadata):
    assert metadata["version"] == bundle.__version__
    assert metadata["changelog"][metadata["version"]]
    script.check_version(repository)


def test_the_versions_are_those_that_are_tested(repository, metadata):
    pins = dict(line.split("==") for line in (repository / "requirements.txt").read_text().split() if "==" in line)
    named = {name: metadata[f"{name}_version"] for name in ("monai", "numpy")} | {"torch": metadata["pytorch_version"]}
    for name, version in (named | metadata["required_packages_version"]).items():
        assert version == pins[name], name


def test_every_library_that_the_package_imports_is_named(repository, metadata):
    files = (repository / "bundle").rglob("*.py")
    imported = {name for path in files for name in re.findall(r"^ *(?:from|import) (\w+)", path.read_text(), re.M)}
    owners = importlib.metadata.packages_distributions()
    needed = {canonicalize_name(owner) for name in imported for owner in owners.get(name, ())[:1]}
    needed -= {"monai", "numpy", "torch", "torchvision", "monai-sam"}
    needed -= {"openvino"}  # an extra, which is imported where it is installed
    named = {canonicalize_name(Requirement(name).name) for name in metadata["required_packages_version"]}
    assert needed <= named


# ---- files ----------------------------------------------------------------------------------------------------------


def test_every_file_of_the_zip_is_small_enough_for_the_zoo(unzipped):
    assert {path.name: size for path in unzipped.rglob("*") if (size := path.stat().st_size) > LARGEST} == {}


def test_the_zip_has_what_the_zoo_looks_for(unzipped):
    needed = ("configs/metadata.json", "LICENSE", "models/model.pt", "configs/inference.json")
    practice = ("configs/train.json", "configs/logging.conf", "docs/README.md", "docs/data_license.txt", "NOTICE")
    ours = ("bundle/__init__.py", "models/default.safetensors", "configs/families/default.json")
    assert [name for name in (*needed, *practice, *ours) if not (unzipped / name).is_file()] == []


def test_what_the_page_of_the_zip_names_is_in_the_zip(unzipped):
    text = (unzipped / "docs" / "README.md").read_text("utf-8")
    assert not (unzipped / "README.md").exists() and not re.search(r"^make |`make ", text, re.M)
    files = re.findall(r"(?:BUNDLE/|[`'(])((?:configs|models|docs)/[\w./-]+\w)[`')\s]", text)
    assert files and [name for name in files if not (unzipped / name).exists()] == []


def test_the_zip_has_no_leftovers_and_no_other_weights(unzipped):
    names = {path.relative_to(unzipped).as_posix() for path in unzipped.rglob("*") if path.is_file()}
    assert not {name for name in names if "__pycache__" in name or name.startswith(("runs", "tests", "."))}
    weights = {"models/default.safetensors", "models/default_3d.safetensors", "models/model.pt"}
    assert {name for name in names if name.startswith("models/")} == weights


def test_the_same_sources_give_the_same_zip(published, tmp_path, weights):
    assert script.make_bundle(tmp_path, weights=weights).read_bytes() == published.read_bytes()


def test_the_pytorch_file_holds_the_same_weights(unzipped, weights):
    first, second = (open_checkpoint(path).state_dict for path in (unzipped / "models" / "model.pt", weights))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_bundle_without_weights_or_with_another_version_is_refused(tmp_path, repository):
    with pytest.raises(script.BundleError, match="no weights at"):
        script.make_bundle(tmp_path, weights=tmp_path / "none.safetensors")
    (tmp_path / "configs").mkdir()
    metadata = {"version": "99.0", "changelog": {}}
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(script.BundleError, match=r"is version 99\.0"):
        script.check_version(tmp_path)
    with pytest.raises(script.BundleError, match="the bundle needs LICENSE"):
        script.bundle_files(tmp_path)


def test_the_shipped_weights_are_the_default_familys(repository):
    family = load_family("default")
    checkpoint = load_checkpoint(build_network(family, random=True), family.checkpoint_path, family)
    assert checkpoint.metadata["family"] == "default"
    assert family.checkpoint_path.stat().st_size < LARGEST


# ---- configs --------------------------------------------------------------------------------------------------------


def test_the_network_takes_and_gives_what_the_metadata_say(repository):
    configs = repository / "configs"
    verify_net_in_out(
        net_id="network_def",
        meta_file=configs / "metadata.json",
        config_file=configs / "inference.json",
        device="cpu",
        random_weights=True,
    )


def test_the_inference_workflow_has_all_properties(repository, phantom, weights):
    image, label = phantom
    workflow = ConfigWorkflow(
        repository / "configs" / "inference.json",
        workflow_type="inference",
        logging_file=False,
        image=str(image),
        label=str(label),
        checkpoint=str(weights),
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_every_option_that_the_page_names_is_in_the_config(repository):
    options = set(json.loads((repository / "configs" / "inference.json").read_text()))
    table = [line for line in (repository / "docs" / "README.md").read_text().splitlines() if line.startswith("| `")]
    named = {name for line in table for name in re.findall(r"`--(\w+)", line)}
    assert len(named) > 10
    assert named <= options


def test_the_training_workflow_has_all_properties(repository, phantom, tmp_path):
    image, label = phantom
    items = [{"image": str(image), "label": str(label), "patient": "phantom", "labelled": [1]}]
    workflow = ConfigWorkflow(
        repository / "configs" / "train.json",
        workflow_type="train",
        logging_file=False,
        training_items=items,
        validation_items=items,
        organs={1: "liver"},
        output_dir=str(tmp_path),
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_the_exported_torchscript_agrees(repository, unzipped, weights, tmp_path):
    ckpt_export(
        net_id="network_def",
        filepath=tmp_path / "model.ts",
        ckpt_file=str(unzipped / "models" / "model.pt"),
        meta_file=repository / "configs" / "metadata.json",
        config_file=repository / "configs" / "inference.json",
        random_weights=True,
    )
    network, exported = build_network("default", checkpoint=weights), torch.jit.load(tmp_path / "model.ts")
    for count in (1, 3):
        image = torch.rand(count, 3, 256, 256)
        with torch.no_grad(), torch.jit.optimized_execution(False):
            torch.testing.assert_close(exported(image), network(image))
