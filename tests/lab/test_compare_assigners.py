"""One image, many assigners: each figure of the comparison against its definition, counted by hand."""

import torch
from assign.cases import make_case

from otalab.assign import AnchorPoints, Assigner, Predictions, Targets, build_assigner
from otalab.assign.base import from_labels
from otalab.errors import InputError
from otalab.lab.compare_assigners import compare_assigners


class Fixed(Assigner):
    """Gives the labels that it was told."""

    def __init__(self, labels: list[int]) -> None:
        self.labels = torch.tensor(labels)

    def assign(self, points, predictions, targets):
        return from_labels(self.labels, len(targets))


class Refusing(Assigner):
    def assign(self, points, predictions, targets):
        raise InputError("not this one")


def two_gts() -> tuple[AnchorPoints, Predictions, Targets]:
    """A row of six points; both gts cover the two in the middle."""
    points = AnchorPoints.for_feature_maps([(1, 6)], (8,))
    targets = Targets(torch.tensor([[0.0, 0, 32, 8], [16, 0, 48, 8]]), torch.tensor([0, 1]))
    logits = torch.zeros(6, 2)
    owner = torch.tensor([0, 0, 0, 1, 1, 1])
    return points, Predictions(logits, targets.boxes[owner]), targets


def test_figures_of_a_comparison_are_what_they_are_defined_to_be():
    points, predictions, targets = two_gts()
    optimum = build_assigner("ota", k=2)(points, predictions, targets).matched_gt.tolist()
    assert compare_assigners(points, predictions, targets, {}).ambiguous.tolist() == [2, 3]
    exact = build_assigner("ota")(points, predictions, targets).matched_gt.tolist()
    other = [1 - label if label >= 0 else label for label in exact]
    family = compare_assigners(
        points,
        predictions,
        targets,
        {"same": Fixed(exact), "swapped": Fixed(other), "none": Fixed(6 * [-1]), "ignoring": Fixed(6 * [-2])},
    )
    same, swapped, none, ignoring = family.rows
    ambiguous = [exact[2], exact[3]]
    positive = sum(label >= 0 for label in ambiguous)
    assert (same.agreement, same.settled, same.positives) == (1.0, (2, 0, 0), sum(label >= 0 for label in exact))
    assert same.counts == (exact.count(0), exact.count(1)) and same.empty == ()
    assert (swapped.agreement, swapped.settled) == (0.0, (2 - positive, positive, 0))
    assert (none.agreement, none.empty, none.positives) == (0.0, (0, 1), 0)
    assert none.settled == (2 - positive, 0, positive)
    assert ignoring.settled == (0, 0, 2)
    assert len(optimum) == 6


def test_an_assigner_that_refuses_the_image_gets_a_row_that_says_why():
    points, predictions, targets = two_gts()
    family = compare_assigners(points, predictions, targets, {"no": Refusing(), "fcos": build_assigner("fcos")})
    assert family.rows[0].fault == "not this one" and family.rows[1].fault is None
    assert list(family.assignments) == ["fcos"]
    assert "not this one" in str(family)


def test_the_table_has_a_column_for_each_of_few_gts_and_sums_up_many():
    assigners = {"ota": build_assigner("ota"), "fcos": build_assigner("fcos")}
    few = str(compare_assigners(*make_case(0, num_gt=5), assigners)).splitlines()
    assert "gt 5" in few[2] and "gt 6" not in few[2] and len(few) == 5
    many = compare_assigners(*make_case(0, num_gt=13), assigners)
    text = str(many).splitlines()
    assert "median" in text[2] and "gt 1" not in text[2]
    counts = sorted(many.rows[1].counts)
    assert text[4].split()[2:5] == [str(counts[0]), str(counts[6]), str(counts[-1])]


def test_columns_stand_beneath_their_heads_however_short_the_names():
    case = make_case(0, num_gt=2)
    _, _, head, row = str(compare_assigners(*case, {"ota": build_assigner("ota")})).splitlines()
    assert len(head) == len(row)
    assert str(compare_assigners(*case, {})).endswith("agreement")


def test_json_says_who_got_each_ambiguous_point():
    case = make_case(2, num_gt=6, scene="crowd")
    family = compare_assigners(*case, {"fcos": build_assigner("fcos")})
    said = family.as_dict()
    assert said["rows"][0]["name"] == "fcos"
    assert len(said["ambiguous"]) == len(family.ambiguous) > 0
    for entry in said["ambiguous"]:
        assert entry["owner"]["fcos"] == int(family.assignments["fcos"].matched_gt[entry["point"]])
        assert entry["optimum"] == int(family.optimum.matched_gt[entry["point"]])
