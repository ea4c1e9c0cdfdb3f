"""A plan says what it asks for, and a faulty one is named by file and fault."""

import re
from pathlib import Path

import pytest

from otalab.data.scene import ShapesConfig
from otalab.errors import InputError
from otalab.lab.plan import Contrast, Plan, Scenes, parse_plan, read_plan

PLANS = sorted((Path(__file__).parents[2] / "benchmarks" / "plans").glob("*.toml"))
WHOLE = """
title = "t"
seeds = [3, 5]
[settings]
epochs = 2
[data.near]
train = 4
val = 2
one_class = true
[data.near.shapes]
spread = 0.5
min_size = 12
[data.far]
folder = "data/far"
[methods]
fcos = {}
"ota balanced" = { assigner = "ota", balance = 1.0 }
[[contrasts]]
a = "ota balanced"
b = "fcos"
question = "which?"
data = ["far"]
"""


def written(folder: Path, text: str) -> Path:
    (folder / "plan.toml").write_text(text)
    return folder / "plan.toml"


def test_a_plan_is_read_word_for_word(tmp_path):
    plan = read_plan(written(tmp_path, WHOLE))
    assert plan == Plan(
        "t",
        {"near": Scenes(4, 2, True, ShapesConfig(spread=0.5, min_size=12.0)), "far": "data/far"},
        {"fcos": {}, "ota balanced": {"assigner": "ota", "balance": 1.0}},
        (3, 5),
        {"epochs": 2},
        (Contrast("ota balanced", "fcos", "which?", data=("far",)),),
    )
    assert [job[:3] for job in plan.jobs()] == [
        (data, method, seed) for seed in (3, 5) for data in ("near", "far") for method in ("fcos", "ota balanced")
    ]
    config = plan.jobs()[1].config(data="here", out="there")
    assert (config.assigner, config.balance, config.epochs, config.seed) == ("ota", 1.0, 2, 3)
    assert (config.data, config.out) == ("here", "there")


def test_a_number_of_seeds_counts_from_0_and_a_recipe_brings_its_settings():
    plan = Plan("t", {"d": "x"}, {"ota": {}}, 2, {"recipe": "cells", "epochs": 3})
    assert plan.seeds == (0, 1)
    config = plan.jobs()[1].config()
    assert (config.recipe, config.backbone, config.epochs, config.seed) == ("cells", "mobilenet_v2", 3, 1)


def test_lists_are_settings_too(tmp_path):
    plan = read_plan(written(tmp_path, WHOLE.replace("epochs = 2", "sizes = [64, 96]\nsize = 96")))
    assert plan.jobs()[0].config().sizes == (64, 96)


def test_the_plan_in_the_docs_is_one():
    (example,) = re.findall(r"```toml\n(.*?)```", (PLANS[0].parents[2] / "docs" / "studies.md").read_text(), re.DOTALL)
    plan = parse_plan(example)
    assert plan.jobs()[0].config().recipe == "cells" and len(plan.contrasts) == 2


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_the_plans_that_come_along_are_whole_and_ask_with_three_seeds_or_only_describe(path):
    plan = read_plan(path)
    assert len(plan.seeds) >= 3 if plan.contrasts else len(plan.seeds) in (1, 2)
    assert f"otalab study benchmarks/plans/{path.name}" in path.read_text()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeds = [3, 5]", "seeds = ", "cannot read the plan"),
        ('title = "t"', "", "the plan lacks title"),
        ('title = "t"', 'title = "t"\nwhat = 1', "the plan has what; there is title"),
        ('title = "t"', "title = 3", "title of the plan is 3; it must be of the type str"),
        ("epochs = 2", "epochs = 0", "epochs is 0"),
        ("epochs = 2", "epoch = 2", "unexpected keyword argument 'epoch'"),
        ("epochs = 2", 'epochs = "two"', "method fcos: "),
        ("epochs = 2", "seed = 2", "settings: seed cannot be a setting of a plan"),
        ("train = 4", "", "data near lacks train"),
        ("train = 4", "train = 4.5", "train of data near is 4.5; it must be of the type int"),
        ("spread = 0.5", "spread = 0", "spread must lie in (0, 1], got 0"),
        ("spread = 0.5", "spreads = 0.5", "shapes of data near has spreads"),
        ('folder = "data/far"', 'folder = "data/far"\nval = 3', "data far has a folder, and then nothing else"),
        ("[data.far]", '[data."../far"]', "'../far' cannot name a data set or method"),
        ("fcos = {}", "foss = {}", "'fcos' is no method of the plan; there is foss, ota balanced"),
        ("fcos = {}", "fcos = {}\nfoss = {}", "assigner 'foss' is none of"),
        ("fcos = {}", 'fcos = {}\n"ota:q=0" = {}', "q must be a whole number"),
        ("fcos = {}", "fcos = 3", "method fcos is 3, not a table"),
        ('data = ["far"]', 'data = ["fur"]', "'fur' is no data set of the plan; there is near, far"),
        ('data = ["far"]', 'across = ["far"]', "across needs two data sets"),
        ('data = ["far"]', 'data = "far"', "data of contrast 1 is 'far'; it must be a list of names"),
        ('data = ["far"]', "data = [1]", "data of contrast 1 is (1,); it must be a list of names"),
        ('b = "fcos"', 'b = "ota balanced"', "compares 'ota balanced' with itself"),
        ("seeds = [3, 5]", "seeds = [3, 3]", "each seed counts once, not [3, 3]"),
        ("seeds = [3, 5]", "seeds = [3.5]", "seeds is (3.5,); it must be a whole number, or several"),
        ("fcos = {}", '"ota:q=10" = {}\n"ota q=10" = { assigner = "ota" }', "two would have one file"),
        ("seeds = [3, 5]", "seeds = 0", "needs data, methods, seeds"),
    ],
)
def test_a_faulty_plan_is_named_by_file_and_fault(tmp_path, old, new, said):
    assert old in WHOLE
    path = written(tmp_path, WHOLE.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        read_plan(path)
    assert said in str(caught.value) and "plan.toml" in str(caught.value)


def test_contrasts_are_a_list_of_tables(tmp_path):
    without = WHOLE.partition("[[contrasts]]")[0].replace('title = "t"', 'title = "t"\ncontrasts = 5')
    with pytest.raises(InputError, match="contrasts is 5; it must be a list of tables"):
        read_plan(written(tmp_path, without))


def test_a_plan_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot read the plan .*none.toml: No such file"):
        read_plan(tmp_path / "none.toml")
