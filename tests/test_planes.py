"""A request says the plane, and all of it is about the slices of that plane, whatever way the image is stored."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from app_room import QuietApp, client_over
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from session_room import LEFT, SHAPE, open_session, organs, point
from test_ahead import finish
from test_automatic import AFFINE, NAMES, BrightSegmenter, answered, task_of

from bundle.data.volume import Volume, read_label, read_volume, write_label, write_volume
from bundle.interactive.answer_options import AnswerOptions
from bundle.prompts.interactions import Box, Lasso
from bundle.transforms.frames import PLANES, SliceFrame
from monailabel_app.errors import RequestError
from monailabel_app.tasks.automatic import EVERYTHING, FIND, AutomaticTask, ClassTask, MultiTask
from monailabel_app.tasks.interactive import SamTask
from monailabel_app.tasks.open_images import ImageSessions
from monailabel_app.tasks.scribbles import ScribblesTask
from monailabel_app.wire.fields import plane_of, read_axis
from monailabel_app.wire.requests import read_request

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}  # of AFFINE, which is RAS
ORIENTATIONS = st.tuples(st.permutations(range(3)), st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
ANGLES = st.tuples(*[st.floats(-0.35, 0.35)] * 3)  # radians, oblique


def affine_of(orientation, angles=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Voxels of 2 x 2 x 3 mm whose axes follow R, A and S in some order and direction, turned by small angles."""
    order, signs = orientation
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = (other for other in range(3) if other != axis)
        turn = np.eye(3)
        turn[[first, first, second, second], [first, second, first, second]] = (
            *(np.cos(angle), -np.sin(angle)),
            *(np.sin(angle), np.cos(angle)),
        )
        turned = turned @ turn
    affine = np.eye(4)
    affine[:3, :3] = turned @ np.eye(3)[:, list(order)] @ np.diag(np.multiply(signs, (2.0, 2.0, 3.0)))
    affine[:3, 3] = -20, 15, 40
    return affine


def stored(folder, affine=AFFINE, bright=None):
    array = ((organs() if bright is None else bright) * 100.0).astype(np.float32)
    return write_volume(Volume(array, affine, "other"), folder / "ct.nii.gz")


@pytest.fixture
def image(tmp_path):
    return stored(tmp_path)


@pytest.fixture
def sessions():
    return ImageSessions(BrightSegmenter())


def beside(voxel, axis) -> list[int]:
    """The two indices of a voxel that are not along an axis."""
    return [value for other, value in enumerate(voxel) if other != axis]


# ---- which axis -----------------------------------------------------------------------------------------------------


@given(ORIENTATIONS, ANGLES, st.sampled_from(PLANES))
def test_the_slices_nearest_to_the_plane_are_meant_and_without_a_plane_those_of_the_third_axis(turned, angles, plane):
    volume = Volume(np.zeros(SHAPE, np.float32), affine_of(turned, angles))
    axis = read_axis({"plane": plane}, volume)
    assert axis == SliceFrame.of_plane(SHAPE, volume.affine, plane).slice_axis
    assert plane_of(volume, axis) == plane
    across = [abs(volume.affine[["sagittal", "coronal", "axial"].index(plane), other]) for other in range(3)]
    assert across[axis] / volume.spacing[axis] == max(across / volume.spacing)
    assert [read_axis(params, volume) for params in ({}, {"plane": None}, {"plane": ""})] == [2, 2, 2]


@pytest.mark.parametrize("plane", ["Axial", "transverse", "k", 2, 0, False, ["axial"], [], {"axial": 1}])
def test_a_word_that_is_no_plane_is_refused_with_those_that_are(sessions, image, plane):
    for request in ({"foreground": [[*LEFT]]}, {"session": True}, {"undo": True}):
        with pytest.raises(RequestError, match="plane must be one of axial, coronal, sagittal, got"):
            answered(SamTask(sessions, dimension=2), image, plane=plane, **request)


def test_a_picture_has_no_planes_to_choose_from(tmp_path, sessions):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((18, 20), 255, np.uint8)).save(photo)
    click = {"foreground": [[5, 9]]}
    _, reply = answered(SamTask(sessions, dimension=2), photo, plane="", **click)
    assert reply["plane"] is None
    with pytest.raises(RequestError, match="a picture that lies nowhere in a patient; leave plane"):
        answered(SamTask(sessions, dimension=2), photo, plane="axial", **click)


@pytest.mark.parametrize("thin", [0, 1, 2])
def test_an_image_of_one_slice_has_that_plane_and_lines_are_refused(thin):
    shape = [16, 16, 16]
    shape[thin] = 1
    volume = Volume(np.zeros(shape, np.float32), np.eye(4))
    for plane, axis in AXES.items():
        if axis == thin:
            assert read_axis({"plane": plane}, volume) == thin
            continue
        with pytest.raises(RequestError, match=f"is one {plane_of(volume, thin)} slice; {plane} ones would be lines"):
            read_axis({"plane": plane}, volume)


# ---- what a request means on a plane --------------------------------------------------------------------------------

PROMPTS = st.sampled_from(["point", "point on the slice", "box", "box on the slice", "roi", "lasso", "off"])


def said(prompt: str, axis: int) -> tuple[dict, list]:
    """Prompts of a request about the slice through LEFT, and what they mean in Python."""
    low, high = np.array((3, 6, 3)), np.array((7, 12, 8))
    flat = np.array([low, high])
    flat[:, axis] = LEFT[axis]
    corners = [value for row in flat for value in beside(row, axis)]
    outline = np.repeat([LEFT], 4, axis=0)
    first, second = (other for other in range(3) if other != axis)
    outline[:, first], outline[:, second] = (3, 7, 7, 3), (4, 4, 8, 8)
    spans = [value for pair in zip(*flat.tolist(), strict=True) for value in pair]
    off = np.array(LEFT)
    off[first] += 1
    return {
        "point": ({"foreground": [[*LEFT]]}, [point(LEFT)]),
        "point on the slice": ({"foreground": [beside(LEFT, axis)]}, [point(LEFT)]),
        "box": ({"roi": spans}, [Box(flat)]),
        "box on the slice": ({"roi": corners}, [Box(flat)]),
        "roi": (
            {"roi": [3, 7, 6, 12, 3, 8], "foreground": [[*LEFT]]},
            [Box(flat), point(LEFT)],
        ),
        "lasso": ({"interactions": [Lasso(outline).to_json()]}, [Lasso(outline)]),
        "off": (
            {"interactions": [Box(flat).to_json()], "background": [off.tolist()]},
            [point(off, False), Box(flat)],
        ),
    }[prompt]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(ORIENTATIONS, ANGLES, st.sampled_from(PLANES), PROMPTS, st.sampled_from([2, 3]))
def test_a_request_on_a_plane_is_answered_as_a_session_in_python_answers_along_that_axis(
    tmp_path_factory, turned, angles, plane, prompt, dimension
):
    path = stored(tmp_path_factory.mktemp("image"), affine_of(turned, angles))
    image = read_volume(path)
    axis = SliceFrame.of_plane(SHAPE, image.affine, plane).slice_axis
    params, interactions = said(prompt, axis)
    if (prompt, dimension) == ("roi", 3):
        interactions = [Box(((3, 6, 3), (7, 12, 8))), point(LEFT)]
    task = SamTask(ImageSessions(BrightSegmenter()), dimension=dimension)
    labels, reply = answered(task, path, plane=plane, slice=LEFT[axis], **params)
    session = open_session(image)
    session.add(interactions, "object", dimension=dimension, axis=axis)
    expected = session.segmentation("object", axis=axis)
    assert np.array_equal(labels > 0, expected.mask)
    assert reply["predicted_iou"]["object"] == {str(index): 0.9 for index in expected.scores}
    assert (reply["plane"], reply["slice"]) == (plane, LEFT[axis] if dimension == 2 else None)
    found = set(np.nonzero(labels)[axis].tolist())
    assert (found or prompt == "off") and (dimension == 3 or found <= {LEFT[axis]})


@pytest.mark.parametrize("plane", PLANES)
def test_limits_are_slices_of_the_plane(sessions, image, plane):
    axis, first, last = AXES[plane], LEFT[AXES[plane]] - 1, LEFT[AXES[plane]] + 2
    labels, reply = answered(
        SamTask(sessions, dimension=3), image, plane=plane, foreground=[[*LEFT]], limits=[first, last]
    )
    assert np.unique(np.nonzero(labels)[axis]).tolist() == list(range(first, last + 1))
    assert sorted(map(int, reply["predicted_iou"]["object"])) == list(range(first, last + 1))
    with pytest.raises(ValueError, match=f"slices 0 to {SHAPE[axis] - 1}"):
        answered(SamTask(sessions, dimension=3), image, plane=plane, foreground=[[*LEFT]], limits=[0, SHAPE[axis]])


def test_options_without_limits_are_the_same_on_every_plane():
    options = [AnswerOptions(None, axis, holes_mm=2.0).validated(SHAPE) for axis in range(3)]
    assert options == [AnswerOptions(holes_mm=2.0)] * 3
    assert AnswerOptions((1, 2), 1).validated(SHAPE).limits_axis == 1


@pytest.mark.parametrize("plane", PLANES)
def test_the_slice_of_a_2d_request_is_chosen_along_the_axis_of_the_plane(plane):
    axis, shape = AXES[plane], (40, 30, 20)
    about = {"shape": shape, "affine": np.eye(4), "dimension": 2, "axis": axis}

    def index_of(**params) -> int:
        return read_request(params, **about).index

    one, other = [6, 7, 8], [11, 12, 13]
    assert index_of(foreground=[one, other], slice=one[axis]) == one[axis]
    assert index_of(foreground=[one, other]) == other[axis]
    assert index_of(foreground=[one], background=[other]) == one[axis]
    assert index_of(roi=[2, 4, 5, 9, 10, 16]) == [3, 7, 13][axis]
    assert index_of(roi=[2, 4, 5, 9, 10, 16], slice=[4, 6, 15][axis]) == [4, 6, 15][axis]
    between = [6.0, 7.0, 8.0]
    between[axis] += 0.5
    request = read_request({"foreground": [between], "roi": [0, 9, 0, 9, 0, 9], "slice": one[axis]}, **about)
    (prompts,) = request.objects
    assert request.index == one[axis] and prompts.points[0, axis] == one[axis]
    assert prompts.box[:, axis].tolist() == [one[axis]] * 2  # one voxel thick
    (prompts,) = read_request({"foreground": [one, other], "roi": [2, 3, 14, 15]}, **about).objects
    assert prompts.box[:, axis].tolist() == [other[axis]] * 2 and beside(prompts.box[1], axis) == [14, 15]
    edge = np.array(one, dtype=float)
    edge[axis] = shape[axis] - 0.5  # half a voxel behind the last slice
    (prompts,) = read_request({"foreground": [edge.tolist()], "roi": [2, 3, 14, 15]}, **about).objects
    assert prompts.box[:, axis].tolist() == [shape[axis] - 1] * 2
    with pytest.raises(RequestError, match=f"in an image of {shape[axis]} slices"):
        index_of(foreground=[[1, 2]], slice=shape[axis])


@pytest.mark.parametrize("tilt", [0.0, 0.15])
@pytest.mark.parametrize(("order", "axial"), [((0, 1, 2), 2), ((2, 0, 1), 0), ((1, 2, 0), 1)])
def test_slicers_height_of_its_red_slice_is_read_on_axial_slices_alone(order, axial, tilt):
    params = {"roi": [2, 16, 2, 16, 2, 10], "slice": 7, "client_id": "user-xyz"}
    for axis in range(3):
        affine, middle = affine_of((order, (1.0, 1.0, 1.0)), (tilt, tilt, 0.0)), np.array([9.0, 9.0, 6.0])
        middle[axis] = 4
        affine[2, 3] = 7 - affine[2, :3] @ middle  # the slice 4 lies at 7 mm
        index = read_request(params, shape=SHAPE, affine=affine, dimension=2, axis=axis).index
        assert index == (4 if axis == axial else 7)


# ---- one object on several planes -----------------------------------------------------------------------------------


def test_an_object_that_is_prompted_on_one_plane_and_then_on_another_keeps_both(sessions, image):
    task = SamTask(sessions, dimension=2)
    about = {"label": "left", "client_id": "viewer"}
    axial, reply = answered(task, image, plane="axial", foreground=[[*LEFT]], **about)
    assert np.unique(np.nonzero(axial)[2]).tolist() == [LEFT[2]]
    coronal, reply = answered(task, image, plane="coronal", foreground=[[4, 9, 7]], **about)
    assert np.unique(np.nonzero(coronal)[1]).tolist() == [9] and reply["predicted_iou"]["left"] == {"9": 0.9}
    session = sessions.open(image).session("viewer")
    assert [one.voxel.tolist() for one in session.object("left").interactions] == [[*LEFT], [4, 9, 7]]
    assert np.array_equal(session.mask("left"), (axial > 0) | (coronal > 0))
    before = session.undo_depth
    for _ in range(2):  # nothing new, and nothing lost
        again, _ = answered(task, image, plane="coronal", foreground=[[4, 9, 7]], **about)
        assert np.array_equal(again, coronal)
    assert session.undo_depth == before == 2
    answered(SamTask(sessions, dimension=3), image, plane="sagittal", foreground=[[*LEFT]], **about)
    assert len(session.object("left").interactions) == 1  # through the volume a list is all that there is
    assert sorted(session.object("left").predicted_iou) == [0]


def test_what_is_confirmed_on_one_plane_stays_whatever_is_prompted_on_another(sessions, image):
    task, flat, of = SamTask(sessions, dimension=3), SamTask(sessions, dimension=2), {"plane": "coronal"}
    session = sessions.open(image).session()

    def confirmed() -> list[int]:
        return answered(task, image, session=True, **of)[1]["session"]["objects"][0]["confirmed"]

    answered(task, image, label="left", foreground=[[*LEFT]])
    answered(flat, image, label="left", roi=[3, 6, 4, 7], slice=9, **of)  # smaller than the object
    answered(task, image, confirm={"left": [6, 9]}, **of)
    right = session.mask("left")[:, 9]
    for model, click in (
        (task, {"foreground": [[*LEFT]], "background": [[12, 9, 10]]}),
        (flat, {"foreground": [[4, 9, 5]]}),
        (flat, {"foreground": [[4, 9, 5]], "plane": "sagittal"}),
    ):
        answered(model, image, label="left", **click)
        assert confirmed() == [6, 9] and np.array_equal(session.mask("left")[:, 9], right)
    answered(flat, image, label="left", foreground=[[5, 9, 5]], **of)  # on itself
    assert confirmed() == [6] and not np.array_equal(session.mask("left")[:, 9], right)


def test_a_click_that_a_confirmed_slice_of_another_plane_overrules_is_answered_with_a_warning(sessions, image):
    task, of = SamTask(sessions, dimension=2), {"plane": "coronal"}
    answered(task, image, label="left", roi=[3, 4, 5, 6], slice=9, **of)
    answered(SamTask(sessions, dimension=3), image, confirm={"left": 9}, **of)
    labels, reply = answered(task, image, label="left", foreground=[[7, 9, 5], [4, 9, 5], [7, 8, 5]])
    assert not labels[7, 9, 5] and labels[7, 8, 5]
    (warning,) = reply["warnings"]["left"]
    assert "the point [7.0, 9.0, 5.0] changes nothing where it lies, on the coronal slice 9" in warning


def test_the_reply_says_what_was_answered_together_where_slices_cross_and_a_point_there_can_be_turned_round(
    sessions, image
):
    task, session = SamTask(sessions, dimension=2), sessions.open(image).session()
    answered(task, image, foreground=[[4, 9, 5]], plane="axial")
    coronal, reply = answered(task, image, foreground=[[4, 9, 7]], plane="coronal")
    assert reply["used"] == {"object": {"point": 2}} and coronal[4, 9, 5]
    for _ in range(2):
        coronal, reply = answered(task, image, foreground=[[4, 9, 7]], background=[[4, 9, 5]], plane="coronal", slice=9)
        assert reply["used"] == {"object": {"point": 2}} and not coronal[4, 9, 5] and session.undo_depth == 3
    given = {(tuple(one.voxel.tolist()), one.positive) for one in session.object("object").interactions}
    assert given == {((4, 9, 7), True), ((4, 9, 5), False)}
    axial, reply = answered(task, image, foreground=[[4, 9, 5]], plane="axial")  # and back
    assert axial[4, 9, 5] and reply["used"] == {"object": {"point": 1}}
    session.undo()
    assert {(tuple(one.voxel.tolist()), one.positive) for one in session.object("object").interactions} == given


@pytest.mark.parametrize("before", [{}, {"plane": "axial"}])
def test_what_a_list_of_the_volume_brought_stays_on_a_slice_of_another_plane_whatever_came_before(
    sessions, image, before
):
    task = SamTask(sessions, dimension=2)
    if before:
        answered(task, image, foreground=[[4, 9, 5]], **before)
    answered(SamTask(sessions, dimension=3), image, foreground=[[4, 9, 5]])
    _, reply = answered(task, image, foreground=[[4, 9, 7]], plane="coronal")
    assert reply["used"] == {"object": {"point": 2}}
    _, reply = answered(task, image, foreground=[[5, 6, 5]])  # its own plane takes it back
    assert reply["used"] == {"object": {"point": 1}}


def test_the_same_requests_on_two_planes_again_and_again_are_no_steps(sessions, image):
    task, session = SamTask(sessions, dimension=2), sessions.open(image).session()
    for _ in range(3):
        for plane, clicks in (("axial", [[5, 9, 5]]), ("coronal", [[4, 9, 7]])):
            answered(task, image, foreground=clicks, plane=plane)
        assert session.undo_depth == 2


def test_slices_of_several_planes_are_no_jump_of_the_area_where_they_cross(tmp_path, sessions):
    array = np.zeros((40, 40, 40), np.float32)
    array[4:34, 4:34, 4:34] = 100.0
    image = write_volume(Volume(array, np.eye(4), "other"), tmp_path / "cube.nii.gz")
    task, voxel = SamTask(sessions, dimension=2), [15, 15, 15]
    for plane, axis in AXES.items():
        for step in (0, 1, 2):  # with the two slices beside it, so that the crossing is wide enough to be a jump
            click = [at + (step if along == axis else 0) for along, at in enumerate(voxel)]
            _, reply = answered(task, image, plane=plane, foreground=[click])
            assert reply["warnings"] == {}, plane


def test_confirmed_slices_are_those_of_the_plane_and_are_filled_between_along_it(sessions, image):
    task, of = SamTask(sessions, dimension=3), {"plane": "coronal"}
    answered(task, image, label="left", foreground=[[*LEFT]])

    def confirmed(reply) -> list:
        return reply["session"]["objects"][0]["confirmed"]

    _, reply = answered(task, image, confirm={"left": [5, 9]}, **of)
    assert confirmed(reply) == [5, 9] and reply["plane"] == "coronal"
    _, reply = answered(task, image, confirm={"left": 3})
    assert confirmed(reply) == [3] and reply["plane"] == "axial"
    session = sessions.open(image).session()
    assert session.object("left").confirmed == {(1, 5), (1, 9), (2, 3)}
    answered(task, image, fill_between="left", **of)
    assert session.object("left").filled == {(1, 6), (1, 7), (1, 8)}
    _, reply = answered(task, image, unconfirm={"left": 5}, **of)
    assert confirmed(reply) == [9]
    _, reply = answered(task, image, session=True, **of)
    assert confirmed(reply) == [9] and reply["predicted_iou"] == {"left": {}}  # the model answered along k
    with pytest.raises(ValueError, match=f"no slice {SHAPE[1]} along axis 1"):
        answered(task, image, confirm={"left": SHAPE[1]}, **of)
    _, reply = answered(task, image, label="left", foreground=[[*LEFT]], **of)
    assert confirmed(reply) == [9] and set(reply["predicted_iou"]["left"]) & set("456789") == set("45")  # others stay


def test_statistics_measure_on_slices_of_the_plane(image, sessions):
    found = {}
    for plane in PLANES:
        click = {"foreground": [[*LEFT]], "statistics": True}
        _, reply = answered(SamTask(sessions, dimension=3), image, plane=plane, **click)
        found[plane] = reply["statistics"]["object"]
        _, shown = answered(SamTask(sessions, dimension=3), image, plane=plane, session=True, statistics=True)
        assert shown["statistics"]["object"] == found[plane]
    # 7 x 10 x 8 voxels of 2 x 2 x 3 mm, through the midpoints of outer faces, and the first slice of that size
    assert {plane: one["slice"] for plane, one in found.items()} == {"axial": 2, "coronal": 4, "sagittal": 2}
    assert found["axial"]["long_axis_mm"] < found["coronal"]["long_axis_mm"] < found["sagittal"]["long_axis_mm"]


# ---- models that need no click, or paint ----------------------------------------------------------------------------


def test_everything_is_found_on_a_slice_of_the_plane(sessions, image):
    task = task_of(AutomaticTask, sessions)
    labels, reply = answered(task, image, find=EVERYTHING, plane="coronal", slice=9)
    assert ((labels[:, 9] > 0) == organs()[:, 9]).mean() > 0.95 and not labels[:, 10:].any() and not labels[:, :9].any()
    assert reply["plane"] == "coronal" and all(set(of) == {"9"} for of in reply["predicted_iou"].values())
    labels, _ = answered(task, image, find=EVERYTHING, plane="sagittal", reset_state=True)
    assert np.unique(np.nonzero(labels)[0]).tolist() == [SHAPE[0] // 2]  # the middle one
    with pytest.raises(RequestError, match="slice must be 0 to 17"):
        answered(task, image, find=EVERYTHING, plane="coronal", slice=18)


@pytest.mark.parametrize(("limits", "found"), [(None, range(4, 14)), ([6, 8], range(6, 9)), ([11, 15], range(11, 14))])
@pytest.mark.parametrize(("kind", "params"), [(AutomaticTask, {}), (ClassTask, {"label_prompt": [2]})])
def test_known_structures_are_followed_along_the_plane_within_its_limits(sessions, image, kind, params, limits, found):
    task, about = task_of(kind, sessions), {"plane": "coronal", "limits": limits}
    labels, reply = answered(task, image, statistics=True, **about, **params)
    assert np.unique(np.nonzero(labels)[1]).tolist() == [*found] == sorted(map(int, reply["predicted_iou"]["left"]))
    assert reply["statistics"]["left"]["slice"] in found
    answered(task, image, confirm={"left": 6}, plane="coronal")
    _, reply = answered(task, image, **about, **params)
    assert reply["session"]["objects"][0]["confirmed"] == [6]


def test_a_structure_that_is_expected_beyond_the_limits_of_the_plane_is_not_looked_for(sessions, image):
    labels, reply = answered(task_of(AutomaticTask, sessions), image, plane="coronal", limits=[15, 17])
    assert not labels.any() and "nothing was found" in reply["warnings"]["accepted labels"][0]


def test_points_of_a_class_and_of_several_structures_are_about_the_plane(sessions, image):
    pointed, reply = answered(
        task_of(ClassTask, sessions), image, points=[[*LEFT]], label_prompt=[2], plane="coronal", limits=[8, 9]
    )
    assert np.unique(np.nonzero(pointed)[1]).tolist() == [8, 9] == sorted(map(int, reply["predicted_iou"]["left"]))
    both, reply = answered(
        MultiTask(sessions, names=NAMES), image, left=[[*LEFT]], right=[[13, 9, 5]], plane="sagittal", limits=[4, 14]
    )
    assert np.unique(np.nonzero(both == 2)[0]).tolist() == [4, 5, 6, 7, 8] and reply["plane"] == "sagittal"
    assert np.unique(np.nonzero(both == 3)[0]).tolist() == [10, 11, 12, 13, 14]


def test_strokes_are_points_on_slices_of_the_plane(tmp_path, sessions, image):
    painted = np.zeros(SHAPE, np.uint8)
    painted[5, 9, 3:9] = 3  # on one coronal slice, on six axial ones
    file = write_label(painted, Volume(np.zeros(SHAPE, np.int16), AFFINE), tmp_path / "strokes.nii.gz")
    info = [{"name": "foreground_scribbles", "id": 3}]
    task = ScribblesTask(sessions)
    for plane, count in (("coronal", 3), ("axial", 6)):
        _, reply = answered(task, image, painted=str(file), label_info=info, plane=plane)
        assert reply["used"] == {"object": {"point": count}} and reply["plane"] == plane
    labels, _ = answered(task, image, painted=str(file), label_info=info, plane="coronal", limits=[8, 10])
    assert np.unique(np.nonzero(labels)[1]).tolist() == [8, 9, 10]
    about = {"painted": str(file), "label_info": info, "plane": "coronal", "reset_state": True}
    labels, _ = answered(task, image, roi=[3, 3, 6, 8], **about)  # i and k, on the slice of the strokes
    found = np.nonzero(labels[:, 9])
    assert (set(found[0]), set(found[1])) == ({3, 4, 5, 6}, {3, 4, 5, 6, 7, 8})


def test_the_plane_is_a_choice_of_models_through_the_volume_and_its_list_sent_back_is_none(sessions, image):
    for task in (
        SamTask(sessions, dimension=3),
        MultiTask(sessions, names=NAMES),
        task_of(ClassTask, sessions),
        task_of(AutomaticTask, sessions),
        ScribblesTask(sessions),
    ):
        assert task.info()["config"]["plane"] == ["", "axial", "coronal", "sagittal"]
    assert "plane" not in SamTask(sessions, dimension=2).info()["config"]
    config = SamTask(sessions, dimension=3).info()["config"]
    _, reply = answered(SamTask(sessions, dimension=3), image, foreground=[[*LEFT]], **config)
    assert reply["plane"] == "axial" and FIND not in config


# ---- over HTTP ------------------------------------------------------------------------------------------------------


class PlaneApp(QuietApp):
    """The quiet app with tasks to click with."""

    def init_infers(self):
        self.opener = BrightSegmenter()
        images = ImageSessions(self.opener)
        return {"sam_2d": SamTask(images, dimension=2), "sam_3d": SamTask(images, dimension=3)}


def test_a_click_on_a_plane_over_http_is_answered_there_and_prepares_the_slices_of_that_plane(tmp_path):
    array = np.random.default_rng(0).uniform(60, 100, SHAPE).astype(np.float32)  # slices that are alike are one entry
    affine = affine_of(((1, 2, 0), (1.0, -1.0, -1.0)))  # stored sagittal: i is A, j is I, k is L
    studies = write_volume(Volume(array, affine, "other"), tmp_path / "studies" / "ct.nii.gz").parent
    app = PlaneApp(studies, tmp_path / "sessions")

    def post(model: str, output: str = "json", **params):
        return client.post(f"/infer/{model}?image=ct&output={output}", data={"params": json.dumps(params)})

    with client_over(app) as client:
        click = {"foreground": [[5, 9]], "slice": 4, "plane": "axial", "result_extension": ".nrrd"}
        reply = post("sam_2d", **click)
        assert reply.status_code == 200, reply.text
        assert (reply.json()["plane"], reply.json()["slice"]) == ("axial", 4)
        finish()
        assert app.opener.predictor.network.encoded == SHAPE[1]  # all of that plane, and no other
        file = tmp_path / "answer.nrrd"
        file.write_bytes(io.BytesIO(post("sam_2d", "image", **click).content).read())
        labels = read_label(file).array
        assert np.unique(np.nonzero(labels)[1]).tolist() == [4] and labels[5, 4, 9] == 1
        assert post("sam_2d", foreground=[[5, 4, 9]]).json()["plane"] == "sagittal"
        assert post("sam_3d", foreground=[[5, 4, 9]], plane="coronal").json()["plane"] == "coronal"
        refused = post("sam_2d", foreground=[[5, 4, 9]], plane="oblique")
        assert refused.status_code == 400 and "axial, coronal, sagittal" in refused.json()["detail"]
        finish()
