"""Names of parametrised tests that are the same in every process, as the workers of a parallel run compare them."""

import re


def stable(value: object) -> str:
    """Return the text of a value without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
