"""docs/adapters.md keeps its word: its examples run where their framework is installed."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from otalab.assign import build_assigner

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/adapters.md").read_text()
EXAMPLES = {
    re.search(r"otalab\.adapters\.(\w+)", text)[1]: text for text in re.findall(r"```python\n(.*?)```", PAGE, re.S)
}


@pytest.mark.parametrize("framework", ["torchvision", "ultralytics", "mmdet", "yolox"])
@pytest.mark.filterwarnings("ignore")  # frameworks written for PyTorch 1
def test_the_example_runs_and_prints_what_the_page_shows(framework, shapes_yaml, monkeypatch):
    pytest.importorskip(framework)
    monkeypatch.chdir(shapes_yaml.parent)
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        exec(compile(EXAMPLES[framework], "adapters.md", "exec"), names)
    if framework == "torchvision":
        assert f"    {printed.getvalue()}" in PAGE
    if framework == "yolox":
        assert names["MyExp"]().get_model().head.get_assignments.args[0].assigner == build_assigner("ota")
    if framework == "mmdet":
        assert names["head"].assigner.match.assigner == build_assigner("ota")
