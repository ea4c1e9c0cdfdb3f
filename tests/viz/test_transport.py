import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from otalab.assign import Assignment
from otalab.errors import InputError
from otalab.viz import candidate_columns, draw_cost, draw_plan, gt_colour, gt_names
from otalab.viz.transport import FORBIDDEN, GREY, contested, runs

from .scenes import NAMES, assigned, axes, rendered, scene, texts


def painted(ax):
    """The colours of all cells, (m + 1, c) hex, blocks put together."""
    return np.concatenate([[[to_hex(pixel) for pixel in row] for row in i.get_array()] for i in ax.images], axis=1)


def hatched_cells(ax):
    cells = {(p.get_x(), p.get_y(), p.get_width()) for p in ax.patches if isinstance(p, Rectangle) and p.get_hatch()}
    return sum(width for _, _, width in cells)


def test_candidates_are_the_points_that_a_gt_may_supply():
    s = scene()
    assignment = assigned(s)
    columns = candidate_columns(assignment, s.points)
    expected = assignment.cost[:-1].isfinite().any(dim=0).nonzero().squeeze(1)
    assert sorted(columns.tolist()) == expected.tolist()
    assert 0 < len(columns) < len(s.points)


def test_a_large_constant_counts_as_forbidden():
    s = scene()
    paper = assigned(s, "ota-paper")
    assert paper.cost.isfinite().all()
    columns = candidate_columns(paper, s.points)
    assert (paper.cost[:-1, columns].min(dim=0).values < FORBIDDEN).all()


def test_columns_go_by_level_then_by_owner_with_the_background_last():
    s = scene()
    assignment = assigned(s)
    columns = candidate_columns(assignment, s.points)
    owner = assignment.matched_gt[columns].numpy()
    keys = list(zip(s.points.level[columns].tolist(), np.where(owner < 0, 99, owner).tolist(), strict=True))
    assert keys == sorted(keys)
    assert len({level for level, _ in keys}) == 2


def test_functions_return_their_axes_and_name_their_rows():
    s = scene()
    assignment, names = assigned(s), gt_names(s.targets, NAMES)
    for draw in (draw_cost, draw_plan):
        ax = axes()
        assert draw(ax, assignment, s.points, names) is ax
        k = assignment.supply.tolist()
        assert {f"cat, k = {k[0]}", f"dog, k = {k[1]}", f"owl, k = {k[2]}", "background", "1", "2", "3"} <= texts(
            ax.figure
        )
        assert ax.get_xlabel() == "candidate anchor points, by level"
        assert "stride 8 px" in texts(ax.figure)


def test_the_plan_is_painted_in_the_gts_colours():
    s = scene()
    assignment = assigned(s)
    columns = candidate_columns(assignment, s.points)
    colours = painted(draw_plan(axes(), assignment, s.points))
    for column, point in enumerate(columns.tolist()):
        owner = int(assignment.matched_gt[point])
        for row in range(4):
            shipped = row == (owner if owner >= 0 else 3)
            colour = GREY if row == 3 else gt_colour(row).lower()
            assert colours[row, column] == (colour if shipped else "#ffffff")


def test_a_half_shipped_label_is_half_as_strong():
    plan = torch.tensor([[0.5, 0.0], [0.5, 1.0]])
    assignment = Assignment(
        torch.tensor([0, -1]), torch.tensor([1, 1]), torch.tensor([0]), lambda: torch.zeros(2, 2), lambda: plan
    )
    half = np.array([0x00, 0x72, 0xB2]) / 255 * 0.5 + 0.5
    assert painted(draw_plan(axes(), assignment))[0, 0] == to_hex(half)


def test_a_shipped_cost_is_underlined_in_its_gts_colour():
    s = scene()
    assignment = assigned(s)
    columns = candidate_columns(assignment, s.points)
    ax = draw_cost(axes(), assignment, s.points)
    lines = [p for p in ax.patches if isinstance(p, Rectangle) and not p.get_hatch()]
    owners = assignment.matched_gt[columns]
    assert [to_hex(p.get_facecolor()) for p in lines] == [gt_colour(i).lower() for i in owners[owners >= 0].tolist()]
    assert [int(p.get_y()) for p in lines] == owners[owners >= 0].tolist()


def test_cheaper_is_darker():
    cost = torch.tensor([[0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0]])
    assignment = Assignment(
        torch.tensor([0, -1, -1, -1]), torch.tensor([1, 3]), torch.tensor([0]), lambda: cost, lambda: torch.zeros(2, 4)
    )
    row = draw_cost(axes(), assignment, columns=np.arange(4)).images[0].get_array()[0].sum(axis=-1)
    assert (np.diff(row[:3]) > 0).all()


@pytest.mark.parametrize("draw", [draw_cost, draw_plan])
def test_exactly_the_forbidden_routes_are_hatched(draw):
    s = scene()
    assignment = assigned(s)
    columns = candidate_columns(assignment, s.points)
    assert hatched_cells(draw(axes(), assignment, s.points)) == int(assignment.cost[:, columns].isinf().sum()) > 0


def test_mass_on_a_forbidden_route_is_not_hidden():
    cost, plan = torch.tensor([[0.0, torch.inf], [1.0, 1.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assignment = Assignment(torch.tensor([-1, 0]), torch.tensor([1, 1]), torch.tensor([0]), lambda: cost, lambda: plan)
    assert hatched_cells(draw_plan(axes(), assignment, columns=np.arange(2))) == 0


def test_the_title_counts_the_points_with_several_takers():
    s = scene()
    assignment = assigned(s)
    columns = candidate_columns(assignment, s.points)
    several = int((assignment.cost[:-1].isfinite().sum(dim=0) > 1).sum())
    assert contested(assignment, columns) == several > 0
    title = draw_cost(axes(), assignment, s.points).get_title()
    assert title == f"Cost: {several} of {len(columns)} points have several takers"


def test_labels_that_a_gt_did_not_get_are_told():
    s = scene()
    assignment = assigned(s, k=30)
    assert int(assignment.deficit[0]) > 0
    written = texts(draw_plan(axes(), assignment, s.points).figure)
    assert f"k = 30, {int(assignment.deficit[0])} short" in written


def test_an_assigner_without_transport_is_refused():
    s = scene()
    with pytest.raises(InputError, match="no cost to draw"):
        draw_cost(axes(), assigned(s, "fcos"), s.points)


@pytest.mark.parametrize(
    ("name", "num_gt"), [("ota", 0), ("ota", 1), ("ota", 3), ("ota-paper", 3), ("ota-official", 0), ("ota-official", 3)]
)
def test_every_transport_renders(num_gt, name):
    s = scene(num_gt)
    for draw in (draw_cost, draw_plan):
        assert rendered(draw(axes(), assigned(s, name), s.points).figure).std() > 0


def test_runs_of_equal_values():
    assert runs(np.array([0, 0, 1, 0])) == [(0, 2), (2, 3), (3, 4)]
    assert runs(np.array([])) == []
