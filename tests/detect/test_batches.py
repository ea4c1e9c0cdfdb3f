"""The batches of a run: a pure function of seed and step, whoever loads them."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from otalab.detect import batches as batches_module
from otalab.detect.batches import Key, epoch_keys, keys_of_this_process, load_batches
from otalab.detect.config import TrainConfig
from otalab.detect.train import open_data

MIXED = [(240, 320), (320, 240), (213, 320), (240, 320)] * 50  # heights and widths


def taken(config: TrainConfig, first: int, total: int, shapes=MIXED) -> list[list[Key]]:
    return list(keys_of_this_process(shapes, config, first, total))


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own():
    config = TrainConfig(batch_size=8)
    first, second = (epoch_keys(MIXED, config, epoch) for epoch in (0, 1))
    assert sorted(key.index for batch in first for key in batch) == list(range(200))
    assert first != second and first == epoch_keys(MIXED, config, 0)
    assert first != epoch_keys(MIXED, replace(config, seed=1), 0)


def test_what_fills_no_batch_is_left_out_and_is_another_in_each_epoch():
    config = TrainConfig(batch_size=16)
    left = [set(range(200)) - {key.index for batch in epoch_keys(MIXED, config, e) for key in batch} for e in range(5)]
    assert all(len(images) == 8 for images in left) and len(set().union(*left)) > 20
    assert {MIXED[i] for images in left for i in images} == set(MIXED)  # no shape is left out more than others


def test_images_of_one_shape_share_a_batch_where_there_are_enough():
    config = TrainConfig(batch_size=8)

    def mixed_batches(group: bool) -> int:
        batches = epoch_keys(MIXED, replace(config, group=group), 0)
        return sum(len({MIXED[key.index] for key in batch}) > 1 for batch in batches)

    assert mixed_batches(True) <= 2 and mixed_batches(False) > 20


def test_portraits_and_landscapes_meet_in_at_most_one_batch_of_a_window():
    generator = torch.Generator().manual_seed(0)
    sides = torch.randint(100, 300, (512, 2), generator=generator).tolist()
    shapes = [tuple(sorted(side)) if i % 2 else tuple(sorted(side, reverse=True)) for i, side in enumerate(sides)]
    padded = {}
    for group in (False, True):
        batches = epoch_keys(shapes, TrainConfig(batch_size=8, group=group), 0)
        parts = [[shapes[key.index] for key in batch] for batch in batches]
        padded[group] = sum(8 * max(h for h, _ in part) * max(w for _, w in part) for part in parts)
    real = sum(h * w for h, w in shapes)
    assert padded[True] - real < 0.5 * (padded[False] - real)


@pytest.mark.parametrize("first", [0, 1, 24, 25, 49, 60])
def test_a_run_goes_on_from_any_step_as_if_it_had_not_stopped(first):
    config = TrainConfig(batch_size=8)  # 25 steps an epoch
    assert taken(config, first, 70) == taken(config, 0, 70)[first:]


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_processes_and_parts_share_a_step_without_a_gap(processes, accumulate, monkeypatch):
    config = TrainConfig(batch_size=8, accumulate=accumulate)
    whole = taken(replace(config, accumulate=1), 0, 6)
    monkeypatch.setattr(batches_module, "num_processes", lambda: processes)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(batches_module, "rank", lambda rank=rank: rank)
        shares.append(taken(config, 0, 6))
    for step, batch in enumerate(whole):
        parts = [part for share in shares for part in share[step * accumulate : (step + 1) * accumulate]]
        assert {len(part) for part in parts} == {8 // processes // accumulate}
        assert sorted(key for part in parts for key in part) == sorted(batch)


@pytest.mark.slow
def test_loader_processes_change_neither_order_nor_augmentation(setup):
    config = setup(augment="strong")
    trainset, _ = open_data(config, torch.device("cpu"))
    torch.manual_seed(3)  # what was drawn before does not matter
    alone = list(load_batches(trainset, config, 0, 6))
    torch.manual_seed(4)
    helped = list(load_batches(trainset, replace(config, workers=2), 0, 6))
    for (images, targets), (others, other_targets) in zip(alone, helped, strict=True):
        assert [int(t["image_id"]) for t in targets] == [int(t["image_id"]) for t in other_targets]
        assert_close(images, others, rtol=0, atol=0)
        assert_close([t["boxes"] for t in targets], [t["boxes"] for t in other_targets], rtol=0, atol=0)


def test_loading_leaves_the_random_numbers_of_others_alone(setup):
    config = setup(augment="strong")
    trainset, _ = open_data(config, torch.device("cpu"))
    loader = iter(load_batches(trainset, config, 0, 2))
    torch.manual_seed(5)
    next(loader)
    assert torch.rand(()) == torch.rand((), generator=torch.Generator().manual_seed(5))
