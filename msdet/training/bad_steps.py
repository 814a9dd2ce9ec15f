"""Steps whose loss or gradient is not finite: said, skipped, and refused when they go on and on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from msdet.errors import MsdetError


class BadSteps:
    """Counts steps that were skipped.

    Args:
        limit: so many in a row end the training.
        name: of an example, by its number in the data.
        report: called with one line for each.
    """

    def __init__(self, limit: int, name: Callable[[int], str], report: Callable[[str], None]) -> None:
        self.limit = limit
        self.name = name
        self.report = report
        self.total = 0
        self.in_a_row = 0
        self._items: list[Tensor] = []

    def seen(self, items: Tensor) -> None:
        """Note the examples of a batch that goes into the next step."""
        self._items.append(items)

    def may_step(self, step: int, finite: Tensor, lost: bool = False) -> bool:
        """Whether a step may be taken; else it is counted and said. All processes agree.

        Args:
            step: its number.
            finite: whether its gradient is ``()``.
            lost: whether its loss was not finite on this process, which went on nonetheless.

        Raises:
            MsdetError: too many in a row.
        """
        items, self._items = self._items, []
        found = [(lost, [int(item) for batch in items for item in batch])]
        if torch.distributed.is_initialized():
            bad = (~finite | lost).float()
            torch.distributed.all_reduce(bad)
            finite = bad == 0
            if not finite:
                found = found * torch.distributed.get_world_size()
                torch.distributed.all_gather_object(found, found[0])
        if finite:
            self.in_a_row = 0 if items else self.in_a_row  # without items all losses were bad, and counted
            return True
        lost = any(row[0] for row in found)
        names = [item for was_lost, row in found if was_lost or not lost for item in row]
        self.skip(step, "loss" if lost else "gradient", names)
        return False

    def skip(self, step: int, what: str, items: Iterable[int]) -> None:
        """Count a step that is left out.

        Args:
            step: its number.
            what: is not finite.
            items: numbers of its examples.

        Raises:
            MsdetError: too many in a row.
        """
        self.total += 1
        self.in_a_row += 1
        names = ", ".join(self.name(int(item)) for item in items)
        line = f"step {step}: the {what} is not finite with {names}"
        if self.in_a_row >= self.limit:
            raise MsdetError(
                f"{line}; {self.in_a_row} steps in a row were not: try a lower optimiser.learning_rate"
            )
        self.report(f"{line}; skipped")

    def state_dict(self) -> dict[str, Any]:
        """Both counts."""
        return {"total": self.total, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        self.total, self.in_a_row = int(state["total"]), int(state["in_a_row"])
