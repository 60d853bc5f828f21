"""What training text must be like."""

from typing import Annotated

from pydantic import Field

from tsjt_ds.config.schema import Section


class CleaningConfig(Section):
    """Which training pairs are left out; each one is counted with its reason.

    Pairs with an empty side, duplicates, and those that stand in a dev or test set always are.
    """

    max_characters: Annotated[int, Field(gt=0)] = 5000
    """Longer segments are left out before they are tokenised."""
    copies: bool = True
    """Leave out pairs whose sides are the same."""
    scripts: bool = True
    """Leave out segments of which most letters are not of their language's script."""
    markup: bool = True
    """Leave out segments that hold tags or character references."""
    language_identification: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Leave out segments whose language has less than this probability (needs the extra
    ``langid``); 0: not identified."""
