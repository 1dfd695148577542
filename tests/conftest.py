"""What holds for every run of the tests: in which order, and that something was tested at all."""

from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter

# Files whose tests take longest, the longest first: begun last, they would leave all other workers idle.
LONGEST = (
    "conformance/test_conformance.py",  # these two mostly wait: for npm, and for gateways to start
    "live/test_live_bots.py",
    "docs/test_commands.py",
    "remediator/aws/test_aws_faults.py",
    "sandbox/cloud/test_bots.py",
    "botctl/test_commands.py",
    "remediator/crash/test_crash_points.py",
    "remediator/crash/test_postgres_replicas.py",
    "dashboards/test_live.py",
    "remediator/recovery/test_recovery.py",
    "chaos/test_chaos.py",
    "benchmarks/test_quick.py",
    "remediator/provisioning/test_openclaw.py",
    "remediator/provisioning/test_pairing.py",
    "remediator/crash/test_kill.py",
    "simulator/test_teeth.py",
    "packaging/test_make.py",
    "remediator/backup/test_restore_crash.py",
)
ROOT = Path(__file__).parent
JUDGED = ("passed", "failed", "error", "xfailed", "xpassed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest; the order is that of the workers, too."""
    places = {ROOT / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run whose tests were all skipped. That holds for `-k` and node ids, too: who names a test that
    is always skipped here wants to know that it has not run."""
    if exitstatus == pytest.ExitCode.OK and has_shown_nothing(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Say why such a run has failed."""
    if has_shown_nothing(config):
        terminalreporter.write_line(
            "Every test was skipped: this run has shown nothing, and fails.", red=True
        )


def has_shown_nothing(config: pytest.Config) -> bool:
    """Tell whether tests were skipped and none was run. A worker of pytest-xdist has no terminal: it is not
    asked, for other workers may have run theirs."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or config.option.collectonly or hasattr(config, "workerinput"):
        return False
    return bool(reporter.stats.get("skipped")) and not any(reporter.stats.get(kind) for kind in JUDGED)
