"""`python -m remediator`: parses the command line and dispatches to `cli` and `backup.cli`."""

import argparse
import asyncio
import sys
import textwrap

import prometheus_client

from remediator.backup import cli as backup_cli
from remediator.cli import register_documents, serve, verify_audit
from remediator.runtime import VERSION, load_templates
from remediator.settings import Settings, SettingsError, describe, read_settings
from templates import TemplateError


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the process's exit code: 2 where a setting or a template is wrong."""
    options = _parser().parse_args(arguments)
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        return asyncio.run(_run(options, read_settings()))
    except (SettingsError, TemplateError) as error:
        print(f"bot-remediator: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bot-remediator",
        description="Takes Alertmanager's webhooks, deploys bots to EC2, and recovers them.",
        epilog="settings, from the environment:\n" + _settings_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=VERSION)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("serve", help="serve the API and recover bots (the default)")
    audit = commands.add_parser("audit", help="look after the audit trail")
    audit.add_argument("action", choices=["verify"], help="find altered, removed or reordered rows")
    commands.add_parser(
        "register-document", help="put the SSM documents that restart and pair into this account"
    )
    backup_cli.add_commands(commands)
    return parser


async def _run(options: argparse.Namespace, settings: Settings) -> int:
    match options.command:
        case "audit":
            return await verify_audit(settings)
        case "register-document":
            return await register_documents(settings)
        case "backup":
            return await backup_cli.backup(settings, options, VERSION)
        case "restore":
            return await backup_cli.restore(settings, options)
    load_templates(settings)
    return await serve(settings)


def _settings_table() -> str:
    lines = []
    for name, default, meaning in describe():
        text = f"{meaning} (default: {default})" if default else meaning
        lines += [f"  {name}", *textwrap.wrap(text, 90, initial_indent="      ", subsequent_indent="      ")]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
