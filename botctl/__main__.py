"""`botctl`: all commands together, and the exit code."""

import os
import sys
from importlib.metadata import version

import click
from click.shell_completion import get_completion_class

from botctl.commands import audit, backup, bots, configurations, controls, costs, orphans, pairing, rollouts
from botctl.errors import BotctlError, Exit
from botctl.session import Command, Group


class _Botctl(Group):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code.value), code.meaning) for code in Exit])


@click.group(cls=_Botctl, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("bot-orchestrator"))
def botctl() -> None:
    """Bots on EC2, by the remediator's API.

    Results are on stdout, all else on stderr. --json prints exactly what the API answered.
    """


@botctl.command(cls=Command)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Teach a shell to complete names.

    Of commands, options and bots.

    \b
    bash:  eval "$(botctl completion bash)"        in ~/.bashrc
    zsh:   eval "$(botctl completion zsh)"         in ~/.zshrc
    fish:  botctl completion fish >~/.config/fish/completions/botctl.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise BotctlError(f"{shell} cannot be completed")
    click.echo(kind(botctl, {}, "botctl", "_BOTCTL_COMPLETE").source())


for _command in (
    *bots.COMMANDS,
    *pairing.COMMANDS,
    *controls.COMMANDS,
    *configurations.COMMANDS,
    *rollouts.COMMANDS,
    *audit.COMMANDS,
    *orphans.COMMANDS,
    *costs.COMMANDS,
    *backup.COMMANDS,
):
    botctl.add_command(_command)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; return the exit code (see `Exit`)."""
    try:
        result = botctl.main(
            arguments, prog_name="botctl", complete_var="_BOTCTL_COMPLETE", standalone_mode=False
        )
    except BotctlError as error:
        error.show()
        return error.code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return Exit.interrupted
    except BrokenPipeError:  # as of `| head`: the reader has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.done
    return result if isinstance(result, int) else Exit.done


if __name__ == "__main__":
    sys.exit(main())
