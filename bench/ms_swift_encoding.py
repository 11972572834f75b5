"""Encode conversations with ms-swift's template, a round each time a line comes in: what `encoding.py --peer` runs.

    python bench/ms_swift_encoding.py MODEL_FOLDER ROWS.jsonl TEMPLATE [BACKEND]

It imports nothing of ours, so that the interpreter may be one where ms-swift is installed and we are not. Each
round it answers with a line, a JSON object: how many tokens there were, and the seconds of the processor they took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

# Read when the first batch is tokenized.
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def main(folder: str, rows: str, template_type: str, backend: str = "swift") -> None:
    """Load the template, and encode all rows, one by one as ms-swift does, for each line of the standard input."""
    out, sys.stdout = sys.stdout, sys.stderr  # ms-swift writes there what it does
    from swift import get_processor, get_template  # type: ignore[import-not-found]  # another project's

    # The model's kind matters to models only; any one that this template is not tied to will do.
    template = get_template(
        get_processor(folder, model_type="llama"), template_type=template_type, template_backend=backend
    )
    template.set_mode("train")
    conversations = [json.loads(line) for line in Path(rows).read_text(encoding="utf-8").splitlines()]
    for _ in sys.stdin:
        started = time.process_time()
        tokens = sum(len(template.encode(each)["input_ids"]) for each in conversations)
        print(json.dumps({"tokens": tokens, "seconds": time.process_time() - started}), file=out, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
