"""Results as JUnit XML, which CI systems read: a test suite for a call, a test case for each scenario."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML can't carry."""


@dataclass
class Case:
    """The test case of a scenario.

    Attributes:
        name: the title of the scenario.
        program: the program.
        seconds: how long it took, in real time.
        failure: the first line of its report, if it failed; or empty.
        kind: the kind of failure: the type of the program's exception, or what else went wrong.
        report: its report.
        properties: further facts: the seed, the board.
    """

    name: str
    program: str
    seconds: float
    failure: str = ""
    kind: str = ""
    report: str = ""
    properties: dict[str, str] = field(default_factory=dict)

    def element(self) -> ElementTree.Element:
        """Return the case as XML."""
        case = ElementTree.Element(
            "testcase", name=_clean(self.name), classname=_clean(self.program), time=f"{self.seconds:.3f}"
        )
        if self.properties:
            properties = ElementTree.SubElement(case, "properties")
            for name, value in self.properties.items():
                ElementTree.SubElement(properties, "property", name=name, value=_clean(value))
        if self.failure:
            failure = ElementTree.SubElement(case, "failure", message=_clean(self.failure), type=_clean(self.kind))
            failure.text = _clean(self.report)
        else:
            ElementTree.SubElement(case, "system-out").text = _clean(self.report)
        return case


def write_cases(cases: Iterable[ElementTree.Element], path: str | os.PathLike[str]) -> None:
    """Write test cases into a file. Raises OSError."""
    suite = ElementTree.Element("testsuite", name="hwloop sim")
    suite.extend(cases)
    failures = sum(case.find("failure") is not None for case in suite)
    seconds = sum(float(case.get("time", "0")) for case in suite)
    suite.attrib.update(tests=str(len(suite)), failures=str(failures), errors="0", time=f"{seconds:.3f}")
    suites = ElementTree.Element("testsuites", dict(suite.attrib))
    suites.append(suite)
    ElementTree.indent(suites)
    Path(path).write_bytes(ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True) + b"\n")


def read_cases(path: str | os.PathLike[str]) -> list[ElementTree.Element]:
    """Return the test cases in a file of ours."""
    return ElementTree.parse(path).getroot().findall("testsuite/testcase")


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
