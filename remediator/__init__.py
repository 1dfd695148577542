import sys

# structlog loads rich wherever it is installed: 3 MB, of which no log here makes use.
if "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog as structlog

    del sys.modules["rich"]
