"""Print the README's commands, one per line: the first `bash` block of the page, comments left out.

CI runs what this prints, so the commands a newcomer copies are the commands that were tried.
"""

import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def commands(text: str) -> list[str]:
    """The non-empty, non-comment lines of the first fenced `bash` block."""
    block = re.search(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    if block is None:
        sys.exit(f"{README.name}: no ```bash block found; the two commands belong at its top")
    return [line for line in block[1].splitlines() if line.strip() and not line.startswith("#")]


if __name__ == "__main__":
    print("\n".join(commands(README.read_text(encoding="utf-8"))))
