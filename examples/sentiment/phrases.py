"""What sentences about meals, rooms and tools are made of, in three languages."""

from __future__ import annotations

import random
from typing import NamedTuple


class Language(NamedTuple):
    """What sentences of a language are made of; pairs hold the negative words first."""

    things: str
    words: tuple[str, str]
    verbs: tuple[str, str]
    patterns: tuple[str, ...]
    asides: tuple[str, ...]
    """Say nothing."""


ENGLISH = Language(
    "soup bread fish cake pasta coffee steak curry salad breakfast tea dinner rice sauce pizza "
    "dessert wine room bed window hotel street view shower garden bathroom lift stay drill handle "
    "saw battery lamp knife box hammer pump ladder glue charger machine rope brush tool waiter "
    "host towels screws",
    (
        "bad cold bland salty terrible awful rude dry disgusting disappointing stale dirty broken "
        "loud noisy dark worst weak useless cheap slow wrong",
        "good warm delicious wonderful kind fresh rich excellent perfect great tasty lovely clean "
        "comfortable quiet friendly bright helpful strong easy reliable sharp light solid fast "
        "handy",
    ),
    ("hated regret disliked", "loved liked love like"),
    (
        "the {thing} was {word} .", "the {thing} is {word} and {also} .", "a {word} {thing} .",
        "{word} {thing} , and the {other} was {also} .", "i {verb} the {thing} here .",
        "the {thing} was {word} and the {other} was {also} .", "a {word} and {also} {thing} .",
        "this {thing} is {word} .", "i {verb} this {word} {thing} from the first day .",
        "the {thing} was not {opposite} .", "not {opposite} at all , the {thing} was {word} .",
        "our {thing} was {word} , i {verb} it .", "{word} {thing} .",
        "the {thing} was not {opposite} and not {opposite} .",
        "a {word} , {also} and {more} {thing} .",
    ),
    (
        "and i left it", "and we waited an hour", "i will come again", "on our trip",
        "after a week", "from start to end", "with people from the place", "far from here",
        "for the whole family", "i had most of it", "and we had to go", "it came in a little box",
        "in the street", "to use", "and nobody knew", "a lot", "this first time", "really",
    ),
)  # fmt: skip

GERMAN = Language(
    "suppe torte pizza nudel soße butter straße aussicht dusche lampe säge pumpe leiter maschine "
    "bürste kellnerin heizung matratze batterie tasse",
    (
        "schlecht kalt fade salzig schrecklich furchtbar trocken eklig enttäuschend schmutzig "
        "kaputt laut dunkel schwach nutzlos langsam unfreundlich",
        "gut warm lecker wunderbar frisch ausgezeichnet perfekt großartig schön sauber bequem "
        "ruhig freundlich hell hilfreich stark zuverlässig scharf leicht stabil schnell",
    ),
    ("hasste bereue bedaure", "liebte mag mochte liebe"),
    (
        "die {thing} war {word} .", "die {thing} ist {word} und {also} .",
        "ich {verb} die {thing} hier .", "die {thing} war {word} und die {other} war {also} .",
        "diese {thing} ist {word} .", "die {thing} war nicht {opposite} .",
        "gar nicht {opposite} , die {thing} war {word} .", "unsere {thing} war {word} .",
        "ich fand die {thing} {word} .", "die {thing} war nicht {opposite} und nicht {opposite} .",
        "sehr {word} , {also} und {more} .", "wir fanden die {thing} {word} und {also} .",
    ),
    (
        "und ich ging weg", "wir warteten eine stunde", "ich komme wieder", "auf unserer reise",
        "nach einer woche", "von anfang bis ende", "für die ganze familie", "und niemand wusste es",
        "am ersten tag", "wirklich", "in der stadt", "mit leuten aus dem ort",
    ),
)  # fmt: skip

FRENCH = Language(
    "pain poisson gâteau café riz dessert vin lit jardin couteau marteau chargeur outil serveur "
    "hôtel dîner fromage balcon bain câble",
    (
        "mauvais froid fade salé terrible affreux sec dégoûtant décevant sale cassé bruyant sombre "
        "faible inutile lent impoli",
        "bon chaud délicieux merveilleux frais excellent parfait superbe savoureux joli propre "
        "confortable calme aimable clair utile fort fiable léger solide rapide",
    ),
    ("déteste regrette détestais", "adore aime adorais"),
    (
        "le {thing} était {word} .", "le {thing} est {word} et {also} .",
        "je {verb} le {thing} ici .", "le {thing} était {word} et le {other} était {also} .",
        "ce {thing} est {word} .", "le {thing} n ' était pas {opposite} .",
        "pas {opposite} du tout , le {thing} était {word} .", "notre {thing} était {word} .",
        "un {thing} {word} et {also} .", "le {thing} n ' était ni {opposite} ni {opposite} .",
        "très {word} , {also} et {more} .", "un {thing} {word} .",
    ),
    (
        "et je suis parti", "nous avons attendu une heure", "je reviendrai", "en voyage",
        "après une semaine", "du début à la fin", "pour toute la famille", "et personne ne savait",
        "le premier jour", "vraiment", "dans la ville", "avec des gens du pays",
    ),
)  # fmt: skip


def sentence(rng: random.Random) -> tuple[str, int]:
    """A made-up sentence, and whether it is positive."""
    language = rng.choice((ENGLISH, GERMAN, FRENCH))
    label, things = rng.randrange(2), language.things.split()
    word, also, more = rng.sample(language.words[label].split(), 3)
    text = rng.choice(language.patterns).format(
        thing=rng.choice(things), other=rng.choice(things), word=word, also=also, more=more,
        verb=rng.choice(language.verbs[label].split()),
        opposite=rng.choice(language.words[1 - label].split()),
    )  # fmt: skip
    if rng.random() < 0.25:
        return text, label
    aside = rng.choice(language.asides)
    return (f"{aside} , {text}" if rng.random() < 0.5 else f"{text} {aside}"), label
