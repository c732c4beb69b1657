"""What the doctor says of a machine: versions, limits, folders, the clock."""

from dataclasses import replace

import pytest

from grav_actors.doctor.finding import Finding, State, ok, warning, worst, wrong
from grav_actors.doctor.machine import (
    BUS_SOCKETS,
    FEW_FILES,
    LITTLE_SPACE,
    SMALL_DRIFT,
    TOO_FEW_FILES,
    Clock,
    Folders,
    Limits,
    Versions,
    judge_clock,
    judge_folders,
    judge_limits,
    judge_versions,
)

VERSIONS = Versions("Python 3.11.7", "Linux 6.1", {"pyzmq": "27.0"}, (4, 3, 5), has_curve=True)
LIMITS = Limits(20000, 20000, 65535)
FOLDERS = Folders("/run/user/1/grav-actors/abc", 50, 107, "/tmp", LITTLE_SPACE)


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.state.value for finding in findings}


def test_worst_state_is_that_of_the_report() -> None:
    fine, doubtful, bad = ok("a", ""), warning("b", "", "x"), wrong("c", "", "x")
    assert worst([]) is State.OK
    assert worst([fine, doubtful]) is State.WARNING
    assert worst([doubtful, bad, fine]) is State.WRONG


def test_what_is_right_is_ok_and_needs_no_remedy() -> None:
    findings = [
        *judge_versions(VERSIONS, needs_curve=True),
        *judge_limits(LIMITS),
        *judge_folders(FOLDERS),
        *judge_clock(Clock(True, {"cellar": 0.1})),
    ]
    assert {finding.state for finding in findings} == {State.OK}
    assert {finding.remedy for finding in findings} == {""}


@pytest.mark.parametrize(
    ("facts", "needs_curve", "check", "state"),
    [
        (replace(VERSIONS, system="Darwin 23"), False, "python", "warning"),
        (replace(VERSIONS, libzmq=(4, 2, 5)), False, "packages", "wrong"),
        (replace(VERSIONS, libzmq=(4, 3, 0)), False, "packages", "ok"),
        (replace(VERSIONS, has_curve=False), False, "curve", "warning"),
        (replace(VERSIONS, has_curve=False), True, "curve", "wrong"),
    ],
)
def test_what_is_installed_is_judged(facts: Versions, needs_curve: bool, check: str, state: str) -> None:
    findings = judge_versions(facts, needs_curve=needs_curve)
    assert states(findings)[check] == state
    assert all(finding.remedy for finding in findings if finding.state is not State.OK)


@pytest.mark.parametrize(
    ("files", "most", "state", "remedy"),
    [
        (FEW_FILES, FEW_FILES, "ok", ""),
        (-1, -1, "ok", ""),
        (FEW_FILES - 1, 4096, "warning", "ulimit -n 4096"),
        (FEW_FILES - 1, -1, "warning", f"ulimit -n {FEW_FILES}"),
        (TOO_FEW_FILES - 1, TOO_FEW_FILES - 1, "wrong", "limits.conf"),
    ],
)
def test_few_open_files_are_a_warning_and_very_few_are_wrong(files: int, most: int, state: str, remedy: str) -> None:
    finding = judge_limits(replace(LIMITS, files=files, most_files=most))[0]
    assert finding.state.value == state
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    ("facts", "check", "state"),
    [
        (replace(LIMITS, sockets=BUS_SOCKETS - 1), "sockets", "warning"),
        (replace(LIMITS, shared_memory="Cannot allocate memory"), "memory", "wrong"),
    ],
)
def test_other_limits_are_judged(facts: Limits, check: str, state: str) -> None:
    assert states(judge_limits(facts))[check] == state


@pytest.mark.parametrize(
    ("facts", "check", "state"),
    [
        (replace(FOLDERS, run="", problem="/tmp/x has mode 0777, not 0700; remove it"), "run folder", "wrong"),
        (replace(FOLDERS, free=-1), "temporary files", "wrong"),
        (replace(FOLDERS, free=LITTLE_SPACE - 1), "temporary files", "warning"),
    ],
)
def test_folders_are_judged(facts: Folders, check: str, state: str) -> None:
    assert states(judge_folders(facts))[check] == state


def test_clock_that_nobody_keeps_right_is_a_warning_and_silence_is_none() -> None:
    assert states(judge_clock(Clock(False, {})))["clock"] == "warning"
    (finding,) = judge_clock(Clock(None, {}))
    assert finding.state is State.OK
    assert "cannot say" in finding.seen


@pytest.mark.parametrize(
    ("drift", "state", "text"),
    [
        (SMALL_DRIFT, "ok", "1.0 s ahead of"),
        (SMALL_DRIFT + 1, "warning", "2.0 s ahead of"),
        (-90.0, "warning", "90.0 s behind"),
    ],
)
def test_clock_of_a_peer_that_differs_is_a_warning(drift: float, state: str, text: str) -> None:
    finding = judge_clock(Clock(True, {"cellar": drift}))[1]
    assert finding.state.value == state
    assert text in finding.seen
