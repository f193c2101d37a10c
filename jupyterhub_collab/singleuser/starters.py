"""First notebooks: a data set may come with one, which a member finds in their home.

What: copies ``data/DATASET/start-here.ipynb`` to ``DATASET.ipynb`` in the home, once.
Why: data sets are read-only, and a notebook that cannot be saved is no place to start.
It must not: overwrite anything, bring a deleted notebook back at every start, or stop a server
from starting.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

STARTER = "start-here.ipynb"
_GIVEN = ".collab-starters"  # in the home: names of the data sets whose starter was given
_log = logging.getLogger(__name__)


def give_starters(home: Path) -> list[Path]:
    """Copy each starter that this home was not given yet; what was copied."""
    given_file = home / _GIVEN
    copied = []
    try:
        given = set(given_file.read_text().split()) if given_file.exists() else set()
        for starter in sorted((home / "data").glob(f"*/{STARTER}")):
            dataset = starter.parent.name
            target = home / f"{dataset}.ipynb"
            if dataset in given:
                continue
            if not os.path.lexists(target):
                shutil.copyfile(starter, target)  # not its mode: the copy is to be edited
                copied.append(target)
            given.add(dataset)
            given_file.write_text("\n".join(sorted(given)) + "\n")
    except OSError as e:  # a full or read-only home: the server is of use without it
        _log.warning("Starter notebooks were not copied: %s", e)
    return copied
