"""README.md and docs/use.md keep their word: examples run, commands parse, links lead somewhere, numbers are real."""

import contextlib
import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from benchmarks import record_study
from otalab.cli.main import parser
from otalab.lab.contrasts import answers, two_way, values
from otalab.lessons import lesson11
from otalab.viz.study_report import points

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
TRAINING = (ROOT / "docs" / "training.md").read_text()
USE = (ROOT / "docs" / "use.md").read_text()
PAGES = [str(page.relative_to(ROOT)) for page in sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md")])]
EXAMPLES = re.findall(r"```python\n(.*?)```", README + USE, flags=re.DOTALL)
STUDIES = (ROOT / "docs" / "studies.md").read_text()
COMMANDS = re.findall(r"^    (otalab (?:.*\\\n)*.*)$", README + USE + TRAINING + STUDIES, flags=re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_run_and_print_what_the_readme_shows(example):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, "README.md", "exec"), {})
    for line in printed.getvalue().splitlines():
        assert f"    {line}\n" in README


def test_there_are_examples_and_commands():
    assert len(EXAMPLES) >= 2
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    parser().parse_args(shlex.split(command.replace("\\\n", " "), comments=True)[1:])


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files(page):
    text = (ROOT / page).read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        if not link.startswith("http"):
            assert ((ROOT / page).parent / link).exists(), link


def test_speed_table_is_the_recorded_run():
    bench = json.loads((ROOT / "benchmarks/assign.json").read_text())
    for name in ("20 gts", "100 gts", "batch of 8"):
        ours = next(table for table in bench["tables"] if table["name"] == name)["rows"][-1]
        assert ours["way"].startswith("ota")
        assert f"{ours['speed_up']:.0f}x" in README and f"{ours['clamped_speed_up']:.0f}x" in README


@pytest.mark.parametrize("page", record_study.PAGES, ids=lambda page: page.name)
def test_the_tables_of_the_studies_are_those_of_the_cards(page):
    text = page.read_text()
    assert record_study.BLOCK.search(text)
    assert record_study.filled(text) == text


def test_what_docs_say_of_balancing_is_what_the_cards_say():
    plan, cards = lesson11.recorded()
    found = {each.data: points(each.found.mean) for each in answers(plan, cards) if each.contrast.a == "ota balanced"}
    said = re.search(r"`ota` (\S+) points of AP on strewn objects and (\S+) in heaps", TRAINING.replace("\n", " "))
    assert found == {"sparse": f"+{said[1]}", "heaped": f"+{said[2].rstrip('.')}"}


def test_what_the_pages_say_of_studies_is_what_the_cards_say():
    said = {page: " ".join((ROOT / page).read_text().split()) for page in ("README.md", "docs/results.md")}
    said |= {page: " ".join((ROOT / page).read_text().split()) for page in ("docs/training.md", "docs/ledger.md")}
    across = answered("balanced")[-1].found
    ends = f"from {-100 * across.low:.1f} points smaller to {100 * across.high:.1f} larger"
    assert ends in said["docs/results.md"]
    strewn, heaped = ahead("shapes", "ota balanced", "ota")
    assert f"gains {strewn} to {heaped} points" in said["README.md"]
    worth = f"worth {strewn} points of AP to `ota` on strewn objects and {heaped} in heaps"
    assert worth in said["docs/ledger.md"] and worth in said["docs/training.md"]
    (five,), (_, heaped) = ahead("options", "ota:k=5", "ota"), ahead("fixed", "ota:k=5", "ota:q=10")
    assert f"worth {five} points in heaps, where it was chosen" in said["docs/ledger.md"]
    assert f"from 10 IoUs: {heaped} points ahead in heaps" in said["docs/ledger.md"]
    cards = [card for study in ("cells", "fixed_cells") for card in record_study.study(study)[2]]
    five, ten, published = (
        100 * np.mean(list(values(cards, "cells", method).values()))
        for method in ("ota:k=5 balanced", "ota:q=10 balanced", "ota")
    )
    assert f"worth {five - published:.1f} points of AP" in said["README.md"]
    assert f"{ten - published:.1f} points above `ota` as published" in said["docs/results.md"]
    unsure, lead = answered("fixed_cells")
    assert said["docs/results.md"].count(f"ahead of `fcos` by {100 * lead.found.mean:.1f} points") == 2
    assert lead.alone.low > 0 and not unsure.found.separated


def test_what_the_pages_say_of_the_recipe_laptop_is_what_the_card_of_its_seed_0_says():
    found = record_study.study("laptop")[2][0]
    ap, ap50, person, person50 = (f"{found.metrics[key]:.3f}" for key in ("AP", "AP50", "AP/person", "AP50/person"))
    assert (found.seed, found.settings["epochs"], found.settings["assigner"]) == (0, 100, "ota:k=5")
    readme, training = " ".join(README.split()), " ".join(TRAINING.split())
    assert f"an AP of {ap} and an AP50 of {ap50}; for `person` they are {person} and {person50}" in readme
    assert f"| `otalab train --recipe laptop` | {ap} | {ap50} | 337 training photos" in training
    assert f"100 epochs; person {person};" in training
    assert f"The recipe `laptop` trains for 100 epochs: AP {ap}" in (ROOT / "CHANGELOG.md").read_text()


def test_what_the_pages_say_of_the_demos_scenes_is_what_the_cards_say():
    _, _, cards = record_study.study("demo")

    def mean(method: str, path: str = "metrics/AP") -> str:
        return f"{100 * np.mean(list(values(cards, 'demo', method, path).values())):.1f}"

    readme, training = " ".join(README.split()), " ".join(TRAINING.split())
    anew = record_study.study("demo_anew")[2]
    said = [f"{100 * np.mean(list(values(anew, 'demo', m).values())):.1f}" for m in ("ota", "fcos", "simota")]
    assert "an AP of {}, `fcos` {}, `simota` {}. Both intervals exclude 0".format(*said) in readme
    assert all(each.found.low > 0 for each in answered("demo_anew"))
    five = record_study.study("default_demo")[2]
    for path, said in {
        "metrics/AP": "three seeds cannot tell the defaults' mean AP, in percent, from that of the paper's values, "
        "which is higher: {} and {} (",
        "size/under 16/AP50": "those under 16 px {}, against {})",
        "size/32 to 64/AP50": "AP50 from 32 px on {}, against {})",
    }.items():
        both = (100 * np.mean(list(values(five, "demo", m, path).values())) for m in ("ota:k=5 balanced", "ota"))
        assert said.format(*(f"{value:.1f}" for value in both)) in training
    assert not any(each.found.separated for each in answered("default_demo"))
    default = "ota:q=10 balanced"
    found = {(e.contrast.a, e.contrast.b): e.found for e in answered("demo")}
    assert found["ota", "simota"].low > 0 > found["ota", "fcos"].low
    results = " ".join((ROOT / "docs" / "results.md").read_text().split())
    ours, published = (ahead("demo", *pair)[0] for pair in ((default, "simota balanced"), ("ota", "simota")))
    assert f"ahead of `simota` by {ours} points, and as published `ota` is ahead by {published}." in results
    leads = " and ".join(ahead("demo_anew", "ota", other)[0] for other in ("fcos", "simota"))
    assert f"ahead of `fcos` and `simota`, by {leads} points" in results
    (large,) = (e.found for e in answered("sizes") if e.data == "large" and e.contrast.b == "simota balanced")
    assert f"over `simota` by more than {100 * large.high:.1f} points is unlikely" in results
    leads = [100 * (a - b) for a, b in zip(*(values(cards, "demo", m).values() for m in ("ota", "fcos")), strict=True)]
    assert f"by {min(leads):.1f} to {max(leads):.1f} points" in results and min(leads) > 0


def test_what_the_pages_say_of_six_classes_and_of_one_is_what_the_cards_say():
    _, _, cards = record_study.study("classes")
    many, one, alone = "demo", "demo, one class", "ota:solver=independent"
    asked = {(each.contrast.b, each.data): each for each in answered("classes")}
    found = {key: each.found for key, each in asked.items()}
    behind, across = found["simota", one], found["simota", f"{many} - {one}"]
    readme, results = (" ".join((ROOT / page).read_text().split()) for page in ("README.md", "docs/results.md"))
    lesson = " ".join(notebook("11").split())
    assert behind.high < 0 and f"`simota` is ahead of `ota` by {-100 * behind.mean:.1f} points of AP" in readme
    assert f"`simota` is ahead by {-100 * behind.mean:.1f} points" in results
    assert f"`simota` is ahead of `ota`, by {-100 * behind.mean:.1f} points" in lesson
    larger = f"is larger with six classes than with one, by {100 * across.mean:.1f} points"
    assert f"{larger} [{100 * across.low:.1f}, {100 * across.high:.1f}]" in results and larger in lesson
    unsure = asked["fcos", f"{many} - {one}"]
    assert unsure.found.low < 0 < unsure.alone.low and "cannot tell whether the lead over `fcos` is larger" in results
    means = [100 * np.mean(list(values(cards, many, method).values())) for method in (alone, "ota")]
    assert "AP is {:.1f} with six classes, where `ota` has {:.1f}".format(*means) in readme
    plan, most = found[alone, many], max(-found[alone, one].low, found[alone, one].high)
    assert f"by {-100 * plan.mean:.1f} points [{-100 * plan.high:.1f}, {-100 * plan.low:.1f}]" in results
    assert all(f"more than {100 * most:.1f} points is unlikely" in text for text in (results, lesson))


def test_what_the_pages_say_of_more_steps_is_what_the_cards_say():
    _, _, cards = record_study.study("budget")
    lasting, ota, fcos = (each.found for each in answered("budget"))
    readme, results = (" ".join((ROOT / page).read_text().split()) for page in ("README.md", "docs/results.md"))
    means = [
        100 * np.mean(list(values(cards, "demo", f"{m}, 12 epochs", "metrics/AP").values())) for m in ("ota", "fcos")
    ]
    assert (
        "After 3,000 steps `ota` has {:.1f} and `fcos` {:.1f}".format(*means) in readme
        and lasting.low < 0 < lasting.high
    )
    assert f"{100 * lasting.mean:.1f} points, from {100 * lasting.low:.1f} to {100 * lasting.high:.1f}" in results
    assert f"its lead over `fcos` is {100 * lasting.mean:.1f} points" in results and fcos.mean > ota.mean > 0.2
    lesson = " ".join(notebook("11").split())
    assert f"{100 * lasting.mean:.1f} points of the lead are left" in lesson
    *gains, lead = answered("flat")
    cards_24 = record_study.study("flat")[2]
    last = [100 * np.mean(list(values(cards_24, "demo", f"{m}, 24 epochs").values())) for m in ("ota", "fcos")]
    assert "After 6,000 steps `ota` has {:.1f} and `fcos` {:.1f}".format(*last) in readme and lead.found.low > 0
    said = f"{100 * lead.found.mean:.1f} points [{100 * lead.found.low:.1f}, {100 * lead.found.high:.1f}]"
    assert f"`ota` is ahead by {said}" in results and f"after 6,000 steps, by {said}" in lesson
    assert ("also by its pairs alone. So it learned" in results) == (lead.alone.low > 0)
    assert "add {:.1f} points to `ota` and {:.1f} to `fcos`".format(*(100 * e.found.mean for e in gains)) in results
    assert f"After 6,000 it is {100 * lead.found.mean:.1f} points" in results
    before = [np.mean(list(values(cards, "demo", method, "metrics/AP").values())) for method in ("ota", "fcos")]
    assert f"difference of {100 * (before[0] - before[1]):.1f} points" in lesson


def test_what_the_results_say_of_one_thing_changed_at_a_time_is_what_the_cards_say():
    _, _, cards = record_study.study("options")
    results = " ".join((ROOT / "docs" / "results.md").read_text().split())
    asked = {(each.contrast.a, each.contrast.b): each for each in answered("options")}
    found = {pair: each.found for pair, each in asked.items()}
    five, ten, one = (found[f"ota:k={k}", "ota"] for k in (5, 10, 1))
    assert f"ahead of the dynamic $k$ by {100 * five.mean:.1f} points, and ten by {100 * ten.mean:.1f}" in results
    assert one.high < 0 and all(asked[f"ota:k={k}", "ota"].alone.low > 0 for k in (5, 10))
    assert all(found[f"ota:q={q}", "ota"].low > 0 for q in (5, 10)) and found["ota:radius=1.5", "ota"].low > 0
    assert found["ota:alpha=0.5", "ota"].high < 0
    assert not any(found[f"ota:{option}", "ota"].separated for option in ("radius=3.5", "alpha=3", "solver=sinkhorn"))
    sinkhorn, plan = found["ota:solver=sinkhorn", "ota"], found["ota", "ota:solver=independent"]
    assert f"more than {100 * max(-sinkhorn.low, sinkhorn.high):.1f} points either way is unlikely" in results
    assert (
        f"{-100 * plan.low:.1f} points in favour of each gt for itself to {100 * plan.high:.1f} in favour of the plan"
        in results
    )
    branch = found["ota without IoU branch", "ota"]
    assert f"from {-100 * branch.low:.1f} points in its favour to {100 * branch.high:.1f} against it" in results
    empty, none = (
        np.mean([card.epochs[-1]["gts left empty"] for card in cards if card.method == method])
        for method in ("ota:solver=independent", "ota")
    )
    assert f"{100 * empty:.0f} % of the gts end without a point, with it none" in results and none < 5e-4


def test_what_the_pages_say_of_five_points_each_and_of_more_points_is_what_the_cards_say():
    readme, results = (" ".join((ROOT / page).read_text().split()) for page in ("README.md", "docs/results.md"))
    asked = {(each.contrast.b, each.data): each for each in answered("fixed")}
    heaped = {other: 100 * asked[other, "heaped"].found.mean for other in ("ota:q=10", "simota", "atss", "fcos")}
    assert f"{heaped['ota:q=10']:.1f}" == f"{heaped['simota']:.1f}"
    said = "and of `simota` by {simota:.1f} points, of `atss` by {atss:.1f} and of `fcos` by {fcos:.1f}"
    assert f"ahead of ten summed IoUs {said.format(**heaped)}" in results
    said = "ahead of `fcos` by {fcos:.1f} points of AP, of `atss` by {atss:.1f} and of `simota` by {simota:.1f}"
    assert said.format(**heaped) in readme
    assert f"ahead of `simota` too in heaps, by {heaped['simota']:.1f} points" in " ".join(notebook("11").split())
    assert all(asked[other, "heaped"].found.low > 0 for other in heaped)
    assert [other for other in heaped if asked[other, "heaped"].alone.low > 0] == ["fcos"]
    assert [other for other in heaped if asked[other, "sparse"].found.low > 0] == ["fcos"]
    assert not any(asked[other, "sparse"].found.high < 0 for other in heaped)
    asked_of_sizes = {(each.contrast.b.split()[0], each.data): each for each in answered("fixed_sizes")}
    sizes = {key: each.found for key, each in asked_of_sizes.items()}
    assert [b for (b, data), e in asked_of_sizes.items() if e.alone.low > 0] == ["simota", "fcos"]
    small = {other: 100 * sizes[other, "small"].mean for other in ("ota:q=10", "simota", "fcos")}
    assert all(sizes[other, "small"].low > 0 for other in small)
    assert "of `simota` by {simota:.1f} and of `fcos` by {fcos:.1f}".format(**small) in readme
    ten = f"of ten IoUs by {small['ota:q=10']:.1f} points"
    assert ten in results and ten in " ".join(TRAINING.split())
    assert "of `simota` by {simota:.1f} and of `fcos` by {fcos:.1f}. Over `simota`".format(**small) in results
    assert f"ahead of `fcos` by {100 * sizes['fcos', 'large'].mean:.1f}, though not by its pairs alone" in results
    assert [other for other in small if sizes[other, "large"].low > 0] == ["fcos"]
    dynamic, *others = (each.found for each in answered("fixed_demo"))
    assert dynamic.low < 0 < dynamic.high and all(other.low > 0 for other in others)

    ota, atss, paa, *ahead_by = answered("ambiguous")
    assert f"a loss of more than {-100 * ota.found.low:.1f} points is unlikely" in results and not ota.found.separated
    assert f"`atss` loses {-100 * atss.found.mean:.1f}. The seeds cannot tell whether `paa` loses any" in results
    assert f"to 49 `atss` loses {-100 * atss.found.mean:.1f} points" in results and not paa.found.separated
    lead = "ahead of `atss` by {:.1f} points and of `paa` by {:.1f}, also by its pairs alone"
    assert lead.format(*(100 * each.found.mean for each in ahead_by)) in results
    assert all(each.alone.low > 0 for each in ahead_by)


def test_seeds_move_the_mean_of_all_methods_by_as_much_as_the_page_on_studies_says():
    moved = []
    for name in {block[0] for block in record_study.BLOCK.findall((ROOT / "docs" / "results.md").read_text())}:
        _, plan, cards = record_study.study(name)
        moved += [100 * two_way(cards, data).seed for data in plan.data]
    assert f"moves by {min(moved):.1f} to {max(moved):.1f} points" in " ".join(STUDIES.split())


def notebook(number: str) -> str:
    """The Markdown of a lesson."""
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    return "\n".join(
        "".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "markdown"
    )


def answered(study: str) -> list:
    return answers(*record_study.study(study)[1:])


def ahead(study: str, a: str, b: str) -> list[str]:
    """By how much, on each data set, in points of AP."""
    found = [e for e in answered(study) if (e.contrast.a, e.contrast.b) == (a, b) and not e.contrast.across]
    return [f"{100 * each.found.mean:.1f}" for each in found]


def test_the_assignment_takes_the_share_of_a_step_that_was_measured():
    bench = json.loads((ROOT / "benchmarks/step.json").read_text())
    rows = [row for table in bench["tables"] for row in table["rows"] if row["way"] == "ota"]
    assert len(rows) == 2 and "the assignment takes about 1 % or less" in " ".join(README.split())
    assert all(row["assign_seconds"] / row["seconds"] < 0.015 for row in rows)
