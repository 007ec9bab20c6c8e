import pytest

from fashion.model.epoch_line import COLUMNS, format_epoch, parse_epoch

LINE = "epoch 3/20 loss 0.3309 accuracy 0.8789 val_loss 0.3430 val_accuracy 0.8742"
ROW = {"epoch": 3, "loss": 0.3309, "accuracy": 0.8789, "val_loss": 0.343, "val_accuracy": 0.8742}


def test_the_line_of_an_epoch_is_written_and_read():
    assert list(ROW) == COLUMNS
    assert format_epoch(ROW | {"loss": 0.33094}, 20) == LINE
    assert parse_epoch(f"  {LINE}\r\n") == (ROW, 20)


@pytest.mark.parametrize(
    "line",
    ["", LINE.replace("3/20", "3"), LINE.replace("0.3430", "nan"), f"{LINE} more", f"said: {LINE}"],
)
def test_another_line_is_none(line):
    assert parse_epoch(line) is None
