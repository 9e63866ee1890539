"""Comments and strings of a source, as the tokenizer of Python reads them, and nodes in order."""

from __future__ import annotations

import ast
import io
import tokenize

from scripts.measures.tree import Source

from ..each_case import each_case

TEXTS = (
    "a = 1  # one\n#\n\n# two # three\n",
    'a = "# none"  # one "quoted"\nb = \'#"\' + "\'#"  # it\'s two\n',
    '"""# none\n" "" # none \\""" # none\n"""  # one\n',
    "a = '''\n# none\n\\''' '' # none\n'''  # one\nb = ''  # two\nc = \"\"  # three\n",
    "a = r'\\'  # one'\nb = f\"{1}#{'#'}\"  # two\nc = b'\\\\'  # three\n",
    'a = "one \\\n# none"  # one\nb = (\n    1,  # two\n)\n',
)


@each_case("text", TEXTS)
def test_comments_and_strings_of_several_lines_are_those_of_the_tokenizer(text: str) -> None:
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    source = Source("a.py", text)
    comments = {each.start[0]: each.string for each in tokens if each.type == tokenize.COMMENT}
    assert source.comments == comments
    assert source.long_strings == tuple(
        range(each.start[0], each.end[0] + 1)
        for each in tokens
        if each.type == tokenize.STRING and each.start[0] != each.end[0]
    )


def test_nodes_of_a_definition_are_those_within_it() -> None:
    text = "class A:\n    def f(self, x=lambda: 0):\n        def g(): return x\n\ndef h(): pass\n"
    for definition in Source("a.py", text).definitions:
        within = set(ast.walk(definition.node))
        assert set(definition.nodes) == {
            node for node in within if not isinstance(node, ast.expr_context)
        }
