"""The cloud's process: moto, what moto lacks, and the control endpoints, on one port."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from sandbox.cloud.control import PREFIX, Control
from sandbox.cloud.elastic_ips import ElasticIPs
from sandbox.cloud.iam import Access
from sandbox.cloud.instances import ClientTokens, install
from sandbox.cloud.machines import Machine, Machines, Make
from sandbox.cloud.protocol import ApiFaults, Protocol
from sandbox.cloud.run_command import RunCommand, get_parameter


class QuietRequestHandler(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Write no line a request."""


def create_app(machines: Machines) -> Any:
    """Make the WSGI application of a cloud over these machines."""
    install(machines)
    api_faults = ApiFaults()
    commands = RunCommand(machines)
    addresses = ElasticIPs()
    control = Control(machines, api_faults)
    aws = Protocol(
        DomainDispatcherApplication(create_backend_app),
        {
            ("ec2", "RunInstances"): ClientTokens().run_instances,
            ("ec2", "TerminateInstances"): addresses.forward_and_route,
            ("ec2", "AssociateAddress"): addresses.associate,
            ("ec2", "DisassociateAddress"): addresses.forward_and_route,
            ("ec2", "ReleaseAddress"): addresses.release,
            ("ssm", "GetParameter"): get_parameter,
            ("ssm", "SendCommand"): commands.send_command,
            ("ssm", "GetCommandInvocation"): commands.get_command_invocation,
            ("ssm", "ListCommands"): commands.list_commands,
            ("ssm", "DescribeInstanceInformation"): commands.describe_instance_information,
        },
        api_faults,
        Access().check,
    )

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        ours = environ["PATH_INFO"].startswith(PREFIX)
        return control(environ, start_response) if ours else aws(environ, start_response)

    return app


def serve(state: Path, host: str, port: int, boot_seconds: float, make: Make = Machine) -> None:
    """Serve until SIGTERM or SIGINT; every machine is halted then. `make` says of what kind they are."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    machines = Machines(state, boot_seconds, make)
    try:
        with make_server(
            host, port, create_app(machines), threaded=True, request_handler=QuietRequestHandler
        ) as server:
            machines.endpoint_url = f"http://{host}:{server.server_port}"
            print(f"listening url={machines.endpoint_url}", flush=True)
            server.serve_forever()
    finally:
        machines.close()
