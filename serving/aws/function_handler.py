"""What a function of AWS Lambda runs: the model of one variant, loaded once for each execution environment.

Lies at the top of the function's package, beside `model.json`, and imports nothing that is not there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent


def _load() -> Any:
    facts = json.loads((_HERE / "model.json").read_text(encoding="utf-8"))
    if "reference" in facts:
        import model_object  # type: ignore[import-not-found]  # beside this file in the package

        return model_object.named(facts["reference"])
    import digit_model  # type: ignore[import-not-found]  # likewise

    return digit_model.Classifier(int(facts["side"]), (_HERE / "weights.safetensors").read_bytes())


_model = _load()
_is_first = True


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answers one call.

    Args:
        event: `inputs`, a list.

    Returns:
        `outputs`, one each, `confidences` where the model tells them, and whether this environment was made for this
        call.

    Raises:
        ValueError: The model returned another number of outputs.
    """
    global _is_first
    is_first, _is_first = _is_first, False
    inputs = event["inputs"]
    tells = getattr(_model, "with_confidence", None)
    outputs, confidences = tells(inputs) if tells is not None else (_model(inputs), None)
    outputs = list(outputs)
    if len(outputs) != len(inputs):
        raise ValueError(f"model: expected {len(inputs)} outputs, got {len(outputs)}")
    answer: dict[str, Any] = {"outputs": outputs, "is_first": is_first}
    if confidences is not None:
        answer["confidences"] = [float(confidence) for confidence in confidences]
    return answer
