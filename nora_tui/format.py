from rich.text import Text


def duration(s): return f"{s:.0f}s"
def value(x): return f"{x:.4g}"
def ago(d): return "x"
def status_text(s): return Text(s)
