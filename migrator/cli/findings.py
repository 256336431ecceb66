"""What `validate` finds: one place, one sentence, one remedy."""

from __future__ import annotations

from dataclasses import dataclass

ERROR, WARNING = "error", "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `goose` is goose's own message where goose would stop here too."""

    level: str
    code: str
    path: str
    line: int | None
    message: str
    hint: str
    goose: str = ""

    def document(self) -> dict[str, object]:
        """Returns the finding as JSON-ready data."""
        return {"level": self.level, "code": self.code, "file": self.path, "line": self.line, "message": self.message, "hint": self.hint}
