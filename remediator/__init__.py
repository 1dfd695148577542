import sys

if (
    "rich" not in sys.modules
):  # structlog loads it wherever it is installed: 3 MB, of which no log here makes use
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog as structlog

    del sys.modules["rich"]
