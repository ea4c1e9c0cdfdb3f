"""The picture of the deficit policies says what the assignments do."""

import pytest

from docs.pictures import hero
from docs.pictures.deficits import deficits_figure, main


def test_the_picture_shows_a_deficit_and_two_ways_out():
    figure = deficits_figure()
    wants, drop, relax = (
        [int(text.get_text()) for text in ax.texts if text.get_text().isdigit()][-6:] for ax in figure.axes
    )
    titles = [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes]
    left_out = sum(wants) - sum(drop)
    assert left_out > 0
    assert sum(relax) == sum(wants)
    assert f"{sum(wants)} points wanted" in titles[0]
    assert f"{left_out} labels left out" in titles[1]
    assert f"{left_out} points bought outside" in titles[2]
    assert all(got <= wanted for got, wanted in zip(drop, wants, strict=True))


def test_the_command_writes_the_picture(tmp_path):
    assert main([str(tmp_path / "deficits.png")]) == 0
    assert (tmp_path / "deficits.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("main", [main, hero.main], ids=["deficits", "hero"])
def test_a_seed_that_none_is_is_told_in_one_line(main, tmp_path, capsys):
    assert main([str(tmp_path / "picture.png"), "--seed", "-1"]) == 2
    assert capsys.readouterr().err == "error: seed is -1; it must be at least 0\n"
    assert not any(tmp_path.iterdir())
