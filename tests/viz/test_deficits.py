"""The picture of the deficit policies says what the assignments do."""

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
