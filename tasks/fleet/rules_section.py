"""What fleet.yaml refuses, accepts and asks for: house rules, lossy hazards, approvals, differences between environments."""

from __future__ import annotations

import difflib
import enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from migrator import errors, house_rules
from migrator.goose import file_names


class _Section(BaseModel):
    """Base of these sections: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class SchemaDifferences(enum.StrEnum):
    """What becomes of a service whose schema differs from that of the environment before, at the same bundle: a warning, or the end of its deployment."""

    WARN = "warn"
    FAIL = "fail"


class Rules(_Section):
    """Which house rules are on, by id: those that `refuse` a plan, those that are `off`; all others warn."""

    refuse: tuple[str, ...] = ()
    off: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: object) -> object:
        words: dict[object, dict[str, tuple[str, ...]]] = {"warn": {}, "refuse": {"refuse": tuple(house_rules.RULES)}}
        if isinstance(value, str) and value not in words:
            raise ValueError(f'"{value}" is neither `warn` nor `refuse`, nor a mapping with `refuse` and `off`')
        return words[value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _known(self) -> Rules:
        for item in (*self.refuse, *self.off):
            if item not in house_rules.RULES:
                raise ValueError(f'there is no house rule "{item}": {", ".join(house_rules.RULES)}')
        if both := set(self.refuse) & set(self.off):
            raise ValueError(f"{min(both)} can't be refused and off")
        return self

    @property
    def settings(self) -> house_rules.Settings:
        """Returns what the engine takes."""
        return house_rules.Settings(tuple(item for item in house_rules.RULES if item not in self.off), self.refuse)


class ApprovalRules(_Section):
    """What an environment asks of an approval besides its worker's own policy, which this can only tighten."""

    minimum: Annotated[int, Field(ge=1, le=20)] = 1
    not_promoter: bool = False
    validity_hours: Annotated[float, Field(gt=0, le=24)] | None = None


class AcceptedHazard(_Section):
    """A lossy hazard that is accepted: the file's name with its version, the hazard's code, and the reason, which every plan and run shows and the
    database records with the version. Another hazard of the file is still refused."""

    file: str
    hazard: str
    reason: Annotated[str, Field(min_length=1, max_length=500)]

    @model_validator(mode="after")
    def _meant(self) -> AcceptedHazard:
        try:
            file_names.version_of(self.file)
        except ValueError as error:
            raise ValueError(f'"{self.file}" is no migration file\'s name, VERSION_name.sql: {error}') from None
        if "/" in self.file:
            raise ValueError(f'"{self.file}": the name alone, without its directory')
        known = errors.CODES.get(self.hazard)
        if known is None or known.exit_code is not errors.ExitCode.REFUSED:
            near = difflib.get_close_matches(
                self.hazard, [code for code, item in errors.CODES.items() if item.exit_code is errors.ExitCode.REFUSED], 1
            )
            raise ValueError(
                f'there is no hazard "{self.hazard}"' + (f": did you mean {near[0]}?" if near else "; the refusal names it in brackets")
            )
        return self
