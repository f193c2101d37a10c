"""Reading the platform's settings, apart from `factory`: most who do build no managers."""

from __future__ import annotations

from pathlib import Path

import yaml

from .errors import PermanentError
from .models import Platform
from .policy.problems import DocumentError, to_document, to_field


def make_platform(path: Path | str) -> Platform:
    """The platform's settings from a JSON or YAML file.

    Raises
    ------
    PermanentError
        The file cannot be read, or is not what it should be; all problems are named.
    """
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return to_document(Platform, value)
    except (OSError, ValueError, yaml.YAMLError) as error:
        problems = error.problems if isinstance(error, DocumentError) else ()
        said = "; ".join(
            f"{to_field(p.path)}: found {p.found}, expected {p.expected}" for p in problems
        )
        raise PermanentError(f"The platform file {path} cannot be used: {said or error}") from error
