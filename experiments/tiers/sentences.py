"""English sentences that a speech recogniser is measured on: drawn from a small grammar of our own."""

from __future__ import annotations

import re

import numpy as np

from controller.errors import InputError, mismatch

FEWEST, MOST = 5, 15
"""Words of a sentence."""

PATTERNS = (
    "{person} {acted} the {quality} {thing} {place} {past}",
    "{person} will {act} the {thing} for {person} {soon}",
    "{past} {person} {acted} {number} {quality} {things} {place}",
    "we should {act} the {thing} before {person} goes to the {site}",
    "please {act} the {quality} {thing}",
    "please {act} the {thing} {place} and {act} the {things}",
    "did {person} really {act} the {quality} {thing} {place}",
    "if the weather is {weather} we will walk to the {site} {soon}",
    "it takes about {number} {spans} to drive from the {site} to the {site}",
    "there are only {number} {things} left {place}",
    "{person} told {person} that the {thing} was too {extreme}",
    "nobody knows why {person} {acted} the {things} {past}",
    "the {thing} {place} belongs to {person}",
    "after {number} {spans} {person} finally {acted} the {quality} {thing}",
    "how many {things} did {person} {act} {past}",
    "{person} would rather {act} the {quality} {thing} than wait {number} {spans}",
    "{person} {acted} the {thing}",
    "where are my {number} {quality} {things}",
    "the {site} will open {soon}",
    "we {acted} the {things} {place}",
    "is the {site} open {soon}",
    "they want to {act} it {soon}",
    "can you {act} the {thing}",
    "she saw {number} {things} {place}",
)
"""Of sentences; a name in braces is one of `WORDS`."""

WORDS = {
    "person": "my brother, your sister, our neighbor, the teacher, the young doctor, the captain, the old farmer, "
    "a tall stranger, the new manager, her uncle, his daughter, the visitors, the whole family, the engineer, "
    "the president of the company, a friend of mine, the driver, the woman next door",
    "act": "find, sell, repair, carry, paint, return, borrow, open, move, bring, clean, remember, describe, order, "
    "build, examine",
    "acted": "found, sold, repaired, carried, painted, returned, borrowed, opened, moved, brought, cleaned, "
    "remembered, described, ordered, built, examined",
    "quality": "old, heavy, yellow, wooden, broken, expensive, small, beautiful, empty, strange, simple, famous, "
    "new, dark, silver, useful",
    "thing": "table, letter, engine, camera, boat, picture, window, garden wall, machine, basket, ticket, report, "
    "telephone, house, bridge, kitchen door, map, record, piano, bottle of water",
    "things": "books, chairs, horses, boxes, flowers, papers, apples, computers, questions, tools, blankets, lamps, "
    "cups, pictures, letters, shoes",
    "place": "in the garage, behind the station, near the river, at the office, on the second floor, under the bridge, "
    "in the village, across the street, beside the lake, at the back of the store, in the basement, along the beach",
    "past": "yesterday morning, last winter, on monday, before lunch, after the meeting, early in the spring, "
    "at midnight, a long time ago, two weeks ago, in the afternoon",
    "soon": "tomorrow evening, next winter, on friday, before lunch, after the meeting, early in the spring, "
    "at midnight, later this summer, next week, in the afternoon",
    "number": "two, three, four, five, seven, eight, nine, ten, eleven, twelve, fifteen, twenty, thirty, forty, "
    "sixty, ninety",
    "spans": "minutes, hours, days, weeks, months, years",
    "site": "airport, market, school, hospital, harbor, library, farm, museum, hotel, theater, church, factory, park",
    "weather": "warm, cold, sunny, dry, better, pleasant",
    "extreme": "heavy, expensive, dangerous, noisy, small, complicated, slow, dirty, difficult to understand",
}
"""What may stand for a name in a pattern."""

_SLOT = re.compile(r"\{(\w+)\}")
_CHOICES = {name: tuple(part.strip() for part in text.split(",")) for name, text in WORDS.items()}


def sentences(count: int, seed: int) -> tuple[str, ...]:
    """Different sentences in lower case, without marks; a longer draw of the same seed begins with a shorter one.

    Args:
        count: Of sentences, 1..10,000.
        seed: Of the draw.

    Raises:
        InputError: The count is out of range.
    """
    if not 1 <= count <= 10_000:
        raise InputError(mismatch("sentences", "a count in 1..10000", count))
    rng = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        pattern = PATTERNS[int(rng.integers(len(PATTERNS)))]
        text = _SLOT.sub(lambda slot: _drawn(slot[1], rng), pattern)
        if FEWEST <= len(text.split()) <= MOST:
            found[text] = None
    return tuple(found)


def _drawn(name: str, rng: np.random.Generator) -> str:
    choices = _CHOICES[name]
    return choices[int(rng.integers(len(choices)))]
