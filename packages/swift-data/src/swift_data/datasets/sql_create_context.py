"""SQL create context: questions about tables, with the tables' definitions, and SQL that answers them."""

from __future__ import annotations

from ..dataset_card import DatasetCard

SQL_CREATE_CONTEXT = DatasetCard(
    name="sql_create_context",
    description="Questions about tables and the SQL for them.",
    kind="chat",
    language=("en",),
    licence="CC-BY-4.0",
    hf_id="b-mc2/sql-create-context",
    ms_id="AI-ModelScope/sql-create-context",
    columns={"question": "instruction", "context": "input", "answer": "output"},
    examples=(
        {"question": "How many lamps?", "context": "CREATE TABLE lamp (id INT)", "answer": "SELECT COUNT(*) FROM lamp"},
        {"question": "Which boats?", "context": "CREATE TABLE boat (name TEXT)", "answer": "SELECT name FROM boat"},
    ),
)
