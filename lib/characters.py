"""Names of characters: the folder name is the label, the display name is for people."""

SMALL_WORDS = {"the", "of", "and"}


def display_name(character: str) -> str:
    """Spell a label as a person would, `krusty_the_clown` as `Krusty the Clown`."""
    words = character.replace("_", " ").split()
    return " ".join(w if i and w in SMALL_WORDS else w[:1].upper() + w[1:] for i, w in enumerate(words)) or character
