import pytest

from fashion.model.epoch_line import COLUMNS, format_epoch, parse_epoch

LINE = "epoch 3/20 loss 0.3309 accuracy 0.8789 val_loss 0.3430 val_accuracy 0.8742"
ROW = {"epoch": 3, "loss": 0.3309, "accuracy": 0.8789, "val_loss": 0.343, "val_accuracy": 0.8742}


def test_the_line_of_an_epoch():
    assert format_epoch(ROW | {"loss": 0.33094}, 20) == LINE
    assert list(ROW) == COLUMNS


@pytest.mark.parametrize("around", ["{}", "{}\n", "  {}", "{}\r\n"])
def test_it_is_read_whatever_spaces_and_line_ends_are_around_it(around):
    assert parse_epoch(around.format(LINE)) == (ROW, 20)


@pytest.mark.parametrize(
    "line",
    ["", LINE.replace("3/20", "3"), LINE.replace("0.3430", "nan"), f"{LINE} more", f"said: {LINE}"],
)
def test_any_other_line_is_none(line):
    assert parse_epoch(line) is None
