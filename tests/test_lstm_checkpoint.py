"""The bot's file: the same predictions after a round trip, and nothing in it but tensors and plain numbers."""

import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch

from kstock_batch.errors import ModelRefused
from kstock_batch.features.windows import gather
from kstock_batch.learners.lstm import LstmMember
from kstock_batch.learners.lstm_checkpoint import FILE_NAME, Checkpoint, read_checkpoint, write_checkpoint
from kstock_batch.learners.lstm_network import StockLSTM
from kstock_batch.learners.lstm_scaler import Scaler
from test_inputs import problem

WITHOUT_TORCH = """
import sys
from pathlib import Path
sys.modules["torch"] = None
from kstock_batch.errors import ModelRefused
from kstock_batch.learners.lstm_checkpoint import read_checkpoint
try:
    read_checkpoint(Path("models/lstm_stock.pt"))
except ModelRefused as error:
    print(error)
"""


@pytest.fixture(scope="module")
def planted():
    return problem(signal=2.0, n_tickers=12)


@pytest.fixture(scope="module")
def member(planted):
    return LstmMember.fit(planted.examples, epochs=1, seed=1, threads=1, stop_early=False)


@pytest.fixture
def path(member, tmp_path):
    path = tmp_path / "models" / FILE_NAME
    write_checkpoint(member, path)
    return path


def content(path):
    return torch.load(path, weights_only=True)


def test_a_round_trip_predicts_the_same_to_the_bit(planted, member, path):
    found = read_checkpoint(path)
    read = LstmMember.sound(found.weights, found.scaler, {}, "the file")
    inputs, ends = planted.examples.inputs, planted.later_ends
    np.testing.assert_array_equal(read.predict(inputs, ends), member.predict(inputs, ends))
    again = path.with_name("again.pt")
    write_checkpoint(read, again)
    assert again.read_bytes() == path.read_bytes()


def test_it_holds_tensors_and_plain_numbers_under_the_names_of_the_network(path):
    found = content(path)
    assert set(found) == {"state_dict", "scaler_mean", "scaler_std", "input_size", "hidden_size", "num_layers"}
    assert [found[name] for name in ("input_size", "hidden_size", "num_layers")] == [30, 64, 2]
    assert found["state_dict"].keys() == StockLSTM().state_dict().keys()
    assert found["scaler_mean"].shape == found["scaler_std"].shape == (30,)
    assert list(path.parent.iterdir()) == [path]


def test_whoever_divides_by_the_deviation_gets_our_predictions(planted, member, path):
    found = content(path)
    network = StockLSTM(*(found[name] for name in ("input_size", "hidden_size", "num_layers"))).eval()
    network.load_state_dict(found["state_dict"])
    ends = planted.later_ends
    windows = torch.from_numpy(gather(planted.examples.inputs.sequence, ends))
    with torch.inference_mode():
        p = torch.sigmoid(network((windows - found["scaler_mean"]) / found["scaler_std"])).numpy()
    np.testing.assert_allclose(p, member.predict(planted.examples.inputs, ends), atol=1e-5)


def test_a_failed_write_leaves_the_file_as_it_was(member, path, monkeypatch):
    before = path.read_bytes()

    def fail(*_):
        raise OSError("the plug was pulled")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="plug"):
        write_checkpoint(member, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


class Exploit:
    """What a hostile file would hold: unpickling it runs a command."""

    def __reduce__(self):
        return (open, ("proof of execution", "w"))


@pytest.mark.parametrize("planted_value", [np.zeros(30, dtype=np.float32), Exploit()], ids=["numpy", "code"])
def test_arrays_of_numpy_and_pickled_code_are_refused_in_one_sentence_and_not_run(
    path, planted_value, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    torch.save(content(path) | {"scaler_mean": planted_value}, path)
    with pytest.raises(ModelRefused) as refused:
        read_checkpoint(path)
    assert str(refused.value) == (
        f"{path} holds more than tensors and plain numbers, so it is not unpickled\n"
        "  fix: write it anew from a trained version: tensors and numbers only, arrays by torch.from_numpy"
    )
    assert not (tmp_path / "proof of execution").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scaler_mean": [0.0] * 30}, "holds under 'scaler_mean' a list that is no dense tensor"),
        ({"scaler_mean": torch.zeros(30).to_sparse()}, "holds under 'scaler_mean' a Tensor that is no dense tensor"),
        ({"scaler_mean": torch.zeros(30, dtype=torch.bfloat16)}, "holds under 'scaler_mean' a Tensor that is no dense"),
        ({"state_dict": 3}, "holds under 'state_dict' a int that is no dense tensor"),
        ({"hidden_size": 32}, r"says .*'hidden_size': 32.* its weights say \(30, 64, 2\)"),
        ({"scaler_mean": torch.zeros(29)}, r"a scaler mean of shape \(29,\)"),
        ({"scaler_std": torch.full((30,), float("nan"))}, "a scaler std that is NaN"),
        ({"state_dict": {"head.bias": torch.zeros(1)}}, "no weights of an LSTM"),
        ({"optimiser": 1}, r"it needs \['hidden_size', .*'state_dict'\], it has .*'optimiser'"),
    ],
)
def test_a_file_that_says_something_else_is_refused_by_what_is_wrong(path, change, reason):
    torch.save(content(path) | change, path)
    with pytest.raises(ModelRefused, match=rf"lstm_stock\.pt .*{reason}"):
        read_checkpoint(path)


def torn_zip():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("nothing", b"")
    return buffer.getvalue()


@pytest.mark.parametrize("written", [None, b"", b"no model", torn_zip(), "half", "tensor"])
def test_a_file_that_is_no_checkpoint_is_refused_by_name(path, written):
    if written is None:
        path.unlink()
    elif written == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif written == "tensor":
        torch.save(torch.zeros(3), path)
    else:
        path.write_bytes(written)
    with pytest.raises(ModelRefused, match=r"lstm_stock\.pt (cannot be read|is no checkpoint)"):
        read_checkpoint(path)


def parts_of(path):
    with zipfile.ZipFile(path) as file:
        return {entry.filename: file.read(entry) for entry in file.infolist()}


@pytest.fixture
def small(tmp_path):
    """A file of a small network: quick to read some hundred times."""
    torch.manual_seed(0)
    weights = {name: weight.numpy() for name, weight in StockLSTM(3, 4, 1).state_dict().items()}
    scaler = Scaler(*np.ones((2, 3), dtype=np.float32))
    write_checkpoint(Checkpoint.sound(weights, scaler, "a small one"), tmp_path / FILE_NAME)
    return tmp_path / FILE_NAME


def test_flipped_bytes_are_detected_wherever_they_matter(small):
    sound, whole = read_checkpoint(small), small.read_bytes()
    random = np.random.default_rng(1)
    n_refused = 0
    for place in random.integers(0, len(whole), 200):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.integers(8)
        small.write_bytes(damaged)
        try:
            found = read_checkpoint(small)
        except ModelRefused:
            n_refused += 1
            continue
        for name, weight in sound.weights.items():  # the byte was one that only fills up the file
            np.testing.assert_array_equal(found.weights[name], weight)
    assert n_refused > 50


def test_a_flipped_weight_is_named(path):
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ModelRefused, match=r"lstm_stock\.pt is damaged: \S+/data/\d+ in it is not what was written"):
        read_checkpoint(path)


@pytest.mark.filterwarnings("ignore")  # torch warns of some of it
def test_whatever_else_a_sound_zip_holds_is_refused_in_a_sentence(small):
    parts = parts_of(small)
    (pickled,) = (name for name in parts if name.endswith("data.pkl"))
    random = np.random.default_rng(3)
    contents = [parts[pickled][:end] for end in range(60)]  # cut within each kind of number
    for _ in range(300):
        changed = bytearray(parts[pickled])
        for place in random.integers(0, len(changed), random.integers(1, 4)):
            changed[place] = random.integers(256)
        contents.append(bytes(changed))
    n_refused = 0
    for pickle in contents:
        with zipfile.ZipFile(small, "w") as file:
            for name, data in (parts | {pickled: pickle}).items():
                file.writestr(name, data)
        try:
            read_checkpoint(small)
        except ModelRefused:
            n_refused += 1
    assert n_refused > 260


def test_a_compressed_file_is_not_unpacked(path):
    parts = parts_of(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in parts.items():
            file.writestr(name, data)
    with pytest.raises(ModelRefused, match=r"lstm_stock\.pt is compressed, which torch never does"):
        read_checkpoint(path)


def test_without_torch_a_sentence_says_so():
    ran = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True)
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "models/lstm_stock.pt needs torch, which is not installed here",
        "  fix: install torch, or go on with the two tree models",
    ]
