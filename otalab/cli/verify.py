"""`otalab verify`: its flags, and what it does with them."""

import argparse
from pathlib import Path

from otalab.cli.flags import at_most, count, picture
from otalab.errors import InputError
from otalab.files import write_json

DESCRIPTION = """Solve problems by every solver, put the solvers in a table and check them: exact ones must agree and
prove it, Sinkhorn must equal POT's, Newton must meet its sums, the labels of `ota` must cost the optimum."""
EPILOG = """A problem FILE ends in .npz or .json and holds cost (rows x columns), supply (rows) and demand (columns).
A forbidden route costs inf; in JSON null, "Infinity" or Infinity. Exit status: 0 all checks passed, 1 one failed, 2
input at fault."""


def add_verify_flags(command: argparse.ArgumentParser) -> None:
    """The flags of `verify`."""
    command.description, command.epilog = DESCRIPTION, EPILOG
    add = command.add_argument
    add(
        "--problem",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="what to verify on: toy, random, image (simulated) or a FILE; repeatable (default: toy random image)",
    )
    add(
        "--sizes",
        nargs="+",
        type=size,
        action="extend",
        default=[],
        metavar="SIZE",
        help="one more problem each: 20x400 is random, of 20 rows and 400 columns; 20 is an image with 20 gts",
    )
    add("--seed", type=int, default=0, help="seed of random problems and images (default: %(default)s)")
    add(
        "--methods",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="solvers (default: all that suit; those named here must suit)",
    )
    add("--eps", type=float, default=0.1, help="entropic regularisation (default: %(default)s)")
    add("--iterations", type=at_most(100_000), default=50, help="Sinkhorn iterations (default: %(default)s)")
    add("--exact", action="store_true", help="also certify exact plans in fractions, without rounding or tolerance")
    add("--checkpoint", help="a run's folder: also verify on the problems that its detector meets")
    add("--data", help="with --checkpoint: COCO-format folder to take images from")
    add("--images", type=count, default=3, help="with --checkpoint: how many (default: %(default)s)")
    add("--json", type=Path, help="also write the figures here")
    add("--save", type=Path, metavar="FILE", help="also write the problem, if it is a single one, as .npz or .json")
    add(
        "--picture",
        type=picture,
        metavar="FILE",
        help="also draw how labels of the last problem converge, as .png or .svg",
    )


def size(text: str) -> tuple[int, ...]:
    """The type of --sizes: "20x400" (rows, columns) or "20" (gts,)."""
    try:
        numbers = tuple(count(word) for word in text.split("x"))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 2):
        raise argparse.ArgumentTypeError(f"{text!r} is neither ROWSxCOLUMNS nor a number of gts")
    return numbers


def run_verify(a: argparse.Namespace) -> int:
    """Verify, print, write what was asked for; the exit status."""
    from otalab.lab.verify import verify

    cases = all_cases(a)
    if a.save:
        save_only(cases, a.save)
    results = []
    for case in cases:
        results.append(verify(case, methods=a.methods, eps=a.eps, max_iter=a.iterations, exact=a.exact))
        print(results[-1], end="\n\n", flush=True)
    failed = sum(not check.passed for result in results for check in result.checks)
    total = sum(len(result.checks) for result in results)
    print(f"{total - failed} of {total} checks passed")
    figures = {"eps": a.eps, "iterations": a.iterations, "seed": a.seed, "problems": [r.as_dict() for r in results]}
    if a.picture:
        figures["convergence"] = draw(a, cases[-1])
        print(f"picture  {a.picture}")
    if a.json:
        write_json(a.json, figures)
    return 1 if failed else 0


def all_cases(a: argparse.Namespace) -> list:
    """The problems that the flags ask for."""
    from otalab.lab.cases import KINDS, case_of, detector_cases, random_case, simulated_case

    cases = [case_of(name, a.seed) for name in a.problem or KINDS]
    for numbers in a.sizes:
        if len(numbers) == 2:
            cases.append(random_case(*numbers, seed=a.seed))
        else:
            cases.append(simulated_case(num_gt=numbers[0], seed=a.seed))
    if a.data and not a.checkpoint:
        raise InputError("--data needs --checkpoint, the detector to verify on these images")
    if a.checkpoint:
        from otalab.detect.checkpoint import load_model
        from otalab.detect.evaluate import open_split

        if not a.data:
            raise InputError("--checkpoint needs --data, a COCO-format folder with the images to verify on")
        model, description = load_model(a.checkpoint)
        dataset = open_split(a.data, "val", description["class_names"])
        cases += list(detector_cases(model, dataset, a.images))
    return cases


def save_only(cases: list, path: Path) -> None:
    """Save the problem of the only case."""
    from otalab.lab.cases import save_problem

    if len(cases) != 1:
        raise InputError(f"--save writes one problem, but there are {len(cases)}; choose one with --problem")
    save_problem(path, cases[0].problem)


def draw(a: argparse.Namespace, case) -> dict:
    """Write the picture; returns the figures behind it."""
    from otalab.lab.convergence import converge
    from otalab.viz.convergence import convergence_figure
    from otalab.viz.output import save_figure

    convergence = converge(case.problem, eps=a.eps, max_iter=a.iterations)
    save_figure(convergence_figure(convergence, case.title), a.picture, dpi=150)
    return convergence.as_dict()
