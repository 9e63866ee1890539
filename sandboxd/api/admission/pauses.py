"""The pauses of admission: the reasons for which nothing new begins, each until it is over."""

from __future__ import annotations

from typing import Literal

from ...errors import Draining, Unavailable

Pause = Literal["end", "drain", "restore"]

DRAINED = "the server is being drained: nothing new begins for now"

WORDS: dict[Pause, str] = {
    "end": "the server ends: send the request again",
    "drain": DRAINED,
    "restore": "the server takes up the runs of before its start",
}
"""Each pause in words for clients, who read the first one of several."""


class Pauses(set[Pause]):
    """The pauses of this moment."""

    @property
    def refusal(self) -> Unavailable | None:
        """The refusal of what would begin now; None: there is no pause."""
        why = next((one for one in WORDS if one in self), None)
        if why is None:
            return None
        return Draining(WORDS[why]) if why == "drain" else Unavailable(WORDS[why])
