import pytest

from fashion.model.epoch_line import COLUMNS, format_epoch, parse_epoch

LINE = "epoch 3/20 loss 0.3309 accuracy 0.8789 val_loss 0.3430 val_accuracy 0.8742"
ROW = {"epoch": 3, "loss": 0.3309, "accuracy": 0.8789, "val_loss": 0.343, "val_accuracy": 0.8742}


def test_the_line_of_an_epoch():
    assert format_epoch(ROW, 20) == LINE
    assert parse_epoch(LINE) == (ROW, 20)
    assert list(ROW) == COLUMNS


@pytest.mark.parametrize(
    "row",
    [
        (1, 0.0, 1.0, 0.0, 1.0),
        (100, 12345.6789, 0.0, 2.3026, 0.1),
        (7, 0.00004, 0.99996, 0.12345678, 0.87654321),
    ],
)
def test_what_is_written_is_read_again_with_four_decimals(row):
    written = dict(zip(COLUMNS, row, strict=True))
    read, epochs = parse_epoch(format_epoch(written, 100))
    assert list(read) == COLUMNS and epochs == 100
    assert read == pytest.approx(written, abs=0.00005) and read["epoch"] == row[0]


@pytest.mark.parametrize("around", ["{}\n", "  {}", "{}\r\n"])
def test_spaces_and_line_ends_around_it_do_not_matter(around):
    assert parse_epoch(around.format(LINE)) == (ROW, 20)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Running stage 'train':",
        "epoch 3/20",
        LINE.replace("3/20", "3"),
        LINE.replace("0.3430", "nan"),
        LINE.replace("val_loss 0.3430 ", ""),
        f"{LINE} and more",
        f"said: {LINE}",
        LINE[:-7],
    ],
)
def test_any_other_line_is_none(line):
    assert parse_epoch(line) is None
