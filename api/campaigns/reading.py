"""Reads a list of numbers from a CSV file, and checks lists of numbers row by row."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import date

import msgspec
import trio

from api.campaigns.rules import is_zone
from api.campaigns.specs import CampaignSpec, TargetSpec
from api.web.problems import FieldError
from api.web.requests import told_by, unfit

__all__ = ["ROWS_MAX", "Rows", "faults_of_campaign", "faults_of_targets", "read_csv"]

ROWS_MAX = 20_000  # of one file; a campaign may be given many
FAULTS_MAX = 100  # told at once
SLICE_ROWS = 100  # some 1 ms, then calls go on
HEADER_HINT = "the first line names the columns: number, time_zone, and one for each variable"


class Rows(msgspec.Struct, frozen=True):
    """What a file holds: its targets, each with its row, or what is wrong with it."""

    targets: list[TargetSpec]
    numbers: list[int]  # the row of each target, as a spreadsheet counts them
    faults: list[FieldError]


async def read_csv(content: bytes, own_number: str) -> Rows:
    """The rows of a file in UTF-8: ``number`` is needed, ``time_zone`` known, others variables.

    An empty cell is a variable that is not set. Comma, semicolon and tab separate.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return _faulty("file", "is not text in UTF-8")
    if "\0" in text:
        return _faulty("file", "the character NUL is not allowed")
    first_line = text.partition("\n")[0]
    separator = max(",;\t", key=first_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = Rows([], [], [])
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if "number" not in header:
            return _faulty("row 1", f"there is no column number: {HEADER_HINT}")
        if len(set(header)) != len(header):
            return _faulty("row 1", "a column is named twice")
        for place, cells in enumerate(reader, 2):
            if place % SLICE_ROWS == 0:
                await trio.lowlevel.checkpoint()
            if not any(cells):
                continue
            if len(rows.numbers) >= ROWS_MAX:
                return _faulty(f"row {place}", f"a file may have {ROWS_MAX} numbers: split it")
            _read_row(rows, place, header, cells, own_number)
            if len(rows.faults) >= FAULTS_MAX:
                break
    except csv.Error as exc:
        return _faulty(f"row {reader.line_num}", f"is not CSV: {exc}")
    if not rows.targets and not rows.faults:
        return _faulty("row 2", "the file holds no numbers")
    return rows


def _read_row(
    rows: Rows, place: int, header: Sequence[str], cells: Sequence[str], own_number: str
) -> None:
    where = f"row {place}"
    if len(cells) != len(header):
        message = f"has {len(cells)} columns, the first line has {len(header)}"
        rows.faults.append(FieldError(field=where, message=message))
        return
    given = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    variables = {k: v for k, v in given.items() if v and k not in ("number", "time_zone")}
    raw = {"number": _plain(given["number"]), "variables": variables}
    if given.get("time_zone"):
        raw["time_zone"] = given["time_zone"]
    try:
        target = msgspec.convert(raw, TargetSpec)
    except msgspec.ValidationError as exc:
        told = unfit(exc, told_by(exc, msgspec.json.encode(raw), TargetSpec))
        rows.faults.append(FieldError(field=where, message=told.detail))
        return
    faults = _faults_of(target, where, own_number)
    rows.faults.extend(faults)
    if not faults:
        rows.targets.append(target)
        rows.numbers.append(place)


def _plain(number: str) -> str:
    """A number without what people put between its digits."""
    return number.translate({ord(mark): None for mark in " -().\u00a0"})


def faults_of_targets(targets: Sequence[TargetSpec], own_number: str) -> list[FieldError]:
    """What the types of a list of numbers cannot say."""
    faults: list[FieldError] = []
    for place, target in enumerate(targets):
        faults += _faults_of(target, f"targets[{place}]", own_number)
    return faults[:FAULTS_MAX]


def _faults_of(target: TargetSpec, where: str, own_number: str) -> list[FieldError]:
    if target.time_zone is not None and not is_zone(target.time_zone):
        message = "time_zone: there is none of this name (they look like Europe/Rome)"
        return [FieldError(field=where, message=message)]
    if target.number.removeprefix("+") == own_number:
        return [FieldError(field=where, message="number: is the one that is called from")]
    return []


def faults_of_campaign(spec: CampaignSpec) -> list[FieldError]:
    """What the types of a campaign's fields cannot say."""
    faults = []

    def add(field: str, message: str) -> None:
        faults.append(FieldError(field=field, message=message))

    if not is_zone(spec.time_zone):
        add("time_zone", "there is none of this name (they look like Europe/Rome)")
    for place, window in enumerate(spec.windows):
        if window.opens >= window.closes:
            add(f"windows[{place}].closes", "must be later than opens: make two windows of a night")
    for place, text in enumerate(spec.except_dates):
        try:
            date.fromisoformat(text)
        except ValueError:
            add(f"except_dates[{place}]", "there is no such day")
    if spec.machine_detection == "leave_message" and not spec.machine_message:
        add("machine_message", "say what leave_message should say")
    return faults


def _faulty(field: str, message: str) -> Rows:
    return Rows([], [], [FieldError(field=field, message=message)])
