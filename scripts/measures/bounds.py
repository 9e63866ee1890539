"""The table of all measures with their bounds; `scripts/house` prints it and the tests hold it.

A bound is lowered as the tree gets better, and never raised without a reason in the commit.
Measures without a bound are only reported.
"""

from __future__ import annotations

from . import docstrings, exemptions, imports, names, prose, sizes, waits
from .measure import Measure, largest, percentile, total
from .sizes import above
from .tree import PACKAGE, TESTS

FUNCTION_MEDIAN, FUNCTION_90TH = percentile(50), percentile(90)

# Name, meaning, places; the bound of today; the bound that the house wants; how a value is made.
GENERAL = (
    Measure("banned-names", "names that are participles", names.banned, 0, 0),
    Measure("retired-words", "names with an old word", names.retired, 0, 0),
    Measure("test-names", "tests that say too little", names.unclear_tests, 0, 0),
    Measure("class-names", "classes that share a name", names.repeated_classes, 0, 0),
    Measure("module-names", "modules that share a name", names.repeated_modules, 22),
    Measure("module-docstrings", "without a noun first", docstrings.module_openings, 0, 0),
    Measure("docstrings", "public, and without one", docstrings.missing_docstrings, 0, 0),
    Measure("annotations", "without a type", docstrings.missing_annotations, 0, 0),
    Measure("module-circles", "imports on a circle", imports.module_circles, 0, 0),
    Measure("typing-circles", "the same, for types only", imports.typing_circles),
    Measure("package-circles", "top packages on a circle", imports.package_circles, 0, 0),
    Measure("subpackage-circles", "all packages on a circle", imports.subpackage_circles, 0, 0),
    Measure("typing-imports", "imports for types only", imports.typing_imports),
    Measure("long-files", "files above 350 lines", above(sizes.files, 350), 0, 0),
    Measure("longest-file", "lines of a file", sizes.files, 350, 350, largest),
    Measure("longest-function", "lines of a function", sizes.functions, 60, 60, largest),
    Measure("function-median", "lines, the median", sizes.functions, summary=FUNCTION_MEDIAN),
    Measure("function-90th", "lines, 90th percentile", sizes.functions, summary=FUNCTION_90TH),
    Measure("complexity", "functions above 15 (C901)", above(sizes.complexities, 15), 0, 0),
    Measure("decisions", "the same, with operators", above(sizes.decision_counts, 15), 0, 0),
    Measure("markdown-lines", "more than 120 characters", prose.long_lines, 0, 0),
    Measure("elapsed-time", "upper bounds in tests", waits.elapsed_time, 0, 0),
    Measure("sleeps", "calls of sleep in tests", waits.sleeps, 79, 0),
    Measure("type-ignores", "lines without types", exemptions.type_ignores),
    Measure("noqa", "lines without ruff", exemptions.noqas),
    Measure("broad-excepts", "handlers of everything", exemptions.broad_excepts),
    Measure("skips", "skips of tests", exemptions.skips),
    Measure("unexplained", "of these, without a reason", exemptions.unexplained, 0, 0),
    Measure("sandboxd-lines", "lines in all", sizes.lines(PACKAGE), summary=total),
    Measure("sandboxd-code", "lines of code", sizes.code_lines(PACKAGE), summary=total),
    Measure("sandboxd-modules", "modules", sizes.modules(PACKAGE)),
    Measure("sandboxd-functions", "functions and methods", sizes.routines(PACKAGE)),
    Measure("tests-lines", "lines in all", sizes.lines(TESTS), summary=total),
    Measure("tests-code", "lines of code", sizes.code_lines(TESTS), summary=total),
    Measure("tests-modules", "modules", sizes.modules(TESTS)),
    Measure("tests-functions", "functions and methods", sizes.routines(TESTS)),
    Measure(
        "tests-per-100", "code of tests and package", sizes.code, summary=sizes.tests_per_hundred
    ),
)

# Name, phrase, the reason or the word to write instead; the bound of today. All shall come to 0.
PHRASES = (
    ("opening-what", r"^what\b(?![^.!;]*\?)", "a noun is the subject", 0),
    ("opening-who", r"^who(?:ever|se)?\b(?![^.!;]*\?)", "a noun is the subject", 0),
    ("opening-which", r"^which\b(?![^.!;]*\?)", "a noun is the subject", 0),
    ("what-is-is", r"\bwhat \w+(?: \w+){0,2} (?:is|are|was|goes|stays)\b", "name the thing", 0),
    ("who-asks", r"\bwho(?:ever)? asks?\b", "the client, the caller", 0),
    ("one-who", r"\b(?:the one|him|he|those) who\b", "name the person or process", 0),
    ("whoever", r"\bwhoever\b", "name the person or process", 0),
    ("he", r"\b(?:he|his|him)\b", "the attacker, the client", 0),
    ("is-told", r"\b(?:is|are|was|were|be|been|being) told\b", "learns, gets, is logged", 0),
    ("nobodys", r"\bnobody's\b", "of no one, unowned", 0),
    ("nobody-elses", r"\bnobody else's\b", "name the owner", 0),
    ("ours-theirs", r"\b(?:ours|theirs)\b", "name the owner", 0),
    ("stray", r"\bstrays?\b", "leak", 0),
    ("ledger", r"\bledgers?\b", "leak rule, lease table", 0),
    ("leftover", r"\bleftovers?\b", "leak", 0),
    ("owed", r"\bowed\b", "deferred write", 0),
    ("shelf", r"\bshelf\b", "registry", 0),
    ("good-for", r"\bgood for\b", "valid for", 0),
    ("stands-in", r"\bstands? (?:in|at|on|by|there)\b", "is in", 0),
)

MEASURES = (
    *GENERAL,
    *(Measure(f"phrase-{name}", why, prose.phrase(p), b, 0) for name, p, why, b in PHRASES),
)
