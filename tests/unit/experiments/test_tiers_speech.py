import subprocess
import sys
import wave
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from controller.errors import InputError, RunError, UsageError
from controller.tiers.calibration import load_calibration
from experiments import tiers_commands
from experiments.tiers import speech
from experiments.tiers.prices import USD_PER_CORE_S
from experiments.tiers.sentences import FEWEST, MOST, PATTERNS, WORDS, sentences
from tests.unit.controller.tiers.synthetic import population

TABLE = Path(speech.__file__).parent / "tables" / "speech.npz"


@pytest.mark.parametrize(
    ("said", "heard", "rate"),
    [
        ("a b c d", "a b c d", 0.0),
        ("a b c d", "a x c d", 0.25),  # one substitution
        ("a b c d", "b c d", 0.25),  # one deletion
        ("a b c d", "a b b c d", 0.25),  # one insertion
        ("a b c d", "b a c d", 0.5),  # of two that change places, one is deleted and inserted
        ("a b c d", "", 1.0),
        ("a", "x y z", 1.0),  # 3, cut off
    ],
)
def test_word_error_rate_counts_fewest_changes(said, heard, rate):
    assert speech.word_error_rate(said.split(), heard.split()) == rate


def test_sentences_are_repeatable_distinct_and_of_the_grammar():
    found = sentences(300, 5)
    assert found == sentences(300, 5)
    assert found[:40] == sentences(40, 5)
    assert found != sentences(300, 6)
    assert len(set(found)) == 300
    assert all(FEWEST <= len(text.split()) <= MOST for text in found)
    vocabulary = set(" ".join([*PATTERNS, *WORDS.values()]).replace(",", " ").split())
    assert {word for text in found for word in text.split()} <= {word for word in vocabulary if word.isalpha()}
    drawn = "\n".join(sentences(600, 5))
    assert [one for text in WORDS.values() for one in text.split(", ") if one not in drawn] == []


@pytest.mark.parametrize("count", [0, 10_001])
def test_count_of_sentences_out_of_range_is_refused(count):
    with pytest.raises(InputError, match="sentences: expected a count"):
        sentences(count, 0)


class FakeDecoder:
    """Hears its sample's text with the first `wrong` words replaced; knows every word but `unknown`."""

    decoded = 0
    stop_at = None

    def __init__(self, wrong, unknown=None):
        self.wrong, self.unknown = wrong, unknown

    def lookup_word(self, word):
        return None if word == self.unknown else "AH"

    def start_utt(self):
        pass

    def process_raw(self, samples, full_utt):
        assert full_utt
        if FakeDecoder.decoded == FakeDecoder.stop_at:
            raise KeyboardInterrupt
        FakeDecoder.decoded += 1
        words = samples.decode().split()
        self.words = ["wrong"] * self.wrong + words[self.wrong :]

    def end_utt(self):
        pass

    def n_frames(self):
        return 100

    def hyp(self):
        return SimpleNamespace(score=np.exp(-5.0))

    def seg(self):
        parts = [SimpleNamespace(word="<s>", prob=0.1), SimpleNamespace(word="[SPEECH]", prob=0.1)]
        # Posteriors of the decoder exceed 1 by a rounding error.
        parts += [SimpleNamespace(word=word, prob=1.0001 if word != "wrong" else 0.0) for word in self.words]
        parts[-1].word += "(2)"
        return parts


@pytest.fixture
def fake(monkeypatch, tmp_path):
    monkeypatch.setenv("PROVISOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(speech, "decoder", lambda settings: FakeDecoder(**settings))
    monkeypatch.setattr(speech, "spoken", lambda text, voice: text.encode())
    monkeypatch.setattr(FakeDecoder, "decoded", 0)
    monkeypatch.setattr(FakeDecoder, "stop_at", None)
    # A clock of one second a look.
    clock = iter(range(10**6))
    monkeypatch.setattr(speech.time, "thread_time", lambda: float(next(clock)))


POOR, GOOD = {"wrong": 2}, {"wrong": 0}


def silent(line):
    pass


def test_calibration_holds_error_confidence_time_and_cost_of_each_version(fake):
    lines = []
    table = speech.calibrate(lines.append, 20, {"poor": POOR, "good": GOOD})
    assert table.versions == ("poor", "good")
    wrong = np.array([2 / len(text.split()) for text in sentences(20, speech.SENTENCE_SEED)])
    np.testing.assert_allclose(table.error, np.stack([wrong, 0.0 * wrong], axis=1))
    # A wrong word has posterior 0 here, a right one 1; each utterance is a second long.
    np.testing.assert_allclose(table.confidence, (1.0 - table.error) * np.exp(-5.0), rtol=1e-6)
    assert (table.latency_s == 1.0).all()
    assert (table.cost_usd == USD_PER_CORE_S).all()
    assert "synthetic" in table.source
    assert "20 sentences" in table.source
    assert "speech: 20 of 20 utterances" in lines


def test_words_are_given_without_noises_and_marks(fake):
    heard = speech.heard(FakeDecoder(1), b"a b c")
    assert heard.words == ("wrong", "b", "c")
    assert heard.posteriors == (0.0, 1.0, 1.0)
    assert heard.log_score == pytest.approx(-0.05)  # -5 over 100 frames


def test_nothing_heard_is_all_wrong_and_not_sure(fake, monkeypatch):
    monkeypatch.setattr(FakeDecoder, "hyp", lambda self: None)
    table = speech.calibrate(silent, 3, {"good": GOOD})
    assert (table.error == 1.0).all()
    assert (table.confidence == 0.0).all()


def test_what_was_recognised_is_kept_by_recipe(fake):
    first = speech.calibrate(silent, 6, {"good": GOOD})
    done = FakeDecoder.decoded
    assert done == 7  # one to warm up
    assert speech.calibrate(silent, 6, {"good": GOOD}).digest() == first.digest()
    speech.calibrate(silent, 4, {"good": GOOD})
    assert FakeDecoder.decoded == done
    speech.calibrate(silent, 8, {"good": GOOD})
    assert FakeDecoder.decoded == done + 3
    assert speech.calibrate(silent, 6, {"good": POOR}).error.min() > 0.0


def test_stopped_run_goes_on_where_it_was(fake, monkeypatch, tmp_path):
    monkeypatch.setattr(FakeDecoder, "stop_at", 5)
    with pytest.raises(KeyboardInterrupt):
        speech.calibrate(silent, 10, {"good": GOOD})
    (path,) = (tmp_path / "cache" / "tiers").iterdir()
    with path.open("a") as file:
        file.write('{"text": "cut sh')
    monkeypatch.setattr(FakeDecoder, "stop_at", None)
    lines = []
    assert len(speech.calibrate(lines.append, 10, {"good": GOOD})) == 10
    assert lines[0].startswith("speech: 4 of 10")
    assert len(path.read_text().splitlines()) == 10


@pytest.mark.parametrize("line", ["{", '{"text": "of another sentence"}', "[]", "{}"])
def test_damaged_cache_is_named(fake, tmp_path, line):
    speech.calibrate(silent, 2, {"good": GOOD})
    (path,) = (tmp_path / "cache" / "tiers").iterdir()
    path.write_text(line + "\n")
    with pytest.raises(RunError, match=r"jsonl: expected what was recognised, delete the file"):
        speech.calibrate(silent, 2, {"good": GOOD})


def test_word_that_the_recogniser_lacks_is_named(fake):
    with pytest.raises(RunError, match=r"words that PocketSphinx knows, got \['the'\]"):
        speech.calibrate(silent, 30, {"good": {"wrong": 0, "unknown": "the"}})


def test_absent_flite_is_named_with_how_to_get_it(monkeypatch):
    monkeypatch.setattr(speech.shutil, "which", lambda name: None)
    with pytest.raises(RunError, match="apt-get install flite"):
        speech.spoken("a word", "slt")


def test_absent_pocketsphinx_is_named_with_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(RunError, match=r"pip install 'provisor\[speech\]'"):
        speech.decoder({})


@pytest.mark.parametrize(("hertz", "message"), [(16_000, None), (8_000, "16000 Hz"), (None, "no such voice")])
def test_spoken_utterance_has_the_form_that_is_recognised(monkeypatch, hertz, message):
    def flite(command, **options):
        if hertz is not None:
            with wave.open(command[command.index("-o") + 1], "wb") as file:
                file.setparams((1, 2, hertz, 0, "NONE", ""))
                file.writeframes(b"\1\2\3\4")
        return subprocess.CompletedProcess(command, 0 if hertz else 1, "", "no such voice")

    monkeypatch.setattr(speech.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(speech.subprocess, "run", flite)
    if message is None:
        assert speech.spoken("a word", "slt") == b"\1\2\3\4"
    else:
        with pytest.raises(RunError, match=message):
            speech.spoken("a word", "slt")


def calibrate(*words):
    return CliRunner().invoke(tiers_commands.tiers, ["calibrate", *map(str, words)], standalone_mode=False)


def test_verb_measures_a_task_and_writes_its_table(monkeypatch, tmp_path):
    def task(say, device, usd_per_hour):
        assert (device, usd_per_hour) == ("cpu", None)
        say("half way")
        return population(50)

    monkeypatch.setitem(tiers_commands._TASKS, "speech", task)
    out = tmp_path / "made" / "speech.npz"
    done = calibrate("speech", "--out", out)
    assert "half way" in done.stderr
    assert f"wrote {out}: 50 requests" in done.stdout
    assert load_calibration(out).digest() == population(50).digest()
    assert isinstance(calibrate("speech", "--out", out).exception, UsageError)
    assert calibrate("speech", "--out", out, "--force").exception is None


def test_shipped_table_is_a_ladder_of_the_present_versions():
    table = load_calibration(TABLE)
    assert table.versions == tuple(speech.VERSIONS)
    assert len(table) == speech.UTTERANCES
    assert "synthetic speech" in table.source
    assert (np.diff(table.latency_s.mean(axis=0)) > 0.0).all()
    assert (np.diff(table.error.mean(axis=0)) < 0.01).all()
