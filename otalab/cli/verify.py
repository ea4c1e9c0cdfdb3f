"""`otalab verify`: solve problems with every solver, print tables and checks, and write the files asked for."""

import argparse
from pathlib import Path

from otalab.errors import InputError
from otalab.files import write_json
from otalab.lab.cases import KINDS, Case, case_of, detector_cases, random_case, save_problem, simulated_case
from otalab.lab.convergence import converge
from otalab.lab.verify import verify


def run(a: argparse.Namespace) -> int:
    """Verify all cases. Returns 1 if a check failed."""
    cases = all_cases(a)
    if a.save:
        if len(cases) != 1:
            raise InputError(f"--save writes one problem, but there are {len(cases)}; choose one with --problem")
        save_problem(a.save, cases[0].problem)
    results = []
    for case in cases:
        results.append(verify(case, methods=a.methods, eps=a.eps, max_iter=a.iterations, exact=a.exact))
        print(results[-1], end="\n\n", flush=True)
    checks = [check for result in results for check in result.checks]
    passed = sum(check.passed for check in checks)
    print(f"{passed} of {len(checks)} checks passed")
    figures = {"eps": a.eps, "iterations": a.iterations, "seed": a.seed, "problems": [r.as_dict() for r in results]}
    if a.picture:
        figures["convergence"] = draw(cases[-1], a.picture, a.eps, a.iterations)
        print(f"picture  {a.picture}")
    if a.json:
        write_json(a.json, figures)
    return 0 if passed == len(checks) else 1


def all_cases(a: argparse.Namespace) -> list[Case]:
    """The problems that the flags ask for."""
    cases = [case_of(name, a.seed) for name in a.problem or KINDS]
    for numbers in a.sizes:
        if len(numbers) == 2:
            cases.append(random_case(*numbers, seed=a.seed))
        else:
            cases.append(simulated_case(num_gt=numbers[0], seed=a.seed))
    if a.data and not a.checkpoint:
        raise InputError("--data needs --checkpoint, the detector to verify on these images")
    if a.checkpoint:
        if not a.data:
            raise InputError("--checkpoint needs --data, a COCO-format folder with the images to verify on")
        from otalab.detect.checkpoint import load_model  # slow: loads torchvision
        from otalab.detect.evaluate import open_split

        model, description = load_model(a.checkpoint)
        dataset = open_split(a.data, "val", description["class_names"])
        cases += detector_cases(model, dataset, a.images)
    return cases


def draw(case: Case, path: Path, eps: float, max_iter: int) -> dict:
    """Draw how the labels of a case converge, and return the numbers behind the picture."""
    from otalab.viz.convergence import convergence_figure  # slow: loads Matplotlib
    from otalab.viz.output import save_figure

    convergence = converge(case.problem, eps=eps, max_iter=max_iter)
    save_figure(convergence_figure(convergence, case.title), path, dpi=150)
    return convergence.as_dict()
