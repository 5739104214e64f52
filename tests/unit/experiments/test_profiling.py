"""A user's model is measured as a replica runs it, and whatever is wrong with it or its inputs is one line."""

import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller.errors import ConfigError, InputError, UsageError
from experiments import profiling
from experiments.profiling import (
    Inputs,
    ModelError,
    judge,
    load_in_fresh_processes,
    load_model,
    measure,
    parse_batches,
    read_inputs,
    time_batches,
)


class Clock:
    """Stands still but for what a model spends."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes an importable module with this text and returns its name, new each time."""
    numbers = itertools.count()
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def write(text: str) -> str:
        names.append(f"own_models_{len(names)}_{next(numbers)}")
        (tmp_path / f"{names[-1]}.py").write_text(textwrap.dedent(text))
        return names[-1]

    yield write
    for name in names:
        sys.modules.pop(name, None)


def npz(path: Path, **arrays: Any) -> str:
    np.savez(path, **arrays)
    return str(path)


def one_line(error: BaseException) -> str:
    text = str(error)
    assert len(text.splitlines()) == 1
    return text


# Batch sizes


def test_batch_sizes_come_out_ascending() -> None:
    assert parse_batches("8, 1,64") == [1, 8, 64]


@pytest.mark.parametrize("text", ["", "1,,2", "0", "65", "-1", "1.5", "two", "1;2", "²"])
def test_another_form_of_batch_sizes_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_batches(text)
    assert one_line(caught.value) == f"--batches: expected sizes in 1..64 with commas, such as 1,2,4,8, got {text!r}"


def test_a_batch_size_is_named_once() -> None:
    with pytest.raises(UsageError, match="each size once, got '1,2,1'"):
        parse_batches("1,2,1")


# Timing


def test_each_size_is_timed_as_often_as_asked_and_the_warm_up_is_not() -> None:
    clock = Clock()
    calls: list[int] = []

    def model(batch: list[Any]) -> list[Any]:
        calls.append(len(batch))
        # The first calls of a model are slow.
        clock.now_s += (100.0 if len(calls) <= 4 else 1.0) + len(batch)
        return batch

    found = time_batches(model, [0], [1, 4], repeats=3, warmup=2, clock=clock)
    assert found == {1: (2.0,) * 3, 4: (5.0,) * 3}
    assert sorted(calls) == [1] * 5 + [4] * 5


def test_sizes_take_turns_so_that_a_slower_machine_spoils_them_alike() -> None:
    calls: list[int] = []
    time_batches(lambda batch: calls.append(len(batch)) or batch, [0], [1, 2, 4], repeats=20, warmup=0)
    rounds = [tuple(calls[i : i + 3]) for i in range(0, 60, 3)]
    assert all(sorted(one) == [1, 2, 4] for one in rounds)
    assert len(set(rounds)) > 1


def test_inputs_are_fed_in_turn_and_begin_again() -> None:
    fed: list[Any] = []
    time_batches(lambda batch: fed.extend(batch) or batch, "abc", [2], repeats=2, warmup=1)
    assert "".join(fed) == "abcabc"


def test_a_model_that_raises_is_named_with_its_batch() -> None:
    def model(batch: list[Any]) -> list[Any]:
        raise RuntimeError("out of\nmemory")

    with pytest.raises(ModelError) as caught:
        time_batches(model, [0], [4], repeats=2, warmup=0)
    assert one_line(caught.value) == "model: expected outputs for a batch of 4, got RuntimeError: out of memory"


def test_a_model_with_another_number_of_outputs_is_refused() -> None:
    with pytest.raises(ModelError, match="batch of 2, got ValueError: model: expected 2 outputs, got 1"):
        time_batches(lambda batch: batch[:1], [0], [2], repeats=2, warmup=0)


# The model


@pytest.mark.parametrize("name", ["plain", "make", "Made", "made"])
def test_a_model_is_a_callable_or_what_a_class_or_factory_makes(write_module: Callable, name: str) -> None:
    module = write_module(
        """
        def plain(batch):
            return [2 * x for x in batch]

        def make():
            return plain

        class Made:
            def __call__(self, batch):
                return plain(batch)

        made = Made()
        """
    )
    assert load_model(f"{module}:{name}")([1, 2]) == [2, 4]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("number", "model: expected a plain callable, got 3"),
        ("makes_nothing", "model: expected a plain callable from the factory, got None"),
        ("served", "model: expected a plain callable, got <function served"),
        ("broken", "to make a model, got ValueError: no weights"),
        ("absent", "model: expected a name that"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(write_module: Callable, name: str, text: str) -> None:
    module = write_module(
        """
        number = 3

        def makes_nothing():
            pass

        async def served(batch):
            return batch

        def broken():
            raise ValueError("no weights")
        """
    )
    with pytest.raises(InputError) as caught:
        load_model(f"{module}:{name}")
    assert text in one_line(caught.value)


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("no_such_module:f", "model: expected an importable module, got 'no_such_module:f'"),
        ("json", "model: expected 'module:name', got 'json'"),
    ],
)
def test_a_reference_that_leads_nowhere_is_shown(reference: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_model(reference)
    assert one_line(caught.value) == text


def test_a_module_that_cannot_be_imported_says_what_it_raised(write_module: Callable) -> None:
    module = write_module("1 / 0")
    with pytest.raises(ModelError, match="got ZeroDivisionError: division by zero from own_models"):
        load_model(f"{module}:f")


# Inputs


def test_an_npz_gives_inputs_and_labels_as_plain_values(tmp_path: Path) -> None:
    path = npz(tmp_path / "test.npz", inputs=np.array([[1, 2], [3, 4]]), labels=np.array(["a", "b"]))
    assert read_inputs(path) == ([[1, 2], [3, 4]], ["a", "b"], "test.npz")


def test_an_npz_needs_no_labels(tmp_path: Path) -> None:
    assert read_inputs(npz(tmp_path / "test.npz", inputs=np.ones(2))) == ([1.0, 1.0], None, "test.npz")


def test_without_a_source_the_images_of_serve_are_fed() -> None:
    inputs = read_inputs(None)
    assert len(inputs.values) == 360
    assert len(inputs.values[0]) == 64
    assert inputs.labels is None


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"images": np.ones(2)}, "test.npz: expected an array 'inputs', got ['images']"),
        ({"inputs": np.ones(())}, "test.npz: inputs: expected shape (n, ...) with n >= 1, got ()"),
        ({"inputs": np.ones((0, 3))}, "expected shape (n, ...) with n >= 1, got (0, 3)"),
        ({"inputs": np.ones(3), "labels": np.ones(2)}, "test.npz: labels: expected shape (3,), got (2,)"),
        ({"inputs": np.ones(3), "labels": np.ones((3, 2))}, "expected shape (3,), got (3, 2)"),
        ({"inputs": np.array([{}])}, "without pickles"),
    ],
)
def test_an_npz_of_another_form_is_refused(tmp_path: Path, arrays: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_inputs(npz(tmp_path / "test.npz", **arrays))
    assert text in one_line(caught.value)


def test_a_missing_npz_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"got '.*/none\.npz': No such file or directory"):
        read_inputs(str(tmp_path / "none.npz"))


@pytest.mark.parametrize("damage", ["empty", "text", "npy", "cut", "altered"])
def test_a_damaged_npz_is_refused(tmp_path: Path, damage: str) -> None:
    path = Path(npz(tmp_path / "test.npz", inputs=np.arange(1000)))
    whole = path.read_bytes()
    np.save(tmp_path / "array.npy", np.ones(2))
    path.write_bytes(
        {
            "empty": b"",
            "text": b"no archive",
            "npy": (tmp_path / "array.npy").read_bytes(),
            "cut": whole[:-100],
            "altered": whole[:2000] + b"x" * 8 + whole[2008:],
        }[damage]
    )
    with pytest.raises(
        UsageError, match=r"--input: expected a readable NPZ file without pickles, got '.*/test\.npz': "
    ):
        read_inputs(str(path))


def test_inputs_of_a_callable_reach_the_model_as_json_gives_them(write_module: Callable) -> None:
    module = write_module("import numpy as np\ndef rows(): return [np.arange(2), (1.5, np.float64(2)), 'text']\n")
    assert read_inputs(f"{module}:rows").values == [[0, 1], [1.5, 2.0], "text"]


def test_inputs_that_json_cannot_hold_are_refused(write_module: Callable) -> None:
    module = write_module("def sets(): return [{1, 2}]\n")
    with pytest.raises(UsageError) as caught:
        read_inputs(f"{module}:sets")
    assert one_line(caught.value) == f"--input: expected values that JSON can hold from {module}:sets, got a set"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nothing", "expected at least one input, got []"),
        ("fails", "--input: expected a list of inputs from"),
        ("number", "--input: expected a callable that returns a list of inputs, got 3"),
    ],
)
def test_a_callable_that_gives_no_inputs_is_refused(write_module: Callable, name: str, text: str) -> None:
    module = write_module("number = 3\ndef nothing(): return []\ndef fails(): raise OSError('no disk')\n")
    with pytest.raises(InputError) as caught:
        read_inputs(f"{module}:{name}")
    assert text in one_line(caught.value)


# Accuracy and sizes


def test_accuracy_is_the_share_of_labels_met() -> None:
    # 3 of 4 right: standard error sqrt(0.75 x 0.25 / 4).
    accuracy, _ = judge(lambda batch: [x % 2 for x in batch], Inputs([1, 2, 3, 4], [1, 0, 1, 1], "here"), 3)
    assert accuracy == pytest.approx((0.75, (0.75 * 0.25 / 4) ** 0.5, 4))


def test_without_labels_one_batch_tells_the_size_of_an_answer() -> None:
    calls: list[int] = []
    accuracy, size = judge(lambda b: calls.append(len(b)) or ["yes"] * len(b), Inputs([0] * 9, None, "here"), 4)
    assert accuracy is None
    assert calls == [4]
    # "yes" with its quotes.
    assert size.value == 5.0


def test_the_size_of_an_answer_is_that_of_the_whole_array() -> None:
    # "[0.5, 0.5, ..., 0.5]": numpy itself shows an array of this length with three dots.
    _, size = judge(lambda batch: [np.full(2000, 0.5)], Inputs([0], None, "here"), 1)
    assert size.value == 2000 * len("0.5, ")


def test_labels_that_no_output_equals_are_taken_for_a_mistake() -> None:
    with pytest.raises(UsageError, match="got 'cat' where the model says 3, and none equal of 2"):
        judge(lambda batch: [3, 4], Inputs([0, 0], ["cat", "dog"], "here"), 8)


# Loading


@pytest.mark.slow
def test_loading_is_measured_in_fresh_processes(write_module: Callable) -> None:
    module = write_module(
        """
        import time

        def make():
            time.sleep(0.3)
            held = bytearray(b"x") * 30_000_000

            def model(batch):
                return [len(held)] * len(batch)

            return model
        """
    )
    loads = load_in_fresh_processes(f"{module}:make", 2)
    assert loads.seconds.samples == 2
    assert loads.seconds.value > 0.3
    assert module not in sys.modules
    if Path("/proc/self/statm").exists():
        # The weights, and little beside: importing torch is not part of them.
        assert 30e6 <= loads.weights_bytes < 60e6


def test_a_fresh_process_that_fails_shows_its_last_line(write_module: Callable) -> None:
    module = write_module("import sys\nif sys.modules['__main__'].__spec__.name == 'serving.load_probe': 1 / 0\n")
    with pytest.raises(ModelError, match="fresh process, got .*division by zero"):
        load_in_fresh_processes(f"{module}:f", 2)


def test_a_file_in_the_current_folder_hides_no_package_from_a_fresh_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "serving.py").write_text("raise RuntimeError('a stranger')")
    monkeypatch.chdir(tmp_path)
    # Our own package gets as far as the module that is not there.
    with pytest.raises(ModelError, match="expected an importable module, got 'no_such_module:f'"):
        load_in_fresh_processes("no_such_module:f", 2)


def test_everything_is_measured_together(
    write_module: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = write_module("def f(batch): return [x[0] for x in batch]\n")
    path = npz(tmp_path / "test.npz", inputs=np.array([[1, 5], [2, 5]]), labels=np.array([1, 9]))
    loads = profiling.Loads(profiling.Estimate(1.0, 0.1, 2), None)
    monkeypatch.setattr(profiling, "load_in_fresh_processes", lambda reference, repeats: loads)
    said: list[str] = []
    monkeypatch.setattr("serving.replica.one_thread", lambda: said.append("one thread"))
    fed = read_inputs(path)
    found = measure(f"{module}:f", [1, 2], fed, repeats=2, warmup=0, load_repeats=2, say=said.append)
    assert {size: len(times) for size, times in found.services_s.items()} == {1: 2, 2: 2}
    assert found.accuracy.value == 0.5
    assert found.loads is loads
    # "[1, 5]" and "1".
    assert (found.input_bytes.value, found.output_bytes.value) == (6.0, 1.0)
    assert said[:2] == ["one thread", f"timing {module}:f on 2 inputs from test.npz"]


def test_inputs_are_read_from_a_json_list(tmp_path):
    path = tmp_path / "inputs.json"
    path.write_text('[{"text": "a"}, [1, 2]]')
    found = profiling.read_inputs(str(path))
    assert (found.values, found.labels, found.source) == ([{"text": "a"}, [1, 2]], None, "inputs.json")


@pytest.mark.parametrize("text", ["{}", "[]", "3", "[1,", ""])
def test_json_of_another_form_is_refused(tmp_path, text):
    path = tmp_path / "inputs.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="--input: expected a readable JSON|--input: inputs.json: expected a list"):
        profiling.read_inputs(str(path))
    with pytest.raises(UsageError, match="--input"):
        profiling.read_inputs(str(tmp_path / "none.json"))
