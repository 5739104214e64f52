"""Speech recognition at rising effort: one recogniser, PocketSphinx, whose decoder settings are the versions.

Sentences of our own (`experiments.tiers.sentences`) are spoken by the voices of the program flite, so all that is
measured here holds for synthetic speech alone. Every utterance is recognised by all versions in turn, so that what else
the machine does weighs on all of them alike. Each is taken as a whole and by itself: the mean of its own frames is
subtracted (`cmn=batch`), never that of the utterances before it.

What was recognised is kept in the cache folder, utterance by utterance: a run that was stopped goes on where it was,
and a finished one needs neither program. `tables/speech.npz` beside this file is what a whole run came to, on a machine
of two cores that did other work too.

Source:
    Huggins-Daines et al., "PocketSphinx: A Free, Real-Time Continuous Speech Recognition System for Hand-Held Devices",
    ICASSP 2006; PyPI package pocketsphinx 5.1 (BSD) with its US-English model; flite 2.2 (BSD-like).
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
import tempfile
import time
import wave
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from controller.errors import RunError, mismatch
from controller.kernel_cache import cache_root
from controller.tiers.calibration import Calibration
from experiments.tiers.prices import USD_PER_CORE_S
from experiments.tiers.sentences import PATTERNS, WORDS, sentences

UTTERANCES = 2400
SENTENCE_SEED = 17
VOICES = ("slt", "rms", "awb", "kal16")
"""Of flite, all at `HERTZ`: a woman and three men, one of them Scottish; they take turns."""

HERTZ = 16_000

Settings = Mapping[str, Any]

VERSIONS: dict[str, Settings] = {
    f"hmms-{most}": {"maxhmmpf": most, "fwdflat": False} for most in (250, 500, 1000, 2000, 4000)
}
"""From cheap to dear: the most HMMs that are followed from one 10 ms of speech to the next, in one pass.

On 24 other sentences more was dearer and no better: 12.7 % of words wrong for 3,000 HMMs in 0.9 s, 12.0 % without a
limit in 1.5 s, 12.6 % for the three passes of the decoder's defaults in 1.8 s.
"""

_COMMON: Settings = {"cmn": "batch", "dither": False, "loglevel": "FATAL"}
_RECIPE = 1
_TIMEOUT_S = 60.0
_SAID_EACH = 10
_STEPS_PER_S = 100.0


@dataclass(frozen=True)
class Heard:
    """What one version made of one utterance.

    Attributes:
        words: Recognised, without silences and noises.
        posteriors: Of each word, 0..1, from the lattice of what was considered.
        log_score: Natural logarithm of the best path's score, for each 10 ms.
        latency_s: CPU time of one thread.
    """

    words: tuple[str, ...]
    posteriors: tuple[float, ...]
    log_score: float
    latency_s: float

    @property
    def confidence(self) -> float:
        """Mean posterior of the words, times the best path's score for a second; 0 for no words.

        The posteriors compare what was considered, so they are blind to what a narrow search left out; the score is
        not. How well an utterance without errors is told from others, as the area under the ROC curve of the versions
        from cheap to dear on the shipped table's utterances: 0.89, 0.83, 0.77, 0.74, 0.74; the mean posterior alone
        0.84, 0.79, 0.74, 0.72, 0.72; the score alone 0.89, 0.80, 0.73, 0.70, 0.69. The geometric mean of the
        posteriors in place of the mean was within 0.02 of this.
        """
        if not self.posteriors:
            return 0.0
        return min(1.0, float(np.mean(self.posteriors)) * math.exp(min(0.0, self.log_score) * _STEPS_PER_S))


def calibrate(
    say: Callable[[str], None], count: int = UTTERANCES, versions: Mapping[str, Settings] | None = None
) -> Calibration:
    """What every version does with every utterance.

    Its error is the word error rate of the utterance, and 1 where that exceeds 1.

    Args:
        say: Prints a line of progress.
        count: Of utterances; of two counts, the utterances of the lower are the first of the higher.
        versions: Settings of the decoder by name; `VERSIONS` where there are none.

    Raises:
        RunError: What was kept is damaged; or something is left to recognise, and flite or PocketSphinx is absent,
            fails, or lacks a word or a voice.
    """
    versions = versions or VERSIONS
    texts = sentences(count, SENTENCE_SEED)
    path = _heard_path(versions)
    rows = _stored(path, texts, tuple(versions))
    if len(rows) < count:
        say(f"speech: {len(rows)} of {count} utterances are in {path}")
        rows += _recognised(texts, len(rows), versions, path, say)
    columns: dict[str, list[list[float]]] = {"error": [], "confidence": [], "latency_s": []}
    for text, row in zip(texts, rows, strict=True):
        columns["error"].append([word_error_rate(text.split(), row[name].words) for name in versions])
        columns["confidence"].append([row[name].confidence for name in versions])
        columns["latency_s"].append([row[name].latency_s for name in versions])
    arrays: dict[str, Any] = {key: np.array(values) for key, values in columns.items()}
    for at, name in enumerate(versions):
        error, seconds = arrays["error"][:, at], arrays["latency_s"][:, at]
        say(f"{name}: {error.mean():.1%} of words wrong, {np.median(seconds) * 1e3:.0f} ms an utterance")
    source = (
        f"synthetic speech: {count} sentences of a grammar, spoken by flite ({', '.join(VOICES)}), recognised by "
        "PocketSphinx 5.1 (US English); word error rate cut off at 1; CPU time of one thread"
    )
    return Calibration(tuple(versions), cost_usd=arrays["latency_s"] * USD_PER_CORE_S, source=source, **arrays)


def word_error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Fewest insertions, deletions and substitutions that make one of the other, by words said; at most 1.

    Args:
        said: At least one word.
        heard: Any number.
    """
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, start=1):
        last, row = row, [i]
        for j, other in enumerate(heard, start=1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (word != other)))
    return min(1.0, row[-1] / len(said))


def spoken(text: str, voice: str) -> bytes:
    """Samples of an utterance by flite: 16-bit, one channel, `HERTZ`.

    Args:
        text: Words.
        voice: One of `VOICES`.

    Raises:
        RunError: There is no flite, it fails, or the voice has another form.
    """
    if shutil.which("flite") is None:
        raise RunError(
            "speech: expected the program flite, which speaks the sentences (apt-get install flite), got none"
        )
    with tempfile.TemporaryDirectory(prefix="pv-") as folder:
        path = Path(folder) / "spoken.wav"
        command = ["flite", "-voice", voice, "-o", str(path), "-t", text]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        if done.returncode or not path.is_file():
            raise RunError(f"flite -voice {voice}: expected a waveform, got: {done.stderr.strip()[-400:]}")
        with closing(wave.open(str(path), "rb")) as file:
            form = (file.getframerate(), file.getnchannels(), file.getsampwidth())
            if form != (HERTZ, 1, 2):
                raise RunError(mismatch(f"flite -voice {voice}", f"{HERTZ} Hz, 1 channel, 2 bytes", form))
            return file.readframes(file.getnframes())


def decoder(settings: Settings) -> Any:
    """A PocketSphinx decoder with its US-English model.

    Args:
        settings: That differ from its defaults.

    Raises:
        RunError: The package is absent.
    """
    try:
        from pocketsphinx import Decoder
    except ImportError as error:
        raise RunError(
            f"speech: expected the package pocketsphinx (pip install 'provisor[speech]'), got {error}"
        ) from error
    return Decoder(**{**_COMMON, **settings})


def heard(recogniser: Any, samples: bytes) -> Heard:
    """Recognises one utterance.

    Args:
        recogniser: As `decoder` makes it.
        samples: As `spoken` returns them.
    """
    began_s = time.thread_time()
    recogniser.start_utt()
    recogniser.process_raw(samples, full_utt=True)
    recogniser.end_utt()
    # The lattice is searched here, where that is asked for.
    found = recogniser.hyp()
    latency_s = time.thread_time() - began_s
    # Silences and noises are in brackets, second pronunciations marked: read(2).
    words = [part for part in recogniser.seg() if part.word[0] not in "<[+"] if found is not None else []
    return Heard(
        tuple(part.word.partition("(")[0] for part in words),
        tuple(round(min(1.0, float(part.prob)), 6) for part in words),
        round(math.log(max(found.score, 1e-300)) / recogniser.n_frames(), 8) if found is not None else 0.0,
        round(latency_s, 6),
    )


def _recognised(
    texts: Sequence[str], first: int, versions: Mapping[str, Settings], path: Path, say: Callable[[str], None]
) -> list[dict[str, Heard]]:
    """Rows of all utterances from the first one missing, each written as soon as it is there."""
    recognisers = {name: decoder(settings) for name, settings in versions.items()}
    words = {word for text in texts for word in text.split()}
    any_one = next(iter(recognisers.values()))
    unknown = sorted(word for word in words if any_one.lookup_word(word) is None)
    if unknown:
        raise RunError(mismatch("speech", "words that PocketSphinx knows", unknown))
    for recogniser in recognisers.values():  # The first utterance of each pays for what is loaded on use.
        heard(recogniser, spoken(texts[0], VOICES[0]))
    rows = []
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for at in range(first, len(texts)):
            samples = spoken(texts[at], VOICES[at % len(VOICES)])
            row = {name: heard(recogniser, samples) for name, recogniser in recognisers.items()}
            file.write(json.dumps({"text": texts[at]} | {name: asdict(one) for name, one in row.items()}) + "\n")
            file.flush()
            rows.append(row)
            if (at + 1) % _SAID_EACH == 0:
                say(f"speech: {at + 1} of {len(texts)} utterances")
    return rows


def _stored(path: Path, texts: Sequence[str], names: Sequence[str]) -> list[dict[str, Heard]]:
    """Rows that were kept, in order; a last line that was cut short is taken off the file."""
    if not path.is_file():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if whole != data:
        with path.open("r+b") as file:
            file.truncate(len(whole))
    rows = []
    try:
        for line, text in zip(whole.splitlines(), texts, strict=False):
            entry = json.loads(line)
            if entry["text"] != text:
                raise ValueError(mismatch("text", repr(text), entry["text"]))
            rows.append({name: _read(entry[name]) for name in names})
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: expected what was recognised, delete the file to start anew; got {error!r}") from error
    return rows


def _read(entry: Mapping[str, Any]) -> Heard:
    return Heard(**{**entry, "words": tuple(entry["words"]), "posteriors": tuple(entry["posteriors"])})


def _heard_path(versions: Mapping[str, Settings]) -> Path:
    settings = {name: dict(one) for name, one in versions.items()}
    recipe = [_RECIPE, SENTENCE_SEED, PATTERNS, WORDS, VOICES, HERTZ, dict(_COMMON), settings]
    digest = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]
    return cache_root() / "tiers" / f"speech-{digest}.jsonl"
