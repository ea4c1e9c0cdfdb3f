"""The checker of lesson 10 computes the loss of the model itself, and tells apart what is wrong with it."""

import copy
from functools import partial
from itertools import pairwise

import pytest
import torch

from otalab.assign import build_assigner
from otalab.detect import build_detector
from otalab.detect.detector import as_targets
from otalab.lessons import lesson10


@pytest.fixture(scope="module")
def right(solution):
    return solution("10")["model"]


def small(**options):
    torch.manual_seed(0)
    return build_detector("tiny", num_classes=1, channels=32, num_convs=1, **options)


def refused(model, said):
    verdict = lesson10.check(model)
    return not verdict.passed and said in verdict.message


def trained(optimizer, schedule=None, steps=80, model=None, copies=1, average=None):
    """A detector that saw the scene so many times; the loop of a reader who knows PyTorch."""
    model = (small() if model is None else model).train()
    image, target = lesson10.scene()
    steps_of = optimizer(model.parameters())
    rates = schedule and schedule(steps_of)
    for _ in range(steps):
        steps_of.zero_grad()
        sum(model([image] * copies, [target] * copies).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        steps_of.step()
        if rates:
            rates.step()
        if average:
            average.update_parameters(model)
    return average.module if average else model


def by_sgd():
    sgd = partial(torch.optim.SGD, lr=0.02, momentum=0.9)
    return trained(sgd, lambda steps_of: torch.optim.lr_scheduler.OneCycleLR(steps_of, 0.03, total_steps=80))


def by_adam_at_one_rate():
    return trained(partial(torch.optim.Adam, lr=1e-3), steps=100)


def by_a_cosine():
    adam = partial(torch.optim.AdamW, lr=2e-3)
    return trained(adam, lambda steps_of: torch.optim.lr_scheduler.CosineAnnealingLR(steps_of, 80))


def by_pairs():
    """A batch of the same image twice."""
    return trained(partial(torch.optim.Adam, lr=1e-3), copies=2)


def by_a_moving_average():
    model, ema = small(), torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=ema)
    return trained(partial(torch.optim.AdamW, lr=2e-3), model=model, average=average)


@pytest.mark.parametrize("train", [by_sgd, by_adam_at_one_rate, by_a_cosine, by_pairs, by_a_moving_average])
def test_a_detector_overfit_in_any_way_passes(train):
    verdict = lesson10.check(train())
    assert verdict.passed, verdict


def test_labels_of_another_assigner_are_named():
    """Whose loss falls as it should; but the loss that is asked for has the labels of ota."""
    model = trained(partial(torch.optim.AdamW, lr=2e-3), model=small(assigner="fcos"), steps=60)
    assert refused(model, "labels of FCOS, and here the labels are those of ota")


@pytest.mark.parametrize("mode", [True, False])
def test_an_overfit_detector_passes_in_any_mode_and_stays_as_it_was(right, mode):
    model = copy.deepcopy(right).train(mode)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    verdict = lesson10.check(model)
    m = len(lesson10.scene()[1]["labels"])
    assert verdict.passed and f"the best {m} detections find {m} of the {m} shapes" in verdict.message
    assert model.training is mode
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_loss_is_that_of_the_model_in_training(right):
    image, target = lesson10.scene()
    theirs = copy.deepcopy(right).train()([image], [target])
    losses, _, _ = lesson10.judge(right)
    assert losses == pytest.approx({name: value.item() for name, value in theirs.items()}, rel=1e-5)


def test_an_untrained_detector_is_told_so():
    assert refused(small(), "untrained detector")


def test_a_loss_on_its_way_gets_its_number(solution):
    model = solution("10")["overfit"](steps=12)
    total = sum(lesson10.judge(model)[0].values())
    assert lesson10.BELOW < total < lesson10.UNTRAINED and refused(model, f"The loss is {total:.2f}")


@pytest.mark.parametrize(
    ("total", "said"),
    [
        (2.7, "untrained"),
        (1.5, "It has fallen; most of what is left is the box loss"),
        (1.99, "zero_grad in each step"),  # as without any, after sixty steps
        (0.5, "Nearly there"),
        (float("nan"), "finite"),
    ],
)
def test_hints_follow_how_far_the_loss_has_come(total, said):
    assert said in lesson10.hint(total, {"classification": 0.1 * total, "box": 0.7 * total, "quality": 0.2 * total})


def test_weights_that_are_not_finite_get_a_hint(right):
    model = copy.deepcopy(right)
    with torch.no_grad():
        model.head.logits.bias.fill_(float("nan"))
    assert refused(model, "not finite")


def test_labels_that_a_reader_replaced_do_not_lower_the_loss(right):
    model = small()
    wanted = right.assigner
    model.assign = lambda points, predictions, targets: [wanted.background_only(points, predictions[0], targets[0])]
    assert refused(model, "untrained detector")


def test_a_detector_of_more_classes_and_of_another_assigner_is_judged_alike():
    model = build_detector("tiny", num_classes=6, channels=32, num_convs=1, assigner="fcos")
    assert refused(model, "untrained detector")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, "No model yet"),
        (0.1, "looks like a loss"),
        (torch.zeros(()), "looks like a loss"),
        ({"box": torch.zeros(())}, "looks like a loss"),
        (torch.nn.Linear(2, 2), "not Linear"),
        (build_detector, "not function"),
        ("model", "not str"),
    ],
)
def test_what_is_no_detector_gets_a_hint(answer, said):
    assert refused(answer, said)


def test_first_labels_are_the_same_from_seed_to_seed_only_if_boxes_start_with_a_size():
    scenes = [lesson10.draw(1, number) for number in range(2)]
    images, targets = [image for image, _ in scenes], [as_targets(target) for _, target in scenes]
    agreed = {}
    for start in (1.0, 0.0):
        labels = []
        for seed in range(30):
            torch.manual_seed(seed)
            model = build_detector("tiny", num_classes=1, channels=32, num_convs=1)
            torch.nn.init.constant_(model.head.sides.bias, start)
            with torch.no_grad():
                points, predictions = model.train().predict(images)
            found = build_assigner("ota").assign_batch(points, predictions, targets)
            labels.append(torch.cat([a.matched_gt for a in found]))
        pairs = list(pairwise(labels))
        agreed[start] = [float((a[(a >= 0) | (b >= 0)] == b[(a >= 0) | (b >= 0)]).double().mean()) for a, b in pairs]
    assert min(agreed[1.0]) > max(agreed[0.0])
    assert min(agreed[1.0]) > 0.5 and sum(agreed[0.0]) / 29 < 0.25


def test_the_most_first_labels_come_from_boxes_of_about_four_strides(solution):
    k = {start: solution("10")["first_k"](start) for start in (0.0, 1.0, 2.0, 8.0)}
    assert k[0.0] == 1.0 < k[8.0] < k[1.0] < k[2.0]


def test_the_scene_is_crowded_and_always_the_same():
    (image, target), (again, _) = lesson10.scene(), lesson10.scene()
    assert image.shape == (3, 64, 64) and image.dtype == torch.float32 and torch.equal(image, again)
    assert len(target["labels"]) == 5 and target["labels"].eq(0).all()
