"""Lesson 07: eps and iterations of Sinkhorn that give nearly the exact labels."""

import math
from functools import cache

import torch

from otalab.assign import AnchorPoints, build_assigner
from otalab.data.scene import CLASS_NAMES, ShapesConfig
from otalab.lab.simulate import simulate_predictions, simulate_scene
from otalab.lessons.verdict import Hint, checker, hint_if, missing, number, whole
from otalab.transport import TransportProblem, solve

SEEDS = (20, 21, 22, 23)
BUDGET = 400  # iterations
ALLOWED = 0.01  # wrong labels per positive


@cache
def problems() -> list[tuple[TransportProblem, torch.Tensor]]:
    """The problems of four simulated images, as the authors' code sets them up, each with its exact labels."""
    config = ShapesConfig(crowd=1.0, image_size=192, min_objects=9, max_objects=9, min_size=24.0, max_size=60.0)
    points = AnchorPoints.for_image((192, 192), strides=(8, 16, 32))
    found = []
    for seed in SEEDS:
        _, targets = simulate_scene(config, seed)
        generator = torch.Generator().manual_seed(seed)
        predictions = simulate_predictions(points, targets, len(CLASS_NAMES), generator, skill=0.7)
        assignment = build_assigner("ota-official", max_iter=1)(points, predictions, targets)
        problem = TransportProblem(assignment.cost, assignment.supply, torch.ones(len(points)))
        found.append((problem, solve(problem, "emd").labels))
    return found


def wrong_share(eps: float, iterations: int) -> float:
    """Labels that differ from the exact plan's, per positive of that plan, over the four images.

    Raises InputError for an eps or a number of iterations that Sinkhorn does not take.
    """
    wrong = positives = 0
    for problem, exact in problems():
        labels = solve(problem, "sinkhorn", eps=eps, max_iter=iterations).labels
        wrong += int((labels != exact).sum())
        positives += int((exact < len(problem.cost) - 1).sum())
    return wrong / positives


@checker
def check(eps=None, iterations=None) -> str:
    """Check that `eps` and `iterations`, at most BUDGET, leave no more than 1 wrong label per 100 positives."""
    hint_if(
        missing(eps, iterations), "Set both eps and iterations. The table above tells how they depend on each other."
    )
    given, eps, iterations = (eps, iterations), number(eps), whole(iterations)
    hint_if(eps is None or not 0 < eps < math.inf, f"eps is a positive number, not {given[0]!r}.")
    odd = iterations is None or iterations < 1
    hint_if(odd, f"iterations is a whole number of at least 1, not {given[1]!r}.")
    hint_if(iterations > BUDGET, f"{iterations} iterations exceed the budget of {BUDGET}.")
    far = not 1e-6 <= eps <= 1e3
    hint_if(far, f"eps {eps:g} is far from any that Sinkhorn can use here; costs are of the order of 1 to 30.")
    share = wrong_share(eps, iterations)
    said = f"{100 * share:.1f} labels are wrong for every 100 positives"
    if share > ALLOWED:
        more = "More iterations would not help: this is where Sinkhorn leads. What blurs its limit?"
        if wrong_share(eps, 2 * iterations) < 0.9 * share:
            more = "Sinkhorn is not there yet, and the budget is short: which eps is sooner there?"
            if iterations < BUDGET // 2:
                more = "Twice the iterations would do better: Sinkhorn is not there yet. Is the budget used?"
        raise Hint(f"{said}, 1 is allowed. {more}")
    return (
        f"{said}. At eps {eps:g} the limit of Sinkhorn is sharp enough for the argmax, and {iterations} iterations "
        "come close enough to it."
    )
