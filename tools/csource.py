"""What the checks know about C: files of the tree, text without comments, functions."""
import os
import re

ROOT = os.environ.get("XFRMD_TREE") or os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SOURCE_DIRS = ("include", "src", "bpf", "bench", "test")
TOKEN = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


def files(suffixes=(".c", ".h"), folders=SOURCE_DIRS):
    """Paths relative to the tree, sorted."""
    found = []
    for folder in folders:
        for where, _, names in os.walk(os.path.join(ROOT, folder)):
            found += [os.path.relpath(os.path.join(where, name), ROOT)
                      for name in names if name.endswith(suffixes)]
    return sorted(found)


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def _blank(text):
    return re.sub(r"[^\n]", " ", text)


def strip(text):
    """The same lines without comments and with empty strings."""
    def replace(match):
        token = match.group()
        if token[0] == "/":
            return _blank(token)
        return token[0] + _blank(token[1:-1]) + token[-1]
    return TOKEN.sub(replace, text)


def comment_lines(text):
    """How many lines hold a comment or a part of one."""
    lines = set()
    for match in TOKEN.finditer(text):
        if match.group()[0] == "/":
            first = text.count("\n", 0, match.start())
            lines.update(range(first, first + match.group().count("\n") + 1))
    return len(lines)


class Function:
    """name, line (of the opening brace, from 1), lines (brace to brace), params, body lines."""
    def __init__(self, name, line, params, body):
        self.name, self.line, self.params, self.body = name, line, params, body
        self.lines = len(body)


def _params(head):
    inside = head[head.index("(") + 1:head.rindex(")")]
    depth = count = 0
    for char in inside:
        depth += (char in "([{") - (char in ")]}")
        count += char == "," and depth == 0
    return 0 if inside.strip() in ("", "void") else count + 1


def functions(text):
    """Definitions, by clang-format's own layout: "{" and "}" in the first column."""
    lines = strip(text).split("\n")
    found, head, start = [], [], None
    for number, line in enumerate(lines):
        if start is None and line.startswith("{") and "(" in "".join(head):
            start = number
        elif start is not None and line.startswith("}"):
            joined = " ".join(head)
            name = re.search(r"(\w+)\s*\(", joined)
            found.append(Function(name[1] if name else "?", start + 1, _params(joined),
                                  lines[start:number + 1]))
            head, start = [], None
        elif start is None:
            if not line.strip() or line.startswith(("#", "}")) or line.rstrip().endswith(";"):
                head = []
            else:
                head.append(line)
    return found
