"""What a run keeps: its average, its state, its best checkpoint, its curve; and when it stops."""

from __future__ import annotations

import csv
import runpy
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from training_room import Multiply, Scalar, make_trainer
from training_room import one_thread as one_thread

from bundle.families.checkpoints import open_checkpoint
from bundle.training.draws import DrawNumbers
from bundle.training.engines import PromptTrainer
from bundle.training.handlers import (
    EarlyStop,
    Progress,
    RunState,
    RunStateError,
    SaveBest,
    StepOnPlateau,
    UpdateAverage,
    averaged,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_average_follows_the_network_after_its_warmup():
    network = Scalar()
    average = averaged(network, decay=0.5)
    update = UpdateAverage(average, network, warmup=1)
    seen = []
    for iteration, value in enumerate((2.0, 4.0, 8.0), start=1):
        network.weight.data.fill_(value)
        update(SimpleNamespace(state=SimpleNamespace(iteration=iteration)))
        seen.append(average.module.weight.item())
    assert seen == [2.0, 4.0, 6.0]  # copied, copied as the first update, then half way to 8


class FakeValidation:
    """An evaluator whose metric is told."""

    def __init__(self, *values: float) -> None:
        self.values, self.state = values, SimpleNamespace(epoch=0, metrics={})

    def attach(self, trainer: Engine) -> None:
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, trainer: Engine) -> None:
        self.state.epoch, self.state.metrics = trainer.state.epoch, {"val_dice": self.values[trainer.state.epoch - 1]}


def run_with_validation(tmp_path, *values: float, patience: int | None = None) -> SimpleNamespace:
    """Train one step per value, resuming where an earlier run stopped."""
    network, validation = Scalar(), FakeValidation(*values)
    best = SaveBest(
        tmp_path / "best.safetensors", network, evaluator=validation, metric="val_dice", metadata={"family": "default"}
    )
    state = RunState(tmp_path / "last.pt", {"network": network, "best": best}, draws=DrawNumbers(2), batch_size=2)
    stop, bar = EarlyStop(best, patience=patience), Progress(validation, metric="val_dice")
    handlers = [validation, best, state, stop, bar]
    trainer = make_trainer(network, Multiply(*[(0.1,)] * len(values)), epochs=len(values), handlers=handlers)
    trainer.run()
    return SimpleNamespace(best=best, trainer=trainer)


def test_the_best_validation_is_the_checkpoint(tmp_path):
    run = run_with_validation(tmp_path, 0.5, 0.7, 0.6)
    saved = open_checkpoint(tmp_path / "best.safetensors")
    assert saved.metadata == {"family": "default", "epoch": 2, "val_dice": 0.7}
    assert saved.state_dict["weight"].item() == pytest.approx(0.8, abs=1e-3)
    assert run.best.best_epoch == 2


def test_every_epoch_is_a_line_of_the_curve(tmp_path):
    run_with_validation(tmp_path, 0.5, 0.7)
    rows = list(csv.DictReader((tmp_path / "curve.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"] and rows[1]["val_dice"] == "0.7"


def curve_of(tmp_path, *epochs: tuple[int, dict[str, float]]) -> list[dict[str, str]]:
    """The curve after the validations of some epochs."""
    evaluator = SimpleNamespace(state=SimpleNamespace(epoch=0, metrics={}))
    best = SaveBest(tmp_path / "b.safetensors", Scalar(), evaluator=evaluator, metric="val_dice", metadata={})
    for epoch, metrics in epochs:
        evaluator.state.epoch, evaluator.state.metrics = epoch, metrics
        best(SimpleNamespace(state=SimpleNamespace(epoch=epoch, iteration=epoch, metrics={"loss": 1.0})))
    return list(csv.DictReader((tmp_path / "curve.csv").open()))


def test_an_organ_that_comes_late_gets_a_column_of_its_own(tmp_path):
    first, second = curve_of(tmp_path, (1, {"val_dice": 0.5}), (2, {"val_dice_liver": 0.2, "val_dice": 0.1}))
    assert first["val_dice_liver"] == "" and second["val_dice_liver"] == "0.2" and second["val_dice"] == "0.1"


def test_an_epoch_that_is_repeated_after_a_kill_stands_once_in_the_curve(tmp_path):
    rows = curve_of(tmp_path, (1, {"val_dice": 0.5}), (2, {"val_dice": 0.6}), (2, {"val_dice": 0.7}))
    assert [(row["epoch"], row["val_dice"]) for row in rows] == [("1", "0.5"), ("2", "0.7")]


def test_the_curves_of_two_stages_are_one_picture(tmp_path, repository, monkeypatch):
    def draw(name, *curves):
        picture = tmp_path / "images" / name
        monkeypatch.setattr("sys.argv", ["plot_curve.py", *map(str, curves), "--output", str(picture)])
        runpy.run_path(str(repository / "scripts" / "plot_curve.py"), run_name="__main__")
        return cv2.imread(str(picture))

    run_with_validation(tmp_path, 0.5, 0.7)
    curve, together = tmp_path / "curve.csv", tmp_path / "together.csv"
    heading, *rows = curve.read_text().splitlines()
    staged = [f"{stage},{row}" for stage in ("first", "second") for row in rows]
    together.write_text("\n".join([f"stage,{heading}", *staged]))
    apart = draw("apart.png", curve, curve)
    assert apart.std() > 5
    np.testing.assert_array_equal(draw("together.png", together), apart)


def test_training_stops_when_validation_does_not_improve(tmp_path):
    assert run_with_validation(tmp_path, 0.5, 0.4, 0.4, 0.9, patience=2).trainer.state.epoch == 3


def test_a_run_that_stopped_early_does_not_train_on_when_it_is_started_again(tmp_path):
    first = run_with_validation(tmp_path, 0.5, 0.4, 0.4, 0.9, patience=2)
    again = run_with_validation(tmp_path, 0.5, 0.4, 0.4, 0.9, patience=2)
    assert again.trainer.state.epoch == 3
    assert again.trainer.network.weight.item() == first.trainer.network.weight.item()


def test_a_plateau_is_asked_only_after_epochs_that_were_validated():
    asked = []
    evaluator = SimpleNamespace(state=SimpleNamespace(epoch=0, metrics={}))
    step = StepOnPlateau(SimpleNamespace(step=asked.append), evaluator, metric="val_dice")
    for epoch in (1, 2, 3):
        if epoch == 2:
            evaluator.state.epoch, evaluator.state.metrics = 2, {"val_dice": 0.5}
        step(SimpleNamespace(state=SimpleNamespace(epoch=epoch)))
    assert asked == [0.5]


def test_the_bar_shows_loss_and_validation(tmp_path, capsys):
    run_with_validation(tmp_path, 0.5, 0.7)
    shown = capsys.readouterr().err
    assert "2/2" in shown and "loss=" in shown and "val_dice=0.500" in shown


def test_the_state_of_a_run_comes_back(tmp_path):
    def run(epochs: int) -> PromptTrainer:
        network = Scalar()
        state = RunState(tmp_path / "last.pt", {"network": network}, draws=DrawNumbers(4), batch_size=2)
        trainer = make_trainer(network, Multiply((0.1,), (0.2,), (0.3,)), epochs=epochs, handlers=[state])
        trainer.run()
        return trainer

    run(2)
    resumed = run(3)
    assert resumed.state.iteration == 3 and resumed.network.weight.item() == pytest.approx(1 - 0.6)


def test_a_state_without_an_object_leaves_it_alone(tmp_path):
    network, draws = Scalar(), DrawNumbers(4)
    engine = SimpleNamespace(state=SimpleNamespace(epoch=1, iteration=4, metrics={}))
    RunState(tmp_path / "last.pt", {"network": network}, draws=draws, batch_size=2).save(engine)
    late = SaveBest(tmp_path / "b.safetensors", network, evaluator=None, metric="m", metadata={})
    RunState(tmp_path / "last.pt", {"network": network, "late": late}, draws=draws, batch_size=2).resume(engine)
    assert late.best_epoch == 0 and draws.first == 8


def test_skipped_steps_are_in_the_bar_and_counted_on_when_a_run_goes_on(tmp_path, capsys):
    def run(epochs: int) -> PromptTrainer:
        network, validation = Scalar(), FakeValidation(0.5, 0.5)
        state = RunState(tmp_path / "last.pt", {"network": network}, draws=DrawNumbers(2), batch_size=2)
        bar = Progress(validation, metric="val_dice")
        factors = Multiply((float("nan"),), (float("nan"),))
        trainer = make_trainer(network, factors, epochs=epochs, handlers=[validation, state, bar])
        trainer.run()
        return trainer

    run(1)
    assert run(2).state.metrics["skipped"] == 2 and "skipped=2" in capsys.readouterr().err


def resume(path, **identity) -> None:
    """Save an epoch of a run, unless there is one, and go on as the run of ``identity``."""
    engine = SimpleNamespace(state=SimpleNamespace(epoch=1, iteration=4, metrics={}))
    state = RunState(path, {"network": Scalar()}, draws=DrawNumbers(4), batch_size=2, identity=identity)
    if not path.exists():
        state.save(engine)
    state.resume(engine)


def test_the_state_of_another_run_is_refused_with_what_differs(tmp_path):
    resume(tmp_path / "last.pt", family="medsam", seed=0, training_data={"labelled": {"slices": 3}})
    resume(tmp_path / "last.pt", family="medsam", seed=0, training_data={"labelled": {"slices": 3}})
    with pytest.raises(
        RunStateError, match=r"another family \('medsam' there, 'default' here\), training_data; choose"
    ):
        resume(tmp_path / "last.pt", family="default", seed=0, training_data={"labelled": {"slices": 4}})


def test_an_old_state_that_does_not_say_whose_it_is_is_taken(tmp_path, caplog):
    resume(tmp_path / "last.pt")
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    del state["identity"], state["skipped"]
    torch.save(state, tmp_path / "last.pt")
    resume(tmp_path / "last.pt", family="default")
    assert "does not say of which run it is" in caplog.text
