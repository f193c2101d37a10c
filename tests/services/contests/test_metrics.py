"""Figures of the contests' work are those of the process that does it."""

from __future__ import annotations

from jupyterhub_collab.services.contests.metrics import Metrics


def test_who_lost_the_work_tells_no_figure_of_it() -> None:
    holder = [True]
    metrics = Metrics(is_holder=lambda: holder[0], term=lambda: 7)
    metrics.observe("collab_contests_notice_channels_away", "Ways that are away", lambda: 3)

    def samples() -> set[str]:
        lines = metrics.to_text().decode().splitlines()
        return {line for line in lines if "holder" in line or "away" in line} - {
            line for line in lines if line.startswith("#")
        }

    assert samples() == {"collab_contests_holder 1.0", "collab_contests_notice_channels_away 3.0"}
    holder[0] = False
    assert samples() == {"collab_contests_holder 0.0"}
    holder[0] = True
    assert "collab_contests_notice_channels_away 3.0" in samples()
