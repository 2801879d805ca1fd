"""OHIF in a real browser on a real DICOMweb server: connect, click, correct, the next object, the next sample."""

from __future__ import annotations

import numpy as np
import pytest
import requests
from app_room import listening
from dicom_files import write_volume_series
from monailabel.config import settings
from monailabel.interfaces.utils.app import apps
from ohif_room import Reply, at, ohif, on_grid
from pacs_room import orthanc

from bundle.data.synthetic.phantom import make_phantom
from monailabel_app.main import MonaiSam
from monailabel_app.server.app import create_app

pytestmark = pytest.mark.clients

# Study, how it is stored, and the view whose slices are stored. OHIF sorts slices itself, whatever their numbers say.
AXIAL = ("1.2.840.10.1", {"axes": "LPS", "numbers_up": False}, "axial")
SAGITTAL = ("1.2.840.10.2", {"axes": "PIR"}, "sagittal")
ABOUT = {"Modality": "CT", "PatientID": "P1", "PatientName": "Phantom^A", "WindowCenter": 40, "WindowWidth": 400}


@pytest.fixture(scope="module")
def phantom():
    """A generated CT, its label map, and name -> id."""
    return make_phantom(shape=(64, 56, 12), spacing=(6.0, 6.0, 16.0), seed=1)


@pytest.fixture(scope="module")
def page(phantom, tmp_path_factory):
    """The viewer of a server with the shipped model, over both studies."""
    folder, series = tmp_path_factory.mktemp("ohif"), []
    for study, stored, _ in (AXIAL, SAGITTAL):
        about = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1", "FrameOfReferenceUID": f"{study}.9"}
        series.append(write_volume_series(folder / study, phantom[0], **stored, **ABOUT, **about))
    with pytest.MonkeyPatch.context() as patch, orthanc(folder / "orthanc", *series) as pacs:
        patch.setattr(settings, "MONAI_LABEL_STUDIES", pacs)
        patch.setattr("bundle.engines.choice._pays", lambda network, device: False)
        key = f"{settings.MONAI_LABEL_APP_DIR}{pacs}"
        patch.setitem(apps, key, MonaiSam("", pacs, {"learning": "off", "sessions": str(folder / "sessions")}))
        with listening(create_app()) as server, ohif(server, folder / "profile") as viewer:
            yield viewer


def test_a_click_a_correction_and_the_next_object_on_slices_with_reversed_numbers(page, phantom):
    """On the axial series; the second object goes through the volume."""
    _, truth, labels = phantom
    liver, spleen = (truth.array == labels[name] for name in ("liver", "spleen"))
    inside, _ = click(page, truth, liver, AXIAL, "liver")
    shown, affine = page.segmentation()

    page.choose_organ("background")
    off = farthest(on_grid(shown > 0, affine, truth), inside)
    page.click("axial", at(truth, off))
    page.choose_organ("liver")
    reply = page.run()
    assert len(reply.params["foreground"]) == len(reply.params["background"]) == 1
    shown, _ = page.segmentation()
    np.testing.assert_array_equal(shown == page.segment("liver"), reply.labels > 0)
    assert not on_grid(shown, affine, truth)[tuple(off)] and on_grid(shown, affine, truth)[tuple(inside)]

    page.choose_model("sam_3d")
    page.choose_organ("spleen")
    page.click("axial", at(truth, middle(spleen, 2)))
    reply = page.run()
    before, (shown, _) = shown, page.segmentation()
    found = shown == page.segment("spleen")
    np.testing.assert_array_equal(found, (reply.labels > 0) & (before == 0))  # the page keeps what another organ has
    np.testing.assert_array_equal(shown[before > 0], before[before > 0])
    assert found.any(axis=(0, 1)).sum() > 1 and (on_grid(found, affine, truth) & spleen).any()


def test_a_click_on_a_sagittal_series_and_once_it_is_accepted_the_next_sample(page, phantom):
    _, truth, labels = phantom
    _, reply = click(page, truth, truth.array == labels["liver"], SAGITTAL, "liver")
    accepted = {"label": ("liver.nrrd", reply.file), "params": (None, '{"label_info": [{"name": "liver", "idx": 1}]}')}
    saved = requests.put(f"{page.server}/datastore/label?image={SAGITTAL[0]}.1&tag=final", files=accepted, timeout=60)
    assert saved.status_code == 200, saved.text  # OHIF has no button that does so

    text, address = page.next_sample()
    assert f"{AXIAL[0]}.1" in text and address.endswith(f"StudyInstanceUIDs={AXIAL[0]}")


def click(page, truth, organ, series, name) -> tuple[np.ndarray, Reply]:
    """Open a series and click on an organ; the page must show what was answered, where the organ is."""
    study, _, view = series
    axis = {"axial": 2, "sagittal": 0}[view]
    page.open(study)
    assert {"background", name} <= set(page.connect())
    page.choose_organ(name)
    inside = middle(organ, axis)
    page.click(view, at(truth, inside))
    reply = page.run()
    shown, affine = page.segmentation()
    np.testing.assert_allclose(affine, reply.affine, atol=1e-3)
    np.testing.assert_array_equal(shown == page.segment(name), reply.labels > 0)
    found = on_grid(shown > 0, affine, truth)
    here, there = (np.take(mask, inside[axis], axis) for mask in (found, organ))
    assert 2 * (here & there).sum() / (here.sum() + there.sum()) > 0.7  # upside down it would be 0
    assert found.sum() == here.sum()  # on one slice
    return inside, reply


def middle(mask: np.ndarray, axis: int) -> np.ndarray:
    """A voxel of an object near the middle of its largest slice along an axis."""
    others = tuple(other for other in range(3) if other != axis)
    index = int(mask.sum(axis=others).argmax())
    places = np.argwhere(mask)
    places = places[places[:, axis] == index]
    return places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()]


def farthest(mask: np.ndarray, voxel: np.ndarray) -> np.ndarray:
    """The voxel of a mask that is farthest from another."""
    places = np.argwhere(mask)
    return places[np.square(places - voxel).sum(axis=1).argmax()]
